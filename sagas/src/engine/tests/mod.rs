//! The engine held to what it promises, on graphs made by hand and simulated.

mod any_graph;
mod backward;
mod forward;
mod kit;
mod odd_times;
