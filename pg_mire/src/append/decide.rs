//! The core of every append: decides on a stream that is claimed, and writes the events with versions and positions in
//! their order, or nothing.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pgrx::pg_sys::{self, Datum};

use super::args::{Events, Text};
use super::heads::Head;
use super::log::{Log, show};
use super::raise;
use crate::durability;

/// One append: `total` of the call's events, from `first` on.
#[derive(Clone, Copy)]
pub(super) struct Append {
    pub(super) stream: Text,
    pub(super) expected: Option<i64>,
    pub(super) first: usize,
    pub(super) total: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Append,
    Mismatch,
    NotFound,
    Deleted,
}

/// What became of an append, as the columns of `mire.batch_result` say it.
#[derive(Clone, Copy)]
pub(super) struct Outcome {
    pub(super) outcome: &'static CStr,
    pub(super) version: Option<i64>,
    pub(super) position: Option<i64>,
    pub(super) actual_version: Option<i64>,
    pub(super) reason: Option<Datum>,
}

impl Outcome {
    pub(super) fn of(outcome: &'static CStr) -> Self {
        Self {
            outcome,
            version: None,
            position: None,
            actual_version: None,
            reason: None,
        }
    }

    pub(super) fn is(&self, outcome: &CStr) -> bool {
        self.outcome == outcome
    }
}

impl Append {
    /// Whether a stream that does not exist is to be made for it.
    pub(super) fn creates(&self) -> bool {
        self.total > 0 && self.expected.unwrap_or(0) == 0
    }

    pub(super) fn decide(&self, head: &Head) -> Decision {
        if head.deleted {
            Decision::Deleted
        } else if self.expected == Some(-1) && head.version == 0 {
            Decision::NotFound
        } else if self
            .expected
            .is_some_and(|expected| expected >= 0 && expected != head.version)
        {
            Decision::Mismatch
        } else {
            Decision::Append
        }
    }

    /// The version that a stream has after this append.
    pub(super) fn version_after(&self, head: &Head) -> i64 {
        match self.decide(head) {
            Decision::Append => head.version + self.total as i64,
            _ => head.version,
        }
    }

    /// Does it, to a stream that is claimed and whose row has the version that follows already. `head` is what the stream is
    /// before and after. `log` is opened when the first event is to be written.
    ///
    /// # Safety
    /// Nothing to drop (see [`crate::raw`]).
    pub(super) unsafe fn perform(
        &self,
        head: &mut Head,
        events: &Events,
        log: &mut Option<Log>,
    ) -> Outcome {
        // SAFETY: as promised.
        unsafe {
            let outcome = Outcome {
                actual_version: Some(head.version),
                ..Outcome::of(match self.decide(head) {
                    Decision::Append => c"appended",
                    Decision::NotFound => return self.refused(c"not_found", head),
                    Decision::Deleted => return self.refused(c"deleted", head),
                    Decision::Mismatch => return self.first_answer(head, events, log),
                })
            };
            let before = head.version;
            head.version += self.total as i64;
            let position = (self.total > 0).then(|| {
                let log = match log {
                    Some(log) => log,
                    None => log.insert(Log::open()),
                };
                log.write(
                    &self.stream,
                    head.stream_no,
                    before,
                    events,
                    self.first,
                    self.total,
                )
            });
            Outcome {
                version: Some(head.version),
                position,
                ..outcome
            }
        }
    }

    fn refused(&self, outcome: &'static CStr, head: &Head) -> Outcome {
        Outcome {
            actual_version: Some(head.version),
            ..Outcome::of(outcome)
        }
    }

    /// A version that does not match: the same ids in the slots that follow the expected one mean that this is a retry, and
    /// the first answer is given again.
    unsafe fn first_answer(&self, head: &Head, events: &Events, log: &mut Option<Log>) -> Outcome {
        let conflict = self.refused(c"conflict", head);
        let (Some(expected), Some(ids)) = (self.expected, &events.ids) else {
            return conflict;
        };
        if self.total == 0 || self.total as i64 > head.version - expected {
            return conflict;
        }
        // SAFETY: first_answer(stream_no bigint, expected_version bigint, ids uuid[], first integer, last integer). It must see
        // what this very call has written.
        let position = unsafe {
            show(log);
            raise::call(
                c"first_answer",
                &[
                    (pg_sys::INT8OID, Some(head.stream_no.into())),
                    (pg_sys::INT8OID, Some(expected.into())),
                    (pg_sys::UUIDARRAYOID, Some(ids.datum)),
                    (pg_sys::INT4OID, Some((self.first as i32 + 1).into())),
                    (
                        pg_sys::INT4OID,
                        Some(((self.first + self.total) as i32).into()),
                    ),
                ],
            )
        };
        let Some(position) = position else {
            return conflict;
        };
        // The first attempt's commit may still be on its way to a standby.
        durability::make_durable();
        Outcome {
            version: Some(expected + self.total as i64),
            position: Some(position.value() as i64),
            ..self.refused(c"duplicate", head)
        }
    }
}
