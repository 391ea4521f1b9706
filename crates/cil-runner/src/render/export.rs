//! Records for other programs.
//!
//! One decision: an export holds what the run recorded and what `result.json` says, and computes nothing.

pub mod live;
pub mod tables;
pub mod tensorboard;
