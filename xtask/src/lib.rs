//! Tasks of the workspace: fetching and checking data, and the source tree's own lints.
//!
//! This crate meets the rest of the workspace only through the folder layout of `dataset`; it depends on no workspace
//! crate, so a data set can be fetched where nothing else builds. It trains nothing and uses no tensor.

pub mod advisories;
pub mod dataset;
pub mod fetch;
pub mod keys;
pub mod licences;
pub mod lint;
pub mod source;
pub mod tidy;

mod digest;
mod download;
mod progress;

pub use download::Client;
