//! The command line.
//!
//! This file defines the arguments and their help; their effect is decided where they are used. It reads no file.

mod audit;
mod ignored;
pub mod models;
mod report;
pub mod sweep;
mod target;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use audit::Audit;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
pub use report::{Files, Report, Table};
pub use sweep::{Doing, Sweep, SweepReport};
pub use target::{Presets, Show, Target};

/// The version with the commit that the program was built from, as in `env.json`.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CIL_CODE_VERSION"), ")");

const AFTER_HELP: &str = "\
Examples:
  cil-runner                                   compare methods on synthetic images, in minutes
  cil-runner protocols                         data sets and their tasks; see also `methods` and `show NAME`
  cil-runner run cifar100-10c lucir+dfgr --exemplars 0    the images come from `cargo xtask fetch-data cifar100`
  cil-runner run cifar100-10c-lwf --set recipe.increment.training.epochs=5 --seed 2
  cil-runner run runs/demo-lwf-s1/config.toml --out again
  cil-runner resume runs/cifar100-10c-lwf-s1   resume an interrupted run
  cil-runner report runs/cifar100-10c-lwf-s1   show a run's results
  cil-runner report runs/* --html report.html  compare runs, mean and spread over seeds, on a page with charts
  cil-runner sweep run compare.toml --jobs 2   every method with every seed; `cil-runner sweep --help` shows a file
  cil-runner bench                             speed of training and inversion steps on this machine

A run is a folder: config.toml (every setting, resolved), env.json (versions and digests), events.jsonl (the event log),
result.json (the numbers, computed from the events), model.safetensors. Its name ends in `.partial` until it is finished.

Results go to standard output, progress to standard error.
Exit status: 0 success, 1 failure, 2 wrong command or configuration, 75 a run or a sweep was interrupted and saved, and
can be resumed.";

/// Class-incremental learning without the old images.
///
/// Learns image classes in several steps. The methods differ in what they keep of the old classes: nothing, exemplars,
/// or a generator trained from the old model alone (DF-GR), with one or two teachers (DT-ID).
#[derive(Debug, Parser)]
#[command(name = "cil-runner", version = VERSION, max_term_width = 120, after_help = AFTER_HELP)]
pub struct Cli {
    /// The command; the demo by default.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of every command.
    #[command(flatten)]
    pub global: Global,
}

impl Cli {
    /// The command line as its help shows it: each command without the options that it would ignore.
    pub fn shown() -> clap::Command {
        ignored::hidden(Self::command())
    }

    /// Parses a command line, the program's name first.
    ///
    /// # Errors
    /// If it cannot be parsed, has an option that its command would ignore, or asks for help or version.
    pub fn read<I, T>(line: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let mut command = Self::shown();
        let matches = command.try_get_matches_from_mut(line)?;
        ignored::check(&matches)
            .map_err(|message| clap::Error::raw(ErrorKind::ArgumentConflict, format!("{message}\n")))?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// Settings that every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Where data sets live
    #[arg(long, global = true, value_name = "DIR", default_value = "datasets")]
    pub data_dir: PathBuf,
    /// Where run folders go
    #[arg(long, global = true, value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,
    /// Device: cpu, cuda or cuda:N (an NVIDIA GPU), or auto (a GPU if build and driver support one, else the CPU)
    #[arg(long, global = true, value_name = "DEVICE", default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
    /// Seed of weights, batches, augmentation and noise [default: the configuration's]
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
    /// Number of threads [default: all cores]; does not change the result
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Implementation of the networks; auto takes the best instructions of this processor. Results of two
    /// implementations differ in the last bits
    #[arg(long, global = true, value_enum, default_value_t = Kernels::Auto)]
    pub kernels: Kernels,
    /// On a GPU: submit every kernel by itself instead of replaying steps as CUDA graphs. Slower, with the same bits
    #[arg(long, global = true)]
    pub no_cuda_graphs: bool,
    /// Print JSON, and no progress
    #[arg(long, global = true)]
    pub json: bool,
    /// Stop, as after a signal, when standard input ends; a sweep uses this for its runs
    #[arg(long, global = true, hide = true)]
    pub lifeline: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compare methods on synthetic images and print two tables
    Demo,
    /// Run a method in a protocol, or a configuration from a file
    #[command(after_help = "\
Examples:
  cil-runner run demo lwf
  cil-runner run cifar100-b50-t5 lucir+dfgr+dtid --exemplars 20 --head statistics
  cil-runner run demo-lwf                      protocol and method joined: a preset
  cil-runner run demo-lwf --set 'increments=[4,2,2]' --set classes=8
  cil-runner run cifar100-10c-lucir-e20 --set recipe.base.training.learning-rate=0.05 --name slower
  cil-runner run demo-lwf --tensorboard logs    and `tensorboard --logdir logs` beside it
  cil-runner run cifar100-10c-lwf --set evaluate-on='\"validation\"' --set validation-per-class=50

A file is the config.toml of a run folder. Values of --set are TOML; a bare word is a string. Put a value with brackets,
braces or quotes between single quotes, or the shell reads it.")]
    Run(Run),
    /// Resume an interrupted run; the result is the same as without the interruption
    #[command(after_help = "\
Examples:
  cil-runner resume runs/cifar100-10c-lwf-s1.partial
  cil-runner resume runs/cifar100-10c-lwf-s1            the same

The run continues from its newest intact checkpoint, with the same images and kernels; the number of threads may differ.
A finished run is left unchanged.")]
    Resume(Resume),
    /// Train a generator from a model and measure how useful its images would be for replay
    #[command(after_help = "\
Examples:
  cil-runner run demo-lucir-e0 --seed 1        trains the model to invert
  cil-runner run demo-lucir-e0 --seed 2        trains one with another seed
  cil-runner audit demo-lucir-e0-dfgr --base-model s1/base.safetensors --other-model s2/base.safetensors
  cil-runner audit --oracle runs/demo-lwf-s1   where a finished run loses accuracy, task by task

With --oracle what was found is kept as audit.json in the run's folder, its digest in SHA256SUMS, and nothing else there
changes; report shows it on the page.")]
    Audit(Audit),
    /// Measure the speed of training and inversion steps on this machine
    #[command(after_help = "\
Examples:
  cil-runner bench                             all steps of ResNet-32, batch 128
  cil-runner bench --work train --model resnet18 --rounds 20
  cil-runner bench --model resnet18 --side 224 --batch 16
  echo train | cil-runner bench --serve        one step for each line read, for a comparison (docs/speed.md)

GFLOP counts convolutions and linear layers as direct computation does them, a multiply-add as two; an algorithm that
needs fewer (Winograd) can show a rate above the machine's peak.")]
    Bench(Bench),
    /// Run and compare many methods, seeds, class orders and splits from one file
    #[command(after_help = sweep::AFTER_HELP)]
    #[command(subcommand)]
    Sweep(Sweep),
    /// Commands on a model file and your own images
    #[command(flatten)]
    Models(models::Command),
    /// List protocols: which classes come in which tasks, with which network
    Protocols,
    /// List methods: base methods, and the parts that can be added
    Methods,
    /// Print the source, the published and the measured numbers of a protocol, a method or a preset
    #[command(after_help = "\
Examples:
  cil-runner show cifar100-b50-t5              a protocol, and the numbers of its methods
  cil-runner show lucir+dfgr                   a method, and its numbers in every protocol
  cil-runner show cifar100-b50-t5 lucir        both: source, published and measured numbers
  cil-runner show cifar100-b50-t5-lucir        the same, as a preset's name")]
    Show(Show),
    /// List presets, which are protocols and methods joined
    #[command(after_help = "\
Examples:
  cil-runner presets cifar100-10c              the presets of a protocol
  cil-runner presets icarl                     those with this in their name
  cil-runner presets --all                     every preset with its source and numbers")]
    Presets(Presets),
    /// Show the results of one run, or compare several (tables, HTML, CSV, TensorBoard)
    #[command(after_help = report::AFTER_HELP)]
    Report(Report),
    /// Print a manual page: the program's, or a command's
    #[command(after_help = "\
Examples:
  cil-runner man > cil-runner.1
  cil-runner man run | man -l -")]
    Man {
        /// The command
        #[arg(value_name = "COMMAND")]
        of: Option<String>,
    },
    /// Print a script for shell completion
    #[command(after_help = "\
Examples:
  cil-runner completions bash > ~/.local/share/bash-completion/completions/cil-runner
  cil-runner completions zsh > ~/.zfunc/_cil-runner")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct Run {
    /// The preset, method or file to run.
    #[command(flatten)]
    pub target: Target,
    /// Change one key of the configuration; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Name of the run folder [default: PRESET-sSEED, or that of the file; with a hash where --set changes something]
    #[arg(long, value_name = "NAME", overrides_with = "name")]
    pub name: Option<String>,
    /// Take the base classes' model from a file (base.safetensors of another run) instead of training it
    #[arg(long, value_name = "FILE")]
    pub base_model: Option<PathBuf>,
    /// Write losses and accuracies as event files of TensorBoard during the run, in a folder of its name
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    /// How often a run is saved, at most
    #[command(flatten)]
    pub checkpoints: Checkpoints,
    /// Print the checked configuration and an estimate of time and memory from a few steps of each phase, then exit
    #[arg(long)]
    pub dry_run: bool,
    /// Leave the estimate of --dry-run out
    #[arg(long, requires = "dry_run")]
    pub no_estimate: bool,
}

/// Arguments of `resume`.
#[derive(Args, Debug)]
pub struct Resume {
    /// The run folder, with or without its suffix `.partial`
    pub run: PathBuf,
    /// Write losses and accuracies as event files of TensorBoard during the run, in a folder of its name
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    /// How often a run is saved, at most
    #[command(flatten)]
    pub checkpoints: Checkpoints,
}

/// How often a run is saved.
#[derive(Args, Clone, Copy, Debug)]
pub struct Checkpoints {
    /// Least time between two checkpoints; with 0 every epoch is saved. A run that is interrupted is saved anyway
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_SECONDS)]
    pub checkpoint_every: u32,
}

/// Seconds between two checkpoints.
const DEFAULT_SECONDS: u32 = 10;

impl Default for Checkpoints {
    fn default() -> Self {
        Self { checkpoint_every: DEFAULT_SECONDS }
    }
}

/// Arguments of `bench`.
#[derive(Args, Debug)]
pub struct Bench {
    /// Step to measure [default: every step that the model supports]
    #[arg(long, value_enum)]
    pub work: Option<Work>,
    /// The network of train and eval; invert and step are of ResNet-32
    #[arg(long, value_enum, default_value_t = Model::Resnet32)]
    pub model: Model,
    /// Height and width of ResNet-18's images [default: 64]; up to 32 the network has the small stem, without a pool
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(16..=512))]
    pub side: Option<u16>,
    /// Images in a step [default: 128, for ResNet-18 64]; a learning step has as many generated ones in addition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..))]
    pub batch: Option<u16>,
    /// Number of timed steps, after two untimed ones
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Do one step for each line of standard input (train, eval, invert or step) and answer `WALL_MS CPU_MS`
    #[arg(long, conflicts_with_all = ["work", "rounds", "json"])]
    pub serve: bool,
}

/// The work of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Forward, cross-entropy, backward, SGD.
    Train,
    /// Forward with running statistics.
    Eval,
    /// A generator is trained from the frozen network: images, batch-norm statistics, labels, Adam.
    Invert,
    /// A whole learning step of LUCIR with data-free replay and two teachers, 50 old and 10 new classes.
    Step,
}

/// The network of a bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Model {
    /// 3x32x32, 100 classes.
    Resnet32,
    /// ImageNet's stem, 3x64x64 or as --side says, 200 classes.
    Resnet18,
}

/// The implementation that runs the networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kernels {
    /// The best that this processor has; tf32 on a GPU.
    Auto,
    /// AVX-512.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// Plain Rust.
    Portable,
    /// candle's own operations: slow, for checks.
    Reference,
    /// On a GPU: f32 throughout.
    Exact,
    /// On a GPU: f32, convolutions in TF32.
    Tf32,
    /// On a GPU: maps in bf16, weights and sums in f32.
    Bf16,
}

/// Where to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU, counted from 0.
    Cuda(usize),
    /// A GPU if this build has one to offer, the processor otherwise.
    Auto,
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("cuda:").map(str::parse);
        match (text, number) {
            ("cpu", _) => Ok(Self::Cpu),
            ("auto", _) => Ok(Self::Auto),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(Ok(number))) => Ok(Self::Cuda(number)),
            _ => Err(format!("{text:?} is not a device; use cpu, cuda, cuda:N or auto")),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(0) => formatter.write_str("cuda"),
            Self::Cuda(number) => write!(formatter, "cuda:{number}"),
            Self::Auto => formatter.write_str("auto"),
        }
    }
}

#[cfg(test)]
mod tests;
