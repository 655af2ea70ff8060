//! [`SagaBuilder`]: collects what a saga declares, and makes a checked [`SagaTopology`] of it.

mod assemble;
mod signal;
mod start;
mod topology;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use mire_client::{EventData, EventKind};

use crate::handler::{Effect, EffectDraft};
use crate::saga::Saga;
use crate::step::Task;
use crate::step::draft::StepDraft;

pub use crate::checks::{TopologyError, TopologyErrors};
pub use signal::Signal;
pub use start::Origin;
pub(crate) use start::StartOn;
pub use topology::SagaTopology;

pub(crate) use signal::{SignalDraft, SignalDraftAction};

/// Collects the steps of saga `S`, and what else belongs to it. Nothing is checked before [`build`](Self::build).
#[must_use]
pub struct SagaBuilder<S> {
    pub(crate) draft: Draft,
    saga: PhantomData<fn() -> S>,
}

/// A saga as it is declared: not yet checked.
pub(crate) struct Draft {
    pub(crate) name: &'static str,
    pub(crate) version: i32,
    pub(crate) steps: Vec<StepDraft>,
    pub(crate) signals: Vec<SignalDraft>,
    pub(crate) effects: Vec<EffectDraft>,
    pub(crate) unhandled: Vec<&'static EventKind>,
    pub(crate) deps: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    pub(crate) starts: Vec<StartOn>,
    pub(crate) default_timeout: Option<Duration>,
}

impl<S: Saga> SagaBuilder<S> {
    /// A builder that knows nothing but the saga's name. [`Saga::builder`] gives one with all that the saga declares.
    #[allow(clippy::new_without_default)] // the one to use by default is Saga::builder
    pub fn new() -> Self {
        Self {
            draft: Draft {
                name: S::NAME,
                version: S::VERSION,
                steps: Vec::new(),
                signals: Vec::new(),
                effects: Vec::new(),
                unhandled: Vec::new(),
                deps: HashMap::new(),
                starts: Vec::new(),
                default_timeout: None,
            },
            saga: PhantomData,
        }
    }

    /// Adds a step: a [`task`](crate::task), a [`for_each`](crate::for_each) or a [`child`](crate::child). Its name is
    /// stored in the histories of instances: renaming a step makes a new [`Saga::VERSION`].
    pub fn step<K>(mut self, name: impl Into<String>, step: Task<S, K>) -> Self {
        self.draft.steps.push(step.into_draft(name.into()));
        self
    }

    /// Fulfils requests of the type that the effect takes as [`Req`](crate::Req), whichever step or undo makes them,
    /// unless that one has an effect of its own.
    pub fn effect<H, Args>(mut self, effect: H) -> Self
    where
        H: Effect<Args>,
    {
        self.draft.effects.push(EffectDraft::new(effect));
        self
    }

    /// Gives decides and effects something to use, as [`Dep<T>`](crate::Dep). A second one of the same type replaces the
    /// first.
    pub fn dep<T: Send + Sync + 'static>(mut self, dep: T) -> Self {
        self.draft.deps.insert(TypeId::of::<T>(), Arc::new(dep));
        self
    }

    /// How long steps wait for answers that say nothing of it themselves. Does not apply to undos.
    pub fn default_step_timeout(mut self, timeout: Duration) -> Self {
        self.draft.default_timeout = Some(timeout);
        self
    }

    /// Requests of this type are meant for the outbox: that no effect fulfils them is no mistake.
    pub fn allow_unhandled<R: EventData>(mut self) -> Self {
        self.draft.unhandled.extend(R::KINDS);
        self
    }
}

impl<S> fmt::Debug for SagaBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<_> = self.draft.steps.iter().map(|step| &step.name).collect();
        f.debug_struct("SagaBuilder")
            .field("name", &self.draft.name)
            .field("version", &self.draft.version)
            .field("steps", &steps)
            .finish_non_exhaustive()
    }
}
