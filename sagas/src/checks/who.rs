//! [`Who`]: whom a mistake is about, in words.

use std::fmt;

#[derive(Clone, Copy)]
pub(super) enum Who<'a> {
    Saga,
    Step(&'a str),
    Undo(&'a str),
    Gate(&'a str),
    Effect(&'a str, &'a Who<'a>),
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saga => f.write_str("the saga"),
            Self::Step(step) => write!(f, "step {step:?}"),
            Self::Undo(step) => write!(f, "the undo of step {step:?}"),
            Self::Gate(step) => write!(f, "a gate of step {step:?}"),
            Self::Effect(effect, whose) => write!(f, "effect {effect} of {whose}"),
        }
    }
}
