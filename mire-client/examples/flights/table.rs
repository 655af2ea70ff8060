//! Shows both reports side by side.

use super::report::{Carrier, Report};

/// Prints the feed's numbers with the file's beside them; true when all that is shown is equal.
pub(crate) fn print(feed: &Report, file: &Report) -> bool {
    let mut equal = true;

    println!("\n{:<12} {:>10} {:>10}", "", "feed", "file");
    for (what, feed, file) in totals(feed, file) {
        equal &= feed == file;
        println!("{what:<12} {feed:>10} {file:>10} {}", mark(feed == file));
    }

    println!(
        "\n{:<12} {:>10} {:>10} {:>12}",
        "busiest", "flights", "of file", "miles"
    );
    for (of_feed, of_file) in feed.busiest(5).iter().zip(file.busiest(5)) {
        equal &= *of_feed == of_file;
        let ((id, seen), (_, counted)) = (of_feed, of_file);
        println!(
            "{id:<12} {:>10} {:>10} {:>12} {}",
            seen.departures,
            counted.departures,
            seen.miles,
            mark(*of_feed == of_file)
        );
    }

    println!(
        "\n{:<12} {:>10} {:>10} {:>10} {:>12} {:>12}",
        "carrier", "departed", "cancelled", "diverted", "late out", "late in"
    );
    for (name, carrier) in &feed.carriers {
        let same = file.carriers.get(name) == Some(carrier);
        equal &= same;
        println!(
            "{name:<12} {:>10} {:>10} {:>10} {:>8.1} min {:>8.1} min {}",
            carrier.departures,
            carrier.cancelled,
            carrier.diverted,
            mean(carrier.departure_delay, carrier.departures),
            mean(carrier.arrival_delay, carrier.arrivals),
            mark(same)
        );
    }
    println!();
    equal && feed.carriers.len() == file.carriers.len()
}

fn totals<'a>(feed: &'a Report, file: &'a Report) -> Vec<(&'static str, i64, i64)> {
    let sum =
        |report: &Report, of: fn(&Carrier) -> i64| report.carriers.values().map(of).sum::<i64>();
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let departures: fn(&Carrier) -> i64 = |carrier| carrier.departures;
    let cancelled: fn(&Carrier) -> i64 = |carrier| carrier.cancelled;
    let diverted: fn(&Carrier) -> i64 = |carrier| carrier.diverted;
    vec![
        ("events", feed.events, file.events),
        (
            "streams",
            count(feed.aircraft.len()),
            count(file.aircraft.len()),
        ),
        ("departures", sum(feed, departures), sum(file, departures)),
        ("cancelled", sum(feed, cancelled), sum(file, cancelled)),
        ("diverted", sum(feed, diverted), sum(file, diverted)),
    ]
}

#[allow(clippy::cast_precision_loss)] // a mean for people
fn mean(sum: i64, count: i64) -> f64 {
    if count == 0 {
        0.0
    } else {
        sum as f64 / count as f64
    }
}

fn mark(equal: bool) -> &'static str {
    if equal { "=" } else { "DIFFERENT" }
}
