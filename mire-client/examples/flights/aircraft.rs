//! The domain: an aircraft, and what happens to it.

use std::collections::HashSet;

use mire_client::{Aggregate, Command, EventData};
use serde::{Deserialize, Serialize};

/// A flight as planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flight {
    /// Scheduled hour (UTC), carrier, number and origin: what no two flights share.
    pub(crate) key: String,
    pub(crate) carrier: String,
    pub(crate) origin: String,
    pub(crate) dest: String,
    pub(crate) miles: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, EventData)]
#[event_data(entity = "aircraft")]
pub(crate) enum AircraftEvent {
    Departed {
        #[serde(flatten)]
        flight: Flight,
        delay_minutes: i64,
    },
    Arrived {
        key: String,
        carrier: String,
        delay_minutes: i64,
        miles: i64,
    },
    Diverted {
        key: String,
        carrier: String,
    },
    Cancelled {
        #[serde(flatten)]
        flight: Flight,
    },
}

/// What the rules need to know about an aircraft. The 155 flights that were cancelled before an aircraft was named are
/// those of one stand-in for each carrier.
#[derive(Debug, Default)]
pub(crate) struct Aircraft {
    airborne: Option<String>,
    handled: HashSet<String>,
}

impl Aggregate for Aircraft {
    type Event = AircraftEvent;
    const CATEGORY: &'static str = "aircraft";

    fn apply(&mut self, event: &AircraftEvent) {
        match event {
            AircraftEvent::Departed { flight, .. } => self.airborne = Some(flight.key.clone()),
            AircraftEvent::Arrived { key, .. } | AircraftEvent::Diverted { key, .. } => {
                self.airborne = None;
                self.handled.insert(key.clone());
            }
            AircraftEvent::Cancelled { flight } => {
                self.handled.insert(flight.key.clone());
            }
        }
    }
}

/// What an aircraft can be told. Telling it again changes nothing, so the demo may run twice on one store.
#[derive(Clone, Debug)]
pub(crate) enum Tell {
    Depart { flight: Flight, delay_minutes: i64 },
    Arrive { flight: Flight, delay_minutes: i64 },
    Divert { flight: Flight },
    Cancel { flight: Flight },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the aircraft is in the air on flight {0}")]
    InTheAir(String),
    #[error("the aircraft is not in the air on flight {0}")]
    NotInTheAir(String),
}

impl Tell {
    fn flight(&self) -> &Flight {
        match self {
            Self::Depart { flight, .. }
            | Self::Arrive { flight, .. }
            | Self::Divert { flight }
            | Self::Cancel { flight } => flight,
        }
    }
}

impl Command for Tell {
    type Aggregate = Aircraft;
    type Rejection = Refused;

    fn decide(&self, aircraft: &Aircraft) -> Result<Vec<AircraftEvent>, Refused> {
        let flight = self.flight();
        if aircraft.handled.contains(&flight.key) {
            return Ok(vec![]);
        }
        let on_this_flight = aircraft.airborne.as_ref() == Some(&flight.key);
        let event = match (self, &aircraft.airborne) {
            (Self::Depart { .. }, Some(_)) if on_this_flight => return Ok(vec![]),
            (Self::Depart { .. } | Self::Cancel { .. }, Some(other)) => {
                return Err(Refused::InTheAir(other.clone()));
            }
            (Self::Arrive { .. } | Self::Divert { .. }, _) if !on_this_flight => {
                return Err(Refused::NotInTheAir(flight.key.clone()));
            }
            (
                Self::Depart {
                    flight,
                    delay_minutes,
                },
                None,
            ) => AircraftEvent::Departed {
                flight: flight.clone(),
                delay_minutes: *delay_minutes,
            },
            (Self::Cancel { flight }, None) => AircraftEvent::Cancelled {
                flight: flight.clone(),
            },
            (
                Self::Arrive {
                    flight,
                    delay_minutes,
                },
                _,
            ) => AircraftEvent::Arrived {
                key: flight.key.clone(),
                carrier: flight.carrier.clone(),
                delay_minutes: *delay_minutes,
                miles: flight.miles,
            },
            (Self::Divert { flight }, _) => AircraftEvent::Diverted {
                key: flight.key.clone(),
                carrier: flight.carrier.clone(),
            },
        };
        Ok(vec![event])
    }
}
