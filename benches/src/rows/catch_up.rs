//! Reading the feed beside a SELECT of the same rows.

use anyhow::{Result, ensure};
use futures_util::{TryStreamExt, pin_mut};
use mire_client::{EventStore, ReadAll};
use tokio_postgres::types::FromSql;

use super::generate::{EVENTS_PER_STREAM, with_events};
use crate::floors::{Fold, PAGE, READ_ALL, feed_pages};
use crate::row::{Measure, Row};
use crate::side::{Ready, Side, Work};
use crate::stores::{Ours, Store};
use crate::world::Sizes;

const PAGE_SIZE: u16 = 1_000;

pub(crate) fn rows(sizes: Sizes) -> Vec<Row> {
    const UNIT: Measure = Measure::Rate("events/s");
    let events = sizes.feed;
    vec![
        Row::new(
            "P1 read",
            "`EventStore::read_all`, no subscription, pages of 1,000",
            UNIT,
        )
        .ours(read_all(events))
        .floor(pages::<i64>(PAGE, events)),
        Row::new(
            "P1 server",
            "`read_all` without the typed client, pages of 1,000",
            UNIT,
        )
        .ours(pages::<String>(READ_ALL, events))
        .floor(pages::<i64>(PAGE, events)),
    ]
}

/// Reads the feed as a stream of events; their JSON stays text.
fn read_all(events: usize) -> Side {
    Side::new(move |world| async move {
        with_events::<Ours>(&world, Ours::FEED, events).await?;
        let store = EventStore::connect(&world.url(Ours::FEED)).await?;
        caught_up(&store, 0, usize::from(PAGE_SIZE)).await?;
        let work = async move {
            check(&caught_up(&store, 0, events).await?, events)?;
            Ok(Work::of(events))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}

/// Reads so many events after a position.
pub(crate) async fn caught_up(store: &EventStore, after: i64, events: usize) -> Result<Fold> {
    let feed = store.read_all(ReadAll::new().after(after).page_size(u32::from(PAGE_SIZE)));
    pin_mut!(feed);
    let mut fold = Fold {
        position: after,
        ..Fold::default()
    };
    while fold.events < events {
        let Some(next) = feed.try_next().await? else {
            break;
        };
        ensure!(
            next.event.position > fold.position,
            "positions do not ascend"
        );
        fold.position = next.event.position;
        fold.events += 1;
        fold.versions += next.event.version;
        fold.bytes += next.event.data.as_str().len();
    }
    Ok(fold)
}

/// Reads the same rows by a statement whose eighth column is a `T`.
pub(crate) fn pages<T>(sql: &'static str, events: usize) -> Side
where
    T: for<'a> FromSql<'a> + Send + 'static,
{
    Side::new(move |world| async move {
        with_events::<Ours>(&world, Ours::FEED, events).await?;
        let client = world.connect_to(Ours::FEED).await?;
        let statement = client.prepare(sql).await?;
        let page = i32::from(PAGE_SIZE);
        for _ in 0..super::append::WARM_UP {
            feed_pages::<T>(&client, &statement, 0, 1, page).await?;
        }
        let work = async move {
            let fold = feed_pages::<T>(&client, &statement, 0, events, page).await?;
            check(&fold, events)?;
            Ok(Work::of(events))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}

/// Whole streams, from their first event to their last.
pub(crate) fn check(fold: &Fold, events: usize) -> Result<()> {
    let versions = events / EVENTS_PER_STREAM * (1..=EVENTS_PER_STREAM).sum::<usize>();
    ensure!(
        fold.events == events
            && usize::try_from(fold.versions) == Ok(versions)
            && fold.bytes > events * 100,
        "read {fold:?} instead of {events} events whose versions add up to {versions}"
    );
    Ok(())
}
