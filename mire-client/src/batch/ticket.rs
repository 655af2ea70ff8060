//! [`Ticket`]: an append on its way through the batcher, with the caller who waits for it.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::schedule::Payload;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{AppendRequest, Recorded};

pub(crate) struct Ticket {
    pub(crate) request: AppendRequest,
    reply: oneshot::Sender<Result<Recorded>>,
    room: Option<[OwnedSemaphorePermit; 2]>,
    /// It may have reached the database on a connection that was lost.
    may_have_landed: bool,
}

impl Ticket {
    pub(crate) fn new(
        request: AppendRequest,
        reply: oneshot::Sender<Result<Recorded>>,
        room: [OwnedSemaphorePermit; 2],
    ) -> Self {
        Self {
            request,
            reply,
            room: Some(room),
            may_have_landed: false,
        }
    }

    /// Tells the caller, if it is still there.
    pub(crate) fn answer(self, outcome: Result<Recorded>) {
        // A caller that has dropped its future does not want to know.
        let _ = self.reply.send(outcome);
    }

    /// The connection was lost after this had been sent. Gives the ticket back if it may be sent again.
    pub(crate) fn lost(mut self) -> Option<Self> {
        self.may_have_landed = true;
        if self.request.expected.retry_is_safe() {
            return Some(self);
        }
        self.give_up(None);
        None
    }

    /// It is not sent again: with what is known about its outcome.
    pub(crate) fn give_up(self, because: Option<&Error>) {
        let outcome = match because {
            Some(error) if !self.may_have_landed => error.clone(),
            Some(error) => {
                let what = ErrorKind::OutcomeUnknown {
                    what: self.request.stream.clone(),
                };
                Error::with_source(what, error.clone())
            }
            None => Error::new(ErrorKind::OutcomeUnknown {
                what: self.request.stream.clone(),
            }),
        };
        self.answer(Err(outcome));
    }
}

impl Payload for Ticket {
    fn is_abandoned(&self) -> bool {
        // Once it may have landed it is followed to its end: later appends of the stream rely on the order.
        self.reply.is_closed() && !self.may_have_landed
    }

    fn parked(&mut self) {
        // Appends that wait for a busy stream must not keep others out of the queue.
        self.room = None;
    }
}
