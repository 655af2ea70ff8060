//! [`Lease`]: the right to be the only one who acts on something, renewed in the background, and told when it is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::instrument;

use crate::connection::{Conn, Connector, PrivateConn, Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};
use crate::store::EventStore;

/// A lease that is held, until it is released, dropped or lost.
///
/// A background task renews it three times per `ttl`, on a connection of its own. What decides is the database: do the
/// protected work in a [`Transaction`](crate::Transaction) that calls [`assert_lease`](crate::Transaction::assert_lease);
/// what this guard knows by itself ([`is_lost`](Self::is_lost), [`lost`](Self::lost)) is for stopping early.
#[derive(Debug)]
pub struct Lease {
    resource: String,
    fence: i64,
    state: watch::Receiver<State>,
    release: mpsc::Sender<()>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
enum State {
    /// Until then, by this process's own clock, unless it is renewed.
    Held(Instant),
    Lost(String),
    Released,
    /// Nobody knows whether it was given back; at the latest it runs out by itself.
    NotGivenBack(Error),
}

impl EventStore {
    /// Takes the lease on a resource for `ttl` (10 ms to one day) if nobody else holds it; `None` if somebody does. The
    /// same holder's name takes its own lease over: give every process a name of its own.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid) for a bad name or ttl.
    #[instrument(level = "debug", skip_all, fields(%resource, %holder), err(level = "debug"))]
    pub async fn acquire_lease(
        &self,
        resource: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>> {
        let conn = self.connector.private().await?;
        let asked_at = Instant::now();
        let row = conn
            .row(
                &calls::ACQUIRE_LEASE,
                &[&resource, &holder, &ttl.as_secs_f64()],
                Doing::Writing(resource),
            )
            .await?;
        let fence = row
            .try_get::<_, Option<i64>>(1)
            .map_err(|e| from_driver(e, Doing::Reading(resource)))?;
        let (true, Some(fence)) = (row.get::<_, Option<bool>>(0) == Some(true), fence) else {
            return Ok(None);
        };
        let safe_until = asked_at + ttl;
        let (tell, state) = watch::channel(State::Held(safe_until));
        let (release, released) = mpsc::channel(1);
        let keeper = Keeper {
            connector: self.connector.clone(),
            conn: Some(conn),
            resource: resource.to_owned(),
            fence,
            ttl,
            safe_until,
        };
        let keeper = tokio::spawn(keeper.keep(tell, released));
        Ok(Some(Lease {
            resource: resource.to_owned(),
            fence,
            state,
            release,
            keeper: Some(keeper),
        }))
    }
}

impl Lease {
    /// What it is a lease on.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The fence token: larger than that of every holder before.
    #[must_use]
    pub fn fence(&self) -> i64 {
        self.fence
    }

    /// Whether this guard knows that the lease is lost: because the database said so, because it could not be renewed in
    /// time by this process's own clock, or because nobody renews it any more (the runtime it was acquired in has ended).
    /// "No" is no promise: only the database can give that.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match &*self.state.borrow() {
            State::Held(until) => Instant::now() >= *until || self.state.has_changed().is_err(),
            _ => true,
        }
    }

    /// Waits until the lease is lost, and says why. For a `select!` beside the work.
    pub async fn lost(&self) -> String {
        let mut state = self.state.clone();
        loop {
            let until = match &*state.borrow_and_update() {
                State::Held(until) => *until,
                State::Lost(why) => return why.clone(),
                State::Released | State::NotGivenBack(_) => return "released".into(),
            };
            tokio::select! {
                changed = state.changed() => if changed.is_err() {
                    return NO_KEEPER.into();
                },
                () = tokio::time::sleep_until(until.into()) => return NOT_RENEWED.into(),
            }
        }
    }

    /// Gives the lease back, so that the next holder need not wait for the ttl.
    ///
    /// # Errors
    /// [`is_lease_lost`](Error::is_lease_lost) when it had been lost before, or the runtime that renewed it has ended;
    /// [`ErrorKind::Connection`] or [`is_outcome_unknown`](Error::is_outcome_unknown) when the database could not be
    /// reached: it runs out by itself then.
    #[instrument(level = "debug", skip_all, fields(resource = %self.resource, fence = self.fence), err(level = "debug"))]
    pub async fn release(mut self) -> Result<()> {
        let _ = self.release.try_send(());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.await;
        }
        let lost = |reason: &str| {
            Err(Error::new(ErrorKind::LeaseLost {
                reason: reason.to_owned(),
            }))
        };
        match &*self.state.borrow() {
            State::Released => Ok(()),
            State::Lost(why) => lost(why),
            State::NotGivenBack(error) => Err(error.clone()),
            State::Held(_) => lost(NO_KEEPER),
        }
    }
}

const NO_KEEPER: &str = "its keeper has ended with its runtime";
const NOT_RENEWED: &str = "expired: the database could not be reached in time";

impl Drop for Lease {
    fn drop(&mut self) {
        // The keeper gives it back in the background, if its runtime goes on.
        let _ = self.release.try_send(());
    }
}

/// The background side of a lease.
struct Keeper {
    connector: Arc<Connector>,
    conn: Option<Conn<PrivateConn>>,
    resource: String,
    fence: i64,
    ttl: Duration,
    /// Counted from before the request was sent, so never later than the database's own idea.
    safe_until: Instant,
}

impl Keeper {
    async fn keep(mut self, tell: watch::Sender<State>, mut released: mpsc::Receiver<()>) {
        let mut next = Instant::now() + self.ttl / 3;
        loop {
            tokio::select! {
                // A closed channel is a dropped guard.
                _ = released.recv() => break,
                () = tokio::time::sleep_until(next.into()) => {}
            }
            let renewal = tokio::time::timeout_at(self.safe_until.into(), self.renew());
            next = match renewal.await {
                Ok(Ok(true)) => {
                    tell.send_replace(State::Held(self.safe_until));
                    Instant::now() + self.ttl / 3
                }
                Ok(Ok(false)) => {
                    tell.send_replace(State::Lost("superseded, released or expired".into()));
                    return;
                }
                Ok(Err(error)) if Instant::now() < self.safe_until => {
                    tracing::warn!(resource = %self.resource, %error, "lease not renewed, trying again");
                    self.conn = None;
                    Instant::now() + self.ttl / 10
                }
                Ok(Err(_)) | Err(_) => {
                    tell.send_replace(State::Lost(NOT_RENEWED.into()));
                    return;
                }
            };
        }
        let given_back = tokio::time::timeout_at(self.safe_until.into(), self.give_back()).await;
        tell.send_replace(match given_back {
            Ok(Ok(true)) => State::Released,
            Ok(Ok(false)) => State::Lost("superseded or expired before it was released".into()),
            Ok(Err(error)) => State::NotGivenBack(error),
            Err(_) => State::Lost(NOT_RENEWED.into()),
        });
    }

    async fn renew(&mut self) -> Result<bool> {
        let asked_at = Instant::now();
        let (resource, fence, ttl) = (self.resource.clone(), self.fence, self.ttl);
        let conn = self.connected().await?;
        let row = conn
            .row(
                &calls::RENEW_LEASE,
                &[&resource, &fence, &ttl.as_secs_f64()],
                Doing::Reading(&resource),
            )
            .await?;
        let renewed = row
            .try_get(0)
            .map_err(|e| from_driver(e, Doing::Reading(&resource)))?;
        if renewed {
            self.safe_until = asked_at + ttl;
        }
        Ok(renewed)
    }

    async fn give_back(&mut self) -> Result<bool> {
        let (resource, fence) = (self.resource.clone(), self.fence);
        let conn = self.connected().await?;
        let row = conn
            .row(
                &calls::RELEASE_LEASE,
                &[&resource, &fence],
                Doing::Writing(&resource),
            )
            .await?;
        row.try_get(0)
            .map_err(|e| from_driver(e, Doing::Reading(&resource)))
    }

    async fn connected(&mut self) -> Result<&Conn<PrivateConn>> {
        if self.conn.as_ref().is_none_or(Conn::is_closed) {
            self.conn = Some(self.connector.private().await?);
        }
        Ok(self.conn.as_ref().expect("just connected"))
    }
}
