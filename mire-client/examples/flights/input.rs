//! The input: January 2013's departures, as commands for aircraft.

use std::collections::BTreeMap;

use flate2::read::GzDecoder;
use mire_client::BoxError;
use serde::Deserialize;

use super::aircraft::{Flight, Tell};

static CSV: &[u8] = include_bytes!("../data/flights-2013-01.csv.gz");

/// A line of the file.
#[derive(Debug, Deserialize)]
pub(crate) struct Line {
    time_hour: String,
    pub(crate) carrier: String,
    flight: u32,
    tailnum: String,
    origin: String,
    dest: String,
    pub(crate) dep_delay: Option<i64>,
    pub(crate) arr_delay: Option<i64>,
    pub(crate) distance: i64,
}

pub(crate) fn lines() -> Result<Vec<Line>, BoxError> {
    let mut reader = csv::Reader::from_reader(GzDecoder::new(CSV));
    Ok(reader.deserialize().collect::<Result<_, _>>()?)
}

impl Line {
    /// The aircraft, or its carrier's stand-in where none was named.
    pub(crate) fn aircraft(&self) -> String {
        match self.tailnum.as_str() {
            "" => format!("unassigned-{}", self.carrier),
            tailnum => tailnum.to_owned(),
        }
    }

    fn commands(&self) -> Vec<Tell> {
        let flight = || Flight {
            key: format!(
                "{} {}{} {}",
                self.time_hour, self.carrier, self.flight, self.origin
            ),
            carrier: self.carrier.clone(),
            origin: self.origin.clone(),
            dest: self.dest.clone(),
            miles: self.distance,
        };
        let Some(delay_minutes) = self.dep_delay else {
            return vec![Tell::Cancel { flight: flight() }];
        };
        let ends = match self.arr_delay {
            Some(delay_minutes) => Tell::Arrive {
                flight: flight(),
                delay_minutes,
            },
            None => Tell::Divert { flight: flight() },
        };
        vec![
            Tell::Depart {
                flight: flight(),
                delay_minutes,
            },
            ends,
        ]
    }
}

/// Each aircraft's commands, in order.
pub(crate) fn by_aircraft(lines: &[Line]) -> BTreeMap<String, Vec<Tell>> {
    let mut commands: BTreeMap<String, Vec<Tell>> = BTreeMap::new();
    for line in lines {
        commands
            .entry(line.aircraft())
            .or_default()
            .extend(line.commands());
    }
    commands
}
