//! A shift: one tenure of a partition, under one fence. Fetches pages ahead of the handler, checks their order, has them
//! handled, and rests when there is nothing to do.

mod failure;
mod parked;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::connection::{Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};
use crate::event::RecordedEvent;
use crate::projection::attempt::{Attempt, Mark};
use crate::projection::context::{Context, Subscribed};
use crate::projection::halt::{Fault, Halt};
use crate::projection::handler::Manner;
use crate::projection::hold::Hold;
use crate::projection::measure;
use crate::projection::order::{Misplaced, OrderCheck};
use crate::projection::page::{Page, PageSize, Tenure, fetch};
use crate::projection::retry::doubled;
use crate::projection::worker::{Acquired, check_epoch};

/// So many events share a transaction at most, unless the handler takes pages.
const PER_TRANSACTION: usize = 1_000;
/// A plain handler's checkpoint is never older than this while it works.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// Nor older than this at the end of a page.
const SOON: Duration = Duration::from_millis(50);

pub(crate) struct Shift<'a> {
    context: &'a Context,
    subscribed: &'a Subscribed,
    hold: &'a Hold,
    tenure: Tenure,
    epoch: i64,
    /// Everything up to here is handled.
    at: i64,
    /// What the database knows of it.
    checkpoint: i64,
    checkpointed: Instant,
    order: OrderCheck,
    size: PageSize,
    ahead: Ahead,
    /// So many events are handled each by itself, because some of them failed together.
    one_by_one: usize,
    /// The look at the database after which parked events were last asked for.
    parked_look: u64,
    /// So many fetches in a row have found nothing although there should be something.
    vain: u32,
    progressed: bool,
}

/// The next page.
enum Ahead {
    Nothing,
    Fetching(JoinHandle<Result<Page>>),
    Here(Page),
}

/// What became of some events.
enum Outcome {
    Handled(usize),
    /// They failed together: each is to be handled by itself.
    OneByOne,
    /// The first one has been put aside.
    Parked,
}

impl<'a> Shift<'a> {
    pub(crate) fn new(
        context: &'a Context,
        subscribed: &'a Subscribed,
        hold: &'a Hold,
        tenure: Tenure,
        acquired: Acquired,
    ) -> Self {
        let definition = &subscribed.definition;
        Self {
            context,
            subscribed,
            hold,
            tenure,
            epoch: acquired.epoch,
            at: acquired.checkpoint,
            checkpoint: acquired.checkpoint,
            checkpointed: Instant::now(),
            order: OrderCheck::new(acquired.checkpoint, definition.types.is_some()),
            size: PageSize::of(definition),
            ahead: Ahead::Nothing,
            one_by_one: 0,
            parked_look: 0,
            vain: 0,
            progressed: false,
        }
    }

    /// Whether anything at all was achieved.
    pub(crate) fn has_progressed(&self) -> bool {
        self.progressed
    }

    /// Works until there is a reason not to.
    pub(crate) async fn work(&mut self) -> Halt {
        let halt = match self.work_on().await {
            Err(halt) => halt,
            Ok(never) => match never {},
        };
        // What a plain handler has handled need not come again.
        if matches!(halt, Halt::Stop | Halt::Paused)
            && let Err(worse) = self.save_checkpoint().await
        {
            return worse;
        }
        halt
    }

    async fn work_on(&mut self) -> Result<Infallible, Halt> {
        loop {
            self.hold.why_not()?;
            let page = self.next_page().await?;
            if page.events.is_empty() && page.next_position <= self.at {
                self.rest(true).await?;
                continue;
            }
            let more = page.full || *self.subscribed.news.borrow() > page.next_position;
            // While nothing is in hand a fetch may move the checkpoint by itself: one at a time then.
            if more && !page.events.is_empty() && !self.parked_ready() {
                self.fetch_ahead(page.next_position);
            }
            self.handle_page(page).await?;
            if matches!(self.ahead, Ahead::Nothing)
                && *self.subscribed.news.borrow() <= self.at
                && !self.parked_ready()
            {
                self.rest(false).await?;
            }
        }
    }

    /// The page that was fetched ahead, or the one after what is handled.
    async fn next_page(&mut self) -> Result<Page, Halt> {
        let page = match std::mem::replace(&mut self.ahead, Ahead::Nothing) {
            Ahead::Here(page) => page,
            Ahead::Fetching(task) => self.joined(task).await?,
            Ahead::Nothing => {
                if self.parked_ready() {
                    self.drain_parked().await?;
                }
                // From the checkpoint, a fetch that finds nothing moves it along by itself.
                let from_checkpoint = self.at == self.checkpoint;
                let after = (!from_checkpoint).then_some(self.at);
                let fetched = async {
                    let _turn = self.context.turn().await;
                    fetch(&self.context.store, &self.tenure, self.size, after).await
                };
                let page = self.hold.while_held(fetched).await??;
                if from_checkpoint && page.events.is_empty() {
                    self.checkpoint = page.next_position.max(self.checkpoint);
                }
                page
            }
        };
        check_epoch(self.epoch, page.epoch)?;
        self.check_order(&page.events).await?;
        Ok(page)
    }

    fn fetch_ahead(&mut self, after: i64) {
        let (store, tenure) = (self.context.store.clone(), self.tenure.clone());
        let size = self.size;
        self.ahead = Ahead::Fetching(tokio::spawn(async move {
            fetch(&store, &tenure, size, Some(after)).await
        }));
    }

    async fn joined(&self, task: JoinHandle<Result<Page>>) -> Result<Page, Halt> {
        match self.hold.while_held(task).await? {
            Ok(page) => Ok(page?),
            // Fetching does not panic; its runtime is going down.
            Err(_) => Err(Halt::Restart(Error::new(ErrorKind::Closed))),
        }
    }

    /// Versions that are missing may have been erased on purpose; the stream itself tells.
    async fn check_order(&mut self, events: &[RecordedEvent]) -> Result<(), Halt> {
        for event in events {
            let after = match self.order.next(event) {
                Ok(()) => continue,
                Err(Misplaced::Gap { after }) => {
                    if self.first_version_after(&event.stream, after).await? == Some(event.version)
                    {
                        continue;
                    }
                    after
                }
                Err(Misplaced::Backward { after }) => after,
            };
            let error = Error::new(ErrorKind::Disorder {
                stream: event.stream.clone(),
                reason: format!(
                    "version {} came after {after} at position {}",
                    event.version, event.position
                ),
            });
            self.stop_subscription(event, &error.to_string(), 1).await?;
            return Err(Halt::Paused);
        }
        Ok(())
    }

    async fn first_version_after(&self, stream: &str, version: i64) -> Result<Option<i64>, Halt> {
        let look = async {
            let conn = self.context.store.connector.pooled().await?;
            let rows = conn
                .rows(&calls::READ_STREAM, &[&stream, &version, &1_i32, &false])
                .await
                .map_err(|e| from_driver(e, Doing::Reading(stream)))?;
            Ok::<_, Error>(rows.first().and_then(|row| row.try_get(1).ok()))
        };
        Ok(self.hold.while_held(look).await??)
    }

    /// Has a page handled, and the checkpoint moved to its end.
    async fn handle_page(&mut self, page: Page) -> Result<(), Halt> {
        let Page {
            mut events,
            next_position,
            ..
        } = page;
        let mut done = 0;
        while done < events.len() {
            self.hold.why_not()?;
            let count = self.how_many(events.len() - done);
            let some = &events[done..done + count];
            let last = done + count == events.len();
            match self.handle(some, last.then_some(next_position)).await? {
                Outcome::Handled(count) => {
                    let handled = &events[done..done + count];
                    measure::handled(self.subscribed.name(), handled);
                    done += count;
                    self.at = if done == events.len() {
                        next_position
                    } else {
                        events[done - 1].position
                    };
                    self.one_by_one = self.one_by_one.saturating_sub(count);
                    self.progressed = true;
                }
                Outcome::OneByOne => self.one_by_one = count,
                Outcome::Parked => {
                    // Later events of the stream that are in hand already are held back as well.
                    let stream = events[done].stream.clone();
                    done += 1;
                    let rest = events.split_off(done);
                    events.extend(rest.into_iter().filter(|event| event.stream != stream));
                    if let Ahead::Here(page) = &mut self.ahead {
                        page.events.retain(|event| event.stream != stream);
                    }
                    self.order.forget(&stream);
                    self.one_by_one = self.one_by_one.saturating_sub(1);
                }
            }
            if self.subscribed.handler.manner() == Manner::Plain
                && self.checkpointed.elapsed() > CHECKPOINT_EVERY
            {
                self.save_checkpoint().await?;
            }
        }
        self.at = next_position;
        // A plain handler's checkpoint can wait while there is more to do; before a rest it is saved.
        if !matches!(self.ahead, Ahead::Fetching(_)) || self.checkpointed.elapsed() > SOON {
            self.save_checkpoint().await?;
        }
        let lag = *self.subscribed.news.borrow() - self.at;
        measure::lag(self.subscribed.name(), self.tenure.partition, lag);
        tracing::debug!(
            subscription = self.subscribed.name(),
            partition = self.tenure.partition,
            events = events.len(),
            checkpoint = self.at,
            lag = lag.max(0),
            "page handled"
        );
        Ok(())
    }

    fn how_many(&self, there: usize) -> usize {
        match self.subscribed.handler.manner() {
            Manner::Plain => 1,
            _ if self.one_by_one > 0 => 1,
            Manner::Transactional => there.min(PER_TRANSACTION),
            Manner::Batch => there,
        }
    }

    /// Has some events handled: together if there are several, and with patience if there is one. `page_end` is where to
    /// go on after the last of them, if that is not its own position.
    async fn handle(
        &mut self,
        events: &[RecordedEvent],
        page_end: Option<i64>,
    ) -> Result<Outcome, Halt> {
        let mark = Mark::Checkpoint { page_end };
        let (mut failed, mut outages) = (0, 0);
        loop {
            let fault = match self.attempt(events, failed + 1, &mark).await {
                Ok((count, checkpoint)) => {
                    self.checkpointed_at(checkpoint);
                    return Ok(Outcome::Handled(count));
                }
                Err(fault) => fault,
            };
            match fault {
                Fault::Halt(halt) => return Err(halt),
                Fault::Outage(error) => self.sit_out(&error, &mut outages).await?,
                Fault::Handler(error) if events.len() > 1 => {
                    let (name, partition) = (self.subscribed.name(), self.tenure.partition);
                    tracing::debug!(subscription = name, partition, %error, events = events.len(), "failed together, trying one by one");
                    return Ok(Outcome::OneByOne);
                }
                Fault::Handler(error) => {
                    let Some(event) = events.first() else {
                        return Ok(Outcome::OneByOne);
                    };
                    failed += 1;
                    if self.failed(event, failed, &error).await? {
                        return Ok(Outcome::Parked);
                    }
                }
            }
        }
    }

    async fn attempt(
        &self,
        events: &[RecordedEvent],
        attempt: u32,
        mark: &Mark<'_>,
    ) -> Result<(usize, Option<i64>), Fault> {
        let attempt = Attempt {
            store: &self.context.store,
            subscribed: self.subscribed,
            tenure: &self.tenure,
            events,
            attempt,
            mark,
        };
        self.hold.while_held(attempt.run()).await?
    }

    /// Tells the database how far everything is handled, unless it knows.
    async fn save_checkpoint(&mut self) -> Result<(), Halt> {
        if self.at > self.checkpoint {
            let Tenure {
                name,
                partition,
                fence,
            } = &self.tenure;
            self.repeat(&calls::CHECKPOINT, &[name, partition, fence, &self.at])
                .await?;
            self.checkpointed_at(Some(self.at));
        }
        Ok(())
    }

    fn checkpointed_at(&mut self, position: Option<i64>) {
        if let Some(position) = position {
            self.checkpoint = position;
            self.checkpointed = Instant::now();
        }
    }

    /// A call that may be repeated, until it gets through.
    async fn repeat(
        &self,
        call: &'static calls::Call,
        params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<(), Halt> {
        let mut outages = 0;
        loop {
            let once = async {
                let _turn = self.context.turn().await;
                let conn = self.context.store.connector.pooled().await?;
                conn.rows(call, params)
                    .await
                    .map_err(|e| from_driver(e, Doing::Reading(&self.tenure.name)))
            };
            match self.hold.while_held(once).await? {
                Ok(_) => return Ok(()),
                Err(error) if error.is_retryable() => {
                    let pause = doubled(Duration::from_millis(20), outages, Duration::from_secs(2));
                    outages += 1;
                    self.hold.while_held(tokio::time::sleep(pause)).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for news. `in_vain`: the last fetch found nothing, whatever the news say (an append is under way, or the
    /// subscription is paused or about to change): then it is tried again, ever more rarely.
    async fn rest(&mut self, in_vain: bool) -> Result<(), Halt> {
        const FIRST_PAUSE: Duration = Duration::from_millis(2);
        const LONGEST_PAUSE: Duration = Duration::from_secs(1);
        self.save_checkpoint().await?;
        self.vain = if in_vain { self.vain + 1 } else { 0 };
        let pause = doubled(FIRST_PAUSE, self.vain.saturating_sub(1), LONGEST_PAUSE);
        let mut news = self.subscribed.news.subscribe();
        let mut hint = self.subscribed.hint.subscribe();
        let mut status = self.subscribed.status.subscribe();
        let (old_news, was_paused) = (*news.borrow(), status.borrow().paused);
        loop {
            let (known, paused) = (*news.borrow_and_update(), status.borrow_and_update().paused);
            let expected = known > self.at;
            measure::lag(
                self.subscribed.name(),
                self.tenure.partition,
                known - self.at,
            );
            if self.parked_ready()
                || (was_paused && !paused)
                || (expected && !paused && (!in_vain || known > old_news))
                || (*hint.borrow_and_update() > self.at && !paused && !in_vain)
            {
                return Ok(());
            }
            let wait = async {
                tokio::select! {
                    changed = news.changed() => changed.map(|()| false),
                    // In vain once: then the news are waited for.
                    changed = hint.changed(), if !in_vain => changed.map(|()| false),
                    changed = status.changed() => changed.map(|()| false),
                    () = tokio::time::sleep(pause), if expected && !paused => Ok(true),
                }
            };
            match self.hold.while_working(wait).await? {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // The runner is gone.
                Err(_) => return Err(Halt::Stop),
            }
        }
    }
}
