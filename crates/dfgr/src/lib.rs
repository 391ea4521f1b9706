//! Data-free generative replay: generators, inversion losses and the inversion loop.
