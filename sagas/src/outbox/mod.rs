//! The outbox: requests that no effect fulfils in this process. They were committed with the decision to ask, and are
//! handed to a publisher at least once each, in order within an instance.

mod driver;
mod inside;
mod keeper;
mod publisher;

pub(crate) use driver::{Outbox, Patience};
pub(crate) use inside::Inside;
pub(crate) use publisher::AnyPublisher;
pub use publisher::{EmitPublisher, OutboxMessage, PublishError, Published};
