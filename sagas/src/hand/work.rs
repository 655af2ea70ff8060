//! [`Hand`]: one instance in hand, from taking it up to laying it down.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::AbortHandle;

use super::effects::{Done, Whose};
use super::{Desk, Held, Known, Stop};
use crate::engine::{Drive, Input, Status};
use crate::error::{Error, Result};
use crate::measure;
use crate::storage::{CommitItem, encode, fresh_id};
use crate::topology::{Fault, Topology};

/// How having an instance in hand ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Nothing more can be done now; the lease is given back.
    Rest(Box<Known>, Status),
    /// Somebody else has it, and it was not taken.
    Leased,
    /// It was taken from this process.
    Lost,
    /// What the program supplies is broken. With the lease in hand that has been noted with the instance; without it
    /// nothing has happened.
    Fault(Fault),
    /// The database refused, or could not be reached; the lease runs out by itself.
    Failed(Error),
}

/// What became of a commit.
enum Committed {
    Yes,
    /// Somebody else has recorded the same input, and has what follows from it in hand.
    Before,
    /// Somebody has appended to the stream; the instance is up to date again.
    Anew,
    No(End),
}

/// An instance in hand.
pub(crate) struct Hand {
    pub(super) whose: Whose,
    pub(super) known: Known,
    /// None: the first commit takes it, if it is to be kept.
    pub(super) held: Option<Held>,
    /// As the row has it.
    pub(super) status: String,
    /// Failed drives before this one.
    pub(super) attempts: u32,
    running: HashMap<String, AbortHandle>,
    tell: UnboundedSender<Done>,
    told: UnboundedReceiver<Done>,
}

impl Hand {
    pub(crate) fn new(
        desk: &Arc<Desk>,
        topology: &Arc<Topology>,
        known: Known,
        held: Option<Held>,
        status: impl Into<String>,
        attempts: i32,
    ) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self {
            whose: Whose {
                desk: desk.clone(),
                topology: topology.clone(),
                instance: known.instance.instance.clone(),
            },
            known,
            held,
            status: status.into(),
            attempts: u32::try_from(attempts).unwrap_or_default(),
            running: HashMap::new(),
            tell,
            told,
        }
    }

    pub(super) fn desk(&self) -> &Desk {
        &self.whose.desk
    }

    /// Works until nothing more can be done now. `id`: of the first commit, which has the inputs; `committed` hears of it.
    pub(crate) async fn work(
        mut self,
        mut inputs: Vec<Input>,
        mut id: Option<String>,
        committed: &AtomicBool,
    ) -> End {
        loop {
            let stop = self.desk().stop();
            let drive = match self.known.drive(&self.whose.topology, &inputs) {
                Ok(drive) => drive,
                Err(fault) => return self.faulted(fault, inputs).await,
            };
            let keep = self.keeps(&drive, stop);
            let nothing_new = drive.facts.is_empty() && keep && self.held.is_some();
            if nothing_new {
                inputs.clear();
            } else {
                let id = id.take().unwrap_or_else(fresh_id);
                match self.commit(&drive, keep, id).await {
                    Committed::Yes => {
                        committed.store(true, Ordering::Release);
                        inputs.clear();
                    }
                    Committed::Before => {
                        committed.store(true, Ordering::Release);
                        return self.let_go(End::Leased, Vec::new()).await;
                    }
                    Committed::Anew => continue,
                    Committed::No(End::Fault(fault)) => return self.faulted(fault, inputs).await,
                    Committed::No(end) => return self.let_go(end, inputs).await,
                }
            }
            if !keep {
                let end = End::Rest(Box::new(self.known.clone()), drive.status);
                return self.let_go(end, Vec::new()).await;
            }
            if stop == Stop::Not {
                for effect in drive.effects {
                    if !self.running.contains_key(&effect.key) {
                        let key = effect.key.clone();
                        let task = self.whose.begin(effect, self.tell.clone());
                        self.running.insert(key, task);
                    }
                }
            }
            match self.next(drive.due).await {
                Ok(more) => inputs = more,
                Err(end) => return self.let_go(end, inputs).await,
            }
        }
    }

    /// Whether there is something to stay for.
    fn keeps(&self, drive: &Drive, stop: Stop) -> bool {
        let runs = |key: &String| self.running.contains_key(key);
        let mut effects = drive.effects.iter();
        match stop {
            Stop::Not => {
                let soon = drive.due.is_some_and(|due| due <= self.desk().linger);
                !drive.effects.is_empty() || soon && !drive.status.is_ended()
            }
            Stop::Finish => effects.any(|effect| runs(&effect.key)),
            Stop::Now => false,
        }
    }

    async fn commit(&mut self, drive: &Drive, keep: bool, id: String) -> Committed {
        /// Between two looks at an instance that somebody's transaction sits on.
        const PAUSE: Duration = Duration::from_millis(20);
        /// So often an instance that nobody here holds is looked at.
        const LOOKS: u32 = 50;
        let fence = self.held.as_ref().map(Held::fence);
        let mut item = CommitItem::of(drive, self.known.instance.version, fence, id);
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
                    self.known.instance = drive.instance.clone();
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
                    return match self.reload().await {
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
            Ok(known) if known.instance.version >= self.known.instance.version => {
                self.known = known;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(fault) => {
                self.known.instance.version = loaded.version;
                Err(End::Fault(fault))
            }
        }
    }

    /// Waits for something to drive it on for.
    async fn next(&mut self, due: Option<Duration>) -> Result<Vec<Input>, End> {
        let Some(held) = &self.held else {
            return Err(End::Lost);
        };
        let mut stop = self.whose.desk.stop.clone();
        let now = *stop.borrow_and_update();
        let timer = async {
            match due {
                // A little late is in time; a little early is once more.
                Some(due) => tokio::time::sleep(due + Duration::from_millis(1)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(done) = self.told.recv() => {
                let mut inputs = Vec::new();
                let mut done = Some(done);
                while let Some(one) = done {
                    self.running.remove(&one.effect.key);
                    inputs.push(one.into_input());
                    done = self.told.try_recv().ok();
                }
                Ok(inputs)
            }
            () = held.lost() => Err(End::Lost),
            () = held.poked() => self.reload().await.map(|()| Vec::new()),
            () = timer => Ok(Vec::new()),
            // Whoever stops a desk goes on holding its switch.
            changed = stop.changed(), if now != Stop::Now => match changed {
                Ok(()) => Ok(Vec::new()),
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Lays the instance down. Effects that still run deliver their results by themselves.
    pub(super) async fn let_go(mut self, end: End, inputs: Vec<Input>) -> End {
        self.held = None;
        if self.desk().stop() == Stop::Now {
            self.running.values().for_each(AbortHandle::abort);
        }
        self.told.close();
        while let Ok(done) = self.told.try_recv() {
            self.whose.deliver(done).await;
        }
        self.deliver_all(inputs).await;
        end
    }

    /// Results that were not committed.
    pub(super) async fn deliver_all(&self, inputs: Vec<Input>) {
        for input in inputs {
            if let Some(done) = self.done_again(input) {
                self.whose.deliver(done).await;
            }
        }
    }

    fn done_again(&self, input: Input) -> Option<Done> {
        let Input::Effect {
            step,
            undo,
            activation,
            request,
            result,
        } = input
        else {
            return None;
        };
        let Known { instance, .. } = &self.known;
        let name = &self.whose.topology.steps[step].name;
        let effect = crate::engine::PendingEffect {
            step,
            undo,
            activation,
            request,
            key: crate::engine::request_key(
                &instance.saga,
                &instance.instance,
                name,
                undo,
                activation,
                request,
            ),
            kind: String::new(),
            data: serde_json::Value::Null,
        };
        Some(Done { effect, result })
    }
}
