//! What is checked before a saga may run: every mistake is found at once.

mod awaits;
mod error;
mod graph;
mod inputs;
mod names;
mod requests;
mod shape;
mod who;

use crate::builder::Draft;
use graph::Graph;

pub use error::{TopologyError, TopologyErrors};

pub(crate) fn check(draft: &Draft) -> Vec<TopologyError> {
    let mut errors = Vec::new();
    let graph = Graph::of(draft);
    names::check(draft, &mut errors);
    shape::check(draft, &graph, &mut errors);
    inputs::check(draft, &graph, &mut errors);
    requests::check(draft, &mut errors);
    awaits::check(draft, &graph, &mut errors);
    errors
}
