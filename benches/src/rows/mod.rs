//! The rows of the table, in its order. Ids are those of the project's list of workloads where there is one.

mod append;
mod batch;
mod catch_up;
mod cpu;
mod fixtures;
mod load;
mod shared;

pub(crate) use append::{Appender, check_complete};
pub(crate) use fixtures::Fixtures;

use crate::row::Row;

/// All of them.
pub(crate) fn all() -> Vec<Row> {
    let mut rows = append::rows();
    rows.extend(shared::rows());
    rows.extend(load::rows());
    rows.extend(catch_up::rows());
    rows.extend(cpu::rows());
    rows
}
