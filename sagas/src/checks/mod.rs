//! What is checked before a saga may run: every mistake is found at once.

mod error;

use crate::builder::Draft;

pub use error::{TopologyError, TopologyErrors};

pub(crate) fn check(draft: &Draft) -> Vec<TopologyError> {
    let _ = draft;
    Vec::new()
}
