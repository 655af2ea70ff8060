//! What the tests build sagas of.

use mire_client::EventData;
use mire_sagas::{Emit, Gives, Req, Saga, SagaBuilder, Task, TopologyError, TopologyErrors, task};
use serde::{Deserialize, Serialize};

macro_rules! events {
    ($($name:ident $kind:literal),*) => {$(
        #[derive(Debug, Default, Clone, Serialize, Deserialize, EventData)]
        #[event_data(event_type = $kind)]
        pub(crate) struct $name {}
    )*};
}
events!(Hold "hold", Held "held", Release "release", Pay "pay", Paid "paid", Cancel "cancel");

macro_rules! outputs {
    ($($name:ident)*) => {$(
        #[derive(Debug, Default, Clone, Serialize, Deserialize)]
        pub(crate) struct $name {}
    )*};
}
outputs!(A B C);

pub(crate) struct Any;
impl Saga for Any {
    type State = String;
    const NAME: &'static str = "any";
    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga
    }
}

pub(crate) fn errors(saga: SagaBuilder<Any>) -> TopologyErrors {
    saga.build().unwrap_err()
}

/// Exactly these mistakes.
#[track_caller]
pub(crate) fn assert_errors(saga: SagaBuilder<Any>, expected: &[TopologyError]) {
    let found = saga
        .build()
        .err()
        .map_or(Vec::new(), |e| e.iter().cloned().collect());
    assert_eq!(found, expected, "found {found:#?}");
}

pub(crate) fn good() -> SagaBuilder<Any> {
    SagaBuilder::new()
}

pub(crate) fn a() -> A {
    A {}
}
pub(crate) fn b() -> B {
    B {}
}
pub(crate) fn end<T>(_: T) {}
pub(crate) fn hold() -> Emit<Hold> {
    Emit::event(Hold {})
}
pub(crate) async fn do_hold(Req(_): Req<Hold>) -> Held {
    Held {}
}
pub(crate) fn last() -> Task<Any, Gives<()>> {
    task(|| ()).terminal_success()
}
