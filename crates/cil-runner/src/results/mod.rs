//! The numbers of runs: computed from recorded events, of one run and of several.
//!
//! Invariant: `result.json` is a pure function of `config.toml` and `events.jsonl`.

pub mod comparison;
pub mod figure;
pub mod found;
pub mod gather;
pub mod images;
pub mod recorded;
pub mod result;
pub mod statistics;
pub mod stored;
pub mod summary;
