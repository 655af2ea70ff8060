//! [`Gather`]: calls of many callers travel together. While one is in flight the next ones gather, and go when it returns,
//! or beside it when they are many; whoever comes to an idle one goes at once. Every item gets its own answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mire_client::Json;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::storage::ItemResult;

type Call = dyn Fn(Arc<[Json]>) -> BoxFuture<'static, Result<Vec<ItemResult>>> + Send + Sync;
type Answer = oneshot::Sender<Result<ItemResult>>;

/// At most so many items go together.
const MOST: usize = 256;
/// So many that wait are worth a second flight beside the first: server and program then work at the same time.
const MANY: usize = 64;
/// A call is tried so often when the database cannot be reached; its items say the same thing however often they arrive.
const TRIES: u32 = 8;

/// Where callers meet.
#[derive(Clone)]
pub(crate) struct Gather(Arc<Inner>);

struct Inner {
    send: Box<Call>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(Json, Answer)>,
    flying: usize,
}

impl Queue {
    /// Whether another flight is worth it, beside so many.
    fn wants(&self, flying: usize) -> bool {
        match flying {
            0 => !self.waiting.is_empty(),
            1 => self.waiting.len() >= MANY,
            _ => false,
        }
    }
}

impl Gather {
    pub(crate) fn new(
        send: impl Fn(Arc<[Json]>) -> BoxFuture<'static, Result<Vec<ItemResult>>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            send: Box::new(send),
            queue: Mutex::default(),
        }))
    }

    /// Sends an item along with others, and waits for its answer. An item that has left is carried out even if nobody waits
    /// any more.
    pub(crate) async fn call(&self, item: Json) -> Result<ItemResult> {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.0.queue();
            queue.waiting.push((item, answer));
            if queue.wants(queue.flying) {
                let runtime = Handle::try_current().map_err(|_| Error::Closed)?;
                queue.flying += 1;
                runtime.spawn(fly(Flight {
                    inner: self.0.clone(),
                    landed: false,
                }));
            }
        }
        answered.await.unwrap_or(Err(Error::Closed))
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody takes care of the queue; when that ends early (with its runtime), the next caller takes over.
struct Flight {
    inner: Arc<Inner>,
    landed: bool,
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            let mut queue = self.inner.queue();
            queue.flying -= 1;
            if queue.flying == 0 {
                queue.waiting.clear();
            }
        }
    }
}

async fn fly(mut flight: Flight) {
    loop {
        // Whoever has just been answered may have something to say again: one round for them, no waiting.
        tokio::task::yield_now().await;
        let batch: Vec<_> = {
            let mut queue = flight.inner.queue();
            if !queue.wants(queue.flying - 1) {
                queue.flying -= 1;
                flight.landed = true;
                return;
            }
            let some = queue.waiting.len().min(MOST);
            queue.waiting.drain(..some).collect()
        };
        deliver(&flight.inner, batch).await;
    }
}

/// Sends a batch until everybody has an answer. One that is refused as a whole is halved, so that the item that spoils it
/// ends up alone with the error.
async fn deliver(inner: &Inner, batch: Vec<(Json, Answer)>) {
    let mut groups = vec![batch];
    let mut tries = 0;
    while let Some(mut group) = groups.pop() {
        let items: Arc<[Json]> = group.iter().map(|(item, _)| item.clone()).collect();
        let error = match (inner.send)(items).await {
            Ok(results) => {
                for ((_, answer), result) in group.into_iter().zip(results) {
                    let _ = answer.send(Ok(result));
                }
                continue;
            }
            Err(error) => error,
        };
        if (error.is_retryable() || error.is_outcome_unknown()) && tries < TRIES {
            tokio::time::sleep(pause(tries)).await;
            tries += 1;
            groups.push(group);
        } else if group.len() > 1 && !error.is_setup() {
            let half = group.split_off(group.len() / 2);
            groups.extend([half, group]);
        } else {
            for (_, answer) in group {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

/// 50 ms at first, twice that next, 2 s at most.
pub(crate) fn pause(tries: u32) -> Duration {
    Duration::from_millis(50)
        .saturating_mul(1 << tries.min(10))
        .min(Duration::from_secs(2))
}
