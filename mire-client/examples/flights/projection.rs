//! The read model: two tables that a runner keeps, a page of events at a time, in the transaction that moves the checkpoint.

use std::time::Duration;

use indicatif::ProgressBar;
use mire_client::{
    Batch, BatchHandler, BoxError, EventStore, Incoming, ProjectionRunner, Subscription,
    Transaction,
};
use tokio_postgres::Client;

use super::aircraft::{Aircraft, AircraftEvent};
use super::report::{self, Carrier, Report};

const NAME: &str = "flight_report";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS flight_carriers (
      carrier text PRIMARY KEY, departures bigint NOT NULL, arrivals bigint NOT NULL, cancelled bigint NOT NULL,
      diverted bigint NOT NULL, departure_delay bigint NOT NULL, arrival_delay bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS flight_aircraft (
      aircraft text PRIMARY KEY, departures bigint NOT NULL, miles bigint NOT NULL, events bigint NOT NULL)";

const ADD_CARRIERS: &str = "
    INSERT INTO flight_carriers AS t
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    ON CONFLICT (carrier) DO UPDATE
      SET departures = t.departures + excluded.departures, arrivals = t.arrivals + excluded.arrivals,
          cancelled = t.cancelled + excluded.cancelled, diverted = t.diverted + excluded.diverted,
          departure_delay = t.departure_delay + excluded.departure_delay,
          arrival_delay = t.arrival_delay + excluded.arrival_delay";

const ADD_AIRCRAFT: &str = "
    INSERT INTO flight_aircraft AS t
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
    ON CONFLICT (aircraft) DO UPDATE
      SET departures = t.departures + excluded.departures, miles = t.miles + excluded.miles,
          events = t.events + excluded.events";

struct FlightReport;

impl BatchHandler for FlightReport {
    type Event = AircraftEvent;

    async fn handle(
        &self,
        events: &[Incoming<'_, AircraftEvent>],
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let mut page = Report::default();
        for event in events {
            page.handle(event.id().to_owned(), event.event.clone());
        }
        let carriers: Vec<&str> = page.carriers.keys().map(String::as_str).collect();
        let of =
            |number: fn(&Carrier) -> i64| page.carriers.values().map(number).collect::<Vec<i64>>();
        tx.sql()
            .execute(
                ADD_CARRIERS,
                &[
                    &carriers,
                    &of(|c| c.departures),
                    &of(|c| c.arrivals),
                    &of(|c| c.cancelled),
                    &of(|c| c.diverted),
                    &of(|c| c.departure_delay),
                    &of(|c| c.arrival_delay),
                ],
            )
            .await?;
        let aircraft: Vec<&str> = page.aircraft.keys().map(String::as_str).collect();
        let of = |number: fn(&report::Aircraft) -> i64| {
            page.aircraft.values().map(number).collect::<Vec<i64>>()
        };
        let numbers = (of(|a| a.departures), of(|a| a.miles), of(|a| a.events));
        tx.sql()
            .execute(
                ADD_AIRCRAFT,
                &[&aircraft, &numbers.0, &numbers.1, &numbers.2],
            )
            .await?;
        Ok(())
    }
}

/// Runs the projection until it has caught up with the log, showing how far behind it is, and reads its tables.
pub(crate) async fn build(store: &EventStore, bar: &ProgressBar) -> Result<Report, BoxError> {
    let client = store.pool().get().await?;
    client.batch_execute(TABLES).await?;
    let runner = ProjectionRunner::builder(store.clone())
        .subscribe(
            Subscription::new(NAME)
                .aggregate::<Aircraft>()
                .page(2_000, 4 << 20),
            Batch(FlightReport),
        )
        .spawn()
        .await?;
    let goal = store.safe_position().await?;
    bar.set_length(u64::try_from(goal)?);
    loop {
        let waited = store.wait_for(NAME, goal, Duration::from_millis(200)).await;
        let at = match waited {
            Err(error) if error.is_behind() => store.subscription_checkpoint(NAME, None).await?,
            other => other?,
        };
        bar.set_position(u64::try_from(at.min(goal))?);
        if at >= goal {
            break;
        }
    }
    bar.finish_and_clear();
    runner.shutdown().await?;
    read(&client).await
}

async fn read(client: &Client) -> Result<Report, BoxError> {
    let mut report = Report::default();
    for row in client.query("SELECT * FROM flight_carriers", &[]).await? {
        let carrier = Carrier {
            departures: row.get(1),
            arrivals: row.get(2),
            cancelled: row.get(3),
            diverted: row.get(4),
            departure_delay: row.get(5),
            arrival_delay: row.get(6),
        };
        report.carriers.insert(row.get(0), carrier);
    }
    for row in client.query("SELECT * FROM flight_aircraft", &[]).await? {
        let aircraft = report::Aircraft {
            departures: row.get(1),
            miles: row.get(2),
            events: row.get(3),
        };
        report.events += aircraft.events;
        report.aircraft.insert(row.get(0), aircraft);
    }
    Ok(report)
}
