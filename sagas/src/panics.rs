//! Panics of the program's own code (decides, gates, maps, effects, publishers) are failures of one instance and nobody else's.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::topology::Fault;

/// A panic is a fault like any other.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(Fault(format!("panicked: {}", panic_text(&*panic)))))
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
