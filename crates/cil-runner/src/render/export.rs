//! Records for other programs.
//!
//! An export holds what the run recorded and what `result.json` says, and computes nothing.

pub mod live;
pub mod tables;
pub mod tensorboard;
