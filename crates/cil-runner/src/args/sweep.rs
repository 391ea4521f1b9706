//! What can be typed after `sweep`.
//!
//! One decision: what a sweep is stands in its file; the arguments say only what to do with it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::report::{Files, Table};

pub(super) const AFTER_HELP: &str = "\
Examples:
  cil-runner sweep plan compare.toml           its runs, what they share, what is done, and how long the rest takes
  cil-runner sweep run compare.toml --jobs 2   do what is missing; again and again, after whatever interrupted it
  cil-runner sweep status compare.toml
  cil-runner sweep report compare.toml         mean and spread over seeds, differences to the baseline

A file:
  seeds = [1, 2, 3]
  orders = [{ seed = 1 }, { seed = 2 }]        # or published names, or lists of labels; may be left out
  paired = false                               # true: first seed with first order, second with second; may be left out
  splits = [[6, 2, 2], [2, 2, 2, 2, 2]]        # classes of each task; may be left out
  set = [\"recipe.base.training.epochs=20\"]     # for all methods, as --set takes it; may be left out
  baseline = \"lwf\"                             # may be left out
  [[method]]
  preset = \"demo-lwf\"
  [[method]]
  name = \"lucir-wide\"
  config = \"lucir.toml\"                        # a config.toml, seen from the sweep's file
  set = [\"architecture.width=32\"]
  grid = { \"recipe.increment.training.learning-rate\" = [0.1, 0.05] }   # a method for each value; also for all methods

The folder is OUT/NAME for NAME.toml. Base models that several runs need are trained once, in its folder bases.
Exit status of run: 0 all is done, 1 a run failed (the others were done), 75 interrupted, to be run again.";

/// What to do with a sweep.
#[derive(Debug, Subcommand)]
pub enum Sweep {
    /// Show the runs, what they share, what is done already, and an estimate of time and memory
    Plan {
        /// The sweep's file
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
        /// Measure nothing, estimate nothing
        #[arg(long)]
        no_estimate: bool,
    },
    /// Do what is missing
    Run {
        /// The sweep's file
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
        /// Runs at a time; --threads are divided among them
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        jobs: u16,
    },
    /// Show where each run stands, and the accuracy of those that are done
    Status {
        /// The sweep's file
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
    },
    /// Compare the methods over their seeds, as `cil-runner report` does; in a pipe as Markdown
    Report(SweepReport),
}

/// Arguments of `sweep report`.
#[derive(Args, Debug)]
pub struct SweepReport {
    /// The sweep's file
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// The method that others are compared with, seed by seed [default: the file's]
    #[arg(long, value_name = "METHOD")]
    pub baseline: Option<String>,
    /// What the table shows.
    #[command(flatten)]
    pub table: Table,
    /// What is written of the runs that are done.
    #[command(flatten)]
    pub files: Files,
}
