//! Data-free generative replay: generators, inversion losses and the inversion loop.
//!
//! A frozen teacher is inverted into a generator whose images replay the teacher's classes without any of its data
//! (DF-GR, Choi et al. 2021). Everything in here sees frozen networks, statistics and noise; no function takes an
//! image that it did not generate.

pub mod config;
pub mod generator;
pub mod invert;
pub mod loss;
pub mod moments;
pub mod replay;
pub mod targets;

pub use config::InversionConfig;
pub use invert::Inversion;
pub use replay::Replay;
pub use targets::Targets;
