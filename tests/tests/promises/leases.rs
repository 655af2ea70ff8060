//! Promise 6: at most one holder acts on a lease. Fences only ever grow, and the database refuses the work of a holder
//! that was superseded or has expired, inside that holder's own transaction.

use std::time::{Duration, Instant};

use mire_cluster::{Database, shared};
use mire_tests::session::{connect, refused, value, wait_until};
use postgres::{Client, Error};

/// A holder with a name, a session, and the fence it was given last.
struct Holder {
    name: &'static str,
    client: Client,
    fence: i64,
}

#[derive(Debug, PartialEq)]
struct Answer {
    acquired: bool,
    fence: Option<i64>,
    holder: Option<String>,
}

impl Holder {
    fn new(database: &Database<'_>, name: &'static str) -> Self {
        Self {
            name,
            client: connect(&database.url),
            fence: 0,
        }
    }

    fn try_acquire(&mut self, ttl: &str) -> Answer {
        let row = self
            .client
            .query_one(
                "SELECT * FROM mire.acquire_lease('r', $1, $2::text::interval)",
                &[&self.name, &ttl],
            )
            .unwrap();
        let answer = Answer {
            acquired: row.get("acquired"),
            fence: row.get("fence"),
            holder: row.get("holder"),
        };
        self.fence = answer.fence.unwrap_or(self.fence);
        answer
    }

    #[track_caller]
    fn acquire(&mut self, ttl: &str) -> i64 {
        let answer = self.try_acquire(ttl);
        assert!(answer.acquired, "{}: {answer:?}", self.name);
        self.fence
    }

    fn renew(&mut self, ttl: &str) -> bool {
        let renew = format!("SELECT mire.renew_lease('r', {}, '{ttl}')", self.fence);
        value(&mut self.client, &renew)
    }

    fn release(&mut self) -> bool {
        let release = format!("SELECT mire.release_lease('r', {})", self.fence);
        value(&mut self.client, &release)
    }

    fn assert_lease(&mut self) -> Result<(), Error> {
        let assert = format!("SELECT mire.assert_lease('r', {})", self.fence);
        let result = self.client.batch_execute(&assert);
        // An error comes before the server has let go of its locks; the next answer comes after.
        self.sql("");
        result
    }

    fn sql(&mut self, sql: &str) {
        self.client.batch_execute(sql).unwrap();
    }
}

/// A database with two holders of different names, and a table for the work that a lease protects.
fn contest() -> (Database<'static>, Holder, Holder) {
    let database = shared().fresh_database().unwrap();
    database
        .sql("CREATE TABLE work (by text, fence bigint)")
        .unwrap();
    let (one, two) = (Holder::new(&database, "one"), Holder::new(&database, "two"));
    (database, one, two)
}

fn work(client: &mut Client) -> i64 {
    value(client, "SELECT count(*) FROM work")
}

#[test]
fn a_live_lease_is_refused_to_others_who_are_told_whose_it_is() {
    let (_database, mut one, mut two) = contest();
    one.acquire("1 minute");
    let expected = Answer {
        acquired: false,
        fence: None,
        holder: Some("one".to_owned()),
    };
    assert_eq!(two.try_acquire("1 minute"), expected);
    one.assert_lease().unwrap();
    assert!(one.release());
    let fence = two.acquire("1 minute");
    assert!(fence > one.fence);
    refused(one.assert_lease(), "MI003");
    assert!(!one.renew("1 minute"));
    assert!(!one.release(), "a release of a lost lease says so");
    two.assert_lease().unwrap();
}

#[test]
fn an_expired_lease_is_lost_even_when_nobody_has_taken_it() {
    let (_database, mut one, mut two) = contest();
    one.acquire("50 ms");
    wait_until("it expires", || one.assert_lease().is_err());
    refused(one.assert_lease(), "MI003");
    assert!(!one.renew("1 minute"), "what has expired is not renewed");
    assert!(!one.release());
    assert!(two.acquire("1 minute") > one.fence);
}

#[test]
fn renewing_keeps_the_fence_and_outlives_the_first_ttl() {
    let (_database, mut one, mut two) = contest();
    let fence = one.acquire("300 ms");
    assert!(one.renew("1 minute"));
    std::thread::sleep(Duration::from_millis(400));
    one.assert_lease().unwrap();
    assert!(!two.try_acquire("1 minute").acquired);
    let stored = "SELECT fence FROM mire.lease_status WHERE held";
    assert_eq!(value::<i64>(&mut two.client, stored), fence);
}

/// Two processes that share a holder's name, say after a restart that was none: the elder is superseded at once.
#[test]
fn processes_that_share_a_name_never_share_a_fence() {
    let (database, mut one, _) = contest();
    let mut twin = Holder::new(&database, "one");
    let first = one.acquire("1 minute");
    let second = twin.acquire("1 minute");
    assert!(second > first);
    refused(one.assert_lease(), "MI003");
    assert!(!one.renew("1 minute"));
    twin.assert_lease().unwrap();
    assert!(one.acquire("1 minute") > second);
    refused(twin.assert_lease(), "MI003");
}

#[test]
fn a_superseded_holders_writes_are_rolled_back_with_its_transaction() {
    let (_database, mut one, mut two) = contest();
    one.acquire("50 ms");
    one.sql("BEGIN; INSERT INTO work VALUES ('one', 1)");
    wait_until("the lease changes hands", || {
        two.try_acquire("1 minute").acquired
    });
    refused(one.assert_lease(), "MI003");
    one.sql("COMMIT");
    assert_eq!(work(&mut two.client), 0);
}

/// The successor has to wait for a transaction that has asserted the lease in time, however long it works.
#[test]
fn a_busy_holders_transaction_keeps_successors_out_until_it_ends() {
    let (_database, mut one, mut two) = contest();
    one.acquire("200 ms");
    one.sql("BEGIN");
    one.assert_lease().unwrap();
    one.sql("INSERT INTO work VALUES ('one', 1); SELECT pg_sleep(0.4)");
    let held = "SELECT held FROM mire.lease_status";
    assert!(!value::<bool>(&mut two.client, held), "the ttl is over");
    let begin = Instant::now();
    assert!(!two.try_acquire("1 minute").acquired);
    assert!(begin.elapsed() < Duration::from_secs(5), "and nobody waits");
    one.sql("COMMIT");
    assert_eq!(work(&mut two.client), 1);
    two.acquire("1 minute");
    refused(one.assert_lease(), "MI003");
}

/// The lock of assert_lease is on the row's key, and a renewal changes no key.
#[test]
fn a_holders_long_transaction_does_not_block_its_own_heartbeat() {
    let (database, mut one, mut two) = contest();
    one.acquire("1 minute");
    let mut heart = Holder::new(&database, "one");
    heart.fence = one.fence;
    heart.sql("SET lock_timeout = '2s'");
    one.sql("BEGIN");
    one.assert_lease().unwrap();
    for _ in 0..3 {
        assert!(heart.renew("1 minute"));
        one.assert_lease().unwrap();
    }
    assert!(!two.try_acquire("1 minute").acquired);
    one.sql("COMMIT");
}

#[test]
fn a_challengers_open_transaction_does_not_stop_the_heartbeat() {
    let (_database, mut one, mut two) = contest();
    one.acquire("1 minute");
    two.sql("BEGIN");
    assert!(!two.try_acquire("1 minute").acquired);
    one.sql("SET lock_timeout = '2s'");
    assert!(one.renew("1 minute"));
    one.sql("BEGIN");
    one.assert_lease().unwrap();
    one.sql("COMMIT");
    two.sql("ROLLBACK");
}

#[test]
fn nobody_waits_for_an_acquire_that_is_not_committed_the_first_one_included() {
    let (_database, mut one, mut two) = contest();
    two.sql("SET statement_timeout = '5s'");
    // First the resource is new, then it is free.
    for round in 1..=2 {
        one.sql("BEGIN");
        one.acquire("1 minute");
        assert!(!two.try_acquire("1 minute").acquired, "round {round}");
        one.sql("ROLLBACK");
        assert!(two.acquire("1 minute") > 0);
        assert!(two.release());
    }
}

/// An acquire that is rolled back leaves the lease as it was, and its fence is never handed out again.
#[test]
fn a_rolled_back_acquire_supersedes_nobody() {
    let (database, mut one, _) = contest();
    let mut twin = Holder::new(&database, "one");
    let first = one.acquire("1 minute");
    twin.sql("BEGIN");
    let undone = twin.acquire("1 minute");
    twin.sql("ROLLBACK");
    one.assert_lease().unwrap();
    refused(twin.assert_lease(), "MI003");
    assert!(undone > first && one.acquire("1 minute") > undone);
}

#[test]
fn an_idle_holder_is_bounded_by_its_ttl() {
    let (_database, mut one, _) = contest();
    let idle = "SELECT setting::bigint FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'";
    for (session, ttl, bound) in [
        ("0", "30 s", 30_000),
        ("5s", "30 s", 5_000),
        ("60s", "30 s", 30_000),
        ("0", "1500.5 ms", 1501),
    ] {
        one.sql(&format!(
            "SET idle_in_transaction_session_timeout = '{session}'"
        ));
        one.acquire(ttl);
        one.sql("BEGIN");
        one.assert_lease().unwrap();
        assert_eq!(
            value::<i64>(&mut one.client, idle),
            bound,
            "{session}, {ttl}"
        );
        one.sql("COMMIT");
        assert_ne!(value::<i64>(&mut one.client, idle), 30_000);
    }
}

#[test]
fn a_ttl_out_of_range_is_refused() {
    let (_database, mut one, _) = contest();
    one.acquire("10 ms");
    one.acquire("1 day");
    for ttl in [
        "NULL",
        "'9 ms'",
        "'0'",
        "'-1 s'",
        "'25 hours'",
        "'1 month'",
        "'1000000 years'",
    ] {
        for call in [
            format!("SELECT mire.acquire_lease('r', 'one', {ttl})"),
            format!("SELECT mire.renew_lease('r', 1, {ttl})"),
        ] {
            refused(one.client.batch_execute(&call), "22023");
        }
    }
    one.assert_lease().unwrap();
}

#[test]
fn what_was_never_leased_is_not_held_by_anybody() {
    let (_database, mut one, _) = contest();
    refused(one.assert_lease(), "MI003");
    assert!(!one.renew("1 minute"));
    assert!(!one.release());
    one.sql("SELECT mire.acquire_lease('other', 'one', '1 minute')");
    refused(one.assert_lease(), "MI003");
    refused(
        one.client
            .batch_execute("SELECT mire.assert_lease('other', NULL)"),
        "MI003",
    );
    refused(
        one.client
            .batch_execute("SELECT mire.assert_lease(NULL, 1)"),
        "MI003",
    );
}

#[test]
fn a_new_epoch_ends_all_leases_and_jumps_fences_and_positions() {
    let (_database, mut one, mut two) = contest();
    let append = r#"SELECT position FROM mire.append('a-1', '[{"type": "t", "data": 1}]')"#;
    let read = "SELECT epoch FROM mire.read_all(0, 1)";
    let before: i64 = value(&mut one.client, append);
    let old: i64 = value(&mut one.client, read);
    one.acquire("1 hour");
    let mut last = (before, one.fence, old);
    for _ in 0..2 {
        let epoch: i64 = value(&mut two.client, "SELECT mire.new_epoch()");
        refused(one.assert_lease(), "MI003");
        let position: i64 = value(&mut one.client, append);
        let fence = two.acquire("1 hour");
        assert!(position >= last.0 + 1_000_000_000_000 - 1_000, "{position}");
        assert!(fence >= last.1 + 1_000_000_000_000 - 1_000, "{fence}");
        assert!(epoch > last.2);
        assert_eq!(value::<i64>(&mut one.client, read), epoch);
        let waited = one
            .client
            .query_one("CALL mire.wait_for_events(0, '1 s')", &[])
            .unwrap();
        assert_eq!(waited.get::<_, i64>("epoch"), epoch);
        let info = "SELECT epoch FROM mire.store_info()";
        assert_eq!(value::<i64>(&mut one.client, info), epoch);
        assert!(two.release());
        last = (position, one.acquire("1 hour"), epoch);
    }
}
