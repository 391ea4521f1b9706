//! `bench`: how long the steps take that a run is made of.
//!
//! The work of a step is in [`classifier`] and [`learning`], its arithmetic in [`flops`](crate::estimate::flops), and
//! the clock is read in [`measure`] and [`serve`] alone. Everything that is made once is made before the clock starts.
//! A rate is never given without the machine's own peak beside it.

pub mod classifier;
pub mod learning;
pub mod measure;
pub mod networks;
pub mod serve;

use anyhow::Result;
use clap::ValueEnum;

use crate::cli::args::{Bench, Global};
pub use crate::cli::args::{Model, Work};
use crate::cli::failure::bad_input;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::engine::Engine;
use classifier::Classifier;
use learning::Learning;

/// The settings of a benchmark.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// Seed of weights, images and noise.
    pub seed: u64,
    /// Images in a step.
    pub batch: usize,
    /// Height and width of ResNet-18's images.
    pub side: usize,
}

/// Does what the arguments say.
///
/// # Errors
/// If the model cannot do the work, or an executor fails.
pub fn bench(
    arguments: &Bench,
    global: &Global,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    if let Some(work) = arguments.work {
        check(work, arguments.model)?;
    }
    if let (Some(side), Model::Resnet32) = (arguments.side, arguments.model) {
        return Err(bad_input(format!(
            "--side {side} is for --model resnet18; resnet32's images are 32 pixels high and wide"
        )));
    }
    let engine = Engine::new(global)?;
    let batch = arguments.batch.unwrap_or(match arguments.model {
        Model::Resnet32 => 128,
        Model::Resnet18 => 64,
    });
    let setting = Setting {
        engine: &engine,
        seed: global.seed.unwrap_or(1),
        batch: usize::from(batch),
        side: arguments.side.map_or(networks::RESNET18_SIDE, usize::from),
    };
    if arguments.serve {
        return serve::serve(arguments.model, &setting, interrupt, std::io::stdin().lock(), output);
    }
    let works: Vec<Work> = match arguments.work {
        Some(work) => vec![work],
        None => Work::value_variants()
            .iter()
            .copied()
            .filter(|work| check(*work, arguments.model).is_ok())
            .collect(),
    };
    let report =
        measure::measure(arguments.model, &works, usize::from(arguments.rounds), &setting, interrupt)?;
    if output.json {
        return output.value(&report);
    }
    output.text(&report.text())
}

/// Refuses a work that the model has not.
fn check(work: Work, model: Model) -> Result<()> {
    match (work, model) {
        (Work::Invert | Work::Step, Model::Resnet18) => Err(bad_input(format!(
            "--model resnet18 cannot {}: generator and learning step are of resnet32; use --work train or eval",
            name(&work)
        ))),
        _ => Ok(()),
    }
}

/// The name of a work or a model as it is typed.
fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default()
}

/// One kind of work, ready to be done again and again.
enum Ready {
    Classifier(Box<Classifier>, Work),
    Learning(Box<Learning>),
}

impl Ready {
    fn new(work: Work, model: Model, setting: &Setting<'_>) -> Result<Self> {
        check(work, model)?;
        Ok(match work {
            Work::Step => Self::Learning(Box::new(Learning::new(setting)?)),
            _ => Self::Classifier(Box::new(Classifier::new(model, work == Work::Invert, setting)?), work),
        })
    }

    fn step(&mut self) -> Result<()> {
        match self {
            Self::Classifier(it, Work::Train) => it.train(),
            Self::Classifier(it, Work::Invert) => it.invert(),
            Self::Classifier(it, _) => it.eval(),
            Self::Learning(it) => it.step(),
        }
    }

    /// Operations of one step.
    fn flops(&self) -> f64 {
        match self {
            Self::Classifier(it, work) => it.flops(*work),
            Self::Learning(it) => it.flops(),
        }
    }
}
