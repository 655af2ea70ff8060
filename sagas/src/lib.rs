#![doc = include_str!("../README.md")]

mod answer;
mod arity;
mod builder;
mod calls;
mod checks;
mod child;
mod decide;
mod draw;
mod effect;
mod emit;
mod engine;
mod error;
mod extract;
mod gather;
mod hand;
mod handler;
mod history;
pub mod measure;
mod outbox;
mod panics;
mod response;
mod retry;
mod runner;
mod saga;
mod simulate;
mod start_on;
mod starting;
mod status;
mod step;
mod storage;
mod test_kit;
mod topology;
mod worker;

pub use answer::Answer;
pub use builder::{Origin, SagaBuilder, SagaTopology, Signal, TopologyError, TopologyErrors};
pub use child::{ChildEnded, child};
pub use decide::{Asks, Awaits, Decide, Decided, Gives, NoOutput, Predicate};
pub use draw::StepStates;
pub use effect::EffectError;
pub use emit::{Accepts, AnyRequest, Emit, Requests};
pub use error::{Error, Result};
pub use extract::{Dep, Extract, InStep, InUndo, Output, State, Trigger};
pub use handler::{Effect, EffectResult, Fallible, FromCall, IdempotencyKey, Infallible, Req};
pub use history::{Cause, Outcome, StepStatus, UndoStatus};
pub use outbox::{EmitPublisher, OutboxMessage, PublishError, Published};
pub use response::{AsData, AsEvent, AsResult, Data, FromResponse, IntoResponse, OnResponse};
pub use retry::RetryPolicy;
pub use runner::{
    Delivery, EmittedRequest, HistoryEntry, ListFilter, ListedInstance, SagaRunner, Started,
};
pub use saga::{Saga, Start};
pub use simulate::Simulation;
pub use status::SagaStatus;
pub use step::{Comp, Each, Lists, Requesting, StepNames, Task, Waits, comp, for_each, task};
pub use test_kit::{TestDecision, Testing};
pub use worker::{SagaWorker, SagaWorkerBuilder};
