//! The rows of the table, in its order. Ids are those of the project's list of workloads where there is one.

mod aggregates;
mod append;
mod batch;
mod catch_up;
mod cpu;
mod disk;
mod generate;
mod growth;
mod hot_stream;
mod load;
mod projections;
mod sagas;
mod shared;
mod wake;

pub(crate) use append::{Appender, check_complete, check_complete_in};
pub(crate) use growth::Growth;
pub(crate) use hot_stream::{Contender, contend};

use crate::row::Row;
use crate::world::Sizes;

/// All but those about growth.
pub(crate) fn all(sizes: Sizes, message_db: bool) -> Vec<Row> {
    let mut rows = aggregates::rows();
    rows.extend(hot_stream::rows());
    rows.extend(load::rows());
    rows.extend(wake::rows());
    rows.extend(shared::rows(message_db));
    rows.extend(projections::rows(sizes));
    rows.extend(catch_up::rows(sizes));
    rows.extend(sagas::rows());
    rows.extend(cpu::rows());
    rows.extend(append::rows());
    rows.extend(disk::rows());
    rows
}
