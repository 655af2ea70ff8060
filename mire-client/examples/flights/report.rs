//! The numbers, twice: folded from events, and counted directly from the file.

use std::collections::BTreeMap;

use super::aircraft::AircraftEvent;
use super::input::Line;

/// What is known about a carrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carrier {
    pub(crate) departures: i64,
    pub(crate) arrivals: i64,
    pub(crate) cancelled: i64,
    pub(crate) diverted: i64,
    pub(crate) departure_delay: i64,
    pub(crate) arrival_delay: i64,
}

/// What is known about an aircraft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aircraft {
    pub(crate) departures: i64,
    pub(crate) miles: i64,
    /// How many events tell of it.
    pub(crate) events: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) carriers: BTreeMap<String, Carrier>,
    pub(crate) aircraft: BTreeMap<String, Aircraft>,
    pub(crate) events: i64,
}

impl Report {
    /// Folds one event.
    pub(crate) fn handle(&mut self, id: String, event: AircraftEvent) {
        self.events += 1;
        let aircraft = self.aircraft.entry(id).or_default();
        aircraft.events += 1;
        match event {
            AircraftEvent::Departed {
                flight,
                delay_minutes,
            } => {
                aircraft.departures += 1;
                let carrier = self.carriers.entry(flight.carrier).or_default();
                carrier.departures += 1;
                carrier.departure_delay += delay_minutes;
            }
            AircraftEvent::Arrived {
                carrier,
                delay_minutes,
                miles,
                ..
            } => {
                aircraft.miles += miles;
                let carrier = self.carriers.entry(carrier).or_default();
                carrier.arrivals += 1;
                carrier.arrival_delay += delay_minutes;
            }
            AircraftEvent::Diverted { carrier, .. } => {
                self.carriers.entry(carrier).or_default().diverted += 1
            }
            AircraftEvent::Cancelled { flight } => {
                self.carriers.entry(flight.carrier).or_default().cancelled += 1
            }
        }
    }

    /// Counts the file's lines, with no event in between.
    pub(crate) fn from_file(lines: &[Line]) -> Self {
        let mut report = Self::default();
        for line in lines {
            let aircraft = report.aircraft.entry(line.aircraft()).or_default();
            let carrier = report.carriers.entry(line.carrier.clone()).or_default();
            let Some(departure_delay) = line.dep_delay else {
                carrier.cancelled += 1;
                report.events += 1;
                aircraft.events += 1;
                continue;
            };
            report.events += 2;
            aircraft.events += 2;
            aircraft.departures += 1;
            carrier.departures += 1;
            carrier.departure_delay += departure_delay;
            match line.arr_delay {
                Some(arrival_delay) => {
                    aircraft.miles += line.distance;
                    carrier.arrivals += 1;
                    carrier.arrival_delay += arrival_delay;
                }
                None => carrier.diverted += 1,
            }
        }
        report
    }

    /// The aircraft with the most departures; by tail number where they are even.
    pub(crate) fn busiest(&self, count: usize) -> Vec<(&str, Aircraft)> {
        let mut all: Vec<_> = self
            .aircraft
            .iter()
            .map(|(id, aircraft)| (id.as_str(), *aircraft))
            .collect();
        all.sort_by_key(|(_, aircraft)| std::cmp::Reverse(aircraft.departures));
        all.truncate(count);
        all
    }
}
