//! What an append costs its server process: W1 and W2.
//!
//! Nobody waits for the disk here (`synchronous_commit = off`, which the store allows when told to): the work for a
//! sync is the same on both sides and would only hide the difference.

use super::append::{AppendEvents, Appender, WARM_UP};
use super::batch::AppendBatch;
use crate::cpu;
use crate::entry::Content;
use crate::floors::{InsertMany, InsertOne};
use crate::row::{Measure, Role, Row, Target};
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
        let mut appender = A::open(&world, client, Content::Booking, events).await?;
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
                cpu: Some(cpu::used(backend)?.saturating_sub(before)),
                ..Work::of(calls * events)
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
    let at_most = |bound| Target::Ratio(Role::Floor, bound);
    vec![
        row("W1/1", "`append_events` of 1 event")
            .ours(side::<AppendEvents>(40_000, 1, 1))
            .floor(side::<InsertOne>(40_000, 1, 1))
            .target(at_most(1.45)),
        row("W1/10", "`append_events` of 10 events")
            .ours(side::<AppendEvents>(10_000, 10, 1))
            .floor(side::<InsertMany>(10_000, 10, 1))
            .target(at_most(1.0)),
        row("W1/100", "`append_events` of 100 events")
            .ours(side::<AppendEvents>(1_000, 100, 1))
            .floor(side::<InsertMany>(1_000, 100, 1))
            .target(at_most(0.92)),
        row("W2", "`append_batch`, 1 event to each of 100 streams")
            .ours(side::<AppendBatch>(1_000, 100, 100))
            .floor(side::<InsertMany<100>>(1_000, 100, 100))
            .target(at_most(1.9)),
    ]
}
