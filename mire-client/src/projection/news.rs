//! The one waiter of a process: it sleeps in the database until there is something new, and wakes those it concerns.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::Subscribed;
use super::retry::doubled;
use crate::error::Result;
use crate::store::{EventStore, ReadAll};

/// With so many subscriptions or more it pays to look what the news are before waking everybody.
const MANY: usize = 4;
/// The look is at so many events; if there are more, everybody is woken.
const PEEK: u32 = 50;
/// Whom the news did not concern moves on along with the others, but not at once.
const LATER: Duration = Duration::from_secs(1);

/// Waits for news for ever.
pub(crate) async fn announce(store: EventStore, subscribed: Vec<Arc<Subscribed>>, mut after: i64) {
    const WAIT: Duration = Duration::from_secs(600);
    let mut failures = 0;
    let mut told = Instant::now();
    loop {
        let behind = subscribed.iter().any(|s| *s.news.borrow() < after);
        let patience = if behind {
            LATER.saturating_sub(told.elapsed())
        } else {
            WAIT
        };
        match store.wait_for_events(after, patience).await {
            Ok(safe) => {
                failures = 0;
                if !behind {
                    told = Instant::now();
                }
                if safe.position > after {
                    let concerned = peek(&store, &subscribed, after, safe.position)
                        .await
                        .unwrap_or_default();
                    after = safe.position;
                    tell(&subscribed, after, concerned.as_ref());
                }
                if told.elapsed() >= LATER {
                    tell(&subscribed, after, None);
                    told = Instant::now();
                }
            }
            Err(error) => {
                let pause = doubled(Duration::from_millis(50), failures, Duration::from_secs(2));
                failures += 1;
                tracing::warn!(%error, ?pause, "no news to be had, trying again");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Tells some of the subscriptions, or all.
fn tell(subscribed: &[Arc<Subscribed>], position: i64, concerned: Option<&HashSet<usize>>) {
    for (index, subscribed) in subscribed.iter().enumerate() {
        if concerned.is_none_or(|some| some.contains(&index)) {
            subscribed.news.send_if_modified(|known| {
                let newer = position > *known;
                *known = position.max(*known);
                newer
            });
        }
    }
}

/// Which subscriptions the news concern; None for all.
async fn peek(
    store: &EventStore,
    subscribed: &[Arc<Subscribed>],
    after: i64,
    up_to: i64,
) -> Result<Option<HashSet<usize>>> {
    if subscribed.len() < MANY {
        return Ok(None);
    }
    let page = store
        .read_page(&ReadAll::new().after(after).page_size(PEEK))
        .await?;
    if page.next_position < up_to {
        return Ok(None);
    }
    let wanted = |filter: &Option<Vec<String>>, value: &str| {
        filter
            .as_ref()
            .is_none_or(|names| names.is_empty() || names.iter().any(|name| name == value))
    };
    let concerned = subscribed.iter().enumerate().filter(|(_, subscribed)| {
        let definition = &subscribed.definition;
        page.events.iter().any(|event| {
            let stream = event.event.stream.as_str();
            let category = stream
                .split_once('-')
                .map_or(stream, |(category, _)| category);
            wanted(&definition.categories, category)
                && wanted(&definition.types, &event.event.event_type)
        })
    });
    Ok(Some(concerned.map(|(index, _)| index).collect()))
}
