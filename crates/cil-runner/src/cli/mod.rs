//! The command line: arguments, standard output, the ways a command ends, and signals.

pub mod args;
pub mod failure;
pub mod interrupt;
pub mod output;
