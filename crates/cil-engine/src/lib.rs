//! Networks as data, and the executors that run them.
//!
//! A network is a [`Graph`]: a list of nodes in order, described once. An [`Executor`] runs it forward and
//! backward, with candle tensors at the boundary. The networks are where the time goes, so they do not use
//! candle's autograd; losses and heads, which are small, do.
//!
//! This crate contains no method and no label, and of losses only measures of maps ([`measures`]) and of rows
//! ([`rows`]). It is the only crate with `unsafe` code.

pub mod bounds;
pub mod captures;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod executor;
mod fusion;
pub mod graph;
pub mod measures;
#[expect(unsafe_code, reason = "an option of an allocator in C")]
pub mod memory;
pub mod meter;
pub mod optim;
pub mod parameters;
pub mod ranks;
pub mod reference;
pub mod rows;
#[cfg(test)]
mod testing;
pub mod uploads;

pub use executor::{
    BatchMoments, Executor, ExecutorFactory, ForwardSpec, Gradients, Keep, MomentGradient, Norm,
    NormStatistics, NormUpdate, Pass, Share, Tape, Upstream,
};
pub use graph::{Graph, GraphBuilder, Node, NodeId, Op, Shape};
pub use parameters::{Init, ParameterKind, ParameterSpec, Parameters};
