//! A reader that keeps nothing but a bigint, and the table to compare it with.

use std::collections::HashSet;
use std::time::Duration;

use postgres::{Client, Error, GenericClient};
use uuid::Uuid;

/// An event as a reader saw it, or as the table has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Where it stands in the feed.
    pub position: i64,
    /// Its stream.
    pub stream: String,
    /// Its version there.
    pub version: i64,
    /// Its id: tells apart two events that were given the same position.
    pub id: Uuid,
}

/// A subscriber: everything it knows is `after`.
#[derive(Debug, Default)]
pub struct Reader {
    /// The last position handled.
    pub after: i64,
    /// How many events it asks for at a time.
    pub page: i32,
    /// Only these; all when empty.
    pub categories: Vec<String>,
    /// What it saw, for the comparison at the end only.
    pub seen: Vec<Seen>,
}

impl Reader {
    /// A reader of the whole feed from the beginning.
    #[must_use]
    pub fn new(page: i32) -> Self {
        Self {
            page,
            ..Self::default()
        }
    }

    /// Handles one page; how many events it held.
    ///
    /// # Errors
    /// What the server says; then nothing was handled.
    pub fn read(&mut self, client: &mut Client) -> Result<usize, Error> {
        let rows = client.query(
            "SELECT position, stream, version, event_id, next_position FROM mire.read_all($1, $2, $3)",
            &[&self.after, &self.page, &self.categories],
        )?;
        let before = self.seen.len();
        for row in &rows {
            let position: Option<i64> = row.get("position");
            self.seen.extend(position.map(|position| Seen {
                position,
                stream: row.get("stream"),
                version: row.get("version"),
                id: row.get("event_id"),
            }));
        }
        let last = rows.last().expect("read_all answers with one row at least");
        self.after = last.get("next_position");
        Ok(self.seen.len() - before)
    }

    /// Sleeps on the server until there is more, or so long.
    ///
    /// # Errors
    /// What the server says.
    pub fn wait(&self, client: &mut Client, timeout: Duration) -> Result<(), Error> {
        client
            .query_one(
                "CALL mire.wait_for_events($1, make_interval(secs => $2))",
                &[&self.after, &timeout.as_secs_f64()],
            )
            .map(drop)
    }

    /// What the table has for this reader, in order.
    ///
    /// # Panics
    /// When the table cannot be read.
    pub fn expected(&self, superuser: &mut impl GenericClient) -> Vec<Seen> {
        superuser
            .query(
                "SELECT e.position, s.stream, e.version, e.event_id
                   FROM mire.events AS e
                   JOIN mire.stream_heads AS s USING (stream_no)
                  WHERE e.category = ANY ($1) OR cardinality($1) = 0
                  ORDER BY e.position",
                &[&self.categories],
            )
            .unwrap()
            .into_iter()
            .map(|row| Seen {
                position: row.get(0),
                stream: row.get(1),
                version: row.get(2),
                id: row.get(3),
            })
            .collect()
    }

    /// Promise 3: the reader's list is the table, in its order.
    ///
    /// # Panics
    /// When it is not; says what was skipped, doubled or reordered.
    #[track_caller]
    pub fn assert_saw_everything(&self, superuser: &mut impl GenericClient) {
        let table = self.expected(superuser);
        assert!(
            self.seen == table,
            "a reader with pages of {} and categories {:?} saw {} events, the table has {}; skipped {:?}, out of order {:?}",
            self.page,
            self.categories,
            self.seen.len(),
            table.len(),
            skipped(&self.seen, &table),
            out_of_order(&self.seen),
        );
    }
}

/// What is in the table and was not seen.
#[must_use]
pub fn skipped(seen: &[Seen], table: &[Seen]) -> Vec<Seen> {
    let seen: HashSet<&Seen> = seen.iter().collect();
    table
        .iter()
        .filter(|event| !seen.contains(event))
        .cloned()
        .collect()
}

/// Events that came after a later one.
#[must_use]
pub fn out_of_order(seen: &[Seen]) -> Vec<Seen> {
    seen.windows(2)
        .filter(|pair| pair[1].position <= pair[0].position)
        .map(|pair| pair[1].clone())
        .collect()
}

/// Promises 2 and 3: versions are 1, 2, 3, … in every stream, its head says how many, and positions are in version order.
///
/// # Panics
/// When a stream is not so.
#[track_caller]
pub fn assert_streams_are_contiguous(superuser: &mut impl GenericClient) {
    let broken: Vec<String> = superuser
        .query(
            "SELECT s.stream
               FROM mire.stream_heads AS s
               LEFT JOIN (SELECT e.stream_no, e.version, e.position,
                                 row_number() OVER w AS should_be,
                                 lag(e.position) OVER w AS before
                            FROM mire.events AS e
                          WINDOW w AS (PARTITION BY e.stream_no ORDER BY e.version)) AS e USING (stream_no)
              GROUP BY s.stream, s.version
             HAVING s.version <> count(e.version)
                 OR NOT coalesce(bool_and(e.version = e.should_be AND e.position > coalesce(e.before, 0)), true)",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(
        broken.is_empty(),
        "streams with gaps, repeats or inverted positions: {broken:?}"
    );
}
