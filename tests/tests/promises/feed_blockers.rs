//! Promise 4: only open appends hold the feed back, and whoever does is named.

use std::time::Instant;

use mire_cluster::{Cluster, Database, shared};
use mire_tests::feed::Reader;
use mire_tests::session::{append, connect, events, pid, refused, value};
use postgres::Client;

#[test]
fn a_transaction_that_does_not_append_delays_no_reader_wherever_it_is() {
    let database = shared().fresh_database().unwrap();
    let elsewhere = shared().fresh_database().unwrap();
    let hold = |url: &str, what: &str| {
        let mut client = connect(url);
        client.batch_execute(what).unwrap();
        client
    };
    let held = [
        hold(
            &elsewhere.url,
            "BEGIN; SELECT pg_current_xact_id(); CREATE TABLE t (i int)",
        ),
        hold(
            &database.url,
            "BEGIN; SELECT pg_current_xact_id(); CREATE TABLE t (i int)",
        ),
        hold(
            &database.url,
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id(), mire.stream_version('a-1')",
        ),
        hold(
            &database.url,
            "BEGIN; SELECT mire.acquire_lease('r', 'h', '1 minute')",
        ),
        // Asserts a version and writes nothing.
        hold(&database.url, "BEGIN; SELECT mire.append('a-0', '[]', 0)"),
    ];
    let mut prepared = connect(&database.url);
    let gid = format!("{}-idle", database.name);
    prepared
        .batch_execute(&format!(
            "BEGIN; SELECT pg_current_xact_id(); CREATE TABLE u (i int); PREPARE TRANSACTION '{gid}'"
        ))
        .unwrap();

    let (mut writer, mut client) = (connect(&database.url), connect(&database.url));
    let mut reader = Reader::new(100);
    let begin = Instant::now();
    for count in 1..=200 {
        append(&mut writer, "a-1", &events(1), None).unwrap();
        assert_eq!(reader.read(&mut client).unwrap(), 1, "event {count}");
    }
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.feed_blockers"),
        0
    );
    for mut holder in held {
        holder.batch_execute("COMMIT").unwrap();
    }
    prepared
        .batch_execute(&format!("ROLLBACK PREPARED '{gid}'"))
        .unwrap();
    println!("200 events handed on at once, in {:?}", begin.elapsed());
}

/// What feed_blockers shows of one blocker.
#[derive(Debug, PartialEq)]
struct Blocker {
    pid: Option<i32>,
    gid: Option<String>,
    role: String,
    state: Option<String>,
    holds_back_after: i64,
    query_is_shown: bool,
}

fn blockers(client: &mut Client) -> Vec<Blocker> {
    client
        .query(
            "SELECT pid, gid, role::text, state, holds_back_after, query IS NOT NULL AS shown,
                    age BETWEEN interval '0' AND interval '1 minute' AS plausible
               FROM mire.feed_blockers ORDER BY pid, gid",
            &[],
        )
        .unwrap()
        .into_iter()
        .map(|row| {
            assert!(row.get::<_, bool>("plausible"), "the age");
            Blocker {
                pid: row.get("pid"),
                gid: row.get("gid"),
                role: row.get("role"),
                state: row.get("state"),
                holds_back_after: row.get("holds_back_after"),
                query_is_shown: row.get("shown"),
            }
        })
        .collect()
}

fn role(database: &Database<'_>, level: &str) -> String {
    let role = format!("{}_{level}", database.name);
    database
        .sql(&format!(
            "CREATE ROLE {role} LOGIN; SELECT mire.grant_access('{role}', '{level}')"
        ))
        .unwrap();
    role
}

#[test]
fn an_open_append_holds_the_feed_back_and_is_named_to_everybody_who_may_read() {
    let database = shared().fresh_database().unwrap();
    let roles = ["reader", "writer", "admin"].map(|level| role(&database, level));
    let [mut reader, mut writer, mut admin] =
        roles.each_ref().map(|role| connect(&database.url_as(role)));

    append(&mut writer, "a-1", &events(3), None).unwrap();
    writer.batch_execute("BEGIN").unwrap();
    append(&mut writer, "a-1", &events(1), None).unwrap();
    let mut plain = connect(&database.url_as(&roles[1]));
    append(&mut plain, "a-2", &events(1), None).unwrap();

    let mut feed = Reader::new(100);
    assert_eq!(feed.read(&mut reader).unwrap(), 3, "up to the open append");
    let named = Blocker {
        pid: Some(pid(&mut writer)),
        gid: None,
        role: roles[1].clone(),
        state: Some("idle in transaction".to_owned()),
        holds_back_after: 3,
        query_is_shown: false,
    };
    assert_eq!(blockers(&mut reader), [named]);
    assert!(!blockers(&mut plain)[0].query_is_shown);
    assert!(
        blockers(&mut admin)[0].query_is_shown,
        "admins see the query"
    );
    let open = "SELECT open_appends FROM mire.stats";
    assert_eq!(value::<i64>(&mut reader, open), 1);

    writer.batch_execute("COMMIT").unwrap();
    assert_eq!(blockers(&mut reader), []);
    assert_eq!(feed.read(&mut reader).unwrap(), 2);
}

#[test]
fn a_role_without_access_sees_no_blockers() {
    let database = shared().fresh_database().unwrap();
    let stranger = format!("{}_stranger", database.name);
    database
        .sql(&format!("CREATE ROLE {stranger} LOGIN"))
        .unwrap();
    let mut client = connect(&database.url_as(&stranger));
    refused(client.query("TABLE mire.feed_blockers", &[]), "42501");
}

/// A crash of the server changes nothing about what is prepared: it holds the feed back, by its name, until it ends.
#[test]
fn prepared_appends_hold_the_feed_back_over_restarts_and_are_named_by_their_gid() {
    let cluster = Cluster::start().unwrap();
    let url = cluster.url("mire");
    let mut client = connect(&url);
    client
        .batch_execute("CREATE ROLE appender LOGIN; SELECT mire.grant_access('appender', 'writer')")
        .unwrap();
    append(&mut client, "a-0", &events(2), None).unwrap();
    for (number, gid) in ["first", "second"].into_iter().enumerate() {
        let mut appender = connect(&cluster.url_as("appender", "mire"));
        appender.batch_execute("BEGIN; SAVEPOINT s").unwrap();
        append(
            &mut appender,
            &format!("a-{}", number + 1),
            &events(1),
            None,
        )
        .unwrap();
        appender
            .batch_execute(&format!("RELEASE s; PREPARE TRANSACTION '{gid}'"))
            .unwrap();
    }
    append(&mut client, "a-0", &events(1), None).unwrap();

    for round in 0..3 {
        drop(client);
        match round {
            1 => cluster.restart().unwrap(),
            2 => cluster.crash().unwrap(),
            _ => (),
        }
        client = connect(&url);
        let named = blockers(&mut client);
        let expected: Vec<Blocker> = [("first", 2), ("second", 3)]
            .map(|(gid, holds_back_after)| Blocker {
                pid: None,
                gid: Some(gid.to_owned()),
                role: "appender".to_owned(),
                state: None,
                holds_back_after,
                query_is_shown: false,
            })
            .into();
        assert_eq!(named, expected, "round {round}");
        assert_eq!(
            Reader::new(10).read(&mut client).unwrap(),
            2,
            "round {round}"
        );
    }

    client.batch_execute("COMMIT PREPARED 'second'").unwrap();
    let mut reader = Reader::new(10);
    assert_eq!(
        reader.read(&mut client).unwrap(),
        2,
        "the first still holds"
    );
    client.batch_execute("COMMIT PREPARED 'first'").unwrap();
    while reader.read(&mut client).unwrap() > 0 {}
    assert_eq!(reader.seen.len(), 5);
    reader.assert_saw_everything(&mut client);
    cluster.assert_clean_log(&[]);
}

#[test]
fn a_prepared_append_that_is_rolled_back_lets_the_feed_go_on() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let gid = format!("{}-undone", database.name);
    client.batch_execute("BEGIN").unwrap();
    append(&mut client, "a-1", &events(1), None).unwrap();
    client
        .batch_execute(&format!("PREPARE TRANSACTION '{gid}'"))
        .unwrap();
    append(&mut client, "a-2", &events(1), None).unwrap();
    let mut reader = Reader::new(10);
    assert_eq!(reader.read(&mut client).unwrap(), 0);
    client
        .batch_execute(&format!("ROLLBACK PREPARED '{gid}'"))
        .unwrap();
    assert_eq!(reader.read(&mut client).unwrap(), 1);
    assert_eq!(reader.seen[0].position, 2);
}
