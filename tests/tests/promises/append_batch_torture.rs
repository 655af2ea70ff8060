//! Item 7: two batches over the same streams in opposite order, again and again: no deadlock, and no item lost or doubled.

use std::collections::BTreeSet;
use std::thread;
use std::time::Instant;

use mire_cluster::shared;
use mire_tests::batch::{Item, append_batch};
use mire_tests::session::{append, connect, events, torture_time, value};
use postgres::Client;
use uuid::Uuid;

const STREAMS: usize = 24;

/// What one sender has been told.
#[derive(Default)]
struct Told {
    batches: usize,
    appended: BTreeSet<Uuid>,
    busy: usize,
    stubborn: usize,
}

/// Sends batches over the generation's streams until told to stop; what was busy goes again, as a client would do it.
fn send(mut client: Client, backward: bool, until: Instant) -> Told {
    let mut told = Told::default();
    while Instant::now() < until {
        // New streams every few batches: two batches that create them meet, too.
        let generation = told.batches / 10;
        let mut items: Vec<Item> = (0..STREAMS)
            .map(|number| Item::new(format!("g{generation}-{number:02}"), None, 1 + number % 2))
            .collect();
        if backward {
            items.reverse();
        }
        for round in 0.. {
            let outcomes = append_batch(&mut client, &items).unwrap();
            told.batches += 1;
            let mut left = Vec::new();
            for (item, outcome) in items.into_iter().zip(outcomes) {
                match outcome.outcome.as_str() {
                    "appended" => told.appended.extend(item.ids.into_iter().flatten()),
                    "busy" => left.push(item),
                    other => panic!("{other} is no outcome of an append at any version"),
                }
            }
            told.busy += left.len();
            told.stubborn = told.stubborn.max(round);
            if left.is_empty() {
                break;
            }
            items = left;
        }
    }
    told
}

#[test]
fn torture_batches_in_opposite_order_neither_deadlock_nor_lose_items() {
    let database = shared().fresh_database().unwrap();
    let until = Instant::now() + torture_time(6, 30);
    let (senders, single): (Vec<Told>, usize) = thread::scope(|scope| {
        let senders: Vec<_> = [false, true, false, true]
            .map(|backward| {
                let client = connect(&database.url);
                scope.spawn(move || send(client, backward, until))
            })
            .into_iter()
            .collect();
        // Somebody who appends singly, and waits for the streams' rows.
        let mut client = connect(&database.url);
        let single = scope.spawn(move || {
            let mut count = 0;
            while Instant::now() < until {
                let stream = format!("g{}-{:02}", count / 40, count % STREAMS);
                append(&mut client, &stream, &events(1), None).unwrap();
                count += 1;
            }
            count
        });
        let senders = senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .collect();
        (senders, single.join().unwrap())
    });

    let mut client = connect(&database.url);
    let told: BTreeSet<Uuid> = senders
        .iter()
        .flat_map(|told| told.appended.clone())
        .collect();
    let kept: i64 = value(&mut client, "SELECT count(*) FROM mire.events");
    assert_eq!(usize::try_from(kept).unwrap(), told.len() + single);
    let ids: Vec<Uuid> = told.iter().copied().collect();
    let found: i64 = client
        .query_one(
            "SELECT count(*) FROM mire.events WHERE event_id = ANY ($1)",
            &[&ids],
        )
        .unwrap()
        .get(0);
    assert_eq!(usize::try_from(found).unwrap(), told.len());
    let gaps = "SELECT count(*) FROM (SELECT version <> row_number() OVER (PARTITION BY stream_no ORDER BY position) AS gap
                                        FROM mire.events) AS e WHERE gap";
    assert_eq!(value::<i64>(&mut client, gaps), 0);
    let heads = "SELECT count(*) FROM mire.stream_heads AS s
                  WHERE version <> (SELECT count(*) FROM mire.events AS e WHERE e.stream_no = s.stream_no)";
    assert_eq!(value::<i64>(&mut client, heads), 0);
    println!(
        "{} batches, {} events in batches, {single} single appends, {} busy items, at most {} rounds for one batch, {} streams",
        senders.iter().map(|told| told.batches).sum::<usize>(),
        told.len(),
        senders.iter().map(|told| told.busy).sum::<usize>(),
        senders
            .iter()
            .map(|told| told.stubborn)
            .max()
            .unwrap_or_default()
            + 1,
        value::<i64>(&mut client, "SELECT count(*) FROM mire.streams"),
    );
}
