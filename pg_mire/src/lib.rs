//! The native half of pg_mire.
