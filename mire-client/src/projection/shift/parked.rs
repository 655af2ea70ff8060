//! Parked streams that an operator has released: a shift handles their events when nothing else is in hand.

use super::Shift;
use super::failure::said;
use crate::connection::{Talk, calls};
use crate::error::{Doing, Result, from_driver};
use crate::event::RecordedEvent;
use crate::projection::attempt::Mark;
use crate::projection::halt::{Fault, Halt};
use crate::projection::measure;
use crate::projection::page::{PageSize, Tenure};

impl Shift<'_> {
    pub(super) fn parked_ready(&self) -> bool {
        let status = self.subscribed.status.borrow();
        status.look > self.parked_look && status.parked_ready.contains(&self.tenure.partition)
    }

    /// Handles the events of parked streams that an operator has released. Nothing else may be in hand: what was handed
    /// out and not handled yet would come twice.
    pub(super) async fn drain_parked(&mut self) -> Result<(), Halt> {
        self.save_checkpoint().await?;
        self.order.some_are_parked();
        self.parked_look = self.subscribed.status.borrow().look;
        loop {
            let events = self.fetch_parked().await?;
            if events.is_empty() {
                return Ok(());
            }
            let mut parked_again: Vec<&str> = Vec::new();
            for event in &events {
                self.hold.why_not()?;
                if !parked_again.contains(&event.stream.as_str())
                    && !self.handle_parked(event).await?
                {
                    parked_again.push(&event.stream);
                }
            }
        }
    }

    pub(super) async fn fetch_parked(&self) -> Result<Vec<RecordedEvent>, Halt> {
        let PageSize { events, bytes } = self.size;
        let Tenure {
            name,
            partition,
            fence,
        } = &self.tenure;
        let look = async {
            let conn = self.context.store.connector.pooled().await?;
            let rows = conn
                .rows(
                    &calls::FETCH_PARKED,
                    &[name, partition, fence, &events, &bytes],
                )
                .await
                .map_err(|e| from_driver(e, Doing::Reading(name)))?;
            rows.iter()
                .map(|row| {
                    let stream = row
                        .try_get(0)
                        .map_err(|e| from_driver(e, Doing::Reading(name)))?;
                    RecordedEvent::from_row(row, 1, stream)
                })
                .collect::<Result<Vec<_>>>()
        };
        Ok(self.hold.while_held(look).await??)
    }

    /// False when it has been parked again.
    pub(super) async fn handle_parked(&mut self, event: &RecordedEvent) -> Result<bool, Halt> {
        let mark = Mark::Parked {
            stream: &event.stream,
        };
        let (mut failed, mut outages) = (0, 0);
        loop {
            match self
                .attempt(std::slice::from_ref(event), failed + 1, &mark)
                .await
            {
                Ok(_) => {
                    measure::handled(self.subscribed.name(), std::slice::from_ref(event));
                    self.progressed = true;
                    return Ok(true);
                }
                Err(Fault::Halt(halt)) => return Err(halt),
                Err(Fault::Outage(error)) => self.sit_out(&error, &mut outages).await?,
                Err(Fault::Handler(error)) => {
                    failed += 1;
                    let text = said(&error);
                    measure::failed(self.subscribed.name());
                    match self.subscribed.retry.pause_after(failed) {
                        Some(pause) => self.hold.while_working(tokio::time::sleep(pause)).await?,
                        None => {
                            self.park(event, &text, failed).await?;
                            return Ok(false);
                        }
                    }
                }
            }
        }
    }
}
