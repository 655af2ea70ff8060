//! Logs of millions of events, made by the server itself as fast as it can write them.
//!
//! What append would have written, stream by stream: ten bookings each, the streams of a thousand interleaved.

use anyhow::{Result, ensure};
use mire_client::Json;
use tokio_postgres::types::ToSql;

use crate::entry::Content;
use crate::stores::{Mire, Ours, Store, mire_entry};
use crate::world::World;

pub(crate) const EVENTS_PER_STREAM: usize = 10;
/// Streams a transaction.
const STREAMS: usize = 1_000;
/// Transactions between checkpoints: WAL that was kept would fill the disk.
const CHECKPOINT_EVERY: usize = 100;

/// A store whose log can be made.
pub(crate) trait Generated: Store {
    /// `$1` streams after the first `$2`; the events of these `$1` streams, of type `$2` with content `$3`, if need be after
    /// the first `$4` streams.
    const STATEMENTS: [&'static str; 2];

    /// Type and content of an event.
    fn content() -> Result<(String, Json)>;
}

impl Generated for Ours {
    const STATEMENTS: [&'static str; 2] = [
        "INSERT INTO mire.stream_heads (stream_no, version, stream)
         SELECT nextval('mire.stream_numbers'), 10, 'ledger-' || ($2::bigint + s) FROM generate_series(1, $1::bigint) AS s",
        "INSERT INTO mire.events (position, stream_no, version, event_id, recorded_at, category, type, data)
         SELECT nextval('mire.positions'), made.last_value - i % $1, 1 + i / $1, gen_random_uuid(), clock_timestamp(), 'ledger', $2::text, $3::jsonb
           FROM mire.stream_numbers AS made, generate_series(0, $1::bigint * 10 - 1) AS i",
    ];

    fn content() -> Result<(String, Json)> {
        Ok((Content::Booking.kind().to_owned(), Content::Booking.json()?))
    }
}

impl Generated for Mire {
    const STATEMENTS: [&'static str; 2] = [
        "INSERT INTO es_streams (stream_id, stream_category, stream_version)
         SELECT 'ledger-' || ($2::bigint + s), 'ledger', 10 FROM generate_series(1, $1::bigint) AS s",
        "INSERT INTO es_events (stream_id, stream_version, event_type, data, stream_category, payload_size, metadata_size)
         SELECT 'ledger-' || ($4::bigint + 1 + (i - 1) % $1), 1 + (i - 1) / $1, $2::text, $3::jsonb, 'ledger', octet_length($3::jsonb::text), 2
           FROM generate_series(1, $1::bigint * 10) AS i",
    ];

    fn content() -> Result<(String, Json)> {
        mire_entry(Content::Booking)
    }
}

/// Makes a database with so many events, unless that was done.
pub(crate) async fn with_events<S: Generated>(
    world: &World,
    database: &str,
    events: usize,
) -> Result<()> {
    let make = async {
        S::create(world, database).await?;
        grow::<S>(world, database, 0, events).await
    };
    world.once(&format!("{database} {events}"), make).await
}

/// Adds events to a database that was made like this and has so many.
pub(crate) async fn grow<S: Generated>(
    world: &World,
    database: &str,
    from: usize,
    to: usize,
) -> Result<()> {
    let transaction = STREAMS * EVENTS_PER_STREAM;
    ensure!(
        from.is_multiple_of(transaction) && to.is_multiple_of(transaction),
        "numbers of events must be multiples of {transaction}"
    );
    eprintln!("mire-benches: making {to} events in {database} …");
    let mut client = world.connect_to(database).await?;
    let (kind, data) = S::content()?;
    let [streams, events] = S::STATEMENTS;
    let streams = client.prepare(streams).await?;
    let events = client.prepare(events).await?;
    let each = i64::try_from(STREAMS)?;
    for step in from / transaction..to / transaction {
        let before = i64::try_from(step * STREAMS)?;
        let tx = client.transaction().await?;
        tx.execute(&streams, &[&each, &before]).await?;
        let all: [&(dyn ToSql + Sync); 4] = [&each, &kind, &data, &before];
        let made = tx.execute(&events, &all[..events.params().len()]).await?;
        ensure!(
            usize::try_from(made) == Ok(transaction),
            "made {made} events"
        );
        tx.commit().await?;
        if step % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1 {
            client.batch_execute("CHECKPOINT").await?;
        }
    }
    for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
        client.batch_execute(statement).await?;
    }
    Ok(())
}
