//! What code that writes tables without a statement could get wrong: TOAST, NULLs inside arrays, several writes in one
//! command, errors on the way.

use mire_cluster::shared;
use mire_tests::batch::{Item, append_batch, names};
use mire_tests::session::{append, connect, events, refused, value};
use postgres::Client;

#[test]
fn a_null_inside_any_array_is_refused_or_means_none() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    for call in [
        "SELECT mire.append_events('s-1', '{NULL}', '{1}')",
        "SELECT mire.append_events('s-1', '{t}', '{NULL}')",
        "SELECT mire.append_events('s-1', '{t,NULL,t}', '{1,2,3}')",
        "SELECT mire.append_events(NULL, '{t}', '{1}')",
        "SELECT mire.append_events('s-1', NULL, '{1}')",
        "SELECT mire.append_events('s-1', '{t}', NULL)",
        "SELECT mire.append_batch('{s-1}', NULL, '{NULL}', '{t}', '{1}')",
        "SELECT mire.append_batch(NULL, NULL, '{1}', '{t}', '{1}')",
    ] {
        refused(client.query(call, &[]), "MI004");
    }
    let outcomes: Vec<String> = client
        .query(
            "SELECT outcome FROM mire.append_batch('{NULL,s-1,s-2,s-3}', '{NULL,NULL,NULL,NULL}', '{1,1,1,1}',
                                                   '{t,NULL,t,t}', '{1,1,NULL,1}', '{NULL,NULL,NULL,NULL}', '{NULL,NULL,NULL,NULL}')",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(outcomes, ["invalid", "invalid", "invalid", "appended"]);
    // Whoever writes past the checks, as the store itself does, is told by the table.
    let past =
        "SELECT mire_internal.write_events('s-4', NULL, NULL, '{NULL}', '{1}', NULL, NULL, 1, 1)";
    let said = refused(client.query(past, &[]), "23502");
    assert_eq!(said.column(), Some("type"));
    let past =
        "SELECT mire_internal.write_events('s-4', NULL, NULL, '{t}', '{1}', NULL, NULL, 1, 2)";
    refused(client.query(past, &[]), "23502");
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.events"),
        1
    );
}

#[test]
fn large_payloads_are_toasted_whatever_form_they_come_in() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute(
            "SET mire.max_event_bytes = '4MB';
             -- Compressible, and not; stored out of line, compressed in line, and as one array that is itself toasted.
             CREATE TABLE source AS
             SELECT n, to_jsonb(repeat('x', 1000 * n)) AS soft,
                    (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 30 * n) AS i) AS hard
               FROM generate_series(1, 40) AS n;
             INSERT INTO source SELECT 1000, to_jsonb(repeat('y', 1000000)), (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 28000) AS i);
             CREATE TABLE packed AS
             SELECT array_agg(soft ORDER BY n) AS soft, array_agg(hard ORDER BY n) AS hard,
                    array_agg('t' || n ORDER BY n) AS types,
                    array_agg(jsonb_build_object('m', hard) ORDER BY n) AS metadata
               FROM source",
        )
        .unwrap();
    for call in [
        "SELECT mire.append_events('a-1', types, soft, metadata) FROM packed",
        "SELECT mire.append_events('a-2', array_agg('t'::text ORDER BY n), array_agg(hard ORDER BY n)) FROM source",
        "SELECT mire.append_events('a-3', ARRAY['t'], ARRAY[soft], ARRAY[jsonb_build_object('h', hard)]) FROM source WHERE n = 1000",
        "SELECT (mire.append_batch(array_agg('b-' || n ORDER BY n), NULL, array_agg(1 ORDER BY n), array_agg('t'::text ORDER BY n),
                                   array_agg(hard ORDER BY n), array_agg(jsonb_build_object('s', soft) ORDER BY n))).outcome FROM source",
        // Variables of PL/pgSQL: arrays in their expanded form.
        "DO $$
         DECLARE
           t text[] := '{}';
           d jsonb[] := '{}';
         BEGIN
           FOR i IN 1..20 LOOP
             t := t || 't'::text;
             d := d || (SELECT hard FROM source WHERE n = i);
           END LOOP;
           PERFORM mire.append_events('a-4', t, d);
           d[7] := to_jsonb(repeat('z', 900000));
           PERFORM mire.append_events('a-4', t, d, NULL, NULL, 20);
         END
         $$",
    ] {
        client.simple_query(call).unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    let equal: Vec<bool> = client
        .query(
            "SELECT array_agg(e.data ORDER BY e.version) = (SELECT soft FROM packed)
                    AND array_agg(e.metadata ORDER BY e.version) = (SELECT metadata FROM packed)
               FROM mire.read_stream('a-1') AS e
              UNION ALL
             SELECT array_agg(e.data ORDER BY e.version) = (SELECT hard FROM packed) FROM mire.read_stream('a-2') AS e
              UNION ALL
             SELECT e.data = s.soft AND e.metadata -> 'h' = s.hard FROM mire.read_stream('a-3') AS e, source AS s WHERE s.n = 1000
              UNION ALL
             SELECT bool_and(e.data = s.hard AND e.metadata -> 's' = s.soft)
               FROM source AS s CROSS JOIN LATERAL mire.read_stream('b-' || s.n) AS e
              UNION ALL
             SELECT bool_and(CASE e.version WHEN 27 THEN length(e.data #>> '{}') = 900000 ELSE e.data = s.hard END) AND count(*) = 40
               FROM mire.read_stream('a-4') AS e JOIN source AS s ON s.n = (e.version - 1) % 20 + 1",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(equal, [true; 5]);
    let toast: i64 = value(
        &mut client,
        "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'mire.events'::regclass",
    );
    assert!(toast > 1_000_000, "{toast} bytes out of line");
    // The size that counts is the size before compression.
    client
        .batch_execute("SET mire.max_event_bytes = '900kB'")
        .unwrap();
    refused(
        client.query(
            "SELECT mire.append_events('a-5', ARRAY['t'], ARRAY[soft]) FROM source WHERE n = 1000",
            &[],
        ),
        "MI004",
    );
}

#[test]
fn one_statement_appends_to_one_stream_as_often_as_it_likes() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let calls = "
        SELECT max((mire.append_events('s-1', '{t,t}', '{1,2}', NULL, NULL, 2 * i - 2)).version)
          FROM generate_series(1, 500) AS i";
    assert_eq!(value::<i64>(&mut client, calls), 1_000);
    let mut items: Vec<Item> = (0..50).map(|_| Item::new("s-1", None, 1)).collect();
    items.push(Item::new("s-2", Some(0), 1));
    items.push(items[50].clone());
    items.push(Item::new("s-2", Some(0), 1));
    items.push(Item::new("s-2", Some(1), 2));
    items.push(Item::new("s-2", Some(-1), 1));
    let outcomes = append_batch(&mut client, &items).unwrap();
    assert!(
        names(&outcomes[..50])
            .iter()
            .all(|name| *name == "appended")
    );
    assert_eq!(
        names(&outcomes[50..]),
        ["appended", "duplicate", "conflict", "appended", "appended"]
    );
    assert_eq!(outcomes[49].version, Some(1_050));
    assert_eq!(outcomes[54].version, Some(4));

    // In one transaction, with a savepoint that goes away in between, and the same in another command of it.
    let mut transaction = client.transaction().unwrap();
    for round in 0..3 {
        let version = 1_050 + round;
        append(&mut transaction, "s-1", &events(1), Some(version)).unwrap();
        let mut savepoint = transaction.transaction().unwrap();
        append(&mut savepoint, "s-1", &events(3), Some(version + 1)).unwrap();
        append_batch(
            &mut savepoint,
            &[
                Item::new("s-1", Some(version + 4), 1),
                Item::new("s-9", None, 1),
            ],
        )
        .unwrap();
        savepoint.rollback().unwrap();
    }
    transaction.commit().unwrap();
    let gapless = "
        SELECT count(*) = 1053 AND max(version) = 1053 AND bool_and(version = n)
          FROM (SELECT version, row_number() OVER (ORDER BY position) AS n FROM mire.read_stream('s-1', 0, 2000)) AS s";
    assert!(value::<bool>(&mut client, gapless));
    assert_eq!(
        value::<Option<i64>>(
            &mut client,
            "SELECT (SELECT version FROM mire.streams WHERE stream = 's-9')"
        ),
        None
    );
}

#[test]
fn an_error_in_the_middle_keeps_its_names_and_leaves_nothing_open() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute(
            "SELECT mire.append_events('s-1', '{t}', '{1}');
             CREATE FUNCTION explode(jsonb) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
             $$ BEGIN IF $1 = '13' THEN RAISE EXCEPTION 'thirteen' USING ERRCODE = 'ZZ013'; END IF; RETURN 1; END $$;
             CREATE INDEX exploding ON mire.events (explode(data))",
        )
        .unwrap();
    for _ in 0..300 {
        // Raised while the row's indexes are written, with everything open.
        let said = refused(
            client.query(
                "SELECT mire.append_events('s-1', '{t,t,t}', '{1,13,1}')",
                &[],
            ),
            "ZZ013",
        );
        assert_eq!(said.detail(), None);
        assert!(
            said.where_()
                .is_some_and(|context| context.contains("explode"))
        );
        refused(
            client.query(
                "SELECT mire.append_batch('{s-1,s-2}', NULL, '{1,1}', '{t,t}', '{1,13}')",
                &[],
            ),
            "ZZ013",
        );
    }
    client
        .batch_execute(
            "DO $$ BEGIN
               FOR i IN 1..300 LOOP
                 BEGIN
                   PERFORM mire.append_events('s-1', '{t,t}', '{1,13}');
                 EXCEPTION WHEN SQLSTATE 'ZZ013' THEN NULL;
                 END;
                 PERFORM mire.append_events('s-1', '{t}', '{1}', NULL, NULL, i);
               END LOOP;
             END $$;
             SELECT setval('mire.stream_numbers', 1, false)",
        )
        .unwrap();
    let said = refused(
        client.query("SELECT mire.append_events('s-3', '{t}', '{1}')", &[]),
        "23505",
    );
    assert_eq!(said.constraint(), Some("stream_heads_pkey"));
    assert_eq!(said.table(), Some("stream_heads"));
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('s-1')"),
        301
    );
    // No lock, pin or snapshot is left: this needs the tables for itself.
    for command in [
        "SET lock_timeout = '5s'",
        "VACUUM FULL mire.events",
        "VACUUM FULL mire.stream_heads",
    ] {
        client.batch_execute(command).unwrap();
    }
}

#[test]
fn the_stores_own_functions_lock_and_write_through_the_same_core() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute(
            "CREATE FUNCTION own(stream text, expected bigint) RETURNS mire.batch_result LANGUAGE plpgsql AS $$
             DECLARE
               head mire_internal.locked_stream := mire_internal.lock_stream(stream, to_create => true);
             BEGIN
               RETURN mire_internal.write_events(stream, head, expected, '{skipped,$a,b}', '{0,1,2}', NULL, NULL, 2, 3);
             END $$",
        )
        .unwrap();
    let row = |client: &mut Client, call: &str| -> (String, Option<i64>, Option<i64>) {
        let row = client
            .query_one(&format!("SELECT * FROM {call}"), &[])
            .unwrap();
        (
            row.get("outcome"),
            row.get("version"),
            row.get("actual_version"),
        )
    };
    assert_eq!(
        row(&mut client, "own('$mine-1', 0)"),
        ("appended".into(), Some(2), Some(0))
    );
    assert_eq!(
        row(&mut client, "own('$mine-1', 2)"),
        ("appended".into(), Some(4), Some(2))
    );
    assert_eq!(
        row(&mut client, "own('$mine-1', 2)"),
        ("conflict".into(), None, Some(4))
    );
    let absent = "SELECT s IS NULL FROM mire_internal.lock_stream('nobody-1', false) AS s";
    assert!(value::<bool>(&mut client, absent));
    let locked = "SELECT version FROM mire_internal.lock_stream('$mine-1', false)";
    assert_eq!(value::<i64>(&mut client, locked), 4);
    let mut holding = client.transaction().unwrap();
    value::<i64>(&mut holding, locked);
    let mut other = connect(&database.url);
    other.batch_execute("SET lock_timeout = '100ms'").unwrap();
    refused(other.query(locked, &[]), "55P03");
    drop(holding);
    assert_eq!(value::<i64>(&mut other, locked), 4);
}
