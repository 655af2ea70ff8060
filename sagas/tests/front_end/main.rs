//! Decides, gates, effects and answers, each by itself.
#![allow(clippy::unwrap_used)]

mod answers;
mod functions;
mod saga;
