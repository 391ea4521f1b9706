//! The arguments of `sweep`.
//!
//! A sweep is defined by its file; the arguments say only what to do with it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::report::{Files, Table};

pub(super) const AFTER_HELP: &str = "\
Examples:
  cil-runner sweep plan compare.toml           its runs and base models, which are done, and the time left
  cil-runner sweep run compare.toml --jobs 2   run what is not finished; repeat it after any interruption
  cil-runner sweep status compare.toml
  cil-runner sweep task compare.toml --index 3   one job, on any machine with access to the folder
  cil-runner sweep script compare.toml --for slurm > compare.sh
  cil-runner sweep report compare.toml         mean and spread over seeds, differences to the baseline

A file:
  seeds = [1, 2, 3]
  # Published names, lists of labels, or seeds; may be left out.
  orders = [{ seed = 1 }, { seed = 2 }]
  # true: first seed with first order, second with second; may be left out.
  paired = false
  # Classes of each task; may be left out.
  splits = [[6, 2, 2], [2, 2, 2, 2, 2]]
  # Changes for all methods, as with --set; may be left out.
  set = [\"recipe.base.training.epochs=20\"]
  # May be left out.
  baseline = \"lwf\"
  [[method]]
  preset = \"demo-lwf\"
  [[method]]
  name = \"lucir-wide\"
  # A config.toml, relative to the sweep's file.
  config = \"lucir.toml\"
  set = [\"architecture.width=32\"]
  # One method for each value; may also be given for all methods.
  grid = { \"recipe.increment.training.learning-rate\" = [0.1, 0.05] }

The folder is OUT/NAME for NAME.toml. Base models that several runs need are trained once, in its folder bases.
Exit status of run: 0 all done, 1 a run failed (the others are done), 75 interrupted; run it again. The next call tries
failed runs again, but not runs that diverged: the same settings would diverge again.";

/// The commands on a sweep.
#[derive(Debug, Subcommand)]
pub enum Sweep {
    /// Show the runs, their shared base models, which are done, and an estimate of time and memory
    Plan {
        /// The sweep's file
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
        /// Skip the estimate
        #[arg(long)]
        no_estimate: bool,
    },
    /// Run everything in the sweep that is not finished yet
    Run {
        /// The sweep's file
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
        /// Runs at a time; --threads are divided among them
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        jobs: u16,
        /// How runs are done
        #[command(flatten)]
        doing: Doing,
    },
    /// Run one job by its number, after the base model that it needs; for array jobs of a scheduler
    ///
    /// A finished job is skipped, a job that another task works on is waited for, an interrupted one is resumed.
    /// Exit status: 0 the job is done, 1 it failed, 75 it was interrupted and saved.
    Task {
        /// The sweep's file
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
        /// The job's number, as `sweep plan` shows it
        #[arg(long, value_name = "N", conflicts_with = "index_from")]
        index: Option<usize>,
        /// Read the job's number from this environment variable, such as SLURM_ARRAY_TASK_ID
        #[arg(long, value_name = "VARIABLE")]
        index_from: Option<String>,
        /// How runs are done
        #[command(flatten)]
        doing: Doing,
    },
    /// Print a script that submits the sweep's jobs to a scheduler
    Script {
        /// The sweep's file
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
        /// The scheduler
        #[arg(long = "for", value_name = "SCHEDULER")]
        scheduler: Scheduler,
        /// Resources of a job
        #[command(flatten)]
        resources: Resources,
    },
    /// Show the state of each run, and the accuracy of finished ones
    Status {
        /// The sweep's file
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
    },
    /// Compare the methods over their seeds, as `cil-runner report` does; in a pipe as Markdown
    Report(SweepReport),
}

/// Options of the runs of a sweep.
#[derive(Args, Clone, Debug, Default)]
pub struct Doing {
    /// Write event files of TensorBoard during the runs, a folder for each; those of base models below the folder bases
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    /// Also run again the runs that diverged, and remove their folders. Other failures are always tried again
    #[arg(long)]
    pub retry_failed: bool,
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
    /// The content of the table.
    #[command(flatten)]
    pub table: Table,
    /// The files to write of the finished runs.
    #[command(flatten)]
    pub files: Files,
}

/// A scheduler that a script can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scheduler {
    /// Two arrays, the runs after the base models; requeued when they are cut off
    Slurm,
    /// Task arrays of a HyperQueue server
    Hyperqueue,
    /// An Indexed Job; needs --image and --claim
    Kubernetes,
}

/// Resources that a job asks a scheduler for.
#[derive(Clone, Debug, Args)]
pub struct Resources {
    /// Processor cores of a job, which are its threads
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub cpus: u16,
    /// Jobs at a time
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub at_a_time: u16,
    /// Time limit of a job, for Slurm; a job that needs longer is requeued and resumes
    #[arg(long, value_name = "HH:MM:SS", default_value = "04:00:00", value_parser = time_limit)]
    pub time: String,
    /// Container image that has this program, for Kubernetes
    #[arg(long)]
    pub image: Option<String>,
    /// Volume claim that holds the sweep's file, the data and the runs, for Kubernetes
    #[arg(long)]
    pub claim: Option<String>,
    /// Where the claim is mounted, for Kubernetes
    #[arg(long, value_name = "DIR", default_value = "/shared")]
    pub mount: String,
}

/// A time limit as Slurm writes it.
fn time_limit(text: &str) -> Result<String, String> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let parts: Vec<&str> = clock.split(':').collect();
    let digits =
        |part: &&str| !part.is_empty() && part.len() <= 4 && part.bytes().all(|it| it.is_ascii_digit());
    let right = parts.len() <= 3 && parts.iter().chain([&days]).all(digits);
    if right { Ok(text.to_owned()) } else { Err("write it as HH:MM:SS or D-HH:MM:SS".to_owned()) }
}
