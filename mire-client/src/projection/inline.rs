//! Inline projections: a read model that is updated inside the appending transaction, for the few cases that cannot wait.

use std::future::Future;

use tracing::instrument;

use crate::aggregate::{Aggregate, AggregateRoot};
use crate::error::BoxError;
use crate::store::Recorded;
use crate::transaction::Transaction;

/// Updates a read model together with the events it is made of. It makes every append wait for its SQL, and two appends
/// that touch the same row wait for each other: prefer a [`ProjectionRunner`](crate::ProjectionRunner) where a few
/// milliseconds do not matter.
pub trait InlineProjection: Send + Sync {
    /// Whose events.
    type Aggregate: Aggregate;

    /// Writes what the [pending](AggregateRoot::pending) events mean, with SQL of the transaction. The state is the one
    /// after them; the version is the one before.
    ///
    /// # Errors
    /// Any error fails the save.
    fn project(
        &self,
        root: &AggregateRoot<Self::Aggregate>,
        tx: &mut Transaction,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

impl Transaction {
    /// Saves an aggregate's pending events and has a read model follow in the same transaction. The read model goes first:
    /// from the append on the transaction holds back the feed.
    ///
    /// # Errors
    /// Those of [`save`](Self::save), and the projection's own. After an error the transaction can only be rolled back.
    #[instrument(level = "debug", skip_all, fields(stream = %root.stream(), events = root.pending().len()), err(level = "debug"))]
    pub async fn save_projected<P: InlineProjection>(
        &mut self,
        root: &mut AggregateRoot<P::Aggregate>,
        projection: &P,
    ) -> Result<Recorded, BoxError> {
        projection.project(root, self).await?;
        Ok(self.save(root).await?)
    }
}
