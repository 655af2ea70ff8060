//! [`TestDecision`]: what a decide came to.

use std::time::Duration;

use mire_client::EventData;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::response::event_from;
use crate::saga::{EncodedStart, Saga, Start};
use crate::topology::{Decision, Request};

/// What a decide or an undo came to, in a test.
#[derive(Clone, Debug, PartialEq)]
pub struct TestDecision {
    value: Option<Value>,
    requests: Vec<Request>,
    timeout: Option<Duration>,
}

impl TestDecision {
    pub(super) fn new(decision: Decision) -> Self {
        match decision {
            Decision::Value(value) => Self {
                value: Some(value),
                requests: Vec::new(),
                timeout: None,
            },
            Decision::Emit { requests, timeout } => Self {
                value: None,
                requests,
                timeout,
            },
        }
    }

    /// The value, of a step that gives one at once.
    ///
    /// # Panics
    /// When it makes requests, or its value is of another type.
    #[must_use]
    #[track_caller]
    pub fn value<T: DeserializeOwned>(&self) -> T {
        match &self.value {
            Some(value) => read(value.clone()),
            None => panic!("no value, but requests: {:?}", self.kinds()),
        }
    }

    /// The one request.
    ///
    /// # Panics
    /// When there is none, there are several, or it is of another type.
    #[must_use]
    #[track_caller]
    pub fn request<R: EventData>(&self) -> R {
        match self.requests.as_slice() {
            [request] => request_from(request),
            _ => panic!("not one request, but {:?}", self.kinds()),
        }
    }

    /// The requests, if any.
    ///
    /// # Panics
    /// When one is of another type.
    #[must_use]
    #[track_caller]
    pub fn requests<R: EventData>(&self) -> Vec<R> {
        self.requests.iter().map(request_from).collect()
    }

    /// The start of an instance of another saga.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn start<C: Saga>(&self) -> Start<C> {
        match self.requests.as_slice() {
            [request] if request.kind == crate::decide::START_SAGA => {
                let start: EncodedStart = read(request.data.clone());
                assert_eq!(start.saga, C::NAME, "another saga is started");
                let state: C::State = read(start.state);
                Start::new(start.instance, state)
            }
            _ => panic!("no start of a saga, but {:?}", self.kinds()),
        }
    }

    /// The types of the requests.
    #[must_use]
    pub fn kinds(&self) -> Vec<&str> {
        self.requests.iter().map(|r| r.kind.as_str()).collect()
    }

    /// The timeout that was decided, if one was.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

#[track_caller]
fn request_from<R: EventData>(request: &Request) -> R {
    match event_from(Some(&request.kind), &request.data) {
        Ok(request) => request,
        Err(why) => panic!("the request cannot be read: {why}"),
    }
}

#[track_caller]
pub(super) fn read<T: DeserializeOwned>(value: Value) -> T {
    match serde_json::from_value(value) {
        Ok(value) => value,
        Err(error) => panic!(
            "no {}: {error}",
            crate::extract::short_name(std::any::type_name::<T>())
        ),
    }
}
