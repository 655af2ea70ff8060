//! The task that drives the batcher: starts what the scheduler allows, and tells it what came back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::UnboundedReceiver;

use super::SharedCommits;
use super::alone::{Alone, AloneLanes, busy_for_too_long};
use super::lane::Lane;
use super::schedule::{Item, Limits, Scheduler};
use super::ticket::Ticket;
use crate::connection::Connector;

/// So often the streams that wait for their turn are probed.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// Runs until every handle of the store is gone and everything handed over is done.
pub(super) async fn run(
    connector: Arc<Connector>,
    settings: SharedCommits,
    mut inbox: UnboundedReceiver<Item<Ticket>>,
) {
    let mut scheduler = Scheduler::new(Limits {
        batch_events: settings.max_batch_events,
        batch_bytes: settings.max_batch_bytes,
        alone: settings.max_alone,
    });
    let mut idle_lane = Some(Lane::new(connector.clone(), settings.reconnect_timeout));
    let mut batch: OptionFuture<BoxFuture<'static, (Lane, Vec<Item<Ticket>>)>> = None.into();
    let alone_lanes = Arc::new(AloneLanes::new(connector, settings.reconnect_timeout));
    let mut alone: FuturesUnordered<BoxFuture<'static, Alone>> = FuturesUnordered::new();
    let mut open = true;
    let mut probe_at: Option<Instant> = None;

    while open || !scheduler.is_idle() {
        while let Ok(item) = inbox.try_recv() {
            scheduler.push(item);
        }
        if let Some(mut lane) = idle_lane.take() {
            match scheduler.next_batch() {
                None => idle_lane = Some(lane),
                Some(items) => {
                    let travel = async move {
                        let busy = lane.deliver(items).await;
                        (lane, busy)
                    };
                    batch = Some(travel.boxed()).into();
                }
            }
        }
        while let Some(item) = scheduler.next_alone() {
            let lanes = alone_lanes.clone();
            alone.push(async move { lanes.deliver(item).await }.boxed());
        }
        if !open && scheduler.is_idle() {
            break;
        }
        probe_at = match probe_at {
            Some(at) if scheduler.is_waiting_for_turns() => Some(at),
            _ => scheduler
                .is_waiting_for_turns()
                .then(|| Instant::now() + PROBE_PAUSE),
        };
        // While a batch is in flight its return is what wakes the driver.
        let probe_due = probe_at.filter(|_| idle_lane.is_some());
        let wake_at = scheduler.next_deadline().into_iter().chain(probe_due).min();
        tokio::select! {
            received = inbox.recv(), if open => match received {
                Some(item) => scheduler.push(item),
                None => open = false,
            },
            Some((lane, busy)) = &mut batch => {
                batch = None.into();
                idle_lane = Some(lane);
                scheduler.batch_returned(busy);
                // Whoever has just been answered may have something to say again: one round for them, no waiting.
                tokio::task::yield_now().await;
            }
            Some(came_back) = alone.next() => match came_back {
                Alone::Done(stream) => scheduler.alone_done(&stream),
                Alone::Busy(item) => scheduler.alone_busy(item),
            },
            () = sleep_until(wake_at) => {}
        }
        if idle_lane.is_some() && probe_at.is_some_and(|at| at <= Instant::now()) {
            scheduler.probe();
            probe_at = None;
        }
        for item in scheduler.expired(Instant::now()) {
            let error = busy_for_too_long(&item);
            item.payload.give_up(Some(&error));
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
