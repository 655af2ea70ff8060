//! Taking instances up: whatever is due and free, as many at a time as there is room for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::{Instrument, debug_span};

use crate::error::Result;
use crate::gather::pause;
use crate::hand::{Desk, Drivers, End, Hand, Known, Stop, Trouble};
use crate::measure;
use crate::storage::Claimed;

/// A claim takes so many instances at most.
const BATCH: usize = 64;

/// The claiming side of a worker.
pub(super) struct Claiming {
    desk: Arc<Desk>,
    drivers: Arc<Drivers>,
    sagas: Vec<String>,
    versions: Vec<i32>,
    recheck: Duration,
    room: u32,
}

impl Claiming {
    pub(super) fn new(desk: Arc<Desk>, drivers: Arc<Drivers>, recheck: Duration) -> Self {
        let (sagas, versions) = drivers.keys().cloned().unzip();
        let room = u32::try_from(desk.hands.available_permits()).unwrap_or(u32::MAX);
        Self {
            desk,
            drivers,
            sagas,
            versions,
            recheck,
            room,
        }
    }

    /// Until the desk stops and everything is laid down.
    pub(super) async fn run(self) {
        let mut stop = self.desk.stop.clone();
        let mut failures = 0;
        while *stop.borrow_and_update() == Stop::Not {
            let first = tokio::select! {
                permit = self.desk.hands.clone().acquire_owned() => permit,
                _ = stop.changed() => continue,
            };
            let Ok(first) = first else { break };
            let wait = match self.claim(first).await {
                Ok(Wait::Not) => continue,
                Ok(Wait::For(wait)) => {
                    failures = 0;
                    wait
                }
                Err(error) => {
                    tracing::warn!(%error, "no instances to be had, trying again");
                    failures += 1;
                    pause(failures)
                }
            };
            tokio::select! {
                () = self.desk.instances.notified() => {}
                () = tokio::time::sleep(wait) => {}
                _ = stop.changed() => {}
            }
        }
        let _ = self.desk.hands.acquire_many(self.room).await;
        measure::held(&self.desk.holder, self.desk.keeper.len());
    }

    async fn claim(&self, first: OwnedSemaphorePermit) -> Result<Wait> {
        let Desk {
            storage,
            holder,
            ttl,
            keeper,
            ..
        } = &*self.desk;
        let more = self.desk.hands.available_permits().min(BATCH - 1);
        let more = u32::try_from(more).unwrap_or_default();
        let mut permits = first;
        let mut asked = 1;
        if more > 0
            && let Ok(others) = self.desk.hands.clone().try_acquire_many_owned(more)
        {
            permits.merge(others);
            asked += more as usize;
        }
        let asked_at = Instant::now();
        let claims = storage
            .claim(holder, &self.sagas, &self.versions, asked, *ttl)
            .await?;
        let count = claims.instances.len();
        for claimed in claims.instances {
            if let Some(permit) = permits.split(1) {
                self.take_up(claimed, asked_at, permit);
            }
        }
        measure::held(holder, keeper.len());
        Ok(if count == asked {
            Wait::Not
        } else {
            // A little late is in time; a little early is once more.
            let due = claims.next_due.map(|due| due + Duration::from_millis(1));
            Wait::For(due.unwrap_or(self.recheck).min(self.recheck))
        })
    }

    fn take_up(&self, claimed: Claimed, asked_at: Instant, permit: OwnedSemaphorePermit) {
        let desk = self.desk.clone();
        let key = (claimed.saga.clone(), claimed.topology_version);
        let (Some(driver), Some(fence)) = (self.drivers.get(&key).cloned(), claimed.fence) else {
            return;
        };
        let topology = driver.topology.clone();
        driver.cache.take(&claimed.instance);
        measure::claimed(topology.name);
        let held = desk
            .keeper
            .hold(&claimed.saga, &claimed.instance, fence, asked_at);
        let span = debug_span!("drive", saga = topology.name, instance = %claimed.instance, fence);
        let work = async move {
            let end = if desk.quarantine.is_deadly(claimed.attempts) {
                let reason = format!(
                    "taken up {} times in a row without getting anywhere: it may kill its workers",
                    claimed.attempts
                );
                Trouble::of(&desk, &claimed)
                    .note(&reason, &held)
                    .await
                    .err()
            } else {
                match Known::of(&claimed) {
                    Ok(known) => {
                        let hand = Hand::new(
                            &desk,
                            &topology,
                            known,
                            Some(held),
                            claimed.status,
                            claimed.attempts,
                        );
                        let nobody = watch::Sender::new(None);
                        Some(driver.work(hand, Vec::new(), &nobody).await)
                    }
                    Err(fault) => Trouble::of(&desk, &claimed)
                        .note(&fault.0, &held)
                        .await
                        .err(),
                }
            };
            drop(permit);
            if let Some(End::Failed(error)) = &end {
                tracing::warn!(%error, "laid down");
            }
            if let Some(end) = end {
                desk.laid_down(&end);
            }
        };
        self.desk.spawn(work.instrument(span));
    }
}

/// When to claim again.
enum Wait {
    Not,
    For(Duration),
}
