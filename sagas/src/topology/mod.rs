//! [`Topology`]: the graph of a saga without its types. The builder makes it and checks it; engine, worker and drawings
//! read it.

mod context;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::effect::EffectError;
use crate::retry::RetryPolicy;

pub(crate) use context::Context;

/// Index into [`Topology::steps`], in order of declaration.
pub(crate) type StepNo = usize;

/// Everything the engine knows about a saga.
pub(crate) struct Topology {
    pub(crate) name: &'static str,
    pub(crate) version: i32,
    pub(crate) steps: Vec<Step>,
    pub(crate) signals: Vec<Signal>,
    pub(crate) deps: Deps,
}

pub(crate) struct Step {
    pub(crate) name: String,
    /// All of them must have completed.
    pub(crate) after: Vec<StepNo>,
    /// Unless empty, one of them must have completed.
    pub(crate) after_any_of: Vec<StepNo>,
    /// All must say yes once the step is ready, or it is skipped.
    pub(crate) gates: Vec<Gate>,
    pub(crate) terminal: Option<Terminal>,
    pub(crate) action: Action,
    pub(crate) undo: Option<Undo>,
    /// What [`Context::output`] finds this step's output by.
    pub(crate) output_type: TypeId,
    pub(crate) output_name: &'static str,
}

/// What is decided and done: by a step, and by its undo.
pub(crate) struct Action {
    pub(crate) decide: DecideFn,
    /// By request type; a request of another type goes to the outbox.
    pub(crate) effects: HashMap<String, EffectFn>,
    pub(crate) respond: RespondFn,
    /// The output is an array with one element a request.
    pub(crate) many: bool,
    /// From the activation to the last answer, by the database's clock.
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: RetryPolicy,
}

pub(crate) struct Undo {
    pub(crate) action: Action,
    /// Undo the step also when it was activated and no good answer is known.
    pub(crate) even_if_active: bool,
}

pub(crate) struct Gate {
    /// For drawings and skip reasons.
    pub(crate) label: String,
    pub(crate) open: GateFn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terminal {
    Success,
    Failure,
}

pub(crate) struct Signal {
    pub(crate) name: String,
    pub(crate) does: SignalAction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalAction {
    TriggersCompensation,
    /// Its data are an answer to this step; early ones wait for it.
    RoutesTo(StepNo),
}

pub(crate) type GateFn = Arc<dyn Fn(&Context<'_>) -> Result<bool, Fault> + Send + Sync>;
pub(crate) type DecideFn = Arc<dyn Fn(&Context<'_>) -> Result<Decision, Fault> + Send + Sync>;
pub(crate) type EffectFn =
    Arc<dyn Fn(EffectCall) -> BoxFuture<'static, Result<Response, EffectError>> + Send + Sync>;
/// Turns one good answer into (one element of) the output, or into the step's failure.
pub(crate) type RespondFn = Arc<dyn Fn(&Response) -> Result<Value, Refusal> + Send + Sync>;

/// What a decide came to.
pub(crate) enum Decision {
    Value(Value),
    Emit {
        requests: Vec<Request>,
        /// Instead of the action's own.
        timeout: Option<Duration>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) kind: String,
    pub(crate) data: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Response {
    pub(crate) kind: Option<String>,
    pub(crate) data: Value,
}

/// Why a good answer is no output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The answer says that the step failed (a `Result`'s error).
    Failed(String),
    /// The answer cannot be understood: the instance is quarantined, not compensated.
    Unreadable(String),
}

/// What an effect is called with.
pub(crate) struct EffectCall {
    pub(crate) request: Request,
    pub(crate) key: String,
    pub(crate) deps: Deps,
}

/// The program's own mistake in a decide, a gate or a stored state: no business failure, so nothing is compensated; the
/// instance is retried and then quarantined with this reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What effects and decides may use, by type.
#[derive(Clone, Default)]
pub(crate) struct Deps(pub(crate) Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Deps {
    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(self.0.get(&TypeId::of::<T>())?).downcast().ok()
    }
}

impl Topology {
    pub(crate) fn step_no(&self, name: &str) -> Option<StepNo> {
        self.steps.iter().position(|step| step.name == name)
    }
}
