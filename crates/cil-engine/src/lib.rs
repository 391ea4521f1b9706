//! Networks as data and the executors that run them.
