//! Catching up on the feed beside a SELECT of the same rows.

use anyhow::{Result, ensure};
use futures_util::{TryStreamExt, pin_mut};
use mire_client::{EventStore, ReadAll};
use tokio_postgres::types::FromSql;

use super::fixtures::{FEED_EVENTS, Fixtures};
use crate::floors::{Fold, PAGE, READ_ALL, feed_pages};
use crate::row::{Measure, Role, Row};
use crate::side::{Ready, Side, Work};

const PAGE_SIZE: u16 = 1_000;

pub(crate) fn rows() -> Vec<Row> {
    const UNIT: Measure = Measure::Rate("events/s");
    let what = |how: &str| format!("{how}: 200,000 events in pages of 1,000");
    vec![
        Row::new("P1", what("`EventStore::read_all`"), UNIT)
            .side(Role::Ours, read_all())
            .side(Role::Floor, pages::<i64>(PAGE)),
        Row::new(
            "P1 server",
            what("`read_all` without the typed client"),
            UNIT,
        )
        .side(Role::Ours, pages::<String>(READ_ALL))
        .side(Role::Floor, pages::<i64>(PAGE)),
    ]
}

/// Reads the feed as a stream of events; their JSON stays text.
fn read_all() -> Side {
    Side::new(move |world| async move {
        let store = world.store().await?;
        let fixtures = world.fixtures.clone();
        caught_up(&store, fixtures.feed_after, usize::from(PAGE_SIZE)).await?;
        let work = async move {
            let fold = caught_up(&store, fixtures.feed_after, FEED_EVENTS).await?;
            check(&fold, &fixtures)?;
            Ok(Work::of(FEED_EVENTS))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}

async fn caught_up(store: &EventStore, after: i64, events: usize) -> Result<Fold> {
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
fn pages<T>(sql: &'static str) -> Side
where
    T: for<'a> FromSql<'a> + Send + 'static,
{
    Side::new(move |world| async move {
        let client = world.connect().await?;
        let statement = client.prepare(sql).await?;
        let fixtures = world.fixtures.clone();
        let page = i32::from(PAGE_SIZE);
        for _ in 0..super::append::WARM_UP {
            feed_pages::<T>(&client, &statement, fixtures.feed_after, 1, page).await?;
        }
        let work = async move {
            let fold = feed_pages::<T>(&client, &statement, fixtures.feed_after, FEED_EVENTS, page)
                .await?;
            check(&fold, &fixtures)?;
            Ok(Work::of(FEED_EVENTS))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}

fn check(fold: &Fold, fixtures: &Fixtures) -> Result<()> {
    ensure!(
        fold.events == FEED_EVENTS
            && fold.versions == fixtures.feed_versions
            && fold.bytes > FEED_EVENTS * 100,
        "read {fold:?} instead of {FEED_EVENTS} events whose versions add up to {}",
        fixtures.feed_versions
    );
    Ok(())
}
