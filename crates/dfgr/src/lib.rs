//! Data-free generative replay: generators, inversion losses and the inversion loop.

pub mod loss;
