//! Data that is only read: made once, before the first round.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use mire_client::{EventStore, ExpectedVersion, NewEvent, stream_name};

use crate::events::{self, Ledger};

/// Ids of the ledgers that are loaded, by how many events they have.
pub(crate) const SHORT: usize = 200;
pub(crate) const LONG: usize = 10_000;
/// What is caught up on.
pub(crate) const FEED_EVENTS: usize = 200_000;
const FEED_STREAM_EVENTS: usize = 10;

/// Where that data is.
#[derive(Clone, Debug)]
pub(crate) struct Fixtures {
    /// The feed's events come after this position.
    pub(crate) feed_after: i64,
    /// Sum of their versions.
    pub(crate) feed_versions: i64,
}

impl Fixtures {
    pub(crate) async fn create(store: &EventStore) -> Result<Self> {
        for events in [SHORT, LONG] {
            append(store, stream_name::<Ledger>(events), events).await?;
        }
        let feed_after = store.safe_position().await?;
        let streams = FEED_EVENTS / FEED_STREAM_EVENTS;
        let names: Vec<String> = (0..streams).map(|n| format!("feed-{n}")).collect();
        // So many at a time share a commit.
        for some in names.chunks(200) {
            let appends = some
                .iter()
                .map(|name| append(store, name.clone(), FEED_STREAM_EVENTS));
            try_join_all(appends).await?;
        }
        let each = i64::try_from(FEED_STREAM_EVENTS)?;
        let found = store.safe_position().await? - feed_after;
        ensure!(
            usize::try_from(found) == Ok(FEED_EVENTS),
            "{found} positions were handed out for {FEED_EVENTS} events"
        );
        Ok(Self {
            feed_after,
            feed_versions: i64::try_from(streams)? * each * (each + 1) / 2,
        })
    }
}

async fn append(store: &EventStore, stream: String, count: usize) -> Result<()> {
    let events: Vec<NewEvent> = (0..count)
        .map(|_| events::new_event())
        .collect::<Result<_>>()?;
    let recorded = store
        .append(&stream, ExpectedVersion::NoStream, events)
        .await
        .with_context(|| format!("making {stream}"))?;
    ensure!(
        usize::try_from(recorded.version) == Ok(count),
        "{stream} is at version {}",
        recorded.version
    );
    Ok(())
}
