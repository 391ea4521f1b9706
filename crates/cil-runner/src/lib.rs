//! The command line: presets, run folders, progress and reports.
//!
//! One decision: this is the only crate that knows paths, the clock, JSON, the terminal and signals; it drives a learner
//! and records what the learner returns. Every number of a run that it shows is computed from recorded events;
//! [`mod@bench`] shows times instead. It defines no loss.

pub mod args;
pub mod audit;
pub mod bench;
pub mod checkpoint;
pub mod clock;
pub mod commands;
pub mod comparison;
pub mod config;
pub mod demo;
pub mod engine;
pub mod environment;
pub mod estimate;
pub mod export;
pub mod failure;
pub mod figure;
pub mod figures;
pub mod follow;
pub mod gather;
pub mod integrity;
pub mod interrupt;
pub mod listing;
pub mod machine;
pub mod model;
pub mod models;
pub mod naming;
pub mod output;
pub mod overlay;
pub mod page;
pub mod paper;
pub mod pictures;
pub mod presets;
pub mod progress;
pub mod ranks;
pub mod record;
pub mod recorded;
pub mod report;
pub mod run;
pub mod show;
pub mod statistics;
pub mod summary;
pub mod sweep;
pub mod table;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tiny;
