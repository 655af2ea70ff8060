//! The one waiter of a worker: it sleeps in the database until the feed has grown, looks what concerns sagas, and wakes
//! whoever it concerns.

use std::sync::Arc;
use std::time::Duration;

use mire_client::{EventStore, FeedEvent, ReadAll};

use crate::error::Result;
use crate::gather::pause;
use crate::hand::{Desk, Drivers};

/// A look is at so many events, and so many bytes.
const LOOK: (u32, usize) = (500, 256 << 10);

/// Waits for news for ever.
pub(super) async fn announce(
    store: EventStore,
    desk: Arc<Desk>,
    drivers: Arc<Drivers>,
    categories: Vec<String>,
    mut after: i64,
) {
    const WAIT: Duration = Duration::from_secs(600);
    let mut epoch = None;
    // What is remembered may be of another history.
    let forget = || drivers.values().for_each(|driver| driver.cache.clear());
    let mut failures = 0;
    loop {
        let told = async {
            let safe = store.wait_for_events(after, WAIT).await?;
            let former = epoch.replace(safe.epoch);
            if former.is_some_and(|former| former != safe.epoch) {
                forget();
            }
            if safe.position > after {
                after = look(&store, &desk, &categories, after).await?;
            }
            Ok::<_, crate::error::Error>(())
        };
        if let Err(error) = told.await {
            let wait = pause(failures);
            failures += 1;
            tracing::warn!(%error, ?wait, "no news to be had, trying again");
            tokio::time::sleep(wait).await;
            // History may have been set back, or have taken a leap.
            forget();
            if let Ok(position) = store.safe_position().await {
                after = position;
            }
            desk.instances.notify_one();
            desk.messages.notify_one();
        } else {
            failures = 0;
        }
    }
}

/// Looks at a page of what is new, and tells how far it came.
async fn look(store: &EventStore, desk: &Desk, categories: &[String], after: i64) -> Result<i64> {
    let read = ReadAll::new()
        .after(after)
        .categories(categories)
        .page_size(LOOK.0)
        .page_bytes(LOOK.1);
    let page = store.read_page(&read).await?;
    let (mut instances, mut messages) = (false, false);
    for event in &page.events {
        messages |= may_have_messages(event);
        instances |= may_be_due(event) && !desk.keeper.poke(&event.event.stream);
    }
    if instances {
        desk.instances.notify_one();
    }
    if messages {
        desk.messages.notify_one();
    }
    Ok(page.next_position)
}

/// What a holder writes makes nobody else look, unless it sets a timer, which may come before this worker's next look.
fn may_be_due(event: &FeedEvent) -> bool {
    match event.event.event_type.as_str() {
        "$saga_ended" => false,
        "$saga_advanced" => {
            let data = event.event.data.as_str();
            data.contains("\"timeout_ms\"") || data.contains("\"retry_ms\"")
        }
        _ => true,
    }
}

/// Requests for the outbox are marked as such in the history; the end of a child is told to its parent.
fn may_have_messages(event: &FeedEvent) -> bool {
    match event.event.event_type.as_str() {
        "$saga_ended" => true,
        "$saga_started" | "$saga_advanced" => event.event.data.as_str().contains("\"outbox\""),
        _ => false,
    }
}
