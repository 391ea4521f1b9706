//! The command line: presets, run folders, progress and reports.
//!
//! This is the only crate that uses paths, the clock, JSON, the terminal and signals; it drives a learner and records
//! what the learner returns. Every number of a run that it shows is computed from recorded events; [`commands::bench`]
//! shows times instead. It defines no loss.

pub mod cli;
pub mod commands;
pub mod config;
pub mod drive;
pub mod engine;
pub mod estimate;
pub mod folder;
pub mod models;
pub mod presets;
pub mod render;
pub mod results;
pub mod setup;

#[cfg(test)]
mod tests;
