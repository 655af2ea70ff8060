//! The demo: a month of real flights through the typed client, and the numbers checked against the file they came from.
//!
//! `cargo run --release -p mire-client --example flights`

mod aircraft;
mod input;
mod projection;
mod report;
mod table;

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use mire_client::{BoxError, EventStore, testing};

use aircraft::{Aircraft, Tell};
use report::Report;

/// So many aircraft are told things at the same time.
const AT_ONCE: usize = 256;

pub(crate) async fn run(url: &str, bar: ProgressBar) -> Result<(), BoxError> {
    let store = EventStore::connect(url).await?;
    let info = store.migrate().await?;
    println!(
        "pg_mire {}, store {}, epoch {}",
        info.extension_version, info.store_id, info.epoch
    );

    let lines = input::lines()?;
    let commands = input::by_aircraft(&lines);
    let total: usize = commands.values().map(Vec::len).sum();
    println!(
        "{} flights of {} aircraft: {total} commands",
        lines.len(),
        commands.len()
    );

    bar.set_length(total as u64);
    bar.set_message("commands");
    let started = Instant::now();
    let recorded: usize = stream::iter(commands)
        .map(|(id, commands)| tell(&store, id, commands, bar.clone()))
        .buffer_unordered(AT_ONCE)
        .try_fold(0, |sum, events| async move { Ok(sum + events) })
        .await?;
    let writing = started.elapsed();
    bar.finish_and_clear();

    let started = Instant::now();
    bar.reset();
    bar.set_message("positions of the log in the read model");
    let from_feed = projection::build(&store, &bar).await?;
    let reading = started.elapsed();
    let from_file = Report::from_file(&lines);

    let equal = table::print(&from_feed, &from_file);
    println!("{recorded} events written in {}", rate(recorded, writing));
    println!(
        "{} events projected into two tables in {}",
        from_feed.events,
        rate(usize::try_from(from_feed.events)?, reading)
    );
    if !equal || from_feed != from_file {
        return Err("the read model and the file differ".into());
    }
    println!(
        "The read model that the projection keeps and the numbers counted from the file are equal."
    );
    Ok(())
}

/// Loads an aircraft and lets it decide on one command after the other; each decision is a save of its own.
async fn tell(
    store: &EventStore,
    id: String,
    commands: Vec<Tell>,
    bar: ProgressBar,
) -> Result<usize, BoxError> {
    let mut aircraft = store.load_or_default::<Aircraft>(id).await?;
    let mut events = 0;
    for command in commands {
        aircraft.execute(&command)?;
        events += store.save(&mut aircraft).await?.ids.len();
        bar.inc(1);
    }
    Ok(events)
}

fn rate(events: usize, time: Duration) -> String {
    #[allow(clippy::cast_precision_loss)] // a rate for people
    let per_second = events as f64 / time.as_secs_f64();
    format!("{:.1} s ({per_second:.0} events/s)", time.as_secs_f64())
}

fn how_to_look_around(url: &str, throwaway: bool) {
    if throwaway {
        println!(
            "\nThis cluster was a throwaway and is gone now; `cargo xtask demo --psql` stays in it, `make psql` gives an empty one."
        );
        return;
    }
    println!(
        "\nTo look around with psql while {url} is there:\n\
         \x20 SELECT * FROM mire.streams ORDER BY version DESC LIMIT 5;\n\
         \x20 SELECT version, type, data FROM mire.read_stream('aircraft-N14228', 0, 10);\n\
         \x20 SELECT position, stream, type FROM mire.read_all(0, 10, ARRAY['aircraft'], ARRAY['aircraft.diverted']);\n\
         \x20 SELECT * FROM mire.stats;\n\
         \x20 SELECT * FROM mire.subscription_status;\n\
         \x20 SELECT * FROM flight_carriers ORDER BY departures DESC LIMIT 5;\n\
         \x20 \\df+ mire.*"
    );
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    let database = testing::database()?;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}  {per_sec}  {eta} left")?;
    run(database.url(), ProgressBar::new(0).with_style(style)).await?;
    how_to_look_around(database.url(), database.is_throwaway());
    Ok(())
}
