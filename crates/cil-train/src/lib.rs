//! Recipes, terms, the one training loop, memory and metrics.
//!
//! A method is a value ([`recipe::Recipe`]); one loop runs them all. This crate opens no file, reads no clock and prints
//! nothing: it returns events.

pub mod event;
pub mod loss;
pub mod metrics;
