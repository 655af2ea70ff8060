//! Streams and the feed, page by page.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use mire_client::{ExpectedVersion, ReadAll, ReadStream, RecordedEvent};

use super::common::{Fixture, eventually, fixture, note};

async fn noted(f: &Fixture, stream: &str, count: usize) {
    f.store
        .append(stream, ExpectedVersion::Any, (1..=count).map(note))
        .await
        .unwrap();
}

fn versions(events: &[RecordedEvent]) -> Vec<i64> {
    events.iter().map(|event| event.version).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_in_both_directions_whatever_the_page() {
    let f = fixture().await;
    noted(&f, "note-1", 10).await;
    for page in [1, 3, 5, 10, 11] {
        let read = |read: ReadStream| {
            f.store
                .read_stream("note-1", read.page_size(page))
                .try_collect::<Vec<_>>()
        };
        assert_eq!(
            versions(&read(ReadStream::new()).await.unwrap()),
            (1..=10).collect::<Vec<_>>()
        );
        assert_eq!(
            versions(&read(ReadStream::new().after(7)).await.unwrap()),
            [8, 9, 10]
        );
        assert_eq!(
            versions(&read(ReadStream::new().backward()).await.unwrap()),
            (1..=10).rev().collect::<Vec<_>>()
        );
        assert_eq!(
            versions(&read(ReadStream::new().backward().after(4)).await.unwrap()),
            [3, 2, 1]
        );
    }
    let nothing: Vec<_> = f
        .store
        .read_stream("note-2", ReadStream::new())
        .try_collect()
        .await
        .unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_gives_everything_once_in_order_and_goes_on_where_it_stopped() {
    let f = fixture().await;
    for round in 0..5 {
        noted(&f, &format!("note-{round}"), 4).await;
        noted(&f, &format!("memo-{round}"), 3).await;
    }
    for page in [1, 4, 35, 1000] {
        let all: Vec<_> = f
            .store
            .read_all(ReadAll::new().page_size(page))
            .try_collect()
            .await
            .unwrap();
        assert_eq!(
            all.iter().map(|e| e.event.id).collect::<Vec<_>>(),
            f.event_ids().await
        );
        let middle = &all[16];
        let rest: Vec<_> = f
            .store
            .read_all(
                ReadAll::new()
                    .page_size(page)
                    .after(middle.next_position)
                    .epoch(middle.epoch),
            )
            .try_collect()
            .await
            .unwrap();
        assert_eq!(
            rest.iter().map(|e| e.event.id).collect::<Vec<_>>(),
            f.event_ids().await[17..]
        );
    }
    let memos: Vec<_> = f
        .store
        .read_all(ReadAll::new().categories(["memo"]).page_size(4))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(memos.len(), 15);
    let none: Vec<_> = f
        .store
        .read_all(ReadAll::new().types(["other"]))
        .try_collect()
        .await
        .unwrap();
    assert!(none.is_empty());
    let page = f
        .store
        .read_page(&ReadAll::new().types(["other"]))
        .await
        .unwrap();
    assert!(
        page.next_position >= memos.last().unwrap().event.position,
        "what does not match is passed, once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_epoch_is_not_crossed_silently() {
    let f = fixture().await;
    noted(&f, "note-1", 4).await;
    let mut feed = f.store.read_all(ReadAll::new().page_size(2));
    let first = feed.next().await.unwrap().unwrap();
    f.number("SELECT mire.new_epoch()").await;
    let rest: Result<Vec<_>, _> = feed.try_collect().await;
    assert!(rest.unwrap_err().is_epoch_changed());
    let remembered = ReadAll::new().after(first.next_position).epoch(first.epoch);
    assert!(
        f.store
            .read_page(&remembered)
            .await
            .unwrap_err()
            .is_epoch_changed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_wakes_when_there_is_news_and_not_before_the_time_is_up() {
    let f = fixture().await;
    let now = f.store.safe_position().await.unwrap();
    let started = Instant::now();
    let nothing = f
        .store
        .wait_for_events(now, Duration::from_millis(200))
        .await
        .unwrap();
    assert!(nothing.position <= now && started.elapsed() >= Duration::from_millis(190));

    let store = f.store.clone();
    let waiter =
        tokio::spawn(async move { store.wait_for_events(now, Duration::from_secs(20)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    noted(&f, "note-1", 1).await;
    let news = tokio::time::timeout(Duration::from_secs(5), waiter)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(news.position > now);
    assert_eq!(news.epoch, f.store.info().await.unwrap().epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_waiters_leave_the_pool_alone() {
    let f = super::common::fixture_with(mire_client::EventStore::builder().pool_size(1)).await;
    let now = f.store.safe_position().await.unwrap();
    let waiters: Vec<_> = (0..8)
        .map(|_| {
            let store = f.store.clone();
            tokio::spawn(async move { store.wait_for_events(now, Duration::from_secs(20)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    noted(&f, "note-1", 1).await;
    for waiter in waiters {
        assert!(waiter.await.unwrap().unwrap().position > now);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_wait_ends_on_the_server_as_well() {
    let f = fixture().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND query LIKE 'CALL mire.wait_for_events%' AND state = 'active'";
    let waits = (0..5).map(|_| f.store.wait_for_events(0, Duration::from_secs(300)));
    let waits = futures_util::future::join_all(waits);
    assert!(
        tokio::time::timeout(Duration::from_millis(500), waits)
            .await
            .is_err()
    );
    // Each by itself it would end after half a minute.
    eventually(|| async { f.number(waiting).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn for_ever_is_a_timeout_too() {
    let f = fixture().await;
    let (store, before) = (f.store.clone(), f.store.safe_position().await.unwrap());
    let wait = tokio::spawn(async move { store.wait_for_events(before, Duration::MAX).await });
    noted(&f, "note-1", 1).await;
    assert!(wait.await.unwrap().unwrap().position > before);
}
