//! Tests of several rooms together: damaged and extreme input, and every method on as little as can be.

mod malformed_input;
mod tiny;
