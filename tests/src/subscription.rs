//! A worker of a subscription, with nothing between it and the SQL functions.

use postgres::{Error, GenericClient};

/// What `acquire_subscription` answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whether the caller has the partition now.
    pub acquired: bool,
    /// Its token, when it has.
    pub fence: Option<i64>,
    /// The last position handled.
    pub checkpoint: i64,
    /// Who has it.
    pub holder: Option<String>,
    /// Which history the checkpoint belongs to.
    pub epoch: i64,
}

/// An event as a worker gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where it stands in the feed.
    pub position: i64,
    /// Its stream.
    pub stream: String,
    /// Its version there.
    pub version: i64,
    /// Where to go on after it.
    pub next: i64,
}

/// What `fetch_events` answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The events.
    pub events: Vec<Event>,
    /// Where to go on after the page.
    pub next: i64,
}

impl Page {
    /// The events' positions.
    #[must_use]
    pub fn positions(&self) -> Vec<i64> {
        self.events.iter().map(|event| event.position).collect()
    }
}

/// A partition of a subscription, as a worker names it in every call.
#[derive(Debug, Clone, Copy)]
pub struct Partition<'a> {
    /// The subscription.
    pub name: &'a str,
    /// Which part of it.
    pub number: i32,
    /// The token of whoever acts.
    pub fence: i64,
}

impl<'a> Partition<'a> {
    /// Acquires it for a minute.
    ///
    /// # Panics
    /// When somebody else has it.
    #[track_caller]
    pub fn acquire(client: &mut impl GenericClient, name: &'a str, number: i32) -> Self {
        let lease = acquire(client, name, number, "worker", "1 min").unwrap();
        assert!(lease.acquired, "{lease:?}");
        Self {
            name,
            number,
            fence: lease.fence.unwrap(),
        }
    }

    /// `fetch_events` from the checkpoint.
    ///
    /// # Errors
    /// What the server says.
    pub fn fetch(&self, client: &mut impl GenericClient, count: i32) -> Result<Page, Error> {
        self.fetch_after(client, count, None)
    }

    /// `fetch_events` from a position.
    ///
    /// # Errors
    /// What the server says.
    pub fn fetch_after(
        &self,
        client: &mut impl GenericClient,
        count: i32,
        after: Option<i64>,
    ) -> Result<Page, Error> {
        let rows = client.query(
            "SELECT position, stream, version, next_position FROM mire.fetch_events($1, $2, $3, $4, $5)",
            &[&self.name, &self.number, &self.fence, &count, &after],
        )?;
        let next = rows.last().expect("one row at least").get(3);
        let events = rows
            .iter()
            .filter_map(|row| {
                Some(Event {
                    position: row.get::<_, Option<i64>>(0)?,
                    stream: row.get(1),
                    version: row.get(2),
                    next: row.get(3),
                })
            })
            .collect();
        Ok(Page { events, next })
    }

    /// `checkpoint`.
    ///
    /// # Errors
    /// What the server says.
    pub fn checkpoint(&self, client: &mut impl GenericClient, position: i64) -> Result<(), Error> {
        client
            .query_one(
                "SELECT mire.checkpoint($1, $2, $3, $4)",
                &[&self.name, &self.number, &self.fence, &position],
            )
            .map(drop)
    }

    /// `report_failure` of one attempt.
    ///
    /// # Errors
    /// What the server says.
    pub fn fails(
        &self,
        client: &mut impl GenericClient,
        position: i64,
        action: &str,
    ) -> Result<(), Error> {
        client
            .query_one(
                "SELECT mire.report_failure($1, $2, $3, $4, 'it broke', 1, $5)",
                &[&self.name, &self.number, &self.fence, &position, &action],
            )
            .map(drop)
    }

    /// `fetch_parked`: streams and positions.
    ///
    /// # Errors
    /// What the server says.
    pub fn parked(
        &self,
        client: &mut impl GenericClient,
        count: i32,
    ) -> Result<Vec<(String, i64)>, Error> {
        let rows = client.query(
            "SELECT stream, position FROM mire.fetch_parked($1, $2, $3, $4)",
            &[&self.name, &self.number, &self.fence, &count],
        )?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// `checkpoint_parked`.
    ///
    /// # Errors
    /// What the server says.
    pub fn handled_parked(
        &self,
        client: &mut impl GenericClient,
        stream: &str,
        position: i64,
    ) -> Result<(), Error> {
        client
            .query_one(
                "SELECT mire.checkpoint_parked($1, $2, $3, $4, $5)",
                &[&self.name, &self.number, &self.fence, &stream, &position],
            )
            .map(drop)
    }
}

/// `acquire_subscription`.
///
/// # Errors
/// What the server says.
pub fn acquire(
    client: &mut impl GenericClient,
    name: &str,
    partition: i32,
    holder: &str,
    ttl: &str,
) -> Result<Lease, Error> {
    let row = client.query_one(
        "SELECT acquired, fence, checkpoint, holder, epoch
           FROM mire.acquire_subscription($1, $2, $3, $4::text::interval)",
        &[&name, &partition, &holder, &ttl],
    )?;
    Ok(Lease {
        acquired: row.get(0),
        fence: row.get(1),
        checkpoint: row.get(2),
        holder: row.get(3),
        epoch: row.get(4),
    })
}

/// A subscription to everything from the beginning.
///
/// # Panics
/// When it cannot be made.
#[track_caller]
pub fn create(client: &mut impl GenericClient, name: &str, partitions: i32) {
    client
        .query_one(
            "SELECT mire.create_subscription($1, partitions => $2)",
            &[&name, &partitions],
        )
        .unwrap();
}
