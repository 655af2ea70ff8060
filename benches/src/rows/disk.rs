//! D1: what an event takes on disk.

use super::aggregates::check_totals;
use crate::entry::Content;
use crate::figures::float;
use crate::row::{Measure, Role, Row, Target};
use crate::side::{Ready, Side, Work, together};
use crate::stores::{Mire, Ours, Store};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::new(
            "D1",
            "heap and indexes, 150-byte payload, 10 events a stream",
            Measure::Figure("bytes an event"),
        )
        .ours(bytes::<Ours>())
        .mire(bytes::<Mire>())
        .target(Target::Ratio(Role::Mire, 0.5)),
    ]
}

const TOTAL: &str = "
    SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND n.nspname IN ('mire', 'public')";

/// Appends to new streams, ten events a call, in a database that has nothing else.
fn bytes<S: Store>() -> Side {
    const TASKS: usize = 16;
    const STREAMS: usize = 125;
    const EACH: usize = 10;
    Side::new(|world| async move {
        let name = format!("disk_{}", world.fresh_number());
        S::create(&world, &name).await?;
        let store = S::connect(&world, &name).await?;
        let client = world.connect_to(&name).await?;
        let empty: i64 = client.query_one(TOTAL, &[]).await?.get(0);
        let ids: Vec<Vec<String>> = (0..TASKS)
            .map(|_| (0..STREAMS).map(|_| world.fresh_id()).collect())
            .collect();
        let checked = ids.concat();
        let work = async move {
            together(ids.into_iter().map(|ids| {
                let store = store.clone();
                async move {
                    for id in ids {
                        store.append(&id, Content::Booking, EACH).await?;
                    }
                    Ok(())
                }
            }))
            .await?;
            let full: i64 = client.query_one(TOTAL, &[]).await?.get(0);
            let events = TASKS * STREAMS * EACH;
            Ok(Work::of(events).found(float(full - empty) / float(events)))
        };
        Ok(Ready::new(work, async move {
            check_totals(&S::connect(&world, &name).await?, &checked, EACH).await?;
            world.drop_database(&name).await
        }))
    })
}
