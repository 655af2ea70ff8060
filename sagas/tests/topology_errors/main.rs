//! Every mistake that a topology can have is found when it is built, and all of them at once.
#![allow(clippy::unwrap_used)]

mod graph;
mod inputs;
mod kit;
mod requests;
