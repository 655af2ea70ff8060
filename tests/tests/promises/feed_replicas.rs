//! A standby and a logical subscriber do not have the writers' in-flight locks: there the feed refuses, and whatever
//! needs none of them works.

use mire_cluster::Cluster;
use mire_tests::feed::{Reader, assert_streams_are_contiguous};
use mire_tests::session::{append, connect, events, refused, value, wait_until};
use mire_tests::standby::Standby;
use postgres::Client;

/// What reads a stream and works wherever the tables are.
fn assert_streams_are_readable(client: &mut Client, stream: &str, version: i64) {
    for call in [
        format!("SELECT count(*) FROM mire.read_stream('{stream}')"),
        format!("SELECT count(*) FROM mire.read_stream('{stream}', 0, 1000, true)"),
        format!("SELECT count(*) - 1 FROM mire.load_stream('{stream}')"),
        format!("SELECT mire.stream_version('{stream}')"),
        format!("SELECT version FROM mire.streams WHERE stream = '{stream}'"),
    ] {
        assert_eq!(value::<i64>(client, &call), version, "{call}");
    }
    assert!(client.query("SELECT mire.store_info()", &[]).is_ok());
}

fn assert_feed_refuses(client: &mut Client) {
    for call in [
        "SELECT mire.read_all()",
        "SELECT mire.read_all(0, 10, '{a}', '{happened}')",
        "SELECT mire.safe_position()",
        "CALL mire.wait_for_events(0, '0 s')",
    ] {
        refused(client.batch_execute(call), "MI007");
    }
}

#[test]
fn on_a_hot_standby_streams_are_readable_and_the_feed_refuses() {
    let primary = Cluster::start().unwrap();
    let mut client = connect(&primary.url("mire"));
    append(&mut client, "a-1", &events(20), None).unwrap();
    client
        .batch_execute("SELECT mire.save_snapshot('a-1', 15, 1, '{}')")
        .unwrap();
    let standby = Standby::of(&primary);
    append(&mut client, "a-1", &events(5), None).unwrap();
    standby.catch_up(&primary);

    let mut client = connect(&standby.url("mire"));
    assert!(value::<bool>(&mut client, "SELECT pg_is_in_recovery()"));
    assert_streams_are_readable(&mut client, "a-1", 25);
    let from_snapshot = "SELECT count(*) FROM mire.load_stream('a-1', 1)";
    assert_eq!(value::<i64>(&mut client, from_snapshot), 1 + 1 + 10);
    assert_feed_refuses(&mut client);
    refused(append(&mut client, "a-1", &events(1), None), "25006");
}

/// The in-flight lock of a prepared append is on no standby; it must be there from the first moment after promotion.
#[test]
fn a_promoted_standby_delivers_the_feed_and_a_prepared_append_still_holds_it_back() {
    let primary = Cluster::start().unwrap();
    let mut client = connect(&primary.url("mire"));
    append(&mut client, "a-1", &events(3), None).unwrap();
    let standby = Standby::of(&primary);
    client.batch_execute("BEGIN").unwrap();
    append(&mut client, "a-2", &events(2), None).unwrap();
    client
        .batch_execute("PREPARE TRANSACTION 'open at promotion'")
        .unwrap();
    append(&mut client, "a-1", &events(1), None).unwrap();
    let mut reader = Reader::new(100);
    reader.read(&mut client).unwrap();
    standby.catch_up(&primary);
    drop(client);
    primary.kill().unwrap();

    standby.promote();
    let mut client = connect(&standby.url("mire"));
    let later = append(&mut client, "a-1", &events(1), None).unwrap();
    assert!(later.position.unwrap() > 6, "{later:?}");
    assert_eq!(reader.read(&mut client).unwrap(), 0, "held back");
    assert_eq!(
        value::<String>(&mut client, "SELECT gid FROM mire.feed_blockers"),
        "open at promotion"
    );
    client
        .batch_execute("COMMIT PREPARED 'open at promotion'")
        .unwrap();
    reader.read(&mut client).unwrap();
    reader.assert_saw_everything(&mut client);
    assert_eq!(reader.seen.len(), 7);
    assert_streams_are_contiguous(&mut client);
}

#[test]
fn on_a_logical_subscriber_streams_are_readable_and_the_feed_refuses() {
    let cluster = Cluster::builder()
        .setting("wal_level", "logical")
        .start()
        .unwrap();
    // When the cluster is taken down, the sender may be gone before the one that applies.
    cluster
        .expect_in_log("background worker \"logical replication")
        .unwrap();
    let mut publisher = connect(&cluster.url("mire"));
    append(&mut publisher, "a-1", &events(4), None).unwrap();
    // The slot is made here: CREATE SUBSCRIPTION in the same cluster would wait for itself.
    publisher
        .batch_execute("CREATE PUBLICATION p FOR TABLE mire.events, mire.stream_heads")
        .unwrap();
    publisher
        .batch_execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        .unwrap();
    cluster.create_database("subscriber").unwrap();
    let mut client = connect(&cluster.url("subscriber"));
    client
        .batch_execute(&format!(
            "CREATE SUBSCRIPTION s CONNECTION '{}' PUBLICATION p WITH (create_slot = false)",
            cluster.url("mire")
        ))
        .unwrap();
    append(&mut publisher, "a-1", &events(2), None).unwrap();
    wait_until("the subscriber has everything", || {
        value::<i64>(&mut client, "SELECT count(*) FROM mire.read_stream('a-1')") == 6
    });
    assert_streams_are_readable(&mut client, "a-1", 6);
    assert_feed_refuses(&mut client);
    let mut reader = Reader::new(100);
    assert_eq!(reader.read(&mut publisher).unwrap(), 6, "the publisher");
}
