//! What the tests of pg_mire share. The tests themselves are in `tests/tests`, one promise a file.

pub mod session;
