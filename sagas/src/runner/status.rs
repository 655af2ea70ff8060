//! What a runner tells about instances.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::engine::Micros;
use crate::history::Instance;
use crate::status::SagaStatus;
use crate::storage::{HistoryRow, ListedRow};

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// It is recorded, and so is all that follows from it.
    Driven,
    /// It is recorded; whoever has the instance in hand, or a worker, goes on from there.
    Recorded,
    /// An answer of the same id had been recorded before.
    Duplicate,
}

/// A request of a step or an undo, and what became of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EmittedRequest {
    /// Whose request it is.
    pub step: String,
    /// Of the step's undo.
    pub undo: bool,
    /// Which activation, from 1; earlier ones are not listed.
    pub activation: u32,
    /// Its place among the requests of the activation, from 0.
    pub request: u32,
    /// Its type.
    pub kind: String,
    /// Its content.
    pub data: Value,
    /// Sent through the outbox, rather than fulfilled by an effect.
    pub outbox: bool,
    /// Somebody has answered it.
    pub answered: bool,
    /// Failed attempts of its effect.
    pub attempts: u32,
}

/// An instance in a list.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ListedInstance {
    /// Its saga.
    pub saga: String,
    /// Its name.
    pub instance: String,
    /// The version of the topology it started with (or was migrated to).
    pub topology_version: i32,
    /// Where it is.
    pub status: SagaStatus,
    /// The steps that something is awaited for; an undo as `step~undo`.
    pub steps: Vec<String>,
    /// What is wrong, if anything.
    pub error: Option<String>,
    /// Drives in a row that ended without a commit.
    pub attempts: i32,
    /// When it started, by the database's clock.
    pub started_at: SystemTime,
    /// When it last changed.
    pub changed_at: SystemTime,
    /// When it ended.
    pub ended_at: Option<SystemTime>,
}

impl ListedInstance {
    /// None: of a status that this program does not know.
    pub(crate) fn of(row: ListedRow) -> Option<Self> {
        Some(Self {
            status: SagaStatus::of(&row.status)?,
            saga: row.saga,
            instance: row.instance,
            topology_version: row.topology_version,
            steps: row.steps,
            error: row.error,
            attempts: row.attempts,
            started_at: time(row.started_at),
            changed_at: time(row.changed_at),
            ended_at: row.ended_at.map(time),
        })
    }
}

/// Something that happened to an instance.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// The version of the event it was recorded with.
    pub version: i64,
    /// When, by the database's clock.
    pub recorded_at: SystemTime,
    /// What: an object whose `fact` says which kind it is.
    pub fact: Value,
}

impl From<HistoryRow> for HistoryEntry {
    fn from(row: HistoryRow) -> Self {
        Self {
            version: row.version,
            recorded_at: time(row.recorded_at),
            fact: row.fact,
        }
    }
}

fn time(micros: Micros) -> SystemTime {
    let since = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 {
        SystemTime::UNIX_EPOCH - since
    } else {
        SystemTime::UNIX_EPOCH + since
    }
}

/// The requests of the latest activations.
pub(crate) fn requests_of(instance: &Instance) -> Vec<EmittedRequest> {
    let parts = [(false, &instance.steps), (true, &instance.undos)];
    let mut requests = Vec::new();
    for (undo, progress) in parts {
        for (step, progress) in progress {
            let Some(activation) = &progress.activation else {
                continue;
            };
            for (n, asked) in activation.requests.iter().enumerate() {
                requests.push(EmittedRequest {
                    step: step.clone(),
                    undo,
                    activation: activation.number,
                    request: u32::try_from(n).unwrap_or(u32::MAX),
                    kind: asked.request.kind.clone(),
                    data: asked.request.data.clone(),
                    outbox: asked.request.outbox,
                    answered: asked.answer.is_some() || !progress.is_active(),
                    attempts: asked.attempts,
                });
            }
        }
    }
    requests
}

/// Which instances to list.
#[derive(Clone, Debug)]
#[must_use]
pub struct ListFilter {
    pub(crate) statuses: Option<Vec<SagaStatus>>,
    pub(crate) step: Option<String>,
    pub(crate) min_age: Option<Duration>,
    pub(crate) error: Option<String>,
    pub(crate) max: u32,
}

impl Default for ListFilter {
    fn default() -> Self {
        Self {
            statuses: None,
            step: None,
            min_age: None,
            error: None,
            max: 100,
        }
    }
}

impl ListFilter {
    /// Those that have not ended, 100 at most.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of these statuses instead.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = SagaStatus>) -> Self {
        self.statuses = Some(statuses.into_iter().collect());
        self
    }

    /// Only those that wait at this step (an undo is called `step~undo`).
    pub fn step(mut self, step: impl Into<String>) -> Self {
        self.step = Some(step.into());
        self
    }

    /// Only those that started so long ago, or longer.
    pub fn min_age(mut self, age: Duration) -> Self {
        self.min_age = Some(age);
        self
    }

    /// Only those whose error contains this.
    pub fn error(mut self, text: impl Into<String>) -> Self {
        self.error = Some(text.into());
        self
    }

    /// At most so many: 100 if not said.
    pub fn max(mut self, instances: u32) -> Self {
        self.max = instances;
        self
    }
}
