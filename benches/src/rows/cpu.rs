//! What an append costs its server process: W1 and W2.
//!
//! Nobody waits for the disk here (`synchronous_commit = off`, which the store allows when told to): the work for a
//! sync is the same on both sides and would only hide the difference.

use super::append::{AppendEvents, Appender, WARM_UP};
use super::batch::AppendBatch;
use crate::cpu;
use crate::floors::{InsertMany, InsertOne};
use crate::row::{Measure, Role, Row};
use crate::side::{Ready, Side, Work};

const NO_WAITING: &str = "SET mire.allow_async_commit = on; SET synchronous_commit = off";

/// So many calls with so many events each, on one connection. Every stream gets `events / streams` of them a call.
fn side<A: Appender>(calls: usize, events: usize, streams: usize) -> Side {
    Side::new(move |world| async move {
        let client = world.connect().await?;
        // The store's setting exists once its library is loaded.
        client.batch_execute("LOAD 'pg_mire'").await?;
        client.batch_execute(NO_WAITING).await?;
        let backend = cpu::backend(&client).await?;
        let mut appender = A::open(&world, client, events).await?;
        for _ in 0..WARM_UP {
            appender.append().await?;
        }
        let names = appender.streams();
        let work = async move {
            let before = cpu::used(backend)?;
            for _ in 0..calls {
                appender.append().await?;
            }
            Ok(Work {
                operations: calls * events,
                cpu: Some(cpu::used(backend)?.saturating_sub(before)),
            })
        };
        let version = i64::try_from((WARM_UP + calls) * events / streams)?;
        Ok(Ready::new(work, async move {
            A::check(&world, names, version).await
        }))
    })
}

pub(crate) fn rows() -> Vec<Row> {
    const UNIT: Measure = Measure::Cpu("µs an event");
    let row = |id, what: &str| Row::new(id, format!("server CPU: {what}"), UNIT);
    vec![
        row("W1x1", "`append_events` of 1 event")
            .side(Role::Ours, side::<AppendEvents>(4_000, 1, 1))
            .side(Role::Floor, side::<InsertOne>(4_000, 1, 1)),
        row("W1x10", "`append_events` of 10 events")
            .side(Role::Ours, side::<AppendEvents>(500, 10, 1))
            .side(Role::Floor, side::<InsertMany>(500, 10, 1)),
        row("W1x100", "`append_events` of 100 events")
            .side(Role::Ours, side::<AppendEvents>(200, 100, 1))
            .side(Role::Floor, side::<InsertMany>(200, 100, 1)),
        row("W2", "`append_batch`, 1 event to each of 100 streams")
            .side(Role::Ours, side::<AppendBatch>(200, 100, 100))
            .side(Role::Floor, side::<InsertMany<100>>(200, 100, 100)),
    ]
}
