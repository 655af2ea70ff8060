//! Loading an aggregate beside a SELECT of the same rows.

use anyhow::{Result, ensure};
use mire_client::stream_name;

use super::append::WARM_UP;
use super::fixtures::{LONG, SHORT};
use crate::events::Ledger;
use crate::figures::{float, number};
use crate::floors::{Fold, LOAD_STREAM, STREAM, stream_select};
use crate::row::{Measure, Role, Row};
use crate::side::{Ready, Side, Work};

pub(crate) fn rows() -> Vec<Row> {
    const UNIT: Measure = Measure::Rate("loads/s");
    let row = |id, how: &str, events| {
        Row::new(id, format!("{how}, {} events", number(float(events))), UNIT)
    };
    let mut rows = Vec::new();
    for (id, server_id, events, loads) in [
        ("B4", "B4 server", SHORT, 500),
        ("B9", "B9 server", LONG, 30),
    ] {
        rows.push(
            row(id, "`EventStore::load`", events)
                .side(Role::Ours, load(events, loads))
                .side(Role::Floor, select(STREAM, By::Number, events, loads)),
        );
        rows.push(
            row(server_id, "`load_stream` without the typed client", events)
                .side(Role::Ours, select(LOAD_STREAM, By::Name, events, loads))
                .side(Role::Floor, select(STREAM, By::Number, events, loads)),
        );
    }
    rows
}

/// Loads the ledger of so many events so often, and folds its JSON into a state.
fn load(events: usize, loads: usize) -> Side {
    Side::new(move |world| async move {
        let store = world.store().await?;
        for _ in 0..WARM_UP {
            store.load::<Ledger>(events).await?;
        }
        let work = async move {
            for _ in 0..loads {
                let ledger = store.load::<Ledger>(events).await?;
                ensure!(
                    ledger.state().bookings == events
                        && usize::try_from(ledger.state().cents) == Ok(events),
                    "folded {:?} instead of {events} bookings",
                    ledger.state()
                );
            }
            Ok(Work::of(loads))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
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
        let client = world.connect().await?;
        let statement = client.prepare(sql).await?;
        let name = stream_name::<Ledger>(events);
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
                    fold.events == events && fold.versions == sum && fold.bytes > events * 100,
                    "read {fold:?} instead of {events} events"
                );
            }
            Ok(Work::of(loads))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}
