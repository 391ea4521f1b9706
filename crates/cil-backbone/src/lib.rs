//! Backbones, growing heads, snapshots and frozen teachers.
//!
//! A [`Network`] is a backbone, run by an executor, and a head, run by candle's autograd. Its names are field paths,
//! and an initial value is a function of (seed, name). A [`Frozen`] network holds plain tensors and no variable, so
//! nothing can train it. This crate contains neither tasks nor losses.

pub mod align;
pub mod backbone;
pub mod cells;
pub mod file;
pub mod foreign;
pub mod frozen;
pub mod head;
pub mod network;
pub mod resnet;

pub use backbone::{Backbone, OwnBackbone};
pub use cells::StageCells;
pub use file::{Model, ModelCard};
pub use frozen::{Frozen, Probe, Running};
pub use head::{Head, HeadKind, HeadOutput, HeadWeights};
pub use network::{Network, Outputs, Snapshot};
pub use resnet::{Architecture, Variant};

/// The tap of a backbone's pooled features.
pub const POOLED: &str = "pooled";
