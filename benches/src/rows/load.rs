//! Loading an aggregate beside a SELECT of the same rows.

use anyhow::{Result, ensure};

use super::append::WARM_UP;
use crate::entry::Content;
use crate::figures::{float, number};
use crate::floors::{Fold, LOAD_STREAM, STREAM, stream_select};
use crate::row::{Measure, Role, Row, Target};
use crate::side::{Ready, Side, Work};
use crate::stores::{Mire, Ours, Store};
use crate::world::World;

const SHORT: usize = 200;
const LONG: usize = 10_000;

pub(crate) fn rows() -> Vec<Row> {
    const UNIT: Measure = Measure::Rate("loads/s");
    let row = |id, how: &str, events| {
        Row::new(id, format!("{how}, {} events", number(float(events))), UNIT)
    };
    let mut rows = Vec::new();
    for (id, server_id, events, loads, bound) in [
        ("B4", "B4 server", SHORT, 500, 3.0),
        ("B9", "B9 server", LONG, 50, 4.0),
    ] {
        rows.push(
            row(id, "`EventStore::load`", events)
                .ours(load::<Ours>(events, loads))
                .mire(load::<Mire>(events, loads))
                .floor(select(STREAM, By::Number, events, loads))
                .target(Target::Ratio(Role::Mire, bound))
                .target(Target::Ratio(Role::Floor, 0.8)),
        );
        rows.push(
            row(server_id, "`load_stream` without the typed client", events)
                .ours(select(LOAD_STREAM, By::Name, events, loads))
                .floor(select(STREAM, By::Number, events, loads)),
        );
    }
    rows.push(
        row("B10", "`EventStore::load_snapshotted`", LONG)
            .ours(snapshotted::<Ours>(LONG, 500))
            .mire(snapshotted::<Mire>(LONG, 500))
            .target(Target::Ratio(Role::Mire, 2.0))
            .target(Target::Calls(1.0)),
    );
    rows
}

/// A ledger of so many entries, appended by one call.
async fn filled<S: Store>(world: &World, store: &S, entries: usize) -> Result<String> {
    let id = format!("filled{entries}");
    let make = async {
        let version = store.append(&id, Content::Small, entries).await?;
        expect(version, entries)
    };
    world.once(&format!("{} {id}", S::DATABASE), make).await?;
    Ok(id)
}

/// Loads the ledger of so many entries so often, and folds its JSON into a state.
fn load<S: Store>(events: usize, loads: usize) -> Side {
    Side::new(move |world| async move {
        let store = S::open(&world, S::DATABASE).await?;
        let id = filled(&world, &store, events).await?;
        for _ in 0..WARM_UP {
            store.total(&id).await?;
        }
        let work = async move {
            for _ in 0..loads {
                expect(store.total(&id).await?, events)?;
            }
            Ok(Work::of(loads))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}

/// The same from a snapshot of the last entry.
fn snapshotted<S: Store>(events: usize, loads: usize) -> Side {
    Side::new(move |world| async move {
        let store = S::open(&world, S::DATABASE).await?;
        let id = format!("snapshotted{events}");
        let fill = store.fill_snapshotted(&id, events);
        world.once(&format!("{} {id}", S::DATABASE), fill).await?;
        for _ in 0..WARM_UP {
            store.total_snapshotted(&id).await?;
        }
        let work = async move {
            for _ in 0..loads {
                expect(store.total_snapshotted(&id).await?, events)?;
            }
            Ok(Work::of(loads))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}

fn expect(total: i64, events: usize) -> Result<()> {
    ensure!(
        usize::try_from(total) == Ok(events),
        "folded {total} instead of {events} entries"
    );
    Ok(())
}

/// What a statement takes for the stream.
#[derive(Clone, Copy)]
enum By {
    Name,
    Number,
}

/// Reads the same rows by a statement.
fn select(sql: &'static str, by: By, events: usize, loads: usize) -> Side {
    Side::new(move |world| async move {
        let id = filled(&world, &Ours::open(&world, Ours::DATABASE).await?, events).await?;
        let client = world.connect().await?;
        let statement = client.prepare(sql).await?;
        let name = format!("ledger-{id}");
        let number: i64 = client
            .query_one(
                "SELECT stream_no FROM mire.stream_heads WHERE stream = $1",
                &[&name],
            )
            .await?
            .get(0);
        let read = async move || -> Result<Fold> {
            match by {
                By::Name => stream_select(&client, &statement, &name).await,
                By::Number => stream_select(&client, &statement, &number).await,
            }
        };
        for _ in 0..WARM_UP {
            read().await?;
        }
        let sum = i64::try_from(events * (events + 1) / 2)?;
        let work = async move {
            for _ in 0..loads {
                let fold = read().await?;
                ensure!(
                    fold.events == events && fold.versions == sum && fold.bytes > events * 5,
                    "read {fold:?} instead of {events} events"
                );
            }
            Ok(Work::of(loads))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}
