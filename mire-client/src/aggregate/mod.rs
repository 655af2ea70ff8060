//! The domain's side, with no database in it: state folded from events ([`Aggregate`]), decisions ([`Command`]), and
//! an aggregate at work with the events it has yet to save ([`AggregateRoot`]).

mod command;
mod fate;
mod root;
mod snapshot;
mod state;

pub use command::Command;
pub(crate) use fate::{Ending, Fate};
pub use root::{AggregateRoot, Pending};
pub use snapshot::Snapshot;
pub(crate) use snapshot::is_due;
pub use state::{Aggregate, stream_name};
