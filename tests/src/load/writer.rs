//! One writer: its connection, and what it may claim once a commit is acknowledged.

use std::time::{Duration, Instant};

use postgres::{Client, Error, NoTls};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use uuid::Uuid;

use super::scenarios::SCENARIOS;
use super::{Acknowledged, CATEGORIES, Outcome};

/// How long a writer tries to get its connection back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Streams per category; few enough that writers meet.
const STREAMS: usize = 20;

pub(super) struct Writer {
    url: String,
    number: usize,
    survives_crashes: bool,
    client: Option<Client>,
    pub(super) rng: StdRng,
    /// Appended in the open transaction.
    pub(super) pending: Vec<Acknowledged>,
    /// Prepared, and not known to be resolved.
    prepared: Option<(String, Vec<Acknowledged>)>,
    prepared_count: u64,
    pub(super) outcome: Outcome,
}

impl Writer {
    pub(super) fn new(url: &str, number: usize, seed: u64, survives_crashes: bool) -> Self {
        Self {
            url: url.to_owned(),
            number,
            survives_crashes,
            client: None,
            rng: StdRng::seed_from_u64(seed.wrapping_mul(1000) + number as u64),
            pending: Vec::new(),
            prepared: None,
            prepared_count: 0,
            outcome: Outcome::default(),
        }
    }

    /// Runs one scenario of those that are there, to its end or the connection's.
    pub(super) fn run_one(&mut self) {
        self.connect();
        let (name, scenario) = SCENARIOS[self.rng.random_range(0..SCENARIOS.len())];
        self.pending.clear();
        match scenario(self) {
            Ok(()) => *self.outcome.scenarios.entry(name).or_default() += 1,
            Err(error) => self.failed(name, &error),
        }
    }

    fn failed(&mut self, scenario: &str, error: &Error) {
        let code = error.code().map(postgres::error::SqlState::code);
        if matches!(code, Some("40P01" | "40001")) {
            self.outcome.refused += 1;
            // An open transaction is over; outside of one this is only a warning.
            if self.client().batch_execute("ROLLBACK").is_ok() {
                return;
            }
        }
        let died = self.client().is_closed() || matches!(code, None | Some("57P01" | "57P02"));
        assert!(
            self.survives_crashes && died,
            "scenario {scenario}: {error:?}"
        );
        self.outcome.unknown += 1;
        self.client = None;
    }

    pub(super) fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("connected by run_one")
    }

    /// Connects if need be, and resolves what the former connection had prepared.
    fn connect(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.client.is_none() {
            match Client::connect(&self.url, NoTls) {
                Ok(client) => {
                    self.client = Some(client);
                    if self.resolve_prepared().is_err() {
                        self.client = None;
                    }
                }
                Err(error) => {
                    assert!(
                        self.survives_crashes && Instant::now() < deadline,
                        "no connection: {error:?}"
                    );
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }

    fn resolve_prepared(&mut self) -> Result<(), Error> {
        let Some((gid, _)) = &self.prepared else {
            return Ok(());
        };
        let gid = gid.clone();
        let there = self
            .client()
            .query_opt("SELECT FROM pg_prepared_xacts WHERE gid = $1", &[&gid])?
            .is_some();
        if there {
            self.end_prepared()?;
        }
        self.prepared = None;
        Ok(())
    }

    /// PREPARE TRANSACTION, a pause, and the decision.
    pub(super) fn two_phases(&mut self) -> Result<(), Error> {
        self.prepared_count += 1;
        // The url ends with the database's name: gids are the whole cluster's.
        let database = self.url.rsplit('/').next().unwrap_or_default().to_owned();
        let gid = format!("{database}-w{}-{}", self.number, self.prepared_count);
        self.prepared = Some((gid.clone(), std::mem::take(&mut self.pending)));
        self.client()
            .batch_execute(&format!("PREPARE TRANSACTION '{gid}'"))?;
        self.pause();
        self.end_prepared()
    }

    fn end_prepared(&mut self) -> Result<(), Error> {
        let Some((gid, events)) = self.prepared.clone() else {
            return Ok(());
        };
        let commit = self.rng.random_bool(0.7);
        let verb = if commit { "COMMIT" } else { "ROLLBACK" };
        self.client()
            .batch_execute(&format!("{verb} PREPARED '{gid}'"))?;
        if commit {
            self.outcome.acknowledged.extend(events);
        }
        self.prepared = None;
        Ok(())
    }

    pub(super) fn sql(&mut self, sql: &str) -> Result<(), Error> {
        self.client().batch_execute(sql)
    }

    /// COMMIT, and from its answer on the events count as acknowledged.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        self.sql("COMMIT")?;
        self.acknowledge();
        Ok(())
    }

    pub(super) fn acknowledge(&mut self) {
        let events = std::mem::take(&mut self.pending);
        self.outcome.acknowledged.extend(events);
    }

    /// Up to 12 ms, on the client or on the server, or none.
    pub(super) fn pause(&mut self) {
        let time = Duration::from_millis(self.rng.random_range(0..=12));
        match self.rng.random_range(0..3) {
            0 => std::thread::sleep(time),
            // An answer that does not come shows at the next call.
            1 => drop(self.sql(&format!("SELECT pg_sleep({})", time.as_secs_f64()))),
            _ => (),
        }
    }

    /// Some streams in sorted order, so that writers do not deadlock.
    pub(super) fn streams(&mut self, count: usize) -> Vec<String> {
        let mut streams: Vec<String> = (0..count)
            .map(|_| {
                let category = CATEGORIES[self.rng.random_range(0..CATEGORIES.len())];
                format!("{category}-{:02}", self.rng.random_range(0..STREAMS))
            })
            .collect();
        streams.sort();
        streams.dedup();
        streams
    }

    /// One to three events with ids of our own.
    pub(super) fn events(&mut self) -> (Value, Vec<Uuid>) {
        let ids: Vec<Uuid> = (0..self.rng.random_range(1..=3))
            .map(|_| Uuid::from_u128(self.rng.random()))
            .collect();
        let events = ids
            .iter()
            .map(
                |id| json!({"type": "happened", "data": {"by": self.number}, "id": id.to_string()}),
            )
            .collect();
        (events, ids)
    }

    /// Appends to a stream; the events count as pending.
    pub(super) fn append(&mut self, stream: &str) -> Result<(), Error> {
        let (events, ids) = self.events();
        let row = self.client().query_one(
            "SELECT version, position FROM mire.append($1, $2)",
            &[&stream, &events],
        )?;
        self.note(stream, &ids, row.get(0), Some(row.get(1)));
        Ok(())
    }

    /// Notes events whose last has this version and position as pending.
    pub(super) fn note(&mut self, stream: &str, ids: &[Uuid], last: i64, position: Option<i64>) {
        let first = last - ids.len() as i64 + 1;
        for (version, id) in (first..).zip(ids) {
            self.pending.push(Acknowledged {
                stream: stream.to_owned(),
                version,
                id: *id,
                position: position.filter(|_| version == last),
            });
        }
    }

    pub(super) fn finish(mut self) -> Outcome {
        if self.prepared.is_some() {
            self.client = None;
            self.connect();
        }
        self.outcome
    }
}
