//! [`TopologyError`]: what can be wrong with a saga.

use std::fmt;

/// Everything that is wrong with a saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyErrors {
    saga: &'static str,
    errors: Vec<TopologyError>,
}

impl TopologyErrors {
    pub(crate) fn new(saga: &'static str, errors: Vec<TopologyError>) -> Self {
        Self { saga, errors }
    }

    /// The mistakes, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &TopologyError> {
        self.errors.iter()
    }

    /// Whether this is one of the mistakes.
    #[must_use]
    pub fn contains(&self, error: &TopologyError) -> bool {
        self.errors.contains(error)
    }

    /// How many there are: at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // it never is
    pub fn len(&self) -> usize {
        self.errors.len()
    }
}

impl fmt::Display for TopologyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "saga {:?} cannot run:", self.saga)?;
        for error in &self.errors {
            write!(f, "\n- {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TopologyErrors {}

/// One thing that is wrong with a saga. `who` is a step, an undo, a gate or an effect, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say it
pub enum TopologyError {
    /// A name that cannot be stored.
    #[error("the {what} name {name:?} {why}")]
    BadName {
        what: &'static str,
        name: String,
        why: &'static str,
    },

    /// [`Saga::VERSION`](crate::Saga::VERSION) is less than 1.
    #[error("the topology's version is {version}: count from 1")]
    BadVersion { version: i32 },

    /// No step begins by itself.
    #[error("no step begins at once: leave out `after` on the first one")]
    MissingStart,

    /// No step ends the instance well.
    #[error("no step is a `terminal_success`: mark the last one")]
    MissingTerminal,

    /// Two steps of one name.
    #[error("there are two steps called {step:?}: rename one")]
    DuplicateStep { step: String },

    /// A step after one that does not exist.
    #[error(
        "step {step:?} comes after {reference:?}, but there is no such step: declare it, or correct the name"
    )]
    UnknownStep { step: String, reference: String },

    /// A step after itself.
    #[error("step {step:?} comes after itself: leave it out of its own `after`")]
    SelfReference { step: String },

    /// Steps that wait for each other.
    #[error("these steps wait for each other, so none begins: {}", steps.join(" -> "))]
    Cycle { steps: Vec<String> },

    /// A step that ends the instance in two ways.
    #[error("step {step:?} is both a terminal success and a terminal failure: choose one")]
    ConflictingTerminal { step: String },

    /// A terminal that no instance reaches.
    #[error(
        "terminal step {step:?} is never reached, because the instance ends at {behind:?}: let it come after another step"
    )]
    UnreachableTerminal { step: String, behind: String },

    /// A step that no instance reaches.
    #[error(
        "step {step:?} never begins, because the instance ends at {behind:?}: let it come after another step"
    )]
    UnreachableStep { step: String, behind: String },

    /// An output that no earlier step gives.
    #[error("{who} asks for output {output}, which {}", not_before(givers))]
    MissingOutput {
        who: String,
        output: String,
        /// Steps that give it, but do not come before.
        givers: Vec<String>,
    },

    /// An output that may not be there.
    #[error(
        "{who} asks for output {output}, which may not be there ({why}): ask for Option<Output<{output}>>"
    )]
    UncertainOutput {
        who: String,
        output: String,
        why: &'static str,
    },

    /// An output that several earlier steps give.
    #[error("{who} asks for output {output}, which {} all give: give each its own type", givers.join(" and "))]
    AmbiguousOutput {
        who: String,
        output: String,
        givers: Vec<String>,
    },

    /// A dependency that nobody has given.
    #[error("{who} asks for dependency {dep}: give one to `SagaBuilder::dep`")]
    MissingDep { who: String, dep: String },

    /// A trigger of another type than the event that starts instances.
    #[error(
        "{who} asks for trigger {trigger}, but instances are started by {event}: ask for that, or put what is needed into the state"
    )]
    WrongTrigger {
        who: String,
        trigger: String,
        event: String,
    },

    /// A request that nobody sees to.
    #[error(
        "{who} makes requests of type {request:?}, for which there is no effect: add one, or say `allow_unhandled` if they are meant for the outbox"
    )]
    UnhandledRequest { who: String, request: String },

    /// Two effects for one type of request.
    #[error("{who} has two effects for requests of type {request:?}: remove one")]
    DuplicateEffect { who: String, request: String },

    /// An effect that is never called.
    #[error(
        "{who} never makes the requests that effect {effect} fulfils: remove it, or correct the type of its Req"
    )]
    UnusedEffect { who: String, effect: String },

    /// An effect of which nobody knows what it is for.
    #[error("effect {effect} of {who} takes {}: let it take the one Req<R> that it fulfils", if *.requests == 0 { "no request" } else { "several requests" })]
    UnclearEffect {
        who: String,
        effect: String,
        requests: usize,
    },

    /// An effect whose answer the step cannot read.
    #[error(
        "effect {effect} answers {answer}, which `on_response` of {who} does not take: correct one of the two"
    )]
    ResponseMismatch {
        who: String,
        effect: String,
        answer: String,
    },

    /// Two signals of one name.
    #[error("signal {signal:?} is declared twice: remove one")]
    DuplicateSignal { signal: String },

    /// A signal for a step that does not exist.
    #[error(
        "signal {signal:?} goes to step {step:?}, but there is no such step: declare it, or correct the name"
    )]
    UnknownSignalStep { signal: String, step: String },

    /// A signal for a step that waits for nothing.
    #[error(
        "signal {signal:?} goes to step {step:?}, which gives its value at once and never waits: send it to a step that returns `Emit`"
    )]
    SignalToValue { signal: String, step: String },

    /// A signal that its step cannot read.
    #[error(
        "signal {signal:?} goes to step {step:?}, whose `on_response` takes no answer of that type: correct one of the two"
    )]
    SignalMismatch { signal: String, step: String },

    /// Steps that one answer could be for.
    #[error(
        "steps {first:?} and {second:?} can wait for {answer:?} at the same time, so nobody can tell for which one it is: give each its own type, read one as `Data<T>`, or let one come after the other"
    )]
    AmbiguousAwait {
        first: String,
        second: String,
        answer: String,
    },
}

fn not_before(givers: &[String]) -> String {
    if givers.is_empty() {
        "no step gives: add one that does, or correct the type".to_owned()
    } else {
        let (steps, pronoun) = (
            givers.join(", "),
            if givers.len() == 1 { "it" } else { "one" },
        );
        format!("{steps} gives, but not before: come `after` {pronoun}")
    }
}
