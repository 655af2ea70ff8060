//! [`Known`]: an instance in memory, with the clock its times belong to.

use std::time::{Duration, Instant as Moment, SystemTime};

use crate::engine::{Drive, Input, Micros, drive};
use crate::history::{Instance, Progress};
use crate::panics::guarded;
use crate::storage::Claimed;
use crate::topology::{Fault, Topology};

/// An instance in memory.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) instance: Instance,
    pub(crate) clock: Clock,
}

/// The database's clock as this process knows it: what it said last, and how long that is ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    said: Micros,
    at: Moment,
}

impl Clock {
    pub(crate) fn new(said: Micros) -> Self {
        Self {
            said,
            at: Moment::now(),
        }
    }

    /// Of this machine, for an instance of which the database knows nothing yet. Only durations count, and both their ends
    /// are taken from this clock.
    pub(crate) fn own() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self::new(micros(since.unwrap_or_default()))
    }

    pub(crate) fn now(&self) -> Micros {
        self.said.saturating_add(micros(self.at.elapsed()))
    }
}

fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}

impl Known {
    /// Folds a history.
    ///
    /// # Errors
    /// When it is none that this program can read.
    pub(crate) fn of(claimed: &Claimed) -> Result<Self, Fault> {
        let events = claimed.events.as_ref();
        let events = events.map_err(|e| Fault(format!("the history cannot be read: {e}")))?;
        let instance = Instance::new(&claimed.saga, &claimed.instance);
        let mut known = Self::new(instance, Clock::new(claimed.now));
        guarded(|| {
            for event in events {
                known.instance.apply(event.version, event.at, &event.facts);
            }
            Ok(())
        })?;
        // The row may know of a version whose event says nothing to an instance.
        known.instance.version = claimed.version;
        Ok(known)
    }

    pub(crate) fn new(instance: Instance, clock: Clock) -> Self {
        Self { instance, clock }
    }

    /// Whether the only thing to say is an answer that is recorded already.
    pub(crate) fn has_heard(&self, inputs: &[Input]) -> bool {
        matches!(inputs, [Input::Answer { id: Some(id), .. }] if self.instance.answers.contains(id))
    }

    /// The steps that something is awaited for; an undo as `step~undo`.
    pub(crate) fn active_steps(&self) -> Vec<String> {
        let active = |progress: &Progress| progress.is_active();
        let Instance { steps, undos, .. } = &self.instance;
        let forward = steps.iter().filter(|(_, p)| active(p));
        let back = undos.iter().filter(|(_, p)| active(p));
        forward
            .map(|(step, _)| step.clone())
            .chain(back.map(|(step, _)| format!("{step}~undo")))
            .collect()
    }

    /// What happens next.
    ///
    /// # Errors
    /// When something that the program supplies is broken, or panics.
    pub(crate) fn drive(&self, topology: &Topology, inputs: &[Input]) -> Result<Drive, Fault> {
        guarded(|| drive(topology, &self.instance, self.clock.now(), inputs))
    }
}
