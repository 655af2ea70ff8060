//! Shared commits: saves and appends that are issued at the same time travel together in one `append_batch`, one commit.
//!
//! ```text
//! callers ──► Batcher (bounded) ──► driver task ──► Lane:  one append_batch at a time, everything that is ready
//!                                      │   ▲
//!                                  Scheduler (pure: who goes when)
//!                                      │   ▲
//!                                      └───┴─────► Alone: streams that somebody else's transaction sits on, one by one
//! ```
//!
//! - While one batch is in flight the next gathers; when it returns that goes. An idle store sends at once.
//! - Every caller gets its own outcome. A batch that fails as a whole is halved until the culprit stands alone.
//! - **Order**: appends to one stream happen in the order in which their calls were first polled.
//! - **A busy stream** (locked, or just being created, by another transaction) delays only its own appends: they queue
//!   behind its first one, which goes again alone and waits there, on another connection.
//! - **A dropped future** withdraws its append if that has not left yet; otherwise it is carried out. Nobody else's is
//!   touched.
//! - **A lost connection**: appends at an expected version of 0 or more are sent again with the same ids, which cannot
//!   store them twice; others are reported as [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown), and their order
//!   towards later ones of the stream is then unknown as well.

mod alone;
mod driver;
mod lane;
mod reconnect;
mod schedule;
mod settings;
mod ticket;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

pub(crate) use settings::FOR_EVER;
pub use settings::SharedCommits;

use crate::connection::Connector;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{AppendRequest, Recorded};
use schedule::Item;
use ticket::Ticket;

/// The callers' end.
pub(crate) struct Batcher {
    connector: Arc<Connector>,
    settings: SharedCommits,
    /// Callers enter one by one, in the order they came. A semaphore alone would not do: whoever has been given room is only
    /// woken, and a caller that comes along before it runs would hand over first.
    entrance: tokio::sync::Mutex<()>,
    /// Room for events, and for kilobytes, of appends that wait for their turn.
    events: Arc<Semaphore>,
    kilobytes: Arc<Semaphore>,
    driver: Mutex<Option<mpsc::UnboundedSender<Item<Ticket>>>>,
}

impl Batcher {
    pub(crate) fn new(connector: Arc<Connector>, settings: SharedCommits) -> Self {
        Self {
            connector,
            entrance: tokio::sync::Mutex::new(()),
            events: Arc::new(Semaphore::new(settings.max_queued_events)),
            kilobytes: Arc::new(Semaphore::new(settings.max_queued_bytes / 1024)),
            settings,
            driver: Mutex::default(),
        }
    }

    /// Appends, in company if there is any.
    pub(crate) async fn append(&self, request: AppendRequest) -> Result<Recorded> {
        let what = request.stream.clone();
        let events = request.events.len().max(1);
        let bytes = request.stream.len() + request.events.iter().map(|e| e.weight()).sum::<usize>();
        // Tokio's cooperative budget, which lets a caller wait although nobody is before it, would break the order.
        let entered = tokio::task::unconstrained(self.entrance.lock()).await;
        let room = [
            room(&self.events, events, self.settings.max_queued_events).await?,
            room(
                &self.kilobytes,
                bytes.div_ceil(1024),
                self.settings.max_queued_bytes / 1024,
            )
            .await?,
        ];
        let (reply, answer) = oneshot::channel();
        self.hand_over(Item {
            stream: request.stream.as_str().into(),
            events,
            bytes,
            deadline: Instant::now() + self.settings.busy_timeout,
            payload: Ticket::new(request, reply, room),
        })?;
        drop(entered);
        // Without an answer the driver is gone, with its runtime, and nobody knows how far it came.
        answer
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::OutcomeUnknown { what })))
    }

    /// The driver lives in the runtime of whoever needs it first, and is started anew when that runtime has ended.
    fn hand_over(&self, item: Item<Ticket>) -> Result<()> {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        let item = match &*driver {
            Some(inbox) => match inbox.send(item) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::SendError(item)) => item,
            },
            None => item,
        };
        let runtime = tokio::runtime::Handle::try_current().map_err(|e| {
            Error::with_source(
                ErrorKind::Config {
                    reason: "appending needs a Tokio runtime".into(),
                },
                e,
            )
        })?;
        let (inbox, received) = mpsc::unbounded_channel();
        runtime.spawn(driver::run(
            self.connector.clone(),
            self.settings.clone(),
            received,
        ));
        inbox
            .send(item)
            .map_err(|_| Error::new(ErrorKind::Closed))?;
        *driver = Some(inbox);
        Ok(())
    }
}

/// Waits for room; what is larger than all of it waits for all of it.
async fn room(queue: &Arc<Semaphore>, wanted: usize, all: usize) -> Result<OwnedSemaphorePermit> {
    let permits = u32::try_from(wanted.min(all)).unwrap_or(u32::MAX);
    tokio::task::unconstrained(queue.clone().acquire_many_owned(permits))
        .await
        .map_err(|_| Error::new(ErrorKind::Closed))
}
