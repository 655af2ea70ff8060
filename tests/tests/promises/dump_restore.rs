//! Promise 5: nothing in the store depends on transaction ids. A dump restored into a new cluster whose transaction
//! counter is far behind has everything, delivers its feed at once, and goes on with new positions and higher fences.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mire_cluster::Cluster;
use mire_tests::feed::{Reader, assert_streams_are_contiguous};
use mire_tests::load::Load;
use mire_tests::session::{append, connect, events, refused, value, wait_until};
use postgres::{Client, GenericClient};

/// Transaction ids that the source has used up before it is dumped.
const BURNT: u64 = 30_000;

/// Everything that must be the same afterwards, as text.
const CONTENTS: &[&str] = &[
    "SELECT e::text FROM mire.events AS e ORDER BY e.position",
    "SELECT s::text FROM mire.stream_heads AS s ORDER BY s.stream",
    "SELECT s::text FROM mire.snapshots AS s ORDER BY s::text",
    "SELECT l::text FROM mire.leases AS l ORDER BY l::text",
    "SELECT s::text FROM mire.sagas AS s ORDER BY s::text",
    "SELECT o::text FROM mire.outbox AS o ORDER BY o::text",
    "SELECT g::text FROM mire.grants AS g ORDER BY g::text",
    "SELECT s::text FROM mire.store AS s",
    "SELECT mire.store_info()::text",
];

fn contents(client: &mut impl GenericClient) -> Vec<Vec<String>> {
    CONTENTS
        .iter()
        .map(|query| {
            let rows = client.query(*query, &[]).unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        })
        .collect()
}

#[track_caller]
fn assert_same_contents(new: &mut impl GenericClient, expected: &[Vec<String>], which: &str) {
    for ((new, old), query) in contents(new).iter().zip(expected).zip(CONTENTS) {
        let different = new.iter().zip(old).find(|(new, old)| new != old);
        assert_eq!(different, None, "{which}: {query}");
        assert_eq!(new.len(), old.len(), "{which}: {query}");
        assert!(!old.is_empty(), "nothing to compare: {query}");
    }
}

fn transaction_id(client: &mut Client) -> i64 {
    value(client, "SELECT pg_current_xact_id()::text::bigint")
}

/// A source with a bit of everything, whose transaction counter has gone far.
fn used_source() -> Cluster {
    let cluster = Cluster::start().unwrap();
    let mut client = connect(&cluster.url("mire"));
    client
        .batch_execute(
            "CREATE ROLE app_reader LOGIN; CREATE ROLE app_writer LOGIN; CREATE ROLE app_admin LOGIN;
             SELECT mire.grant_access('app_' || level, level) FROM unnest('{reader,writer,admin}'::text[]) AS level;
             CREATE PROCEDURE burn(n integer) LANGUAGE plpgsql AS $$
             BEGIN
               SET synchronous_commit = off;
               FOR i IN 1..n LOOP
                 PERFORM pg_current_xact_id();
                 COMMIT;
               END LOOP;
             END $$",
        )
        .unwrap();
    client
        .batch_execute(&format!("CALL burn({BURNT})"))
        .unwrap();
    for stream in 1..=20 {
        append(&mut client, &format!("account-{stream}"), &events(50), None).unwrap();
    }
    client
        .batch_execute(
            "SELECT mire.save_snapshot('account-' || n, 40, 2, '{\"balance\": 7}') FROM generate_series(1, 5) AS n;
             SELECT mire.acquire_lease('r-' || n, 'holder', '1 hour') FROM generate_series(1, 9) AS n;
             SELECT mire.release_lease('r-9', (mire.acquire_lease('r-9', 'holder', '1 hour')).fence);
             SELECT mire.truncate_stream('account-1', 30);
             SELECT mire.delete_stream('account-2');
             SELECT mire.saga_start(ARRAY(SELECT jsonb_build_object('saga', 't', 'instance', n::text, 'topology_version', 1,
               'facts', '[{\"fact\": \"started\"}]'::jsonb, 'status', CASE n WHEN 1 THEN 'completed' ELSE 'running' END,
               'outbox', CASE n WHEN 2 THEN '[{\"key\": \"k\", \"step\": \"a\", \"activation\": 1, \"kind\": \"mail\"}]'::jsonb END)
               FROM generate_series(1, 4) AS n));
             SELECT mire.saga_claim('crashed', '{t}', '{1}', 1, '10 ms');
             SELECT mire.saga_prune('0 s')",
        )
        .unwrap();
    // A hole at the end.
    client.batch_execute("BEGIN").unwrap();
    append(&mut client, "account-3", &events(1), None).unwrap();
    client.batch_execute("ROLLBACK").unwrap();
    cluster
}

fn run(mut command: Command) -> Output {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {out:?}");
    out
}

/// Roles belong to the cluster and are dumped apart, as everywhere.
fn copy_roles(source: &Cluster, target: &Cluster) {
    let mut dump = source.command("pg_dumpall");
    dump.arg("--roles-only");
    let file = target.folder().join("roles.sql");
    std::fs::write(&file, run(dump).stdout).unwrap();
    // No ON_ERROR_STOP: the superuser is there already.
    let mut psql = target.command("psql");
    psql.env("PGDATABASE", "postgres");
    psql.args(["-X", "-q", "-f"]).arg(&file);
    run(psql);
}

fn dump(source: &Cluster, target: &Cluster, format: &str) -> PathBuf {
    let mut dump = source.command("pg_dump");
    dump.arg(format!("--format={format}"));
    let file = target.folder().join(format!("dump.{format}"));
    std::fs::write(&file, run(dump).stdout).unwrap();
    file
}

fn restore(target: &Cluster, database: &str, file: &Path) {
    let create = format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING 'UTF8'");
    target.sql("postgres", &create).unwrap();
    let plain = file.extension().is_some_and(|format| format == "plain");
    let mut command = target.command(if plain { "psql" } else { "pg_restore" });
    if plain {
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]);
    } else {
        command.args(["--exit-on-error", "-d", database]);
    }
    command.env("PGDATABASE", database).arg(file);
    run(command);
}

#[test]
fn a_dump_restored_into_a_cluster_that_is_far_behind_works_at_once() {
    let source = used_source();
    let mut old = connect(&source.url("mire"));
    let expected = contents(&mut old);
    let table = Reader::new(0).expected(&mut old);
    let last_fence: i64 = value(&mut old, "SELECT last_value FROM mire.fences");
    let last_position: i64 = value(&mut old, "SELECT last_value FROM mire.positions");

    let target = Cluster::builder().bare().start().unwrap();
    copy_roles(&source, &target);
    for format in ["plain", "custom"] {
        let file = dump(&source, &target, format);
        restore(&target, format, &file);
        let mut new = connect(&target.url(format));
        let (there, here) = (transaction_id(&mut old), transaction_id(&mut new));
        assert!(
            there > here + BURNT as i64 / 2,
            "{there} is not far ahead of {here}"
        );

        assert_same_contents(&mut new, &expected, format);
        let mut reader = Reader::new(100);
        while reader.read(&mut new).unwrap() > 0 {}
        assert_eq!(reader.seen, table, "{format}: the feed");
        assert_eq!(value::<i64>(&mut new, "SELECT count(*) FROM mire.store"), 1);

        assert_goes_on(&target, format, last_position, last_fence);
        println!(
            "{format}: {} events, {} behind in transaction ids",
            table.len(),
            there - here
        );
    }
}

/// The roles that were granted access do with it what they could before, and nothing more.
fn assert_goes_on(target: &Cluster, database: &str, last_position: i64, last_fence: i64) {
    let role = |name: &str| connect(&target.url_as(name, database));
    let (mut reader, mut writer, mut admin) =
        (role("app_reader"), role("app_writer"), role("app_admin"));

    let appended = append(&mut writer, "account-3", &events(1), Some(50)).unwrap();
    assert_eq!(appended.version, 51);
    assert!(appended.position.unwrap() > last_position);
    let created = append(&mut writer, "account-new", &events(1), Some(0)).unwrap();
    assert_eq!(created.version, 1);
    refused(append(&mut writer, "account-2", &events(1), None), "MI005");
    refused(writer.query("SELECT mire.new_epoch()", &[]), "42501");

    let fence: i64 = value(
        &mut writer,
        "SELECT fence FROM mire.acquire_lease('r-1', 'holder', '1 hour')",
    );
    assert!(fence > last_fence);
    let kept = "SELECT mire.renew_lease('r-2', (SELECT fence FROM mire.lease_status WHERE resource = 'r-2'), '1 hour')";
    assert!(
        value::<bool>(&mut writer, kept),
        "a lease that was held is still held"
    );

    // Sagas go on: a replayed trigger starts none again, the stranded one is found, messages are there and new ones come after.
    let start = "SELECT string_agg(outcome, ' ' ORDER BY item) FROM mire.saga_start(ARRAY(SELECT jsonb_build_object('saga', 't',
        'instance', n::text, 'topology_version', 1, 'facts', '[{\"fact\": \"started\"}]'::jsonb) FROM generate_series(1, 4) AS n))";
    assert_eq!(
        value::<String>(&mut writer, start),
        "exists exists exists exists"
    );
    let claimed = "SELECT count(saga) FROM mire.saga_claim('w', '{t}', '{1}', 9, '1 min') WHERE fence > $1::bigint";
    let claimed: i64 = writer.query_one(claimed, &[&last_fence]).unwrap().get(0);
    assert_eq!(claimed, 3);
    let message = "SELECT count(message_no) FROM mire.outbox_claim('w', NULL, 9, '1 min')";
    assert_eq!(value::<i64>(&mut writer, message), 1);
    assert_eq!(
        value::<i64>(&mut reader, "SELECT count(*) FROM mire.saga_leaks"),
        0
    );

    let mut feed = Reader {
        after: last_position,
        ..Reader::new(10)
    };
    assert_eq!(feed.read(&mut reader).unwrap(), 2);
    let snapshots =
        "SELECT count(*) FROM mire.load_stream('account-4', 2) WHERE type = '$snapshot'";
    assert_eq!(value::<i64>(&mut reader, snapshots), 1);
    refused(append(&mut reader, "account-3", &events(1), None), "42501");
    refused(reader.query("SELECT FROM mire.events", &[]), "42501");

    let gone = "SELECT (mire.delete_stream('account-new')).version";
    assert_eq!(value::<i64>(&mut admin, gone), 2);
    refused(
        connect(&target.url(database)).batch_execute("DELETE FROM mire.events"),
        "MI006",
    );
}

/// Sequences are no part of a dump's snapshot: they may be ahead of its tables, never behind.
#[test]
fn a_dump_taken_under_load_is_a_store_that_works() {
    let source = Cluster::start().unwrap();
    let target = Cluster::builder().bare().start().unwrap();
    let load = Load::start(&source.url("mire"), 6, 3, false);
    wait_until("the load runs", || load.transactions() > 100);
    let file = dump(&source, &target, "custom");
    let outcome = load.stop();
    copy_roles(&source, &target);
    restore(&target, "mire", &file);

    let mut client = connect(&target.url("mire"));
    assert_streams_are_contiguous(&mut client);
    let mut reader = Reader::new(100);
    while reader.read(&mut client).unwrap() > 0 {}
    reader.assert_saw_everything(&mut client);
    for stream in ["account-01", "booking-01", "account-new"] {
        let appended = append(&mut client, stream, &events(2), None).unwrap();
        assert!(appended.position.unwrap() > reader.after);
    }
    assert_streams_are_contiguous(&mut client);
    println!(
        "{} events in the dump, {} transactions ended",
        reader.seen.len(),
        outcome.transactions()
    );
}

/// Restoring the data alone, into a database that has the extension already, must not leave two stores behind.
#[test]
fn data_restored_into_an_installed_extension_is_one_store() {
    let source = used_source();
    let mut old = connect(&source.url("mire"));
    let target = Cluster::start().unwrap();
    copy_roles(&source, &target);
    let file = dump(&source, &target, "custom");
    let into = |database: &str, option: &str| {
        target.create_database(database).unwrap();
        let mut restore = target.command("pg_restore");
        restore
            .args(["--data-only", option, "-d", database])
            .arg(&file);
        restore.output().unwrap().status.success()
    };
    assert!(into("plainly", "--exit-on-error"));
    let mut new = connect(&target.url("plainly"));
    assert_same_contents(&mut new, &contents(&mut old), "data only");

    // This switches off the trigger that replaces the new store's row: then it must fail, not leave two.
    into("forced", "--disable-triggers");
    let mut new = connect(&target.url("forced"));
    assert_eq!(value::<i64>(&mut new, "SELECT count(*) FROM mire.store"), 1);
}
