//! The fleet: this runner among its replicas. Looks at all of its subscriptions in one call every now and then, which is
//! also the heartbeat of all it holds; takes its fair share of partitions, and gives back what is more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_postgres::Row;

use super::context::{Context, Status, Subscribed};
use super::halt::Halt;
use super::hold::Hold;
use super::measure;
use super::share::share;
use super::worker::{self, Acquired, Ended, acquire, check_epoch};
use crate::connection::{Conn, PrivateConn, Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};

/// A partition of a subscription, by the subscription's index and the partition's number.
type Key = (usize, i32);

pub(crate) struct Fleet {
    context: Arc<Context>,
    subscribed: Vec<Arc<Subscribed>>,
    /// How long between two looks.
    recheck: Duration,
    /// How long a worker may take to finish what it has in hand.
    grace: Duration,
    conn: Option<Conn<PrivateConn>>,
    held: HashMap<Key, Held>,
    workers: JoinSet<(Key, Ended)>,
    looks: u64,
    /// Subscriptions that have been dropped.
    gone: HashSet<usize>,
}

struct Held {
    hold: Arc<Hold>,
    /// What its lease is on.
    resource: String,
    abort: AbortHandle,
}

/// A row of `attend_subscriptions`.
struct Attended {
    subscription: usize,
    partition: i32,
    resource: String,
    holder: Option<String>,
    fence: Option<i64>,
    expires_in: Option<f64>,
    workers: usize,
    rank: usize,
    paused: bool,
    parked_ready: bool,
    epoch: i64,
    store_epoch: i64,
}

/// Partitions of a subscription that this worker should have.
struct Wish<'r> {
    wanted: usize,
    /// Those that can be had, in the order in which to try.
    free: Vec<&'r Attended>,
}

impl Fleet {
    pub(crate) fn new(
        context: Arc<Context>,
        conn: Conn<PrivateConn>,
        subscribed: Vec<Arc<Subscribed>>,
        recheck: Duration,
        grace: Duration,
    ) -> Self {
        Self {
            context,
            subscribed,
            recheck,
            grace,
            conn: Some(conn),
            held: HashMap::new(),
            workers: JoinSet::new(),
            looks: 0,
            gone: HashSet::new(),
        }
    }

    /// Works until it is told to stop or cannot go on; gives everything back then.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let outcome = loop {
            let next_look = Instant::now() + self.recheck;
            // A look may hang with the network: then everything is lost when its time is up, and another one is made. It
            // is not cut short, or a partition that it has just taken would be forgotten.
            let looked = tokio::time::timeout(self.context.ttl, self.look()).await;
            match looked {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.is_epoch_changed() => break Err(error),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "subscriptions could not be looked at, trying again");
                    self.conn = None;
                }
                Err(_) => self.conn = None,
            }
            let idle = tokio::select! {
                ended = self.idle_until(next_look) => ended,
                _ = stop.wait_for(|stop| *stop) => break Ok(()),
            };
            if let Err(error) = idle {
                break Err(error);
            }
        };
        self.leave().await;
        outcome
    }

    /// Sees workers end until it is time for the next look.
    async fn idle_until(&mut self, next_look: Instant) -> Result<()> {
        loop {
            let ended = tokio::select! {
                Some(ended) = self.workers.join_next() => ended,
                () = tokio::time::sleep_until(next_look.into()) => return Ok(()),
            };
            match ended {
                Ok((key, ended)) => {
                    self.held.remove(&key);
                    let name = self.subscribed[key.0].name();
                    self.count(key.0);
                    measure::lag(name, key.1, 0);
                    match ended {
                        Ended::Released => tracing::info!(
                            subscription = name,
                            partition = key.1,
                            "partition released"
                        ),
                        Ended::Lost => {
                            tracing::warn!(subscription = name, partition = key.1, "partition lost")
                        }
                        Ended::Epoch(error) => return Err(error),
                        Ended::Gone(error) => {
                            tracing::error!(subscription = name, partition = key.1, %error, "the subscription is gone");
                        }
                    }
                }
                // A bug of ours: what it held is taken anew at the next look.
                Err(error) => {
                    tracing::error!(%error, "a partition's worker ended unexpectedly");
                    self.held.retain(|_, held| !held.abort.is_finished());
                }
            }
        }
    }

    /// One look at the database, and what follows from it.
    async fn look(&mut self) -> Result<()> {
        let asked_at = Instant::now();
        let asked: HashMap<Key, i64> = self
            .held
            .iter()
            .map(|(key, held)| (*key, held.hold.fence()))
            .collect();
        let rows = self.attend(&asked).await?;
        for row in &rows {
            if let Err(Halt::Epoch(error)) = check_epoch(row.epoch, row.store_epoch) {
                return Err(error);
            }
        }
        self.keep_holds(&rows, &asked, asked_at);
        self.tell_status(&rows);
        let mut wishes: Vec<Wish<'_>> = Vec::new();
        for subscription in 0..self.subscribed.len() {
            let mine: Vec<_> = rows
                .iter()
                .filter(|row| row.subscription == subscription)
                .collect();
            self.notice_gone(subscription, mine.is_empty());
            wishes.extend(self.balance(subscription, &mine));
        }
        let outcome = self.fulfil(wishes).await;
        for subscription in 0..self.subscribed.len() {
            self.count(subscription);
        }
        outcome
    }

    /// Takes partitions, those of many subscriptions side by side, until everyone has what it wants or nothing is left.
    async fn fulfil(&mut self, mut wishes: Vec<Wish<'_>>) -> Result<()> {
        /// So many are asked for before the first answer is here, on the one connection.
        const TOGETHER: usize = 8;
        let (context, subscribed) = (self.context.clone(), self.subscribed.clone());
        let Some(conn) = self.conn.take() else {
            return Ok(());
        };
        loop {
            let next: Vec<_> = wishes
                .iter_mut()
                .enumerate()
                .flat_map(|(index, wish)| {
                    let some = wish.free.len().min(wish.wanted);
                    wish.free.drain(..some).map(move |row| (index, row))
                })
                .collect();
            if next.is_empty() {
                self.conn = Some(conn);
                return Ok(());
            }
            let mut acquiring = Vec::with_capacity(next.len());
            for (index, row) in next {
                let name = subscribed[row.subscription].name();
                let acquired = acquire(&conn, &context, name, row.partition);
                acquiring.push(acquired.map(move |acquired| (index, row, acquired)).boxed());
            }
            let mut taken = stream::iter(acquiring).buffer_unordered(TOGETHER);
            // What was taken is worked on, also when another one could not be had.
            let mut failed = None;
            while let Some((index, row, acquired)) = taken.next().await {
                match acquired {
                    Ok(Some(acquired)) => {
                        wishes[index].wanted -= 1;
                        self.start(row, acquired);
                    }
                    Ok(None) => {}
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    /// Says once that a subscription has been dropped. It may be made again.
    fn notice_gone(&mut self, subscription: usize, gone: bool) {
        let name = self.subscribed[subscription].name();
        if !gone {
            self.gone.remove(&subscription);
        } else if self.gone.insert(subscription) {
            tracing::error!(
                subscription = name,
                "there is no such subscription any more; this runner goes on without it"
            );
        }
    }

    async fn attend(&mut self, asked: &HashMap<Key, i64>) -> Result<Vec<Attended>> {
        if self.conn.as_ref().is_none_or(Conn::is_closed) {
            self.conn = Some(self.context.store.connector.private().await?);
        }
        let Some(conn) = &self.conn else {
            return Err(Error::new(ErrorKind::Closed));
        };
        let names: Vec<&str> = self.subscribed.iter().map(|s| s.name()).collect();
        let (resources, fences): (Vec<&str>, Vec<i64>) = self
            .held
            .iter()
            .filter_map(|(key, held)| Some((held.resource.as_str(), *asked.get(key)?)))
            .unzip();
        let doing = Doing::Reading("subscriptions");
        let ttl = self.context.ttl.as_secs_f64();
        let rows = conn
            .rows(
                &calls::ATTEND_SUBSCRIPTIONS,
                &[&names, &self.context.holder, &ttl, &resources, &fences],
            )
            .await
            .map_err(|e| from_driver(e, doing))?;
        rows.iter()
            .map(|row| attended(row, &names).map_err(|e| from_driver(e, doing)))
            .collect()
    }

    /// Extends what is still ours and lets go of what is not.
    fn keep_holds(&self, rows: &[Attended], asked: &HashMap<Key, i64>, asked_at: Instant) {
        for (key, held) in &self.held {
            let row = rows.iter().find(|row| row.resource == held.resource);
            let (asked, now) = (asked.get(key).copied(), held.hold.fence());
            match row {
                Some(row) if row.fence.is_some() && row.fence == asked => {
                    let left = Duration::try_from_secs_f64(row.expires_in.unwrap_or_default())
                        .unwrap_or_default();
                    if asked == Some(now) {
                        held.hold.renewed(asked_at + left);
                    }
                }
                // Taken anew by its own worker meanwhile.
                _ if asked != Some(now) => {}
                _ => held.hold.lose(),
            }
        }
    }

    fn tell_status(&mut self, rows: &[Attended]) {
        self.looks += 1;
        for (index, subscribed) in self.subscribed.iter().enumerate() {
            let of = || rows.iter().filter(|row| row.subscription == index);
            let status = Status {
                look: self.looks,
                paused: of().any(|row| row.paused),
                parked_ready: of()
                    .filter(|row| row.parked_ready)
                    .map(|row| row.partition)
                    .collect(),
            };
            subscribed.status.send_if_modified(|known| {
                let news = known.paused != status.paused || !status.parked_ready.is_empty();
                *known = status;
                news
            });
        }
    }

    /// Gives back what is more than this worker's share of a subscription, or wishes for what is free up to it.
    fn balance<'r>(&self, subscription: usize, rows: &[&'r Attended]) -> Option<Wish<'r>> {
        let first = rows.first()?;
        let share = share(rows.len(), first.workers, first.rank);
        let mut working: Vec<i32> = self
            .held
            .iter()
            .filter(|(key, held)| key.0 == subscription && !held.hold.is_stopping())
            .map(|(key, _)| key.1)
            .collect();
        working.sort_unstable();
        for partition in working.iter().skip(share) {
            if let Some(held) = self.held.get(&(subscription, *partition)) {
                held.hold.stop();
            }
        }
        let wanted = share.saturating_sub(working.len());
        // Everyone begins elsewhere, so that few go for the same.
        let begin = first.rank * share % rows.len();
        let in_turn = rows.iter().cycle().skip(begin).take(rows.len());
        let free = in_turn.copied().filter(|row| {
            // What bears our name without a worker is left from one that was lost.
            row.holder
                .as_ref()
                .is_none_or(|holder| *holder == self.context.holder)
                && !self.held.contains_key(&(subscription, row.partition))
        });
        Some(Wish {
            wanted,
            free: free.collect(),
        })
    }

    fn start(&mut self, row: &Attended, acquired: Acquired) {
        let subscription = row.subscription;
        let subscribed = self.subscribed[subscription].clone();
        tracing::info!(
            subscription = subscribed.name(),
            partition = row.partition,
            fence = acquired.fence,
            checkpoint = acquired.checkpoint,
            "partition taken"
        );
        let hold = Arc::new(Hold::new(acquired.fence, acquired.safe_until));
        let key = (subscription, row.partition);
        let work = worker::run(
            self.context.clone(),
            subscribed,
            row.partition,
            hold.clone(),
            acquired,
        );
        let abort = self.workers.spawn(async move { (key, work.await) });
        let resource = row.resource.clone();
        self.held.insert(
            key,
            Held {
                hold,
                resource,
                abort,
            },
        );
    }

    fn count(&self, subscription: usize) {
        let held = self.held.keys().filter(|key| key.0 == subscription).count();
        measure::held(self.subscribed[subscription].name(), held);
    }

    /// Lets workers finish what they have in hand, and gives everything back in one call.
    async fn leave(mut self) {
        for held in self.held.values() {
            held.hold.stop();
        }
        let all_done = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout(self.grace, all_done).await.is_err() {
            tracing::warn!("some handlers did not finish in time and were cut off");
            self.workers.shutdown().await;
        }
        let fences: HashMap<Key, i64> = self
            .held
            .iter()
            .map(|(key, held)| (*key, held.hold.fence()))
            .collect();
        let left = tokio::time::timeout(self.context.ttl, self.say_goodbye(&fences)).await;
        match left {
            Ok(Ok(())) => tracing::info!("left: all partitions are free"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "left without a word; leases run out by themselves")
            }
            Err(_) => tracing::warn!("left without a word; leases run out by themselves"),
        }
        for (subscription, partition) in self.held.keys() {
            measure::lag(self.subscribed[*subscription].name(), *partition, 0);
        }
        self.held.clear();
        for subscription in 0..self.subscribed.len() {
            self.count(subscription);
        }
    }

    async fn say_goodbye(&self, fences: &HashMap<Key, i64>) -> Result<()> {
        let conn = self.context.store.connector.private().await?;
        let names: Vec<&str> = self.subscribed.iter().map(|s| s.name()).collect();
        let (resources, fences): (Vec<&str>, Vec<i64>) = self
            .held
            .iter()
            .filter_map(|(key, held)| Some((held.resource.as_str(), *fences.get(key)?)))
            .unzip();
        conn.rows(
            &calls::LEAVE_SUBSCRIPTIONS,
            &[&names, &self.context.holder, &resources, &fences],
        )
        .await
        .map_err(|e| from_driver(e, Doing::Reading("subscriptions")))?;
        Ok(())
    }
}

fn attended(row: &Row, names: &[&str]) -> Result<Attended, tokio_postgres::Error> {
    let name: &str = row.try_get(0)?;
    let number = |n: i32| usize::try_from(n).unwrap_or_default();
    Ok(Attended {
        // Asked for by name, so it is among them.
        subscription: names
            .iter()
            .position(|known| *known == name)
            .unwrap_or(usize::MAX),
        partition: row.try_get(1)?,
        resource: row.try_get(2)?,
        holder: row.try_get(3)?,
        fence: row.try_get(4)?,
        expires_in: row.try_get(5)?,
        workers: number(row.try_get(6)?),
        rank: number(row.try_get(7)?),
        paused: row.try_get(8)?,
        parked_ready: row.try_get(9)?,
        epoch: row.try_get(10)?,
        store_epoch: row.try_get(11)?,
    })
}
