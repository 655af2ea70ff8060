//! The examples of consumers without our client run, go on where they were, and get the read model right.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use mire_cluster::{Database, Toolchain, shared};
use mire_tests::session::{append, connect, value, wait_until};
use postgres::Client;
use serde_json::{Value, json};

fn example(path: &str) -> PathBuf {
    Toolchain::workspace().join("examples").join(path)
}

fn change(client: &mut Client, account: &str, kind: &str, cents: i64) {
    let event = json!([{"type": kind, "data": {"cents": cents}}]);
    append(client, account, &event, None).unwrap();
}

/// Accounts, another category, a type nobody knows.
fn some_changes(client: &mut Client) {
    change(client, "account-1", "deposited", 500);
    change(client, "account-2", "deposited", 70);
    change(client, "order-1", "deposited", 9_999);
    change(client, "account-1", "withdrawn", 120);
    change(client, "account-2", "renamed", 1);
}

fn balances(client: &mut Client) -> Value {
    let there = "SELECT to_regclass('balances') IS NOT NULL";
    if value(client, there) {
        value(
            client,
            "SELECT coalesce(jsonb_object_agg(account, cents), '{}') FROM balances",
        )
    } else {
        json!({})
    }
}

#[test]
fn the_consumer_in_sql_handles_a_page_at_a_time_and_goes_on_where_it_was() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let run = || {
        let mut psql = shared().command("psql");
        psql.args(["-X", "-q", "-At", "-d", &database.url, "-f"])
            .arg(example("sql/consumer.sql"));
        let output = psql.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run().contains("handled 0 events, up to position 0"));
    some_changes(&mut client);
    let printed = run();
    assert!(
        printed.contains("handled 4 events, up to position 5"),
        "{printed}"
    );
    assert_eq!(
        balances(&mut client),
        json!({"account-1": 380, "account-2": 70})
    );
    change(&mut client, "account-2", "withdrawn", 7);
    assert!(run().contains("handled 1 events"));
    assert!(run().contains("handled 0 events"));
    assert_eq!(
        balances(&mut client),
        json!({"account-1": 380, "account-2": 63})
    );
    client
        .batch_execute("SELECT mire.acquire_subscription('balances', 0, 'somebody', '1 min')")
        .unwrap();
    assert!(run().contains("another consumer is at work"));
}

/// `cargo xtask test` has put psycopg beside the checkers; a plain `cargo test` may have to do without.
fn python() -> Command {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", Toolchain::workspace().join("target/tools"));
    python
}

struct Consumer(Child);

impl Consumer {
    fn start(database: &Database<'_>) -> Self {
        let mut command = python();
        command
            .arg(example("python/consumer.py"))
            .env("DATABASE_URL", &database.url)
            .stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn the_consumer_in_python_survives_being_killed_and_gets_every_balance_right() {
    let has_psycopg = python().args(["-c", "import psycopg"]).output();
    if !has_psycopg.is_ok_and(|output| output.status.success()) {
        println!("skipped: no python3 with psycopg here");
        return;
    }
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    some_changes(&mut client);
    let first = Consumer::start(&database);
    wait_until("it has caught up", || {
        balances(&mut client) == json!({"account-1": 380, "account-2": 70})
    });
    // It sleeps, and wakes.
    change(&mut client, "account-1", "deposited", 1);
    wait_until("it has followed", || {
        balances(&mut client)["account-1"] == 381
    });
    let second = Consumer::start(&database);
    drop(first);
    change(&mut client, "account-1", "deposited", 2);
    // Instead of waiting for the dead one's ttl.
    client
        .batch_execute(
            "SELECT mire.release_subscription('balances', 0, fence) FROM mire.subscription_status",
        )
        .unwrap();
    wait_until("the other one has taken over", || {
        balances(&mut client) == json!({"account-1": 383, "account-2": 70})
    });
    drop(second);
}
