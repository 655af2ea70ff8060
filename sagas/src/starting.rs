//! Starting an instance: the first drive, before the database knows of it, so that one call starts it and sends its first
//! requests.

use mire_client::Json;
use serde_json::Value;

use crate::engine::Status;
use crate::error::Result;
use crate::hand::{Clock, Known};
use crate::history::{Fact, Instance, Parent};
use crate::storage::{OutboxItem, StartItem, encode, fresh_id, millis};
use crate::topology::Topology;

/// What an instance starts with.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    pub(crate) instance: String,
    pub(crate) state: Value,
    pub(crate) trigger: Option<Value>,
    pub(crate) parent: Option<Parent>,
}

/// An instance as it will be once it has been started.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) item: Json,
    pub(crate) known: Known,
    pub(crate) status: Status,
}

/// Who drives an instance on that has effects to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Whoever starts it.
    Starter,
    /// Whoever comes first.
    Anybody,
}

/// An instance of which nothing has been decided: whoever knows its topology does that.
///
/// # Errors
/// When the database could not take it.
pub(crate) fn undecided(saga: &str, topology_version: i32, beginning: Beginning) -> Result<Json> {
    let started = Fact::Started {
        state: beginning.state,
        trigger: beginning.trigger,
        parent: beginning.parent,
    };
    encode(&StartItem {
        saga,
        instance: &beginning.instance,
        topology_version,
        facts: &[started],
        id: fresh_id(),
        status: Status::Running.as_str(),
        steps: &[],
        due_in_ms: None,
        outbox: Vec::new(),
        keep: false,
    })
}

impl Planned {
    /// Drives an instance from its beginning. When the saga's own code fails at that, the instance is started all the same,
    /// and treated like any other that cannot be driven: tried again, then parked with the reason.
    ///
    /// # Errors
    /// When the database could not take it.
    pub(crate) fn new(topology: &Topology, beginning: Beginning, next: Next) -> Result<Self> {
        let started = Fact::Started {
            state: beginning.state,
            trigger: beginning.trigger,
            parent: beginning.parent,
        };
        let instance = Instance::new(topology.name, beginning.instance);
        let mut known = Known::new(instance, Clock::own());
        known
            .instance
            .apply(1, known.clock.now(), std::slice::from_ref(&started));
        let mut facts = vec![started];
        let mut item = StartItem {
            saga: topology.name,
            instance: &known.instance.instance,
            topology_version: topology.version,
            facts: &[],
            id: fresh_id(),
            status: Status::Running.as_str(),
            steps: &[],
            due_in_ms: None,
            outbox: Vec::new(),
            keep: false,
        };
        let drive = match known.drive(topology, &[]) {
            Ok(drive) => drive,
            Err(fault) => {
                tracing::warn!(saga = topology.name, instance = item.instance, %fault, "cannot be driven from its start");
                item.facts = &facts;
                return Ok(Self {
                    item: encode(&item)?,
                    known,
                    status: Status::Running,
                });
            }
        };
        facts.extend(drive.facts.iter().cloned());
        item.facts = &facts;
        item.status = drive.status.as_str();
        item.steps = &drive.steps;
        item.outbox = drive.outbox.iter().map(OutboxItem::of).collect();
        item.keep = next == Next::Starter && !drive.effects.is_empty();
        item.due_in_ms = if drive.effects.is_empty() {
            drive.due.map(millis)
        } else {
            (!item.keep).then_some(0)
        };
        let item = encode(&item)?;
        known.instance = drive.instance;
        known.instance.version = 1;
        Ok(Self {
            item,
            known,
            status: drive.status,
        })
    }
}
