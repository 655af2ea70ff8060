//! [`Outbox`]: takes messages out of the database, has them published, and tells what became of them.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument, debug_span};

use super::inside::Inside;
use super::keeper::{InHand, Taken};
use super::{AnyPublisher, OutboxMessage, PublishError, Published};
use crate::answer::Answer;
use crate::effect::brief;
use crate::engine::Input;
use crate::error::Result;
use crate::gather::{Gather, pause};
use crate::hand::{Committal, Desk, Drivers, Stop};
use crate::measure;
use crate::panics::panic_text;
use crate::storage::{AckItem, ClaimedMessage, encode, millis};

/// Messages of so many instances are published at the same time.
const AT_ONCE: usize = 64;
/// A claim takes so many messages.
const BATCH: usize = 256;

/// How often and how soon a message is published again, and how long an attempt may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) attempts: u32,
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    pub(crate) timeout: Duration,
}

impl Patience {
    /// After so many failures; None: give up.
    fn wait_after(&self, failures: u32) -> Option<Duration> {
        let doubled = || {
            self.first
                .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
        };
        (failures < self.attempts).then(|| doubled().min(self.longest))
    }
}

/// The outbox's side of a worker.
pub(crate) struct Outbox {
    desk: Arc<Desk>,
    drivers: Arc<Drivers>,
    publisher: Option<Arc<dyn AnyPublisher>>,
    inside: Inside,
    patience: Patience,
    recheck: Duration,
    acks: Gather,
    in_hand: InHand,
    slots: Arc<Semaphore>,
}

impl Outbox {
    pub(crate) fn new(
        desk: Arc<Desk>,
        drivers: Arc<Drivers>,
        publisher: Option<Arc<dyn AnyPublisher>>,
        inside: Inside,
        patience: Patience,
        recheck: Duration,
    ) -> Self {
        let acks = {
            let storage = desk.storage.clone();
            Gather::new(move |items| {
                let storage = storage.clone();
                async move { storage.outbox_ack(&items).await }.boxed()
            })
        };
        Self {
            desk,
            drivers,
            publisher,
            inside,
            patience,
            recheck,
            acks,
            in_hand: InHand::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Until the desk stops.
    pub(crate) async fn run(self) {
        let keeper = self
            .in_hand
            .clone()
            .keep(self.desk.storage.clone(), self.desk.ttl);
        let outbox = Arc::new(self);
        tokio::select! {
            () = keeper => {}
            () = outbox.clone().claim_on() => {}
        }
    }

    /// Waits until nothing is being published any more.
    async fn settled(&self) {
        let all = u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
        let _ = self.slots.acquire_many(all).await;
    }

    async fn claim_on(self: Arc<Self>) {
        let mut stop = self.desk.stop.clone();
        let (mut failures, mut idle) = (0, 0);
        loop {
            if *stop.borrow_and_update() != Stop::Not {
                break;
            }
            let Ok(permit) = self.slots.clone().acquire_owned().await else {
                break;
            };
            let wait = match self.claim(permit).await {
                Ok((0, next_due)) => {
                    failures = 0;
                    let wait = self.rest(next_due, idle);
                    idle += 1;
                    wait
                }
                Ok((_, _)) => {
                    (failures, idle) = (0, 0);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "no messages to be had, trying again");
                    failures += 1;
                    pause(failures)
                }
            };
            tokio::select! {
                () = self.desk.messages.notified() => idle = 0,
                () = tokio::time::sleep(wait) => {}
                _ = stop.changed() => {}
            }
        }
        self.settled().await;
    }

    /// What is due and was not to be had waits for an earlier one of its instance: less and less often it is asked for.
    fn rest(&self, next_due: Option<Duration>, idle: u32) -> Duration {
        let at_most = self.recheck;
        match next_due {
            None => at_most,
            Some(due) if due > Duration::from_millis(150) => due.min(at_most),
            Some(_) => pause(idle).min(at_most),
        }
    }

    async fn claim(
        self: &Arc<Self>,
        first: OwnedSemaphorePermit,
    ) -> Result<(usize, Option<Duration>)> {
        let Desk {
            storage,
            holder,
            ttl,
            ..
        } = &*self.desk;
        let mut claimed = storage
            .outbox_claim(holder, Some(Inside::KINDS), BATCH, *ttl)
            .await?;
        if self.publisher.is_some() {
            let others = storage.outbox_claim(holder, None, BATCH, *ttl).await?;
            claimed.messages.extend(others.messages);
            claimed.next_due = [claimed.next_due, others.next_due]
                .into_iter()
                .flatten()
                .min();
        }
        let count = claimed.messages.len();
        let mut lines: HashMap<(String, String), Vec<(ClaimedMessage, Taken)>> = HashMap::new();
        for message in claimed.messages {
            let taken = self.in_hand.take(&message);
            let line = (message.saga.clone(), message.instance.clone());
            lines.entry(line).or_default().push((message, taken));
        }
        let mut first = Some(first);
        for line in lines.into_values() {
            let permit = match first.take() {
                Some(permit) => permit,
                None => match self.slots.clone().acquire_owned().await {
                    Ok(permit) => permit,
                    Err(_) => break,
                },
            };
            let outbox = self.clone();
            self.desk.spawn(async move {
                outbox.publish_line(line).await;
                drop(permit);
            });
        }
        Ok((count, claimed.next_due))
    }

    /// Messages of one instance, in order: behind one that has to wait all wait.
    async fn publish_line(&self, line: Vec<(ClaimedMessage, Taken)>) {
        let mut blocked = false;
        for (message, taken) in line {
            if blocked || self.desk.stop() != Stop::Not {
                let back = AckItem {
                    outcome: "retry",
                    delay_ms: Some(0),
                    ..ack(&message)
                };
                self.acknowledge(&message, &back).await;
                continue;
            }
            let span = debug_span!("publish", saga = %message.saga, instance = %message.instance, key = %message.key);
            blocked = !self.publish(&message).instrument(span).await;
            drop(taken);
        }
    }

    /// False when it has to be tried again.
    async fn publish(&self, message: &ClaimedMessage) -> bool {
        let error = match self.hand_over(message).await {
            Ok(Published { mut answer }) => {
                measure::message("sent");
                if let Some(said) = &answer
                    && let Some(settled) = self.drive_on(message, said).await
                {
                    if settled.contains(&message.key) {
                        return true;
                    }
                    answer = None;
                }
                let response = answer
                    .as_ref()
                    .map(|answer| answer.item(answer.id.as_deref().unwrap_or(&message.key)));
                let sent = AckItem {
                    outcome: "sent",
                    response,
                    ..ack(message)
                };
                self.acknowledge(message, &sent).await;
                return true;
            }
            Err(error) => error,
        };
        let wait = self
            .patience
            .wait_after(message.attempts.saturating_add(1))
            .filter(|_| !error.is_permanent());
        let text = brief(error.message());
        let failed = AckItem {
            outcome: if wait.is_some() { "retry" } else { "dead" },
            delay_ms: wait.map(millis),
            error: Some(&text),
            ..ack(message)
        };
        measure::message(failed.outcome);
        if wait.is_some() {
            tracing::warn!(key = %message.key, %error, ?wait, "a message was not published, trying again");
        } else {
            tracing::error!(key = %message.key, %error, "a message is dead: its step fails");
        }
        self.acknowledge(message, &failed).await;
        wait.is_none()
    }

    /// Commits an answer together with all that follows from it, when nobody has the instance in hand, and gives the keys of
    /// the messages that are settled with that. None: it is to be recorded alone, and whoever claims the instance goes on
    /// from there. So it is with a message that was claimed before: where going on kills the process, claims of the
    /// instance are what is counted.
    async fn drive_on(&self, message: &ClaimedMessage, answer: &Answer) -> Committal {
        let (saga, instance) = (&message.saga, &message.instance);
        let before = message.attempts > 0;
        if before || self.desk.stop() != Stop::Not || self.desk.keeper.has(saga, instance) {
            return None;
        }
        let permit = self.desk.hands.clone().try_acquire_owned().ok()?;
        let input = Input::Answer {
            step: message.step.clone(),
            undo: message.undo,
            activation: Some(message.activation),
            request: message.request,
            answer: answer.answer.clone(),
            id: Some(answer.id.clone().unwrap_or_else(|| message.key.clone())),
        };
        let mine = self.drivers.iter().filter(|(key, _)| key.0 == *saga);
        for (_, driver) in mine {
            if let Some(known) = driver.known(instance).await.ok()? {
                let mut work = driver.begin(driver.hand(known), vec![input], Some(permit));
                let committed = work.committed.wait_for(Option::is_some).await;
                return committed.ok()?.clone();
            }
        }
        None
    }

    async fn hand_over(&self, message: &ClaimedMessage) -> Result<Published, PublishError> {
        let publishing = async {
            if Inside::KINDS.contains(&message.kind.as_str()) {
                return self.inside.handle(message).await;
            }
            match &self.publisher {
                Some(publisher) => {
                    let limit = self.patience.timeout;
                    tokio::time::timeout(limit, publisher.publish(&OutboxMessage::of(message)))
                        .await
                        .unwrap_or_else(|_| Err(late(limit)))
                }
                None => Err(PublishError::transient("this worker has no publisher")),
            }
        };
        AssertUnwindSafe(publishing)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| {
                let said = panic_text(&*panic);
                Err(PublishError::transient(format!(
                    "the publisher panicked: {said}"
                )))
            })
    }

    /// If it does not get through, the message comes again when its lease runs out.
    async fn acknowledge(&self, message: &ClaimedMessage, item: &AckItem<'_>) {
        let mut tries = 0;
        loop {
            let acknowledged = match encode(item) {
                Ok(item) => self.acks.call(item).await,
                Err(error) => Err(error),
            };
            match acknowledged {
                Ok(result) if result.outcome == "busy" && tries < 10 => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(result) if result.outcome == "invalid" && item.response.is_some() => {
                    let reason = result.reason.unwrap_or_default();
                    let refused = AckItem {
                        outcome: "dead",
                        error: Some(&reason),
                        ..ack(message)
                    };
                    return Box::pin(self.acknowledge(message, &refused)).await;
                }
                Ok(result) => {
                    tracing::debug!(key = %message.key, outcome = %result.outcome, "acknowledged");
                    return;
                }
                Err(error) => {
                    tracing::warn!(key = %message.key, %error, "a message was not acknowledged");
                    return;
                }
            }
        }
    }
}

fn late(limit: Duration) -> PublishError {
    PublishError::transient(format!(
        "the publisher did not return within {limit:?} and was dropped; the message may have gone out all the same: \
         find out what it waits for, or raise publish_timeout on the worker's builder"
    ))
}

fn ack(message: &ClaimedMessage) -> AckItem<'static> {
    AckItem {
        message_no: message.message_no,
        fence: message.fence,
        outcome: "sent",
        delay_ms: None,
        error: None,
        response: None,
    }
}
