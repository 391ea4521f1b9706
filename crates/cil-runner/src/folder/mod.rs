//! A run's folder: what its files are, how they are written, and whether they are still what the run wrote.
//!
//! Invariant: nothing half-written ever has a final name, and this computes no number of a result.

pub mod checkpoint;
pub mod clock;
pub mod contents;
pub mod environment;
pub mod files;
pub mod follow;
pub mod integrity;
pub mod log;
pub mod name;
pub mod sums;
pub mod writer;
