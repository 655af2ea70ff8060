//! [`Hand`]: one instance in hand, from taking it up to laying it down.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;

use super::commit::Committed;
use super::effects::{Done, Running, Whose};
use super::{Desk, Held, Known, Stop};
use crate::engine::{Drive, Input, Status};
use crate::error::Error;
use crate::topology::{Fault, Topology};

/// How having an instance in hand ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Nothing more can be done now; the lease is given back. Without the instance when it has ended.
    Rest(Option<Box<Known>>, Status),
    /// The answer had been recorded before.
    Duplicate(Box<Known>),
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

/// Once the first inputs are committed: the keys of the messages that this has settled.
pub(crate) type Committal = Option<Vec<String>>;

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
    running: HashMap<String, Running>,
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

    /// Works until nothing more can be done now. `committed` hears when the first inputs are, and which messages that has
    /// settled.
    ///
    /// There is one of these futures for each instance in hand: what it rarely comes to is boxed, here and below.
    pub(crate) async fn work(
        mut self,
        mut inputs: Vec<Input>,
        committed: &watch::Sender<Committal>,
    ) -> End {
        loop {
            if self.held.is_none() && self.known.has_heard(&inputs) {
                return End::Duplicate(Box::new(self.known));
            }
            let stop = self.desk().stop();
            let mut drive = match self.known.drive(&self.whose.topology, &inputs) {
                Ok(drive) => drive,
                Err(fault) => return Box::pin(self.faulted(fault, inputs)).await,
            };
            let keep = self.keeps(&drive, stop);
            let nothing_new = drive.facts.is_empty() && keep && self.held.is_some();
            if nothing_new {
                inputs.clear();
            } else {
                match self.commit(&mut drive, keep).await {
                    Committed::Yes => {
                        committed.send_if_modified(|first| {
                            let is_first = first.is_none();
                            first.get_or_insert_with(|| std::mem::take(&mut drive.settled));
                            is_first
                        });
                        inputs.clear();
                    }
                    Committed::Before => {
                        committed.send_replace(Some(Vec::new()));
                        return self.let_go(End::Leased, Vec::new()).await;
                    }
                    Committed::Anew => continue,
                    Committed::No(End::Fault(fault)) => {
                        return Box::pin(self.faulted(fault, inputs)).await;
                    }
                    Committed::No(end) => return self.let_go(end, inputs).await,
                }
            }
            // What is not wanted any more and still waits for its turn is not to happen.
            let wanted: HashSet<&str> = drive.effects.iter().map(|e| e.key.as_str()).collect();
            self.running
                .retain(|key, running| wanted.contains(key.as_str()) || !running.call_off());
            if !keep {
                let known = (!drive.status.is_ended()).then(|| Box::new(self.known.clone()));
                let end = End::Rest(known, drive.status);
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
                Err(End::Fault(fault)) => return Box::pin(self.faulted(fault, Vec::new())).await,
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
            () = held.poked() => Box::pin(self.reload()).await.map(|()| Vec::new()),
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
        // Whoever has it next begins these, with the same keys.
        self.running.retain(|_, running| !running.call_off());
        if self.desk().stop() == Stop::Now {
            self.running.values().for_each(Running::abort);
        }
        self.told.close();
        while let Ok(done) = self.told.try_recv() {
            Box::pin(self.whose.deliver(done)).await;
        }
        self.deliver_all(inputs).await;
        end
    }

    /// Results that were not committed.
    pub(super) async fn deliver_all(&self, inputs: Vec<Input>) {
        for input in inputs {
            if let Some(done) = self.done_again(input) {
                Box::pin(self.whose.deliver(done)).await;
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
