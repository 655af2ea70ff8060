//! The one way past the append-only triggers: a flag that only native code can raise, for as long as one statement of
//! our own runs.

use std::cell::Cell;

use pgrx::prelude::*;

thread_local! {
    static ERASING: Cell<bool> = const { Cell::new(false) };
}

/// Lowers the flag again however the statement ends.
struct Erasing;

impl Erasing {
    fn begin() -> Self {
        ERASING.set(true);
        Self
    }
}

impl Drop for Erasing {
    fn drop(&mut self) {
        ERASING.set(false);
    }
}

#[pg_extern(sql = false)]
fn erase_events(stream_no: i64, before_version: i64) -> Result<Option<i64>, spi::Error> {
    let _erasing = Erasing::begin();
    Spi::get_one_with_args(
        "SELECT mire_internal.delete_events($1, $2)",
        &[stream_no.into(), before_version.into()],
    )
}

#[pg_extern(sql = false)]
fn erasing() -> bool {
    ERASING.get()
}
