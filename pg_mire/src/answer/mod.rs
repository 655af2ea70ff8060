//! What functions answer.
//!
//! | module | what it does |
//! |---|---|
//! | [`rows`] | how SQL calls us; a row, or a set of rows, for everybody |
//! | [`packed`] | rows in one value, for drivers: faster to send and to read |

pub(crate) mod packed;
pub(crate) mod rows;
