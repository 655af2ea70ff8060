//! A session that waits for events in a thread of its own.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use postgres::{Client, Error};

use crate::session::{connect, pid, value, wait_until};

/// Generous for a busy machine, and far below the timeouts of the waits that must end earlier.
pub const AT_ONCE: Duration = Duration::from_secs(5);
/// Far longer than any test.
pub const LONG: Duration = Duration::from_secs(60);

/// A session that waits in a thread of its own.
pub struct Waiter {
    /// Its backend.
    pub pid: i32,
    /// Cancels its call.
    pub cancel: postgres::CancelToken,
    /// What it answered, and after how long.
    pub answer: Receiver<(Result<i64, Error>, Duration)>,
}

impl Waiter {
    /// Returns when the server is in the wait.
    ///
    /// # Panics
    /// When it does not begin to wait.
    #[must_use]
    pub fn start(url: &str, after: i64, timeout: Duration) -> Self {
        let mut client = connect(url);
        let (pid, cancel) = (pid(&mut client), client.cancel_token());
        let (sender, answer) = channel();
        std::thread::spawn(move || {
            let begin = Instant::now();
            let result = wait(&mut client, after, timeout);
            sender.send((result, begin.elapsed()))
        });
        let waiter = Self {
            pid,
            cancel,
            answer,
        };
        let mut observer = connect(url);
        let waits = format!(
            "SELECT coalesce((SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = {pid}), false)"
        );
        wait_until("it waits", || value(&mut observer, &waits));
        waiter
    }

    /// What it answered, if it did so at once.
    ///
    /// # Errors
    /// What the server said.
    ///
    /// # Panics
    /// When it goes on waiting.
    #[track_caller]
    pub fn ends_at_once(self) -> Result<i64, Error> {
        let (result, _) = self
            .answer
            .recv_timeout(AT_ONCE)
            .expect("still waiting after 5 s");
        result
    }
}

/// Waits, and gives the safe position.
///
/// # Errors
/// What the server says.
pub fn wait(client: &mut Client, after: i64, timeout: Duration) -> Result<i64, Error> {
    client
        .query_one(
            "CALL mire.wait_for_events($1, make_interval(secs => $2))",
            &[&after, &timeout.as_secs_f64()],
        )
        .map(|row| row.get("safe_position"))
}
