//! What can be typed after `report`.
//!
//! One decision: a report is of run folders alone, and each form of it goes to a file of its own.

use std::path::PathBuf;

use clap::Args;

pub(super) const AFTER_HELP: &str = "\
Examples:
  cil-runner report runs/demo-lwf-s1
  cil-runner report runs/demo-lwf-s1 runs/demo-lwf-s2 runs/demo-joint-s1 --html report.html
  cil-runner report runs/demo-lwf-s1.partial --html now.html    a run that still goes, as far as it came
  cil-runner report runs/* --csv numbers.csv --tensorboard logs && tensorboard --logdir logs
  cil-runner report runs --verify                               whether anything rotted, in all run folders below

Runs whose settings differ in nothing but the seed are one group, and its mean and sample standard deviation are over its
whole runs, each seed once. Runs with different class orders are different groups, as in the report of a sweep.

The page is one file and loads nothing. The CSV file has a row for each number: run, method, seed, task, metric, value.";

/// Arguments of `report`.
#[derive(Args, Debug)]
pub struct Report {
    /// Run folders, whole or still going (NAME.partial)
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// Write a page with tables, charts and pictures
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,
    /// Write every number as one tidy table
    #[arg(long, value_name = "FILE.csv")]
    pub csv: Option<PathBuf>,
    /// Write losses and accuracies as event files of TensorBoard, a folder for each run
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    /// Show nothing of the runs, but whether each file is what its run wrote: events, models, settings, pictures
    #[arg(long, conflicts_with_all = ["html", "csv", "tensorboard"])]
    pub verify: bool,
}
