//! Starting instances.

use mire_client::{Aggregate, AggregateRoot, Transaction};

use super::SagaRunner;
use crate::error::{Error, Result};
use crate::saga::{EncodedStart, Saga, Start};
use crate::starting::Beginning;

/// Whether an instance was started just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Started {
    /// It was.
    Now,
    /// There was an instance of that id before: nothing has happened.
    Before,
}

impl Started {
    pub(crate) fn from_new(new: bool) -> Self {
        if new { Self::Now } else { Self::Before }
    }
}

impl<S: Saga> SagaRunner<S> {
    /// Starts an instance and does all that can be done now, effects included. Starting an id again, also of an instance
    /// that ended long ago, does nothing.
    ///
    /// When the saga's own code fails right at the start, the instance is started nevertheless, and treated by workers
    /// like any other that cannot be driven: tried again, then parked with the reason.
    ///
    /// # Errors
    /// [`Error::Encode`], [`is_invalid`](Error::is_invalid) for a bad id or a state that is too large,
    /// [`Error::Store`].
    pub async fn start(&self, instance: impl Into<String>, state: S::State) -> Result<Started> {
        self.start_with(Start::new(instance, state)).await
    }

    /// Starts an instance of which more is to be said: what set it off.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    #[tracing::instrument(level = "debug", skip_all, fields(saga = S::NAME, instance = start.instance()), err(level = "debug"))]
    pub async fn start_with(&self, start: Start<S>) -> Result<Started> {
        let new = self.core.start(beginning(start)?).await?;
        Ok(Started::from_new(new))
    }

    /// Starts instances together: one call and one commit for all, and an answer for each.
    pub async fn start_batch(
        &self,
        starts: impl IntoIterator<Item = Start<S>>,
    ) -> Vec<Result<Started>> {
        let mut answers = Vec::new();
        let (mut beginnings, mut places) = (Vec::new(), Vec::new());
        for start in starts {
            match beginning(start) {
                Ok(beginning) => {
                    places.push(answers.len());
                    beginnings.push(beginning);
                    answers.push(Ok(Started::Before));
                }
                Err(error) => answers.push(Err(error)),
            }
        }
        let started = self.core.start_many(beginnings).await;
        for (place, started) in places.into_iter().zip(started) {
            answers[place] = started.map(Started::from_new);
        }
        answers
    }

    /// Starts an instance as part of a transaction: it exists if that commits. A worker goes on with it then, or
    /// [`drive`](Self::drive). Waits while somebody else's transaction is just starting the same instance.
    ///
    /// # Errors
    /// Those of [`start`](Self::start). After an error of the database the transaction can only be rolled back.
    #[tracing::instrument(level = "debug", skip_all, fields(saga = S::NAME, instance = start.instance()), err(level = "debug"))]
    pub async fn start_in(&self, tx: &mut Transaction, start: Start<S>) -> Result<Started> {
        let new = self.core.start_in(tx, beginning(start)?).await?;
        Ok(Started::from_new(new))
    }

    /// Starts the instances that the saga starts on the pending events of an aggregate
    /// ([`start_on`](crate::SagaBuilder::start_on)), as part of the transaction that saves it: call this right before
    /// saving. Returns how many were started.
    ///
    /// # Errors
    /// Those of [`start_in`](Self::start_in).
    pub async fn start_for<A: Aggregate>(
        &self,
        tx: &mut Transaction,
        root: &AggregateRoot<A>,
    ) -> Result<usize> {
        let mut started = 0;
        for pending in root.pending() {
            for start_on in self.topology().starts().iter() {
                let start = start_on
                    .start_in_memory(&pending.event, root.stream())
                    .map_err(|fault| Error::encode("a start", fault))?;
                let Some(start) = start else { continue };
                started += usize::from(self.core.start_in(tx, encoded(start)).await?);
            }
        }
        Ok(started)
    }
}

fn beginning<S: Saga>(start: Start<S>) -> Result<Beginning> {
    let start = start.encode();
    start
        .map(encoded)
        .map_err(|fault| Error::encode("a start", fault))
}

pub(crate) fn encoded(start: EncodedStart) -> Beginning {
    Beginning {
        instance: start.instance,
        state: start.state,
        trigger: start.trigger,
        parent: None,
    }
}
