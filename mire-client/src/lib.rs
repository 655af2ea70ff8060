#![doc = include_str!("../README.md")]

mod aggregate;
mod batch;
mod connection;
mod error;
mod event;
mod json;
mod lease;
mod packed;
mod projection;
mod repository;
#[doc(hidden)]
pub mod saga_support;
pub mod sqlstate;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;

pub use aggregate::{Aggregate, AggregateRoot, Command, Pending, Snapshot, stream_name};
pub use batch::SharedCommits;
pub use connection::Statements;
pub use error::{BoxError, Conflict, Error, ErrorKind, Result};
pub use event::{EventData, EventKind, Metadata, NewEvent, OldEvent, RecordedEvent};
pub use json::Json;
pub use lease::Lease;
pub use mire_client_derive::EventData;
pub use projection::{
    AnyHandler, Batch, BatchHandler, Handler, Incoming, InlineProjection, OnFailure,
    PartitionStatus, Plain, ProjectedEvent, ProjectionRunner, ProjectionRunnerBuilder, Raw,
    Rebuild, RebuildProgress, RetryPolicy, StartAt, Subscription, Transactional,
    TransactionalHandler, UnknownEvents, UpTo, measure,
};
pub use repository::{Repository, SendError, Sent};
pub use store::{
    EventStore, EventStoreBuilder, ExpectedVersion, FeedEvent, FeedPage, ReadAll, ReadStream,
    Recorded, SafePosition, StoreInfo,
};
pub use transaction::Transaction;

/// What the derive macros write refers to; no part of the API.
#[doc(hidden)]
pub mod private {
    pub use crate::event::{from_content, to_content};
    pub use serde_json::{Error as JsonError, from_slice};
}
