//! [`Simulation`]: a whole saga without a database, with scripted answers and a clock that the test moves.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mire_client::EventData;
use serde_json::Value;

use crate::builder::SagaTopology;
use crate::effect::EffectError;
use crate::engine::{Drive, Input, Message, PendingEffect, drive};
use crate::history::{Fact, Instance, StepStatus, UndoStatus};
use crate::response::{AsEvent, Encode, IntoResponse, event_from};
use crate::saga::{Saga, Start};
use crate::topology::{Response, Topology};

type Script = Box<dyn FnMut(&str, &Value) -> Result<Response, EffectError> + Send>;

/// One instance, driven by the very engine that workers use, without a database: effects answer by script, everything else
/// is said by the test, and time passes only when the test says so. After every step the log is folded anew, and it is a
/// panic if that gives another instance than the one in memory.
///
/// ```
/// use std::time::Duration;
/// # use mire_sagas::{EffectError, Emit, Req, Saga, SagaBuilder, Start, State, comp, task};
/// # use mire_client::EventData;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "seat.hold")]
/// # struct HoldSeat {}
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "seat.held")]
/// # struct SeatHeld {}
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "seat.free")]
/// # struct FreeSeat {}
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "card.charge")]
/// # struct ChargeCard {}
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "card.charged")]
/// # struct CardCharged {}
/// # struct Booking;
/// # impl Saga for Booking {
/// #     type State = ();
/// #     const NAME: &'static str = "booking";
/// #     fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
/// #         saga.step("seat", task(|| -> Emit<HoldSeat> { Emit::event(HoldSeat {}) }).effect(async |_: Req<HoldSeat>| SeatHeld {})
/// #                 .on_response(|held: SeatHeld| held)
/// #                 .compensate(comp(|| -> Emit<FreeSeat> { Emit::event(FreeSeat {}) }).effect(async |_: Req<FreeSeat>| SeatHeld {})))
/// #             .step("card", task(|| -> Emit<ChargeCard> { Emit::event(ChargeCard {}) }).after("seat").on_response(|charged: CardCharged| charged)
/// #                 .timeout(Duration::from_secs(60)).terminal_success())
/// #             .allow_unhandled::<ChargeCard>()
/// #     }
/// # }
/// let mut booking = Booking::topology()?
///     .simulate(Start::new("b-1", ()))
///     .effect(|_: HoldSeat| Ok(SeatHeld {}))
///     .effect(|_: FreeSeat| Ok(SeatHeld {}));
/// booking.run();
/// assert_eq!(booking.outbox(), ["booking/b-1/card/1/0"]);
/// booking.advance(Duration::from_secs(60)); // nobody charges the card in time
/// assert_eq!(booking.status(), "compensated");
/// # Ok::<(), mire_sagas::TopologyErrors>(())
/// ```
pub struct Simulation {
    topology: Arc<Topology>,
    instance: String,
    scripts: HashMap<String, Script>,
    log: Vec<(i64, Vec<Fact>)>,
    now: i64,
    outbox: Vec<Message>,
    last: Option<Drive>,
    fault: Option<String>,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation")
            .field("saga", &self.topology.name)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl<S: Saga> SagaTopology<S> {
    /// An instance without a database; [`run`](Simulation::run) it.
    ///
    /// # Panics
    /// When its state is no JSON.
    #[must_use]
    pub fn simulate(&self, start: Start<S>) -> Simulation {
        let instance = start.instance().to_owned();
        let start = start.encode().expect("a state is JSON");
        let topology = Arc::clone(self.erased());
        Simulation::of(topology, &instance, start.state, start.trigger)
    }
}

fn encoded(answer: impl EventData) -> Response {
    Encode::<AsEvent>::encode(answer).expect("an event is JSON")
}

impl Simulation {
    pub(crate) fn of(
        topology: Arc<Topology>,
        instance: &str,
        state: Value,
        trigger: Option<Value>,
    ) -> Self {
        let started = Fact::Started {
            state,
            trigger,
            parent: None,
        };
        Self {
            topology,
            instance: instance.to_owned(),
            scripts: HashMap::new(),
            log: vec![(0, vec![started])],
            now: 0,
            outbox: Vec::new(),
            last: None,
            fault: None,
        }
    }

    /// What the effect of requests of type `R` answers. The last script for a type counts.
    pub fn effect<R: EventData, A: IntoResponse<M>, M>(
        mut self,
        mut script: impl FnMut(R) -> Result<A, EffectError> + Send + 'static,
    ) -> Self {
        let script = Arc::new(Mutex::new(move |kind: &str, data: &Value| {
            let request = event_from(Some(kind), data).map_err(EffectError::permanent)?;
            script(request)?.encode().map_err(EffectError::permanent)
        }));
        for kind in R::KINDS {
            let script = Arc::clone(&script);
            self.script(kind.event_type, move |kind, data| {
                let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
                (*script)(kind, data)
            });
        }
        self
    }

    pub(crate) fn script(
        &mut self,
        kind: &str,
        script: impl FnMut(&str, &Value) -> Result<Response, EffectError> + Send + 'static,
    ) {
        self.scripts.insert(kind.to_owned(), Box::new(script));
    }

    /// Drives the instance until it waits for something: an answer, a signal, time. An effect without a script stays
    /// unanswered until [`answer_raw`](Self::answer_raw) or [`fail`](Self::fail).
    pub fn run(&mut self) -> &mut Self {
        self.drive(&[]);
        let mut tried = HashSet::new();
        while let Some((effect, result)) = self.next_effect(&mut tried) {
            self.drive(&[Input::Effect {
                step: effect.step,
                undo: effect.undo,
                activation: effect.activation,
                request: effect.request,
                result,
            }]);
        }
        self
    }

    /// Answers a step (its first request) with an event.
    ///
    /// # Panics
    /// When the event is no JSON.
    pub fn answer(&mut self, step: &str, answer: impl EventData) -> &mut Self {
        self.outside(step, false, Ok(encoded(answer)))
    }

    /// Answers the undo of a step with an event.
    ///
    /// # Panics
    /// When the event is no JSON.
    pub fn answer_undo(&mut self, step: &str, answer: impl EventData) -> &mut Self {
        self.outside(step, true, Ok(encoded(answer)))
    }

    /// Answers a step (its first request) with JSON.
    pub fn answer_raw(&mut self, step: &str, data: Value) -> &mut Self {
        let answer = Ok(Response { kind: None, data });
        self.outside(step, false, answer)
    }

    /// Answers the undo of a step with JSON.
    pub fn answer_undo_raw(&mut self, step: &str, data: Value) -> &mut Self {
        let answer = Ok(Response { kind: None, data });
        self.outside(step, true, answer)
    }

    /// Tells a step that what it asked for failed.
    pub fn fail(&mut self, step: &str, error: &str) -> &mut Self {
        self.outside(step, false, Err(error.to_owned()))
    }

    /// Tells the undo of a step that what it asked for failed.
    pub fn fail_undo(&mut self, step: &str, error: &str) -> &mut Self {
        self.outside(step, true, Err(error.to_owned()))
    }

    fn outside(&mut self, step: &str, undo: bool, answer: Result<Response, String>) -> &mut Self {
        self.drive(&[Input::Answer {
            step: step.to_owned(),
            undo,
            activation: None,
            request: 0,
            answer,
            id: None,
        }]);
        self.run()
    }

    /// Sends a signal that is an event.
    ///
    /// # Panics
    /// When the event is no JSON.
    pub fn signal(&mut self, signal: impl EventData) -> &mut Self {
        let Response { kind, data } = encoded(signal);
        self.signal_raw(&kind.unwrap_or_default(), data)
    }

    /// Sends a signal.
    pub fn signal_raw(&mut self, signal: &str, data: Value) -> &mut Self {
        self.write(Fact::Signalled {
            signal: signal.to_owned(),
            data,
            id: None,
        })
    }

    /// Cancels the instance.
    pub fn cancel(&mut self, reason: &str) -> &mut Self {
        self.write(Fact::CancelRequested {
            reason: reason.to_owned(),
            by: String::new(),
        })
    }

    /// What an operator does when an undo has failed: has it tried again.
    pub fn retry(&mut self, step: &str) -> &mut Self {
        self.write(Fact::RetryRequested {
            step: Some(step.to_owned()),
            by: String::new(),
        })
    }

    /// What an operator does when an undo cannot succeed (or, before the instance turned back, a step): leaves it out.
    pub fn skip(&mut self, step: &str) -> &mut Self {
        self.write(Fact::SkipRequested {
            step: step.to_owned(),
            by: String::new(),
        })
    }

    /// Has what was done undone.
    pub fn compensate(&mut self, reason: &str) -> &mut Self {
        self.write(Fact::CompensationRequested {
            reason: reason.to_owned(),
            by: String::new(),
        })
    }

    /// Lets time pass: retries and timeouts that are due happen at their moments.
    pub fn advance(&mut self, time: Duration) -> &mut Self {
        let end = self.now + i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        loop {
            self.run();
            let due = self.last.as_ref().and_then(|last| last.due);
            let due = due.and_then(|due| i64::try_from(due.as_micros()).ok());
            match due.map(|due| self.now + due) {
                Some(at) if at <= end && at > self.now => self.now = at,
                _ => break,
            }
        }
        self.now = end;
        self.run()
    }

    /// As the database's status says it: running, compensating, intervention, completed, compensated, failed, cancelled.
    #[must_use]
    pub fn status(&self) -> &'static str {
        self.last
            .as_ref()
            .map_or("running", |last| last.status.as_str())
    }

    /// How far a step is.
    #[must_use]
    pub fn step_status(&self, step: &str) -> StepStatus {
        let instance = self.last.as_ref().map(|last| &last.instance);
        let progress = instance.and_then(|instance| instance.progress(step, false));
        progress.map_or(StepStatus::Pending, |progress| progress.status)
    }

    /// How far the undoing of a step is.
    #[must_use]
    pub fn undo_status(&self, step: &str) -> UndoStatus {
        let instance = self.last.as_ref().map(|last| &last.instance);
        let progress = instance.and_then(|instance| instance.progress(step, true));
        progress.map_or(UndoStatus::None, |progress| progress.status.into())
    }

    /// The keys of the requests that are in the outbox, in order.
    #[must_use]
    pub fn outbox(&self) -> Vec<&str> {
        self.outbox
            .iter()
            .map(|message| message.key.as_str())
            .collect()
    }

    /// Why the instance cannot go on: a decide that panicked, an answer that cannot be read.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Everything that happened, a line a fact: for golden files.
    #[must_use]
    pub fn history(&self) -> String {
        let mut text = String::new();
        for (at, facts) in &self.log {
            for fact in facts {
                let ms = at / 1000;
                let _ = writeln!(text, "{:>4}.{:03} {fact}", ms / 1000, ms % 1000);
            }
        }
        text
    }

    fn write(&mut self, fact: Fact) -> &mut Self {
        self.log.push((self.now, vec![fact]));
        self.run()
    }

    fn folded(&self) -> Instance {
        let mut instance = Instance::new(self.topology.name, self.instance.clone());
        for (version, (at, facts)) in (1..).zip(&self.log) {
            instance.apply(version, *at, facts);
        }
        instance
    }

    fn drive(&mut self, inputs: &[Input]) {
        let driven = match drive(&self.topology, &self.folded(), self.now, inputs) {
            Ok(driven) => driven,
            Err(fault) => {
                self.fault = Some(fault.to_string());
                return;
            }
        };
        self.fault = None;
        if !driven.facts.is_empty() {
            self.log.push((self.now, driven.facts.clone()));
        }
        let gone = |key: &String| driven.withdraw.contains(key) || driven.settled.contains(key);
        self.outbox.retain(|message| !gone(&message.key));
        self.outbox.extend(driven.outbox.iter().cloned());
        self.check_replay(&driven);
        let again = driven.due == Some(Duration::ZERO);
        self.last = Some(driven);
        if again {
            self.drive(&[]);
        }
    }

    /// Whoever takes the instance over from its log must see what this process sees.
    fn check_replay(&self, driven: &Drive) {
        let Ok(replayed) = drive(&self.topology, &self.folded(), self.now, &[]) else {
            assert_eq!(driven.due, Some(Duration::ZERO), "a replay finds a fault");
            return;
        };
        let seen = |drive: &Drive| {
            (
                drive.status,
                drive.steps.clone(),
                drive.effects.clone(),
                drive.due,
            )
        };
        assert!(
            replayed.facts.is_empty(),
            "a replay decides more: {:?}",
            replayed.facts
        );
        assert_eq!(
            seen(&replayed),
            seen(driven),
            "a replay sees another instance"
        );
    }

    #[allow(clippy::type_complexity)]
    fn next_effect(
        &mut self,
        tried: &mut HashSet<(String, i64)>,
    ) -> Option<(PendingEffect, Result<Response, EffectError>)> {
        let effects = self.last.as_ref()?.effects.clone();
        let effect = effects.into_iter().find(|effect| {
            self.scripts.contains_key(&effect.kind)
                && !tried.contains(&(effect.key.clone(), self.now))
        })?;
        tried.insert((effect.key.clone(), self.now));
        let script = self.scripts.get_mut(&effect.kind)?;
        let result = script(&effect.kind, &effect.data);
        Some((effect, result))
    }
}
