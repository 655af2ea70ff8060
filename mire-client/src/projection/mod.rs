//! Projections: read models that follow the feed. [`ProjectionRunner`] is the way in.
//!
//! From the outside in: [`runner`] starts a [`fleet`], which takes partitions and gives each a [`worker`]; a worker works a
//! [`shift`] under one fence: fetches pages, checks their order, and makes one [`attempt`] after the other to have events
//! handled. [`news`] wakes them.

mod attempt;
mod context;
mod fleet;
mod halt;
mod handler;
mod hold;
mod incoming;
mod inline;
pub mod measure;
mod news;
mod operate;
mod order;
mod page;
mod rebuild;
mod retry;
mod runner;
mod share;
mod shift;
mod subscription;
mod wait_for;
mod worker;

pub use handler::{
    AnyHandler, Batch, BatchHandler, Handler, Plain, Transactional, TransactionalHandler,
    UnknownEvents,
};
pub use incoming::{Incoming, ProjectedEvent, Raw};
pub use inline::InlineProjection;
pub use operate::PartitionStatus;
pub use rebuild::{Rebuild, RebuildProgress};
pub use retry::{OnFailure, RetryPolicy};
pub use runner::{ProjectionRunner, ProjectionRunnerBuilder};
pub use subscription::{StartAt, Subscription};
pub use wait_for::UpTo;
