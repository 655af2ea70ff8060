//! Pages of events, as large as memory allows.

use tracing::instrument;

use crate::connection::{Talk, calls};
use crate::error::{Doing, Result, from_driver};
use crate::event::RecordedEvent;
use crate::store::{EventStore, feed_row};

/// A partition under a fence.
#[derive(Clone, Debug)]
pub(crate) struct Tenure {
    pub(crate) name: String,
    pub(crate) partition: i32,
    pub(crate) fence: i64,
}

/// What `fetch_events` gave.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) events: Vec<RecordedEvent>,
    /// Where to go on after the last event.
    pub(crate) next_position: i64,
    pub(crate) epoch: i64,
    /// As many events as were asked for: there may be more.
    pub(crate) full: bool,
}

/// The next events of a partition, after a position or after the checkpoint.
#[instrument(level = "debug", skip_all, fields(subscription = %tenure.name, partition = tenure.partition, after, count), err(level = "debug"))]
pub(crate) async fn fetch(
    store: &EventStore,
    tenure: &Tenure,
    count: i32,
    after: Option<i64>,
) -> Result<Page> {
    let conn = store.connector.pooled().await?;
    let rows = conn
        .rows(
            &calls::FETCH_EVENTS,
            &[
                &tenure.name,
                &tenure.partition,
                &tenure.fence,
                &count,
                &after,
            ],
        )
        .await
        .map_err(|e| from_driver(e, Doing::Reading(&tenure.name)))?;
    drop(conn);
    let mut page = Page {
        events: Vec::with_capacity(rows.len()),
        next_position: after.unwrap_or_default(),
        epoch: 0,
        full: false,
    };
    for row in &rows {
        let row = feed_row(row)?;
        page.next_position = row.next_position;
        page.epoch = row.epoch;
        page.events.extend(row.event);
    }
    page.full = usize::try_from(count).is_ok_and(|count| page.events.len() >= count);
    Ok(page)
}

/// Roughly the memory an event takes.
pub(crate) fn weight(event: &RecordedEvent) -> usize {
    const FRAME: usize = 160;
    FRAME
        + event.stream.len()
        + event.event_type.len()
        + event.data.as_str().len()
        + event
            .metadata
            .as_ref()
            .map_or(0, |json| json.as_str().len())
}

/// How many events to ask for, so that a page stays within its bytes if events are as large as lately. It begins small
/// and doubles at most, so that a run of large events is met by small pages.
#[derive(Debug)]
pub(crate) struct PageSize {
    count: usize,
    most: usize,
    bytes: usize,
}

impl PageSize {
    pub(crate) fn new(most: u32, bytes: usize) -> Self {
        const FIRST: usize = 64;
        let most = usize::try_from(most)
            .unwrap_or(usize::MAX)
            .clamp(1, 1 << 20);
        Self {
            count: FIRST.min(most),
            most,
            bytes,
        }
    }

    pub(crate) fn count(&self) -> i32 {
        i32::try_from(self.count).unwrap_or(i32::MAX)
    }

    /// Learns from a page.
    pub(crate) fn seen(&mut self, page: &Page) {
        if page.events.is_empty() {
            return;
        }
        let bytes: usize = page.events.iter().map(weight).sum();
        let fitting = (self.bytes / (bytes / page.events.len()).max(1)).max(1);
        self.count = fitting.min(self.count.saturating_mul(2)).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

    fn page(events: usize, bytes: usize) -> Page {
        let data = Json::new(&"x".repeat(bytes)).expect("json");
        let event = RecordedEvent {
            position: 1,
            stream: "s".into(),
            version: 1,
            id: uuid::Uuid::nil(),
            event_type: "t".into(),
            recorded_at: std::time::SystemTime::UNIX_EPOCH,
            data,
            metadata: None,
        };
        Page {
            events: vec![event; events],
            next_position: 1,
            epoch: 1,
            full: true,
        }
    }

    #[test]
    fn pages_grow_while_events_are_small_and_shrink_when_they_are_not() {
        let mut size = PageSize::new(1_000, 1 << 20);
        assert_eq!(size.count(), 64);
        for _ in 0..5 {
            size.seen(&page(10, 100));
        }
        assert_eq!(size.count(), 1_000);
        size.seen(&page(10, 100_000));
        assert_eq!(size.count(), 10);
        size.seen(&page(10, 10_000_000));
        assert_eq!(
            size.count(),
            1,
            "an event that is larger than the page comes alone"
        );
        size.seen(&page(1, 100));
        assert_eq!(size.count(), 2);
    }
}
