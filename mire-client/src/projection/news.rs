//! The one waiter of a process: it sleeps in the database until there is something new, and wakes those it concerns.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::context::{Subscribed, advance};
use super::retry::doubled;
use crate::error::Result;
use crate::store::{EventStore, Listener, ReadAll};

/// With so many subscriptions or more it pays to look what the news are before waking everybody.
const MANY: usize = 4;
/// The look is at so many events; if there are more, everybody is woken.
const PEEK: u32 = 50;
/// Whom the news did not concern moves on along with the others, but not at once: within so long.
const LATER: Duration = Duration::from_secs(1);

/// The subscriptions of a runner, when the program itself appends something.
struct Appends(Vec<Arc<Subscribed>>);

impl Listener for Appends {
    fn appended(&self, stream: &str, position: i64) {
        for subscribed in &self.0 {
            subscribed.appended(stream, position);
        }
    }
}

/// Waits for news for ever.
pub(crate) async fn announce(store: EventStore, subscribed: Vec<Arc<Subscribed>>) {
    let appends: Arc<dyn Listener> = Arc::new(Appends(subscribed.clone()));
    store.listeners.add(Arc::downgrade(&appends));
    let latest = watch::Sender::new(0);
    tokio::select! {
        () = listen(&store, &subscribed, &latest) => {}
        () = trail(&subscribed, latest.subscribe()) => {}
    }
}

/// Tells at once whom the news concern.
async fn listen(store: &EventStore, subscribed: &[Arc<Subscribed>], latest: &watch::Sender<i64>) {
    const WAIT: Duration = Duration::from_secs(600);
    let mut failures = 0;
    loop {
        let after = *latest.borrow();
        match store.wait_for_events(after, WAIT).await {
            Ok(safe) => {
                failures = 0;
                if safe.position > after {
                    let concerned = peek(store, subscribed, after, safe.position)
                        .await
                        .unwrap_or_default();
                    tell(subscribed, safe.position, concerned.as_ref());
                    latest.send_replace(safe.position);
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

/// Tells the others, too, one after the other: all at once, what they ask the database would be in the way of those who have
/// something to do.
async fn trail(subscribed: &[Arc<Subscribed>], mut latest: watch::Receiver<i64>) {
    let turn = LATER / u32::try_from(subscribed.len()).unwrap_or(u32::MAX).max(1);
    let behind = |latest: i64| subscribed.iter().any(|s| *s.news.borrow() < latest);
    while latest.wait_for(|latest| behind(*latest)).await.is_ok() {
        for one in subscribed {
            tokio::time::sleep(turn).await;
            let position = *latest.borrow();
            tell(std::slice::from_ref(one), position, None);
        }
    }
}

/// Tells some of the subscriptions, or all.
fn tell(subscribed: &[Arc<Subscribed>], position: i64, concerned: Option<&HashSet<usize>>) {
    for (index, subscribed) in subscribed.iter().enumerate() {
        if concerned.is_none_or(|some| some.contains(&index)) {
            advance(&subscribed.news, position);
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
    // Nothing is known of before the first news.
    if subscribed.len() < MANY || after == 0 {
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::error::BoxError;
    use crate::projection::context::Status;
    use crate::projection::handler::{Drive, Job, Manner};
    use crate::projection::retry::{OnFailure, RetryPolicy};
    use crate::projection::subscription::Subscription;

    struct Nothing;

    impl Drive for Nothing {
        fn manner(&self) -> Manner {
            Manner::Plain
        }

        fn drive<'a>(&'a self, _: Job<'a>) -> BoxFuture<'a, Result<usize, BoxError>> {
            async { Ok(0) }.boxed()
        }
    }

    fn some(count: usize) -> Vec<Arc<Subscribed>> {
        let one = |n: usize| Subscribed {
            definition: Subscription::new(n.to_string()),
            handler: Box::new(Nothing),
            retry: RetryPolicy::none(),
            on_failure: OnFailure::Stop,
            news: watch::Sender::new(0),
            hint: watch::Sender::new(0),
            status: watch::Sender::new(Status::default()),
        };
        (0..count).map(one).map(Arc::new).collect()
    }

    fn told(subscribed: &[Arc<Subscribed>], position: i64) -> usize {
        subscribed
            .iter()
            .filter(|s| *s.news.borrow() == position)
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn whom_the_news_did_not_concern_is_told_one_by_one() {
        let subscribed = some(50);
        let latest = watch::Sender::new(0);
        let others = {
            let (subscribed, latest) = (subscribed.clone(), latest.subscribe());
            tokio::spawn(async move { trail(&subscribed, latest).await })
        };
        tell(&subscribed, 1, Some(&HashSet::from([7])));
        latest.send_replace(1);
        let mut before = 1;
        for _ in 0..10 {
            tokio::time::sleep(LATER / 10).await;
            let now = told(&subscribed, 1);
            assert!((before..=before + 6).contains(&now), "{now} after {before}");
            before = now;
        }
        tokio::time::sleep(LATER / 10).await;
        assert_eq!(told(&subscribed, 1), 50);
        others.abort();
    }
}
