//! Tests of the crate from outside, in one executable: each of their own would be compiled and linked with all that the
//! crate needs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod adopt;
mod answers;
mod diverged;
mod exemplars;
#[path = "../../../dtid/tests/support/mod.rs"]
mod golden;
mod learner;
mod loss;
mod maps;
mod pod;
mod podnet;
mod ranks;
mod resume;
mod rival_runs;
mod rivals;
mod schedule;
mod statistics;
mod support;
mod unshared;
