//! Pages of events, bounded by the database.

use tracing::instrument;

use super::subscription::Subscription;
use crate::connection::{Talk, calls};
use crate::error::{Doing, Result};
use crate::event::RecordedEvent;
use crate::store::{EventStore, for_each_row};

/// A partition under a fence.
#[derive(Clone, Debug)]
pub(crate) struct Tenure {
    pub(crate) name: String,
    pub(crate) partition: i32,
    pub(crate) fence: i64,
}

/// What the database puts into a page at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageSize {
    pub(crate) events: i32,
    /// Of data and metadata. One event comes at least, however large.
    pub(crate) bytes: i32,
}

impl PageSize {
    pub(crate) fn of(definition: &Subscription) -> Self {
        Self {
            events: i32::try_from(definition.page_events).unwrap_or(i32::MAX),
            bytes: i32::try_from(definition.page_bytes).unwrap_or(i32::MAX),
        }
    }
}

/// What `fetch_events` gave.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) events: Vec<RecordedEvent>,
    /// Where to go on after the last event.
    pub(crate) next_position: i64,
    pub(crate) epoch: i64,
    /// As many events as were asked for: there may be more. (Of one that its bytes cut short the news tell.)
    pub(crate) full: bool,
}

/// The next events of a partition, after a position or after the checkpoint.
#[instrument(level = "debug", skip_all, fields(subscription = %tenure.name, partition = tenure.partition, after), err(level = "debug"))]
pub(crate) async fn fetch(
    store: &EventStore,
    tenure: &Tenure,
    size: PageSize,
    after: Option<i64>,
) -> Result<Page> {
    let conn = store.connector.pooled().await?;
    let doing = Doing::Reading(&tenure.name);
    let row = conn
        .row(
            &calls::FETCH_EVENTS,
            &[
                &tenure.name,
                &tenure.partition,
                &tenure.fence,
                &size.events,
                &after,
                &size.bytes,
            ],
            doing,
        )
        .await?;
    drop(conn);
    let mut page = Page {
        events: Vec::new(),
        next_position: after.unwrap_or_default(),
        epoch: 0,
        full: false,
    };
    for_each_row(&row, doing, |row| {
        page.next_position = row.next_position;
        page.epoch = row.epoch;
        page.events.extend(row.event);
    })?;
    page.full = usize::try_from(size.events).is_ok_and(|count| page.events.len() >= count);
    Ok(page)
}
