//! Recipes, terms, the one training loop, memory and metrics.
//!
//! A method is a value ([`recipe::Recipe`]); one loop runs them all. This crate opens no file, reads no clock and
//! prints nothing: it returns events.

mod adversarial;
mod answers;
pub mod audit;
mod discriminant;
mod diverged;
pub mod evaluate;
pub mod event;
pub mod kmeans;
pub mod learner;
mod logistic;
mod looks;
pub mod loss;
pub mod means;
mod memory;
pub mod methods;
pub mod metrics;
mod phase;
mod phase_kind;
pub mod plan;
pub mod recipe;
pub mod schedule;
mod start;
pub mod step;
pub mod term;
mod turned;

pub use diverged::Diverged;
