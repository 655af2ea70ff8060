//! What has happened to one instance: [`Fact`]s in the instance's stream, and the [`Instance`] they add up to.

mod fact;
mod instance;
mod progress;
mod words;

pub use fact::{Cause, Outcome};
pub(crate) use fact::{Fact, Parent, RecordedRequest};
pub(crate) use instance::{Instance, Signalled};
pub(crate) use progress::Progress;
pub use progress::{StepStatus, UndoStatus};
