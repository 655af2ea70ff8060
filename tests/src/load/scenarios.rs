//! What a writer of the load may do: one transaction each.

use postgres::Error;
use rand::RngExt;

use super::writer::Writer;

type Scenario = fn(&mut Writer) -> Result<(), Error>;

pub(super) const SCENARIOS: &[(&str, Scenario)] = &[
    ("plain", plain),
    ("plain", plain),
    ("early xid", early_xid),
    ("several streams", several_streams),
    ("savepoint kept", savepoint_kept),
    ("savepoint rolled back", savepoint_rolled_back),
    (
        "append after a rolled back one",
        after_rolled_back_savepoint,
    ),
    ("rollback", rollback),
    ("prepared", prepared),
    ("late commit", late_commit),
    ("batch", batch),
    ("function", function),
    ("cursor that fails", cursor_that_fails),
];

/// A function that appends several times, once in a block that fails. Several loads may share a database.
pub(super) const SETUP: &str = "
CREATE OR REPLACE FUNCTION public.append_several(streams text[], events jsonb)
RETURNS TABLE (n bigint, version bigint, at bigint) LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..cardinality(streams) LOOP
    n := i;
    BEGIN
      PERFORM mire.append(streams[i], events);
      PERFORM 1 / (i % 2);
    EXCEPTION WHEN division_by_zero THEN
      NULL;
    END;
    IF i % 2 = 0 THEN
      SELECT a.version, a.position INTO version, at FROM mire.append(streams[i], events) AS a;
      RETURN NEXT;
    END IF;
  END LOOP;
END
$$";

fn plain(w: &mut Writer) -> Result<(), Error> {
    let stream = w.streams(1).remove(0);
    w.append(&stream)?;
    w.acknowledge();
    Ok(())
}

/// The transaction id is older than those of transactions that commit before this one even begins to append.
fn early_xid(w: &mut Writer) -> Result<(), Error> {
    w.sql("BEGIN; SELECT pg_current_xact_id()")?;
    w.pause();
    let stream = w.streams(1).remove(0);
    w.append(&stream)?;
    w.commit()
}

fn several_streams(w: &mut Writer) -> Result<(), Error> {
    w.sql("BEGIN")?;
    for stream in w.streams(4) {
        w.append(&stream)?;
        w.append(&stream)?;
    }
    w.commit()
}

fn savepoint_kept(w: &mut Writer) -> Result<(), Error> {
    w.sql("BEGIN; SAVEPOINT a")?;
    for stream in w.streams(2) {
        w.sql("SAVEPOINT b")?;
        w.append(&stream)?;
        w.sql("RELEASE b")?;
    }
    w.sql("RELEASE a")?;
    w.pause();
    w.commit()
}

/// The first append's lock must outlive the second's, which is undone.
fn savepoint_rolled_back(w: &mut Writer) -> Result<(), Error> {
    w.sql("BEGIN")?;
    let streams = w.streams(2);
    w.append(&streams[0])?;
    w.sql("SAVEPOINT a")?;
    let kept = w.pending.len();
    w.append(streams.last().expect("at least one"))?;
    w.sql("ROLLBACK TO a")?;
    w.pending.truncate(kept);
    w.pause();
    w.commit()
}

/// The first lock goes with its savepoint; the append after it needs one of its own.
fn after_rolled_back_savepoint(w: &mut Writer) -> Result<(), Error> {
    w.sql("BEGIN; SAVEPOINT a")?;
    let streams = w.streams(2);
    w.append(&streams[0])?;
    w.sql("ROLLBACK TO a")?;
    w.pending.clear();
    w.append(streams.last().expect("at least one"))?;
    w.pause();
    w.commit()
}

fn rollback(w: &mut Writer) -> Result<(), Error> {
    w.sql("BEGIN")?;
    for stream in w.streams(2) {
        w.append(&stream)?;
    }
    w.pause();
    w.sql("ROLLBACK")
}

fn prepared(w: &mut Writer) -> Result<(), Error> {
    w.sql("BEGIN")?;
    for stream in w.streams(2) {
        w.append(&stream)?;
    }
    w.two_phases()
}

fn late_commit(w: &mut Writer) -> Result<(), Error> {
    w.sql("BEGIN")?;
    let stream = w.streams(1).remove(0);
    w.append(&stream)?;
    w.pause();
    w.commit()
}

fn batch(w: &mut Writer) -> Result<(), Error> {
    let streams = w.streams(6);
    let ids: Vec<_> = streams
        .iter()
        .map(|_| uuid::Uuid::from_u128(w.rng.random()))
        .collect();
    let counts = vec![1_i32; streams.len()];
    let types = vec!["happened"; streams.len()];
    let data = vec![serde_json::Value::Null; streams.len()];
    let rows = w.client().query(
        "SELECT item, outcome, version, position FROM mire.append_batch($1, NULL, $2, $3, $4, NULL, $5)",
        &[&streams, &counts, &types, &data, &ids],
    )?;
    for row in rows {
        let item = row.get::<_, i32>(0) as usize - 1;
        // The others are busy.
        if row.get::<_, &str>(1) == "appended" {
            w.note(&streams[item], &ids[item..=item], row.get(2), row.get(3));
        }
    }
    w.acknowledge();
    Ok(())
}

fn function(w: &mut Writer) -> Result<(), Error> {
    let streams = w.streams(4);
    // One id for all of them: ids are unique within a call only.
    let id = uuid::Uuid::from_u128(w.rng.random());
    let events = serde_json::json!([{"type": "happened", "data": null, "id": id.to_string()}]);
    let rows = w.client().query(
        "SELECT n, version, at FROM public.append_several($1, $2)",
        &[&streams, &events],
    )?;
    for row in rows {
        let stream = &streams[row.get::<_, i64>(0) as usize - 1];
        w.note(stream, &[id], row.get(1), row.get(2));
    }
    w.acknowledge();
    Ok(())
}

/// A portal that fails inside a savepoint gives its own locks back, and keeps the rows it wrote before the savepoint.
fn cursor_that_fails(w: &mut Writer) -> Result<(), Error> {
    let stream = w.streams(1).remove(0);
    let (events, ids) = w.events();
    w.sql(&format!(
        "BEGIN;
         DECLARE c NO SCROLL CURSOR FOR
           SELECT a.version, a.position, 1 / (2 - i)
             FROM generate_series(1, 3) AS i CROSS JOIN LATERAL mire.append('{stream}', '{events}') AS a"
    ))?;
    let row = w.client().query_one("FETCH c", &[])?;
    w.note(&stream, &ids, row.get(0), row.get(1));
    w.sql("SAVEPOINT a")?;
    let failed = w.client().batch_execute("FETCH c");
    match failed {
        Err(error) if error.code().is_some_and(|code| code.code() == "22012") => (),
        other => return other,
    }
    w.sql("ROLLBACK TO a")?;
    w.pause();
    w.commit()
}
