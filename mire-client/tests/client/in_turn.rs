//! Many senders to one stream: each decides on exactly what stands before its own events in the log, whoever else writes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::{FutureExt, TryStreamExt};
use mire_client::{Aggregate, Command, EventData, EventStore, ReadStream, Repository, SendError};
use serde::{Deserialize, Serialize};

use super::common::{Fixture, fixture};

#[derive(Clone, Debug, Serialize, Deserialize, EventData)]
#[event_data(entity = "ticket")]
enum TicketEvent {
    /// What the command saw when it was decided.
    Drawn { seen: i64, by: String },
}

/// How many were drawn.
#[derive(Clone, Debug, Default)]
struct Roll {
    drawn: i64,
}

impl Aggregate for Roll {
    type Event = TicketEvent;
    const CATEGORY: &'static str = "roll";

    fn apply(&mut self, _: &TicketEvent) {
        self.drawn += 1;
    }
}

/// Draws so many tickets, as long as there are fewer than `until`.
struct Draw {
    count: i64,
    until: i64,
    by: String,
}

impl Command for Draw {
    type Aggregate = Roll;
    type Rejection = i64;

    fn decide(&self, roll: &Roll) -> Result<Vec<TicketEvent>, i64> {
        if roll.drawn + self.count > self.until {
            return Err(roll.drawn);
        }
        let drawn = |n| TicketEvent::Drawn {
            seen: roll.drawn + n,
            by: self.by.clone(),
        };
        Ok((0..self.count).map(drawn).collect())
    }
}

/// [`Draw`] that tells that it has been decided on.
struct Told<'t>(Draw, &'t AtomicUsize);

impl Command for Told<'_> {
    type Aggregate = Roll;
    type Rejection = i64;

    fn decide(&self, roll: &Roll) -> Result<Vec<TicketEvent>, i64> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.decide(roll)
    }
}

/// Until so many decisions have been made.
async fn decisions(told: &AtomicUsize, count: usize) {
    while told.load(Ordering::SeqCst) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Draws two tickets as the first one was drawn, whatever else there is.
const DRAW_TWO: &str = "SELECT mire.append_events('roll-1', ARRAY[type, type], ARRAY[data, data], ARRAY[metadata, metadata])
                          FROM mire.events WHERE version = 1";

fn draw(count: i64, until: i64) -> Draw {
    Draw {
        count,
        until,
        by: String::new(),
    }
}

/// As another process would have it.
fn another(f: &Fixture) -> EventStore {
    let url = f.database.url.as_str();
    EventStore::builder().url(url).build().unwrap()
}

fn in_turn(store: &EventStore, retries: u32) -> Repository<Roll> {
    store.repository().retry_conflicts(retries).in_turn()
}

/// Every ticket was drawn by somebody who saw all before it, and no other.
async fn check(f: &Fixture, tickets: i64) {
    let events: Vec<_> = f
        .store
        .read_stream("roll-1", ReadStream::new())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(events.len(), usize::try_from(tickets).unwrap());
    for event in events {
        let TicketEvent::Drawn { seen, .. } = event.decode().unwrap();
        assert_eq!(seen, event.version - 1, "decided on another state");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_of_one_process_never_conflict_and_share_appends() {
    let f = fixture().await;
    let rolls = in_turn(&f.store, 0);
    let sends = (0..16).map(|_| {
        let rolls = rolls.clone();
        tokio::spawn(async move {
            for count in [1, 2, 1] {
                let sent = rolls.send("1", &draw(count, 1_000)).await.unwrap();
                assert_eq!(sent.aggregate.version(), sent.recorded.version);
                assert_eq!(sent.aggregate.state().drawn, sent.recorded.version);
                assert_eq!(sent.recorded.ids.len(), usize::try_from(count).unwrap());
                assert!(sent.aggregate.pending().is_empty());
            }
        })
    });
    try_join_all(sends).await.unwrap();
    check(&f, 64).await;
    // Whoever finds an append in flight travels with the others.
    let moments = "SELECT count(DISTINCT xmin::text) FROM mire.events";
    let appends = f.number(moments).await;
    assert!(appends < 48, "{appends} appends for 48 commands");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_on_something_that_did_not_land_is_decided_again() {
    let f = fixture().await;
    let (ours, theirs) = (in_turn(&f.store, u32::MAX), in_turn(&another(&f), u32::MAX));
    let lonely = another(&f).repository::<Roll>().retry_conflicts(u32::MAX);
    let writers = (0..24).map(|n| {
        let rolls = [&ours, &theirs, &lonely][n % 3].clone();
        tokio::spawn(async move {
            let mut retries = 0;
            for _ in 0..10 {
                retries += rolls.send("1", &draw(1, 1_000)).await.unwrap().retries;
            }
            retries
        })
    });
    let retries = try_join_all(writers).await.unwrap();
    assert!(retries.iter().any(|retries| *retries > 0));
    check(&f, 240).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_all_race_for_is_reached_exactly() {
    let f = fixture().await;
    let (ours, theirs) = (in_turn(&f.store, u32::MAX), in_turn(&another(&f), u32::MAX));
    let sends = (0..60).map(|n| {
        let rolls = if n % 2 == 0 { &ours } else { &theirs };
        let rolls = rolls.clone();
        tokio::spawn(async move { rolls.send("1", &draw(1, 40)).await })
    });
    let outcomes = try_join_all(sends).await.unwrap();
    let rejected = |outcome: &Result<_, SendError<i64>>| match outcome {
        Ok(_) => false,
        Err(SendError::Rejected(drawn)) => {
            assert_eq!(*drawn, 40, "rejected on a state that never was");
            true
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(outcomes.iter().filter(|o| rejected(o)).count(), 20);
    check(&f, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_waits_for_the_flight_that_it_was_decided_on() {
    let f = fixture().await;
    let rolls = in_turn(&f.store, 0);
    rolls.send("1", &draw(1, 1_000)).await.unwrap();
    let mut session = f.session().await;
    let faster = session.transaction().await.unwrap();
    faster.execute(DRAW_TWO, &[]).await.unwrap();
    let told = AtomicUsize::new(0);
    let (one, other) = (Told(draw(1, 2), &told), Told(draw(1, 2), &told));
    let (drawn, rejected, ()) =
        tokio::join!(rolls.send("1", &one), rolls.send("1", &other), async {
            decisions(&told, 2).await;
            faster.commit().await.unwrap();
        });
    assert!(drawn.unwrap_err().store().unwrap().is_conflict());
    assert_eq!(rejected.unwrap_err().rejection(), Some(&3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_waits_for_what_has_gathered_and_not_only_for_the_flight() {
    let f = fixture().await;
    let rolls = in_turn(&f.store, 0);
    rolls.send("1", &draw(1, 1_000)).await.unwrap();
    let blocked = async |count| {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while f.number(waiting).await < count {}
    };
    // First in the stream's queue is the flight, and then somebody else, before what gathers meanwhile.
    let mut session = f.session().await;
    let lock = session.transaction().await.unwrap();
    let head = "SELECT FROM mire.stream_heads WHERE stream = 'roll-1' FOR UPDATE";
    lock.execute(head, &[]).await.unwrap();
    let told = AtomicUsize::new(0);
    let (one, other) = (Told(draw(1, 3), &told), Told(draw(1, 3), &told));
    let faster = f.session().await;
    let first = draw(1, 1_000);
    // The one that is rejected comes before the flight begins (else a flight proves nothing to it) and decides last.
    let (mut first, mut other) = (
        Box::pin(rolls.send("1", &first)),
        Box::pin(rolls.send("1", &other)),
    );
    assert!((&mut first).now_or_never().is_none(), "it loads");
    assert!(
        (&mut other).now_or_never().is_none(),
        "it waits for who loads"
    );
    let (landed, _, gathered, rejected, ()) = tokio::join!(
        first,
        async {
            blocked(1).await;
            faster.execute(DRAW_TWO, &[]).await.unwrap()
        },
        async {
            blocked(2).await;
            rolls.send("1", &one).await
        },
        async {
            decisions(&told, 1).await;
            other.await
        },
        async {
            decisions(&told, 2).await;
            lock.rollback().await.unwrap();
        }
    );
    landed.unwrap();
    let stands = match gathered {
        Ok(_) => 3,
        Err(error) => {
            assert!(
                error.store().is_some_and(mire_client::Error::is_conflict),
                "{error:?}"
            );
            4
        }
    };
    let rejected = rejected.unwrap_err();
    assert_eq!(rejected.rejection(), Some(&stands), "{rejected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_is_of_its_own_time_however_busy_the_desk_is() {
    let f = fixture().await;
    let rolls = in_turn(&f.store, 0);
    rolls.send("1", &draw(1, 1)).await.unwrap();
    // Rejected all the time: nobody ever finds out by a conflict that the stream has moved.
    let stop = AtomicBool::new(false);
    let asking = async {
        while !stop.load(Ordering::Relaxed) {
            let _ = rolls.send("1", &draw(1, 1)).await.unwrap_err();
            // One that comes at once leaves nobody else a turn in this task.
            tokio::task::yield_now().await;
        }
    };
    let asking_too = asking.boxed();
    let late = async {
        for seen in 1..=20 {
            let elsewhere = another(&f).repository::<Roll>();
            elsewhere.send("1", &draw(1, 1_000)).await.unwrap();
            let rejected = rolls.send("1", &draw(1, 1)).await.unwrap_err();
            assert_eq!(rejected.rejection(), Some(&(seen + 1)));
        }
        stop.store(true, Ordering::Relaxed);
    };
    let both = futures_util::future::join(asking_too, late);
    tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_refused_spoils_nobody_elses() {
    let f = fixture().await;
    let rolls = in_turn(&f.store, 0);
    let sends = (0..20).map(|n| {
        let rolls = rolls.clone();
        let mut draw = draw(1, 1_000);
        if n % 5 == 0 {
            draw.by = "x".repeat(3 << 20);
        }
        async move { rolls.send("1", &draw).await }
    });
    let outcomes = join_all(sends).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(_) => assert!(n % 5 != 0),
            Err(SendError::Store(error)) => assert!(error.is_invalid() && n % 5 == 0, "{error}"),
            Err(error) => panic!("{error}"),
        }
    }
    check(&f, 16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_ends_leaves_no_desk_behind() {
    let f = fixture().await;
    let rolls = in_turn(&f.store, 0);
    let mut locked = f.session().await;
    let lock = locked.transaction().await.unwrap();
    rolls.send("1", &draw(1, 1_000)).await.unwrap();
    lock.execute(
        "SELECT FROM mire.stream_heads WHERE stream = 'roll-1' FOR UPDATE",
        &[],
    )
    .await
    .unwrap();
    let theirs = rolls.clone();
    let gone = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let one = draw(1, 1_000);
            let send = theirs.send("1", &one).map(drop);
            let given_up = tokio::time::timeout(Duration::from_millis(200), send).await;
            assert!(given_up.is_err());
        });
        runtime.shutdown_background();
    });
    tokio::task::spawn_blocking(|| gone.join().unwrap())
        .await
        .unwrap();
    lock.rollback().await.unwrap();
    let one = draw(1, 1_000);
    let sent = tokio::time::timeout(Duration::from_secs(30), rolls.send("1", &one));
    let outcome = sent.await.unwrap();
    // What was given up may have landed.
    assert!(outcome.is_ok() || outcome.unwrap_err().store().unwrap().is_conflict());
}
