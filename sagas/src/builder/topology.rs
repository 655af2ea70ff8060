//! [`SagaTopology`]: a saga that has been checked.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::{SagaBuilder, StartOn, TopologyErrors};
use crate::draw::StepStates;
use crate::saga::Saga;
use crate::topology::Topology;
use crate::{checks, draw};

/// A checked saga: what runners and workers drive instances by. Cheap to clone.
pub struct SagaTopology<S> {
    topology: Arc<Topology>,
    starts: Arc<[StartOn]>,
    saga: PhantomData<fn() -> S>,
}

impl<S> Clone for SagaTopology<S> {
    fn clone(&self) -> Self {
        Self {
            topology: Arc::clone(&self.topology),
            starts: Arc::clone(&self.starts),
            saga: PhantomData,
        }
    }
}

impl<S> fmt::Debug for SagaTopology<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<_> = self.topology.steps.iter().map(|step| &step.name).collect();
        f.debug_struct("SagaTopology")
            .field("name", &self.topology.name)
            .field("version", &self.topology.version)
            .field("steps", &steps)
            .finish_non_exhaustive()
    }
}

impl<S: Saga> SagaBuilder<S> {
    /// Checks everything that has been declared.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn build(self) -> Result<SagaTopology<S>, TopologyErrors> {
        let errors = checks::check(&self.draft);
        if !errors.is_empty() {
            return Err(TopologyErrors::new(S::NAME, errors));
        }
        let (topology, starts) = self.draft.assemble();
        Ok(SagaTopology {
            topology: Arc::new(topology),
            starts: starts.into(),
            saga: PhantomData,
        })
    }
}

impl<S: Saga> SagaTopology<S> {
    /// The saga's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.topology.name
    }

    /// The version of the topology.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.topology.version
    }

    /// The names of the steps, in order of declaration.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.topology.steps.iter().map(|step| step.name.as_str())
    }

    /// Draws the topology as a [mermaid](https://mermaid.js.org) flowchart.
    #[must_use]
    pub fn mermaid(&self) -> String {
        draw::mermaid(&self.topology)
    }

    /// Draws an instance: the topology with each step, and each undo, in the colour of how far it is.
    #[must_use]
    pub fn mermaid_instance(&self, states: &StepStates) -> String {
        draw::mermaid_instance(&self.topology, states)
    }

    /// Says in words what the saga consists of.
    #[must_use]
    pub fn describe(&self) -> String {
        draw::describe(&self.topology)
    }

    pub(crate) fn erased(&self) -> &Arc<Topology> {
        &self.topology
    }

    pub(crate) fn starts(&self) -> &Arc<[StartOn]> {
        &self.starts
    }
}
