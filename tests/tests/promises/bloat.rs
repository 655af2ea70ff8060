//! Rows that are updated all the time, a stream's version, a lease, a checkpoint, are updated in place: an hour of heartbeats
//! leaves no bloat behind, without vacuum.

use mire_cluster::Cluster;
use mire_tests::session::{connect, value};
use mire_tests::subscription::{Partition, create};

/// A heartbeat, a page and a checkpoint a second.
const HOUR: i64 = 3_600;

#[test]
fn figures_of_an_hour_of_appends_heartbeats_and_checkpoints_stay_in_their_pages() {
    let cluster = Cluster::builder()
        .setting("autovacuum", "off")
        .setting("fsync", "off")
        .start()
        .unwrap();
    let mut client = connect(&cluster.url("mire"));
    create(&mut client, "s", 1);
    let worker = Partition::acquire(&mut client, "s", 0);
    let lease = "SELECT fence FROM mire.acquire_lease('resource', 'me', '1 hour')";
    let fence: i64 = value(&mut client, lease);
    for position in 1..=HOUR {
        for call in [
            "SELECT mire.append_events('s-1', '{t}', '{1}')".to_owned(),
            format!("SELECT mire.renew_lease('resource', {fence}, '1 hour')"),
            format!(
                "SELECT count(*) FROM mire.fetch_events('s', 0, {})",
                worker.fence
            ),
            format!(
                "SELECT mire.checkpoint('s', 0, {}, {position})",
                worker.fence
            ),
        ] {
            client.simple_query(&call).unwrap();
        }
    }
    client
        .batch_execute("SELECT pg_stat_force_next_flush()")
        .unwrap();
    let tables = client
        .query(
            "SELECT relname::text, n_tup_upd, n_tup_hot_upd, pg_total_relation_size(relid)
               FROM pg_stat_user_tables
              WHERE schemaname = 'mire' AND relname IN ('stream_heads', 'leases', 'checkpoints')",
            &[],
        )
        .unwrap();
    assert_eq!(tables.len(), 3);
    for table in &tables {
        let (name, updates, hot, bytes): (String, i64, i64, i64) =
            (table.get(0), table.get(1), table.get(2), table.get(3));
        println!("{name}: {updates} updates, {hot} of them heap-only, {bytes} bytes in all");
        assert!(updates >= HOUR - 1, "{name}: {updates} updates");
        assert!(hot * 100 >= updates * 99, "{name}: {hot} of {updates}");
        assert!(bytes <= 256 * 1024, "{name}: {bytes} bytes");
    }
}
