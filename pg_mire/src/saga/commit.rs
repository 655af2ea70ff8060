//! Commits: each is decided with its instance's and its stream's row locked, and written at once. None waits for anybody.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fmt::Display;

use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;

use super::change::Change;
use super::instances::{Found, Instance, Instances, Lease};
use super::messages::{Messages, Refused};
use crate::append::args::Text;
use crate::append::heads::{Claim, Head, Heads};
use crate::append::log::{Event, Log, category_of, show};
use crate::append::raise;
use crate::append::target::next_value;
use crate::{catalog, raw};

/// What became of an item, as the columns of `mire.saga_result` say it.
#[derive(Clone, Copy)]
pub(super) struct Outcome {
    pub(super) outcome: &'static CStr,
    pub(super) version: Option<i64>,
    pub(super) fence: Option<i64>,
    pub(super) reason: Option<Datum>,
}

impl Outcome {
    pub(super) fn of(outcome: &'static CStr) -> Self {
        Self {
            outcome,
            version: None,
            fence: None,
            reason: None,
        }
    }

    pub(super) fn because(self, reason: impl Display) -> Self {
        Self {
            reason: Some(raise::words(reason)),
            ..self
        }
    }

    pub(super) fn invalid(reason: Datum) -> Self {
        Self {
            reason: Some(reason),
            ..Self::of(c"invalid")
        }
    }
}

/// The tables that are written, open, and on whose behalf.
pub(super) struct Desk {
    pub(super) instances: Instances,
    pub(super) heads: Heads,
    pub(super) log: Option<Log>,
    messages: Option<Messages>,
    pub(super) holder: Option<Datum>,
    /// In microseconds.
    pub(super) ttl: i64,
}

impl Desk {
    /// `wait`: whether to wait for whoever has a stream.
    ///
    /// # Safety
    /// Nothing to drop (see [`raw`]), of this and all other functions here.
    pub(super) unsafe fn open(holder: Option<Datum>, ttl: i64, wait: bool) -> Self {
        // SAFETY: closed by `close`, or by Postgres when something raises.
        unsafe {
            Self {
                instances: Instances::open(),
                heads: Heads::open(wait),
                log: None,
                messages: None,
                holder,
                ttl,
            }
        }
    }

    /// # Safety
    /// Not used afterwards.
    pub(super) unsafe fn close(&mut self) {
        // SAFETY: in the reverse order of `open`. What was written is seen by what comes next.
        unsafe {
            if let Some(log) = &mut self.log {
                log.close();
            }
            if let Some(messages) = &mut self.messages {
                messages.close();
            }
            self.heads.close();
            self.instances.close();
            raw::CommandCounterIncrement();
        }
    }

    /// From here on what was written so far is seen.
    pub(super) unsafe fn look_again(&mut self) {
        // SAFETY: as promised.
        unsafe {
            show(&mut self.log);
            self.instances.refresh();
            self.heads.refresh();
        }
    }

    /// The lease of one that is kept.
    pub(super) fn lease(&self, change: &Change, now: i64) -> Option<Lease> {
        let holder = self.holder.filter(|_| change.keep)?;
        Some(Lease {
            holder,
            expires_at: now + self.ttl,
        })
    }

    /// The outbox.
    pub(super) unsafe fn messages(&mut self) -> &mut Messages {
        // SAFETY: closed by `close`.
        self.messages
            .get_or_insert_with(|| unsafe { Messages::open() })
    }

    /// Appends a change's facts as one event.
    pub(super) unsafe fn record(
        &mut self,
        change: &Change,
        stream_no: i64,
        version: i64,
        kind: &CStr,
    ) {
        // SAFETY: the values are of the columns' types.
        unsafe {
            let log = self.log.get_or_insert_with(|| Log::open());
            log.write_one(&Event {
                stream_no,
                version,
                category: category_of(&change.stream),
                kind: Some(raw::text(kind.to_bytes())),
                data: change.data,
                metadata: None,
                id: change.event_id,
            });
        }
    }

    /// Commits one change, or tells why not.
    pub(super) unsafe fn commit(&mut self, change: &Change) -> Outcome {
        // SAFETY: as promised.
        unsafe {
            let held = match self.instances.lock(change) {
                Found::Ours(held) => held,
                Found::Busy => return Outcome::of(c"busy"),
                Found::Absent => return Outcome::of(c"not_found"),
            };
            if held.pruned {
                return Outcome::of(c"pruned");
            }
            let now = raw::GetCurrentTimestamp();
            let refused = refusal(change, &held, now);
            // Messages may still keep it from being committed: then the stream's row is only locked at first.
            let sends =
                change.outbox.is_some() || change.withdraw.is_some() || change.settled.is_some();
            let advances = change.data.is_some() && refused.is_none();
            let next = |head: &Head| head.version + i64::from(head.version == change.version);
            let head = match self.heads.claim(&change.stream, false, |head| {
                if advances && !sends {
                    next(head)
                } else {
                    head.version
                }
            }) {
                Claim::Ours(head) if !head.deleted => head,
                Claim::Busy | Claim::Unborn => return Outcome::of(c"busy"),
                _ => error!("the stream of a saga's instance is missing"),
            };
            if let Some(outcome) = self.before(change, &held, &head, now) {
                return outcome;
            }
            let seen = |outcome| Outcome {
                version: Some(head.version),
                ..outcome
            };
            if let Some(refused) = refused {
                return seen(refused);
            }
            if head.version != change.version {
                return seen(Outcome::of(c"conflict"));
            }
            if sends {
                match self.messages().change(change, head.stream_no) {
                    Ok(()) => {}
                    Err(Refused::Busy) => return seen(Outcome::of(c"busy")),
                    Err(Refused::Invalid) => {
                        let outcome = Outcome::of(c"invalid");
                        return seen(outcome.because("outbox: a key stands there already"));
                    }
                }
                if advances {
                    self.heads.claim(&change.stream, false, next);
                }
            }
            self.write(change, &held, &head, now)
        }
    }

    unsafe fn write(&mut self, change: &Change, held: &Instance, head: &Head, now: i64) -> Outcome {
        // SAFETY: both rows are locked, and at the version that the change expects.
        unsafe {
            let version = head.version + i64::from(change.data.is_some());
            if change.data.is_some() {
                let kind = if change.ended {
                    c"$saga_ended"
                } else {
                    c"$saga_advanced"
                };
                self.record(change, head.stream_no, version, kind);
            }
            let (fence, due_at) = if !change.keep {
                // One that has ended and cannot be driven, for an answer that came late, is tried again like any other.
                let rests = change.ended && !change.failed || change.parked;
                (None, change.due_at.filter(|_| !rests))
            } else if change.fence.is_some() {
                // HOT: due_at stays.
                (change.fence, held.due_at)
            } else {
                // A lease taken here is found again by due_at, as one from saga_claim is.
                let fence = next_value(catalog::relation(c"fences"));
                (Some(fence.max(held.fence + 1)), Some(now + self.ttl))
            };
            let lease = self.lease(change, now);
            self.instances.update(change, lease, fence, due_at, now);
            Outcome {
                version: Some(version),
                fence,
                ..Outcome::of(c"committed")
            }
        }
    }

    /// The answer to a commit that stands there already.
    unsafe fn before(
        &mut self,
        change: &Change,
        held: &Instance,
        head: &Head,
        now: i64,
    ) -> Option<Outcome> {
        let id = change.event_id.filter(|_| head.version > change.version)?;
        // SAFETY: stands_at(stream_no bigint, version bigint, event_id uuid).
        let stands = unsafe {
            show(&mut self.log);
            raise::call(
                c"stands_at",
                &[
                    (pg_sys::INT8OID, Some(head.stream_no.into())),
                    (pg_sys::INT8OID, Some((change.version + 1).into())),
                    (pg_sys::UUIDOID, Some(id)),
                ],
            )
        };
        let current = change
            .fence
            .filter(|fence| *fence == held.fence && held.lease_expires_at > now);
        stands
            .is_some_and(|stands| stands.value() as u8 != 0)
            .then(|| Outcome {
                version: Some(change.version + 1),
                fence: current,
                ..Outcome::of(c"duplicate")
            })
    }
}

/// Why somebody may not commit, as far as the lease is concerned.
unsafe fn refusal(change: &Change, held: &Instance, now: i64) -> Option<Outcome> {
    let holds = held.lease_expires_at > now;
    match change.fence {
        None if holds => {
            let outcome = Outcome::of(c"leased");
            // SAFETY: a text in the row that was found.
            let holder = held.holder.map(|holder| unsafe { Text::of(holder) });
            let name = holder.as_ref().map_or(&[][..], Text::bytes);
            Some(outcome.because(format_args!("by {}", String::from_utf8_lossy(name))))
        }
        Some(fence) if fence != held.fence => {
            let outcome = Outcome::of(c"lease_lost");
            Some(outcome.because(format_args!("superseded by fence {}", held.fence)))
        }
        Some(_) if !holds => Some(Outcome::of(c"lease_lost").because("expired or released")),
        _ => None,
    }
}
