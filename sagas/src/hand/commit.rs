//! Committing what a drive came to, and taking the instance up anew where somebody was faster.

use std::time::{Duration, Instant};

use super::work::{End, Hand};
use super::{Held, Known};
use crate::engine::Drive;
use crate::error::Error;
use crate::measure;
use crate::storage::{CommitItem, encode, fresh_id};
use crate::topology::Fault;

/// What became of a commit.
pub(super) enum Committed {
    Yes,
    /// Somebody else has recorded the same input, and has what follows from it in hand.
    Before,
    /// Somebody has appended to the stream; the instance is up to date again.
    Anew,
    No(End),
}

impl Hand {
    /// Once it is committed, the drive has the instance as it was before.
    pub(super) async fn commit(&mut self, drive: &mut Drive, keep: bool) -> Committed {
        /// Between two looks at an instance that somebody's transaction sits on.
        const PAUSE: Duration = Duration::from_millis(20);
        /// So often an instance that nobody here holds is looked at.
        const LOOKS: u32 = 50;
        let fence = self.held.as_ref().map(Held::fence);
        let version = self.known.instance.version;
        let mut item = CommitItem::of(drive, version, fence, fresh_id());
        item.keep = keep;
        if keep {
            item.due_in_ms = None;
        } else if !drive.effects.is_empty() {
            item.due_in_ms = Some(0);
        }
        let item = match encode(&item) {
            Ok(item) => item,
            Err(error) => return Committed::No(End::Fault(Fault(error.to_string()))),
        };
        let mut looks = 0;
        loop {
            let asked_at = Instant::now();
            let result = match self.desk().commits.call(item.clone()).await {
                Ok(result) => result,
                Err(error) if self.may_pass(&error) => continue,
                Err(error) => return Committed::No(End::Failed(error)),
            };
            match result.outcome.as_str() {
                // Without a lease there are no effects.
                "duplicate" if keep && self.held.is_none() => return Committed::Before,
                "committed" | "duplicate" => {
                    measure::committed(self.whose.topology.name);
                    if !drive.outbox.is_empty() {
                        self.desk().messages.notify_one();
                    }
                    std::mem::swap(&mut self.known.instance, &mut drive.instance);
                    if let Some(version) = result.version {
                        self.known.instance.version = version;
                    }
                    self.attempts = 0;
                    drive.status.as_str().clone_into(&mut self.status);
                    self.now_held(keep, result.fence, asked_at);
                    return Committed::Yes;
                }
                "busy" if self.held.is_some() || looks < LOOKS => {
                    looks += 1;
                    tokio::time::sleep(PAUSE).await;
                    if self.held.as_ref().is_some_and(Held::is_lost) {
                        return Committed::No(End::Lost);
                    }
                }
                "conflict" => {
                    return match Box::pin(self.reload()).await {
                        Ok(()) => Committed::Anew,
                        Err(end) => Committed::No(end),
                    };
                }
                "lease_lost" => return Committed::No(End::Lost),
                "leased" => return Committed::No(End::Leased),
                _ => {
                    let Known { instance, .. } = &self.known;
                    let error = result.refused(&instance.saga, &instance.instance);
                    return Committed::No(match error {
                        // Nothing but what it holds can be wrong with it: JSON that the database does not take.
                        Error::Invalid { reason } if self.held.is_some() => {
                            End::Fault(Fault(reason))
                        }
                        error => End::Failed(error),
                    });
                }
            }
        }
    }

    /// While the lease lasts there is hope.
    pub(super) fn may_pass(&self, error: &Error) -> bool {
        let passes = error.is_retryable() || error.is_outcome_unknown();
        passes && self.held.as_ref().is_some_and(|held| !held.is_lost())
    }

    fn now_held(&mut self, keep: bool, fence: Option<i64>, asked_at: Instant) {
        if !keep {
            self.held = None;
            return;
        }
        match (&self.held, fence) {
            (Some(held), _) => held.renewed(asked_at),
            (None, Some(fence)) => {
                let Known { instance, .. } = &self.known;
                let keeper = &self.whose.desk.keeper;
                self.held = Some(keeper.hold(&instance.saga, &instance.instance, fence, asked_at));
            }
            (None, None) => {}
        }
    }

    /// The instance as the database has it.
    pub(super) async fn reload(&mut self) -> Result<(), End> {
        let (saga, instance) = (
            self.known.instance.saga.clone(),
            self.known.instance.instance.clone(),
        );
        let loaded = loop {
            match self.desk().storage.load(&saga, &instance).await {
                Ok(loaded) => break loaded,
                Err(error) if self.may_pass(&error) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(End::Failed(error)),
            }
        };
        let Some(loaded) = loaded else {
            return Err(End::Failed(Error::NotFound { saga, instance }));
        };
        // A migrated instance is another topology's business; the lease goes on with whoever claims it next.
        if loaded.topology_version != self.whose.topology.version {
            return Err(End::Lost);
        }
        self.status.clone_from(&loaded.status);
        match Known::of(&loaded) {
            // Also when it is shorter than what was known: the log decides, and it may have been set back.
            Ok(known) => {
                self.known = known;
                Ok(())
            }
            Err(fault) => {
                self.known.instance.version = loaded.version;
                Err(End::Fault(fault))
            }
        }
    }
}
