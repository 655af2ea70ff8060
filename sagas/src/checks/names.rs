//! Names that cannot be stored, and names that are used twice.

use std::collections::BTreeSet;

use super::TopologyError;
use crate::builder::Draft;

/// The database takes names of up to 500 bytes by default, for saga and instance together.
const LONGEST: usize = 200;

pub(super) fn check(draft: &Draft, errors: &mut Vec<TopologyError>) {
    let mut bad = |what, name: &str, why: Option<&'static str>| {
        errors.extend(why.map(|why| TopologyError::BadName {
            what,
            name: name.to_owned(),
            why,
        }));
    };
    let saga = fault_of(draft.name).or_else(|| {
        draft
            .name
            .contains('-')
            .then_some("holds a `-`, and a saga's may not: use `_`")
    });
    bad("saga's", draft.name, saga);
    for step in &draft.steps {
        bad("step's", &step.name, fault_of(&step.name));
    }
    for signal in &draft.signals {
        bad("signal's", &signal.name, not_storable(&signal.name));
    }
    if draft.version < 1 {
        errors.push(TopologyError::BadVersion {
            version: draft.version,
        });
    }
    let mut steps = BTreeSet::new();
    for step in &draft.steps {
        if !steps.insert(&step.name) {
            errors.push(TopologyError::DuplicateStep {
                step: step.name.clone(),
            });
        }
    }
}

/// What is wrong with any name.
fn not_storable(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty: say something")
    } else if name.len() > LONGEST {
        Some("is longer than 200 bytes: shorten it")
    } else if name.starts_with('$') {
        Some("begins with `$`, as only the store's own names do: leave it out")
    } else if name.chars().any(char::is_control) {
        Some("holds control characters: leave them out")
    } else {
        None
    }
}

/// What is wrong with a name that is part of keys.
fn fault_of(name: &str) -> Option<&'static str> {
    not_storable(name).or_else(|| {
        if name.contains(['/', '~']) {
            Some("holds a `/` or `~`, which keep the parts of idempotency keys apart: leave it out")
        } else if name.contains(char::is_whitespace) {
            Some("holds blanks: use `_`")
        } else {
            None
        }
    })
}
