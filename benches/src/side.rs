//! [`Side`]: something that can be measured: ours, or what it is compared with.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;

use crate::world::World;

type Prepare = dyn Fn(Arc<World>) -> BoxFuture<'static, Result<Ready>> + Send + Sync;

/// Something that can be measured, again and again.
pub(crate) struct Side(Box<Prepare>);

impl Side {
    /// From a closure that connects, prepares statements, makes fresh streams and warms up: none of that is timed.
    pub(crate) fn new<F, Fut>(prepare: F) -> Self
    where
        F: Fn(Arc<World>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Ready>> + Send + 'static,
    {
        Self(Box::new(move |world| prepare(world).boxed()))
    }

    pub(crate) async fn prepare(&self, world: &Arc<World>) -> Result<Ready> {
        (self.0)(Arc::clone(world)).await
    }
}

/// A side that is ready to go. Whatever `work` owns, its connections above all, is gone when it has ended.
pub(crate) struct Ready {
    pub(crate) work: BoxFuture<'static, Result<Work>>,
    pub(crate) check: BoxFuture<'static, Result<()>>,
}

impl Ready {
    /// `check` fails unless what `work` did is in the database as it should be.
    pub(crate) fn new(
        work: impl Future<Output = Result<Work>> + Send + 'static,
        check: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Self {
        Self {
            work: work.boxed(),
            check: check.boxed(),
        }
    }
}

/// What was done.
#[derive(Default)]
pub(crate) struct Work {
    /// In the row's unit: appended events, loads, …
    pub(crate) operations: usize,
    /// How long it took, where that is less than the whole of it.
    pub(crate) elapsed: Option<Duration>,
    /// What it cost the server processes, where the row asks for that.
    pub(crate) cpu: Option<Duration>,
    /// What was found out, where the row asks for that.
    pub(crate) figure: Option<f64>,
}

impl Work {
    pub(crate) fn of(operations: usize) -> Self {
        Self {
            operations,
            ..Self::default()
        }
    }

    /// This much of the time counts.
    pub(crate) fn within(self, elapsed: Duration) -> Self {
        Self {
            elapsed: Some(elapsed),
            ..self
        }
    }

    pub(crate) fn found(self, figure: f64) -> Self {
        Self {
            figure: Some(figure),
            ..self
        }
    }
}

/// Does the work as a task of the runtime, like the handler of a request: elsewhere each answer has to wake another thread.
pub(crate) async fn work(ready: BoxFuture<'static, Result<Work>>) -> Result<Work> {
    tokio::spawn(ready).await.context("the work panicked")?
}

/// Runs tasks at the same time, each as a task of the runtime, and waits for all.
pub(crate) async fn together<T, F>(tasks: impl IntoIterator<Item = F>) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut set: JoinSet<_> = tasks.into_iter().collect();
    let mut results = Vec::with_capacity(set.len());
    while let Some(joined) = set.join_next().await {
        results.push(joined.context("a task panicked")??);
    }
    Ok(results)
}
