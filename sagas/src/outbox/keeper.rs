//! Leases on messages, renewed together while they are being published.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::storage::{ClaimedMessage, Storage};

/// The messages that this process is publishing: fences by number.
#[derive(Clone, Default)]
pub(super) struct InHand(Arc<Mutex<HashMap<i64, i64>>>);

/// A message in hand; let go of when it is dropped.
pub(super) struct Taken {
    in_hand: InHand,
    message_no: i64,
}

impl InHand {
    pub(super) fn take(&self, message: &ClaimedMessage) -> Taken {
        self.map().insert(message.message_no, message.fence);
        Taken {
            in_hand: self.clone(),
            message_no: message.message_no,
        }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<i64, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For ever. A message whose lease is lost may be published by somebody else as well: at least once.
    pub(super) async fn keep(self, storage: Storage, ttl: Duration) {
        loop {
            tokio::time::sleep(ttl / 3).await;
            let (messages, fences): (Vec<i64>, Vec<i64>) =
                self.map().iter().map(|(no, fence)| (*no, *fence)).unzip();
            if messages.is_empty() {
                continue;
            }
            let renewed = storage.outbox_renew(&messages, &fences, ttl);
            match tokio::time::timeout(ttl / 2, renewed).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "messages in hand not renewed"),
                Err(_) => tracing::warn!("messages in hand not renewed in time"),
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.in_hand.map().remove(&self.message_no);
    }
}
