//! Senders of one process to one stream take turns: each decides on what the ones before it decided, and while an append
//! of the stream is in flight the next decisions gather and go together, as one append, when it has landed. When it has not
//! (another process was faster) what was decided on top of it never leaves, and is decided again.
//!
//! The idea is group commit, one level higher: not the log's records are gathered but the decisions about one stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::{Mutex as AsyncMutex, watch};

use super::SendError;
use crate::aggregate::{Aggregate, AggregateRoot, Command, stream_name};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Metadata, NewEvent};
use crate::store::{EventStore, ExpectedVersion, Recorded};

use super::Sent;

/// A group holds so many events and bytes at most, unless one command alone decides on more.
const MOST: (usize, usize) = (256, 1 << 20);

/// The desks at which senders meet, by stream. One is there as long as somebody stands at it.
pub(super) struct Turns<A: Aggregate> {
    copy: fn(&A) -> A,
    desks: Arc<Mutex<HashMap<String, Weak<Desk<A>>>>>,
}

impl<A: Aggregate> Clone for Turns<A> {
    fn clone(&self) -> Self {
        Self {
            copy: self.copy,
            desks: self.desks.clone(),
        }
    }
}

/// Where the senders to one stream meet.
struct Desk<A: Aggregate> {
    stream: String,
    copy: fn(&A) -> A,
    open: Mutex<Open<A>>,
    /// Held by the one who loads.
    loading: AsyncMutex<()>,
    desks: Arc<Mutex<HashMap<String, Weak<Desk<A>>>>>,
}

/// What whoever's turn it is may look at.
struct Open<A> {
    /// None: to be loaded.
    newest: Option<Newest<A>>,
    /// How the append in flight ends.
    flying: Option<watch::Receiver<Fate>>,
    gathered: Option<Group>,
}

/// The stream with all that was decided here, landed or not.
struct Newest<A> {
    state: A,
    version: i64,
    /// Nobody else had appended to it then.
    proven: Instant,
}

/// Decisions that go together.
struct Group {
    /// The version that they were decided on.
    base: i64,
    events: Vec<NewEvent>,
    bytes: usize,
    /// Nobody may join.
    sealed: bool,
    fate: watch::Sender<Fate>,
}

/// What becomes of a group.
#[derive(Clone, Debug)]
enum Fate {
    Open,
    /// Sent at this moment, and recorded.
    Landed(Instant, Recorded),
    Failed(Error),
    /// Never sent: what it was decided on did not land.
    Void,
}

/// What a sender comes with.
#[derive(Clone, Copy)]
struct Turn<'c, C> {
    command: &'c C,
    metadata: Option<&'c Metadata>,
    began: Instant,
    alone: bool,
}

/// What a sender does next.
enum Next<A: Aggregate, R> {
    Return(Result<Sent<A>, SendError<R>>),
    /// Return this if that lands, sent since the command came.
    If(watch::Receiver<Fate>, Result<Sent<A>, SendError<R>>),
    /// A member of a group: its part of the events ends so many after the group's base.
    Wait(Box<Member<A>>),
    /// When that has ended, from the beginning.
    After(watch::Receiver<Fate>),
    Again,
}

struct Member<A: Aggregate> {
    aggregate: AggregateRoot<A>,
    events: Vec<NewEvent>,
    /// The version after them.
    version: i64,
    alone: bool,
    fate: watch::Receiver<Fate>,
}

impl<A: Aggregate + Clone> Turns<A> {
    pub(super) fn new() -> Self {
        Self {
            copy: A::clone,
            desks: Arc::default(),
        }
    }
}

impl<A: Aggregate> Turns<A> {
    fn desk(&self, stream: String) -> Arc<Desk<A>> {
        let mut desks = locked(&self.desks);
        if let Some(desk) = desks.get(&stream).and_then(Weak::upgrade) {
            return desk;
        }
        let desk = Arc::new(Desk {
            stream: stream.clone(),
            copy: self.copy,
            open: Mutex::new(Open {
                newest: None,
                flying: None,
                gathered: None,
            }),
            loading: AsyncMutex::default(),
            desks: self.desks.clone(),
        });
        desks.insert(stream, Arc::downgrade(&desk));
        desk
    }

    /// As [`Repository::send`](super::Repository::send) says.
    pub(super) async fn send<C: Command<Aggregate = A>>(
        &self,
        store: &EventStore,
        id: &str,
        command: &C,
        metadata: Option<&Metadata>,
        retry: u32,
    ) -> Result<Sent<A>, SendError<C::Rejection>> {
        let desk = self.desk(stream_name::<A>(id));
        let began = Instant::now();
        let mut retries = 0;
        let mut alone = false;
        loop {
            desk.load(store, id).await?;
            let turn = Turn {
                command,
                metadata,
                began,
                alone,
            };
            let mut member = match desk.turn(store, id, turn)? {
                Next::Return(sent) => return sent.map(|sent| Sent { retries, ..sent }),
                Next::Again => continue,
                Next::If(mut fate, sent) => match fate.wait_for(Fate::is_known).await.as_deref() {
                    Ok(Fate::Landed(sent_at, _)) if *sent_at >= began => {
                        return sent.map(|sent| Sent { retries, ..sent });
                    }
                    _ => continue,
                },
                Next::After(mut fate) => {
                    // How it ended shows at the desk.
                    let _ = fate.wait_for(Fate::is_known).await;
                    continue;
                }
                Next::Wait(member) => member,
            };
            let fate = match member.fate.wait_for(Fate::is_known).await {
                Ok(fate) => fate.clone(),
                // Whoever flew it is gone, with its runtime.
                Err(_) => Fate::Failed(Error::new(ErrorKind::OutcomeUnknown {
                    what: desk.stream.clone(),
                })),
            };
            match fate {
                Fate::Landed(_, recorded) => return Ok(member.landed(recorded, retries)),
                Fate::Failed(error) if error.is_conflict() && retries < retry => retries += 1,
                // One of the others may have been at fault.
                Fate::Failed(error) if !member.alone && is_definite(&error) => alone = true,
                Fate::Failed(error) => return Err(error.into()),
                Fate::Void | Fate::Open => {}
            }
        }
    }
}

impl<A: Aggregate> Member<A> {
    fn landed(mut self, recorded: Recorded, retries: u32) -> Sent<A> {
        self.aggregate.saved(self.events.len(), self.version);
        Sent {
            recorded: Recorded {
                version: self.version,
                ids: self.events.iter().map(|event| event.id).collect(),
                ..recorded
            },
            aggregate: self.aggregate,
            retries,
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refused as it is, wholly and for good.
fn is_definite(error: &Error) -> bool {
    !error.is_conflict() && !error.is_outcome_unknown() && !error.is_retryable()
}

impl Fate {
    fn is_known(&self) -> bool {
        !matches!(self, Self::Open)
    }
}

impl<A: Aggregate> Desk<A> {
    /// Makes sure that there is something to decide on.
    async fn load(&self, store: &EventStore, id: &str) -> Result<()> {
        if locked(&self.open).newest.is_some() {
            return Ok(());
        }
        let _only = self.loading.lock().await;
        if locked(&self.open).newest.is_some() {
            return Ok(());
        }
        let proven = Instant::now();
        let root = store.load_or_default::<A>(id).await?;
        locked(&self.open).newest = Some(Newest {
            version: root.version(),
            state: root.into_state(),
            proven,
        });
        Ok(())
    }

    fn turn<C: Command<Aggregate = A>>(
        self: &Arc<Self>,
        store: &EventStore,
        id: &str,
        turn: Turn<'_, C>,
    ) -> Result<Next<A, C::Rejection>> {
        let mut open = locked(&self.open);
        // Put back when all has gone well: a state that panicked half-way is not to be decided on.
        let Some(mut newest) = open.newest.take() else {
            return Ok(Next::Again);
        };
        let state = (self.copy)(&newest.state);
        let mut aggregate = AggregateRoot::at(id.to_owned(), state, newest.version);
        if let Some(metadata) = turn.metadata {
            aggregate.set_metadata(metadata.clone());
        }
        let decided = aggregate.execute(turn.command);
        if !matches!(decided, Ok(count) if count > 0) {
            let sent = match decided {
                Ok(_) => Ok(Sent {
                    recorded: Recorded::nothing(&aggregate),
                    aggregate,
                    retries: 0,
                }),
                Err(rejection) => Err(SendError::Rejected(rejection)),
            };
            // It writes nothing that would be refused if it had been decided on something stale. So what it was decided on
            // has to be known to have been so in its time.
            let gathered = open.gathered.as_ref().map(|group| group.fate.subscribe());
            let next = match gathered.or_else(|| open.flying.clone()) {
                Some(fate) => Next::If(fate, sent),
                None if newest.proven < turn.began => return Ok(Next::Again),
                None => Next::Return(sent),
            };
            open.newest = Some(newest);
            return Ok(next);
        }

        let events: Vec<_> = match aggregate.to_new_events() {
            Ok(events) => events.into_iter().flatten().collect(),
            Err(error) => {
                open.newest = Some(newest);
                return Err(error);
            }
        };
        let bytes = events.iter().map(NewEvent::weight).sum();
        if let Some(group) = &open.gathered
            && (turn.alone || !group.has_room(events.len(), bytes))
        {
            let fate = group.fate.subscribe();
            open.newest = Some(newest);
            return Ok(Next::After(fate));
        }
        let base = newest.version;
        for pending in aggregate.pending() {
            newest.state.apply(&pending.event);
        }
        // At most `mire.max_events_per_call`, or the database refuses them.
        newest.version += i64::try_from(events.len()).unwrap_or(i64::MAX);
        let version = newest.version;
        open.newest = Some(newest);
        let group = open.gathered.get_or_insert_with(|| Group {
            base,
            events: Vec::new(),
            bytes: 0,
            sealed: turn.alone,
            fate: watch::Sender::new(Fate::Open),
        });
        group.events.extend(events.iter().cloned());
        group.bytes += bytes;
        let fate = group.fate.subscribe();
        if open.flying.is_none() {
            open.flying = Some(fate.clone());
            let flight = Flight {
                desk: self.clone(),
                landed: false,
            };
            tokio::spawn(flight.fly(store.clone()));
        }
        Ok(Next::Wait(Box::new(Member {
            aggregate,
            events,
            version,
            alone: turn.alone,
            fate,
        })))
    }
}

impl Group {
    fn has_room(&self, events: usize, bytes: usize) -> bool {
        !self.sealed && self.events.len() + events <= MOST.0 && self.bytes + bytes <= MOST.1
    }
}

/// Whoever takes what has gathered to the store.
struct Flight<A: Aggregate> {
    desk: Arc<Desk<A>>,
    landed: bool,
}

impl<A: Aggregate> Flight<A> {
    /// Group after group, until nothing has gathered.
    async fn fly(mut self, store: EventStore) {
        while let Some(group) = self.next() {
            let sent_at = Instant::now();
            let base = ExpectedVersion::Exactly(group.base);
            let outcome = store.append(&self.desk.stream, base, group.events).await;
            let fate = match outcome {
                Ok(recorded) => {
                    if let Some(newest) = &mut locked(&self.desk.open).newest {
                        newest.proven = sent_at;
                    }
                    Fate::Landed(sent_at, recorded)
                }
                Err(error) => {
                    self.desk.begin_anew();
                    Fate::Failed(error)
                }
            };
            group.fate.send_replace(fate);
        }
    }

    fn next(&mut self) -> Option<Group> {
        let mut open = locked(&self.desk.open);
        let group = open.gathered.take();
        open.flying = group.as_ref().map(|group| group.fate.subscribe());
        self.landed = group.is_none();
        group
    }
}

impl<A: Aggregate> Desk<A> {
    /// What is known is not so: what was decided on it is void.
    fn begin_anew(&self) {
        let mut open = locked(&self.open);
        open.newest = None;
        if let Some(group) = open.gathered.take() {
            group.fate.send_replace(Fate::Void);
        }
    }
}

impl<A: Aggregate> Drop for Flight<A> {
    /// Ended early, with its runtime.
    fn drop(&mut self) {
        if !self.landed {
            self.desk.begin_anew();
            locked(&self.desk.open).flying = None;
        }
    }
}

impl<A: Aggregate> Drop for Desk<A> {
    fn drop(&mut self) {
        let mut desks = locked(&self.desks);
        // Another may stand in its place already.
        if desks
            .get(&self.stream)
            .is_some_and(|desk| desk.strong_count() == 0)
        {
            desks.remove(&self.stream);
        }
    }
}
