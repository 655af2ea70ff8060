//! [`Subscription`]: which events, from where on, in how many parts, and what to do when a handler fails.

use super::handler::UnknownEvents;
use super::retry::{OnFailure, RetryPolicy};
use crate::aggregate::Aggregate;
use crate::error::{Error, ErrorKind, Result};

/// Where a subscription that is new begins. An existing one goes on where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartAt {
    /// At the first event.
    #[default]
    Beginning,
    /// With the events appended from now on.
    End,
    /// After this position.
    After(i64),
}

/// A durable consumer of the feed. Its definition is kept in the database under its name; another definition under the
/// same name is refused (`42710`) until `mire.alter_subscription` changes it on purpose.
///
/// ```
/// use mire_client::{OnFailure, RetryPolicy, StartAt, Subscription};
///
/// let subscription = Subscription::new("balances")
///     .categories(["account"])
///     .partitions(8)
///     .start(StartAt::Beginning)
///     .on_failure(OnFailure::Park)
///     .retry(RetryPolicy::new().attempts(3));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Subscription {
    pub(crate) name: String,
    pub(crate) categories: Option<Vec<String>>,
    pub(crate) types: Option<Vec<String>>,
    pub(crate) start: StartAt,
    pub(crate) partitions: u32,
    pub(crate) page_events: u32,
    pub(crate) page_bytes: usize,
    pub(crate) unknown: UnknownEvents,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) on_failure: Option<OnFailure>,
}

impl Subscription {
    /// All events, from the beginning, in one partition.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            categories: None,
            types: None,
            start: StartAt::Beginning,
            partitions: 1,
            page_events: 5_000,
            page_bytes: 4 << 20,
            unknown: UnknownEvents::Skip,
            retry: None,
            on_failure: None,
        }
    }

    /// Events of this aggregate's streams; may be said of several.
    pub fn aggregate<A: Aggregate>(self) -> Self {
        self.categories([A::CATEGORY])
    }

    /// Events of streams of these categories, besides those named before.
    pub fn categories(mut self, categories: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let all = self.categories.get_or_insert_default();
        all.extend(categories.into_iter().map(Into::into));
        all.sort();
        all.dedup();
        self
    }

    /// Only events of these types, besides those named before.
    pub fn types(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let all = self.types.get_or_insert_default();
        all.extend(types.into_iter().map(Into::into));
        all.sort();
        all.dedup();
        self
    }

    /// Where it begins when it is new: at the first event if not said.
    pub fn start(mut self, start: StartAt) -> Self {
        self.start = start;
        self
    }

    /// Split by stream into so many partitions (1 to 1024), which workers handle side by side. 1 if not said.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// A page holds at most so many events (5,000 if not said) and so many bytes of data and metadata (4 MiB), but one event
    /// at least. A partition has at most two pages in memory; a [`BatchHandler`](crate::BatchHandler) gets at most one at a
    /// time.
    pub fn page(mut self, events: u32, bytes: usize) -> Self {
        self.page_events = events.max(1);
        self.page_bytes = bytes.max(1);
        self
    }

    /// What becomes of events whose type the handler does not know: they are skipped if not said.
    pub fn unknown_events(mut self, unknown: UnknownEvents) -> Self {
        self.unknown = unknown;
        self
    }

    /// How often a failing event is tried; the runner's policy if not said.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// What happens when all attempts have failed; the runner's policy if not said.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = Some(on_failure);
        self
    }

    /// As `create_subscription` takes it: start, partitions.
    pub(crate) fn to_sql(&self) -> Result<(Option<i64>, i32)> {
        let start = match self.start {
            StartAt::Beginning => Some(0),
            StartAt::End => None,
            StartAt::After(position) => Some(position),
        };
        let partitions = i32::try_from(self.partitions).map_err(|_| {
            Error::new(ErrorKind::Invalid {
                reason: format!(
                    "subscription {:?} cannot have {} partitions",
                    self.name, self.partitions
                ),
            })
        })?;
        Ok((start, partitions))
    }
}
