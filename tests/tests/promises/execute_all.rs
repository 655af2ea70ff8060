//! `execute_all`: many executions in one call, each as if the caller had sent it by itself.

use mire_cluster::shared;
use mire_tests::session::{connect, refused, value};
use postgres::types::Type;
use postgres::{Client, Error, GenericClient};

const CALL: &str = "SELECT mire.execute_all($1, $2, $3, $4)";

/// Executions as the call wants them: a statement's number and its values.
fn calls(executions: &[(u16, &[Option<&[u8]>])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, values) in executions {
        bytes.extend(number.to_be_bytes());
        for value in *values {
            bytes.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
            bytes.extend(value.unwrap_or_default());
        }
    }
    bytes
}

/// Statements with their parameters' types.
fn execute(
    client: &mut impl GenericClient,
    statements: &[(&str, &[Type])],
    calls: &[u8],
) -> Result<i64, Error> {
    let texts: Vec<&str> = statements.iter().map(|(text, _)| *text).collect();
    let counts: Vec<i32> = statements
        .iter()
        .map(|(_, types)| types.len() as i32)
        .collect();
    let types: Vec<u32> = statements
        .iter()
        .flat_map(|(_, types)| *types)
        .map(Type::oid)
        .collect();
    let row = client.query_one(CALL, &[&texts, &counts, &types, &calls])?;
    Ok(row.get(0))
}

fn store() -> (mire_cluster::Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute("CREATE TABLE t (n bigint CONSTRAINT small CHECK (n < 100), note text)")
        .unwrap();
    (database, client)
}

const INSERT: (&str, &[Type]) = ("INSERT INTO t VALUES ($1, $2)", &[Type::INT8, Type::TEXT]);
const DOUBLE: (&str, &[Type]) = ("UPDATE t SET n = n * 2 RETURNING n", &[]);

fn bigint(n: i64) -> [u8; 8] {
    n.to_be_bytes()
}

#[test]
fn executions_come_in_order_and_each_sees_those_before() {
    let (_database, mut client) = store();
    let done = execute(
        &mut client,
        &[INSERT, DOUBLE, ("SELECT count(*) FROM t", &[])],
        &calls(&[
            (0, &[Some(&bigint(1)), Some(b"first")]),
            (1, &[]),
            (0, &[Some(&bigint(10)), None]),
            (2, &[]),
            (1, &[]),
            (0, &[None, Some(b"")]),
        ]),
    );
    assert_eq!(done.unwrap(), 6);
    let all = "SELECT string_agg(format('%s:%s', n, coalesce(note, '-')), ' ' ORDER BY n) FROM t";
    assert_eq!(value::<String>(&mut client, all), "4:first 20:- :");
    assert_eq!(execute(&mut client, &[INSERT], &[]).unwrap(), 0);
    assert_eq!(execute(&mut client, &[], &[]).unwrap(), 0);
}

#[test]
fn plans_that_are_kept_follow_the_tables_and_the_search_path() {
    let (_database, mut client) = store();
    let one = calls(&[(0, &[Some(&bigint(1)), Some(b"x")])]);
    // Enough for a generic plan.
    for _ in 0..8 {
        execute(&mut client, &[INSERT], &one).unwrap();
    }
    client
        .batch_execute("ALTER TABLE t ADD COLUMN more integer DEFAULT 7; CREATE SCHEMA other; CREATE TABLE other.t (LIKE t)")
        .unwrap();
    execute(&mut client, &[INSERT], &one).unwrap();
    client.batch_execute("SET search_path = other").unwrap();
    execute(&mut client, &[INSERT], &one).unwrap();
    client.batch_execute("RESET search_path").unwrap();
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM public.t WHERE more = 7"),
        9
    );
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM other.t"), 1);
    client.batch_execute("DROP TABLE t CASCADE").unwrap();
    refused(execute(&mut client, &[INSERT], &one), "42P01");
}

#[test]
fn an_error_is_the_statements_own_and_undoes_all() {
    let (_database, mut client) = store();
    let error = refused(
        execute(
            &mut client,
            &[INSERT],
            &calls(&[
                (0, &[Some(&bigint(1)), None]),
                (0, &[Some(&bigint(100)), None]),
            ]),
        ),
        "23514",
    );
    assert_eq!(error.constraint(), Some("small"));
    assert!(error.where_().unwrap().contains(INSERT.0), "{error:?}");
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM t"), 0);
    // The session is as good as before, also within a savepoint.
    let mut transaction = client.transaction().unwrap();
    let mut savepoint = transaction.transaction().unwrap();
    refused(
        execute(&mut savepoint, &[("SELECT 1/0", &[])], &calls(&[(0, &[])])),
        "22012",
    );
    savepoint.rollback().unwrap();
    execute(&mut transaction, &[DOUBLE], &calls(&[(0, &[])])).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn it_has_the_callers_rights_and_no_more() {
    let (database, mut client) = store();
    let role = format!("{}_reader", database.name);
    client
        .batch_execute(&format!(
            "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN; SELECT mire.grant_access('{role}', 'reader');
             CREATE TABLE own (n bigint); GRANT INSERT ON own TO {role}"
        ))
        .unwrap();
    let mut reader = connect(&database.url_as(&role));
    let own = ("INSERT INTO own VALUES ($1)", &[Type::INT8][..]);
    execute(&mut reader, &[own], &calls(&[(0, &[Some(&bigint(1))])])).unwrap();
    for forbidden in [
        "INSERT INTO t VALUES (1)",
        "SELECT * FROM t",
        "DELETE FROM mire.events",
    ] {
        refused(
            execute(&mut reader, &[(forbidden, &[])], &calls(&[(0, &[])])),
            "42501",
        );
    }
}

#[test]
fn what_is_malformed_is_refused_with_nothing_done() {
    let (_database, mut client) = store();
    let good = calls(&[(0, &[Some(&bigint(1)), Some(b"x")])]);
    // Cut off anywhere, a longer value than there is, a length below -1, another statement's number, a value of the wrong size
    // and bytes that are no text.
    let mut bad: Vec<Vec<u8>> = (1..good.len()).map(|end| good[..end].to_vec()).collect();
    bad.push(calls(&[(1, &[])]));
    bad.push(calls(&[(0, &[Some(&[0; 9]), None])]));
    for length in [-2, i32::MIN, i32::MAX] {
        bad.push([&[0, 0][..], &length.to_be_bytes(), &[0; 40]].concat());
    }
    for bad in bad {
        let all = [&good[..], &bad].concat();
        let error = execute(&mut client, &[INSERT], &all).unwrap_err();
        let code = error.code().unwrap().code();
        // A bigint of some other size is what its receive function says: insufficient data.
        assert!(["22P03", "08P01"].contains(&code), "{bad:?}: {error:?}");
    }
    refused(
        execute(
            &mut client,
            &[INSERT],
            &calls(&[(0, &[None, Some(b"\xff")])]),
        ),
        "22021",
    );
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM t"), 0);

    let text = Type::TEXT.oid();
    let none: [Option<i32>; 1] = [None];
    for (texts, counts, types) in [
        (vec!["SELECT 1"], vec![Some(-1)], vec![]),
        (vec!["SELECT 1"], vec![Some(1)], vec![]),
        (vec!["SELECT 1"], vec![Some(0)], vec![text]),
        (vec!["SELECT 1"], vec![], vec![]),
        (vec!["SELECT 1"], vec![Some(0), Some(0)], vec![]),
        (vec!["SELECT 1"], none.to_vec(), vec![]),
        (vec![], vec![], vec![text]),
    ] {
        refused(
            client.query(CALL, &[&texts, &counts, &types, &&b""[..]]),
            "22023",
        );
    }
    for call in [
        "SELECT mire.execute_all(NULL, '{}', '{}', '')",
        "SELECT mire.execute_all('{}', NULL, '{}', '')",
        "SELECT mire.execute_all('{}', '{}', NULL, '')",
        "SELECT mire.execute_all('{}', '{}', '{}', NULL)",
        "SELECT mire.execute_all('{{a,b},{c,d}}', '{0,0,0,0}', '{}', '')",
    ] {
        refused(client.simple_query(call), "22023");
    }
    refused(execute(&mut client, &[("no statement", &[])], &[]), "42601");
    refused(execute(&mut client, &[("SELECT $1", &[])], &[]), "42P02");
    // No such type; and one without a binary format.
    refused(
        client.query(
            CALL,
            &[
                &vec!["SELECT 1"],
                &vec![1],
                &vec![4_000_000_000_u32],
                &&b""[..],
            ],
        ),
        "22023",
    );
    let aclitem = vec![Type::ACLITEM.oid()];
    refused(
        client.query(CALL, &[&vec!["SELECT $1"], &vec![1], &aclitem, &&b""[..]]),
        "42883",
    );
}

#[test]
fn transactions_and_copies_are_not_its_business() {
    let (_database, mut client) = store();
    for statement in [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "SAVEPOINT a",
        "COPY t TO STDOUT",
    ] {
        refused(
            execute(&mut client, &[(statement, &[])], &calls(&[(0, &[])])),
            "0A000",
        );
    }
}

#[test]
fn it_can_be_cancelled() {
    let (_database, mut client) = store();
    client
        .batch_execute("SET statement_timeout = '50 ms'")
        .unwrap();
    let many = calls(&vec![(0, &[][..]); 1_000]);
    refused(
        execute(&mut client, &[("SELECT pg_sleep(0.01)", &[])], &many),
        "57014",
    );
}
