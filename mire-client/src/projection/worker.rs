//! A partition's worker: takes the partition, works a shift, and after a mishap takes it anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::{Context, Subscribed};
use super::halt::Halt;
use super::hold::Hold;
use super::page::Tenure;
use super::retry::doubled;
use super::shift::Shift;
use crate::connection::{Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The partition has been given back, as asked.
    Released,
    /// The partition is, or may be, somebody else's.
    Lost,
    /// History has forked: nothing goes on before an operator has looked.
    Epoch(Error),
    /// The subscription is gone.
    Gone(Error),
}

/// What `acquire_subscription` gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acquired {
    pub(crate) fence: i64,
    pub(crate) checkpoint: i64,
    pub(crate) epoch: i64,
    pub(crate) safe_until: Instant,
}

/// Takes a partition; None when somebody else has it.
pub(crate) async fn acquire(
    conn: &impl Talk,
    context: &Context,
    name: &str,
    partition: i32,
) -> Result<Option<Acquired>> {
    let asked_at = Instant::now();
    let doing = Doing::Reading(name);
    let row = conn
        .row(
            &calls::ACQUIRE_SUBSCRIPTION,
            &[
                &name,
                &partition,
                &context.holder,
                &context.ttl.as_secs_f64(),
            ],
            doing,
        )
        .await?;
    let read = || -> Result<_, tokio_postgres::Error> {
        let (acquired, fence): (Option<bool>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        let (checkpoint, epoch) = (row.try_get(2)?, row.try_get(3)?);
        Ok(fence
            .filter(|_| acquired == Some(true))
            .map(|fence| Acquired {
                fence,
                checkpoint,
                epoch,
                safe_until: asked_at + context.ttl,
            }))
    };
    read().map_err(|e| from_driver(e, doing))
}

/// Works on a partition until told to stop, or until it is lost.
pub(crate) async fn run(
    context: Arc<Context>,
    subscribed: Arc<Subscribed>,
    partition: i32,
    hold: Arc<Hold>,
    mut acquired: Acquired,
) -> Ended {
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    const LONGEST_PAUSE: Duration = Duration::from_secs(5);
    let name = subscribed.name();
    let mut mishaps = 0;
    loop {
        let tenure = Tenure {
            name: name.to_owned(),
            partition,
            fence: acquired.fence,
        };
        let mut shift = Shift::new(&context, &subscribed, &hold, tenure, acquired);
        let halt = shift.work().await;
        if shift.has_progressed() {
            mishaps = 0;
        }
        match halt {
            Halt::Stop => {
                if let Err(error) = release(&context, name, partition, acquired.fence).await {
                    tracing::warn!(subscription = name, partition, %error, "partition not given back; it runs out by itself");
                }
                return Ended::Released;
            }
            Halt::Lost => return Ended::Lost,
            Halt::Epoch(error) => return Ended::Epoch(error),
            Halt::Gone(error) => return Ended::Gone(error),
            Halt::Paused => {}
            Halt::Restart(error) => {
                tracing::warn!(subscription = name, partition, %error, "starting again from the checkpoint");
            }
        }
        // Under a new fence everything that was handed out and not handled is handed out again, and whatever of ours
        // may still be on its way is refused.
        acquired = loop {
            let pause = doubled(FIRST_PAUSE, mishaps, LONGEST_PAUSE);
            mishaps += 1;
            if hold.while_held(tokio::time::sleep(pause)).await.is_err() {
                return Ended::Lost;
            }
            if hold.is_stopping() {
                let _ = release(&context, name, partition, acquired.fence).await;
                return Ended::Released;
            }
            let again = async {
                let conn = context.store.connector.pooled().await?;
                acquire(&conn, &context, name, partition).await
            };
            match hold.while_held(again).await {
                Ok(Ok(Some(again))) => break again,
                Ok(Ok(None)) | Err(_) => return Ended::Lost,
                Ok(Err(error)) => match Halt::from(error) {
                    Halt::Gone(error) => return Ended::Gone(error),
                    Halt::Restart(error) if error.is_invalid() => return Ended::Lost,
                    halt => tracing::warn!(
                        subscription = name,
                        partition,
                        ?halt,
                        "partition not taken yet"
                    ),
                },
            }
        };
        hold.retaken(acquired.fence, acquired.safe_until);
    }
}

async fn release(context: &Context, name: &str, partition: i32, fence: i64) -> Result<()> {
    let conn = context.store.connector.pooled().await?;
    conn.rows(&calls::RELEASE_SUBSCRIPTION, &[&name, &partition, &fence])
        .await
        .map_err(|e| from_driver(e, Doing::Reading(name)))?;
    Ok(())
}

/// The store's history is not the one that the checkpoints belong to.
pub(crate) fn check_epoch(known: i64, found: i64) -> Result<(), Halt> {
    if known == found {
        return Ok(());
    }
    Err(Halt::Epoch(Error::new(ErrorKind::EpochChanged {
        from: known,
        to: found,
    })))
}
