//! What an operation takes here, by phase.
//!
//! One decision: a learner of the same recipe and networks is driven over noise, a batch of old classes and a batch of
//! new ones, through two tasks that are as short as can be; the first unit of a phase is not timed, since it fetches
//! memory. Nothing that it learns is kept.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use cil_backbone::Frozen;
use cil_data::dataset::{Dataset, Evaluate};
use cil_data::store::{Images, TestSet, TrainSet};
use cil_engine::optim::Schedule;
use cil_random::Draw;
use cil_train::evaluate::evaluate;
use cil_train::event::Event;
use cil_train::learner::Learner;
use cil_train::recipe::Training;
use dfgr::Inversion;

use super::forecast::Pace;
use super::sizes::Sizes;
use super::workload::{Activity, Item, items, reported};
use crate::config::{Checked, RunConfig};
use crate::engine::Engine;
use crate::failure::Interrupted;
use crate::interrupt::Interrupt;
use crate::machine;
use crate::run;

/// Images that are classified to time it; one batch of `cil_train::evaluate`.
const EVALUATED: usize = 250;
/// Operations that a phase is timed for, if it has enough units: some tenths of a second of two threads.
const ENOUGH: f64 = 3e10;
/// Units of a phase, the first of which is not timed.
const UNITS: std::ops::RangeInclusive<usize> = 3..=20;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Seconds that passed, by activity.
    pub wall: BTreeMap<Activity, Pace>,
    /// Processor time of all threads; `None` where the system does not tell.
    pub processor: Option<BTreeMap<Activity, Pace>>,
    /// Values of all networks, and what their optimisers keep.
    pub network_bytes: u64,
}

/// Does some steps of each phase of a run.
///
/// # Errors
/// If an executor fails, or the user interrupts it.
pub fn measure(checked: &Checked, sizes: &Sizes, engine: &Engine, interrupt: &Interrupt) -> Result<Measured> {
    let (small, train, test) = small(checked, sizes)?;
    let around = Around { checked: &small, engine, train: &train, test: &test };
    let own = Sizes::of_images(&train, &test);
    let mut meter = Meter { items: items(&small, &own, false)?, ..Meter::default() };
    let mut learner = Learner::new(run::plan(&small, engine))?;
    let mut unit = Reading::now();
    while let Some(event) = learner.advance(&train)? {
        let is_first = matches!(event, Event::Progress { done: 1, .. });
        if !is_first {
            meter.note(&event, unit.took());
        }
        if let Event::TaskLearned { task, .. } = event {
            around.evaluation(&learner, task, &mut meter)?;
            if let (0, Some(model)) = (task, learner.model()) {
                around.inversion(model, &mut meter)?;
            }
        }
        if interrupt.is_asked() {
            return Err(Interrupted("interrupted".to_owned()).into());
        }
        unit = Reading::now();
    }
    let network_bytes = learner.model().map_or(0, |model| network_bytes(checked, model));
    Ok(Measured { wall: meter.wall, processor: meter.processor, network_bytes })
}

/// Student with gradient and momentum, both teachers, and the generator with Adam's two moments and its gradient.
fn network_bytes(checked: &Checked, model: &Frozen) -> u64 {
    let values: usize = model.snapshot().parameters.iter().map(|(_, value)| value.elem_count()).sum();
    let recipe = &checked.config().recipe;
    let later = checked.increments().tasks() > 1 && !recipe.joint;
    let networks = 3 + usize::from(later) + usize::from(later && recipe.new_teacher.is_some());
    (values * networks * size_of::<f32>()) as u64
}

/// The clock and the processor's.
struct Reading(Instant, Option<f64>);

impl Reading {
    fn now() -> Self {
        Self(Instant::now(), machine::processor_milliseconds())
    }

    /// Seconds since, and seconds of processor time.
    fn took(&self) -> (f64, Option<f64>) {
        let processor = self.1.zip(machine::processor_milliseconds());
        (self.0.elapsed().as_secs_f64(), processor.map(|(before, after)| (after - before) / 1e3))
    }
}

/// Sums up what was timed.
#[derive(Default)]
struct Meter {
    items: Vec<Item>,
    wall: BTreeMap<Activity, Pace>,
    processor: Option<BTreeMap<Activity, Pace>>,
}

impl Meter {
    fn note(&mut self, event: &Event, took: (f64, Option<f64>)) {
        let Some((task, activity)) = reported(event) else { return };
        let is_it = |it: &&Item| it.task == task && it.activity == activity;
        if let Some(item) = self.items.iter().find(is_it).copied() {
            self.add(activity, item.work, took);
        }
    }

    fn add(&mut self, activity: Activity, work: f64, (wall, processor): (f64, Option<f64>)) {
        let add = |paces: &mut BTreeMap<Activity, Pace>, seconds| {
            let pace = paces.entry(activity).or_default();
            pace.work += work;
            pace.seconds += seconds;
        };
        add(&mut self.wall, wall);
        if let Some(processor) = processor {
            add(self.processor.get_or_insert_default(), processor);
        }
    }
}

/// What the short run has at hand.
struct Around<'a> {
    checked: &'a Checked,
    engine: &'a Engine,
    train: &'a TrainSet,
    test: &'a TestSet,
}

impl Around<'_> {
    /// Class means and one evaluation; once before it, untimed, where it is the first.
    fn evaluation(&self, learner: &Learner, task: usize, meter: &mut Meter) -> Result<()> {
        let model = learner.model().context("a task was learned without a model")?;
        let (increments, device) = (self.checked.increments(), &self.engine.device);
        let once = || {
            let means = learner.class_means(self.train)?;
            evaluate(model, &means, self.test, increments, task, learner.preparation(), device)
        };
        if task == 0 {
            once()?;
        }
        let start = Reading::now();
        let evaluation = once()?;
        meter.note(&Event::TaskEnd { task, evaluation }, start.took());
        Ok(())
    }

    /// Some iterations of an inversion of the base model, after one that is not timed.
    fn inversion(&self, model: &Frozen, meter: &mut Meter) -> Result<()> {
        let config = self.checked.config();
        let item = meter.items.iter().find(|it| it.activity == Activity::Inversion).copied();
        let (Some(replay), Some(item)) = (&config.recipe.replay, item) else { return Ok(()) };
        // The short run's inversion is one iteration long.
        let of_one = item.total() / replay.inversion.iterations as f64;
        let count = units(of_one);
        let inversion = dfgr::InversionConfig { iterations: count, ..replay.inversion.clone() };
        let (executors, device) = (&self.engine.executors, &self.engine.device);
        let mut inversion = Inversion::new(inversion, model.clone(), executors, config.seed, 1, device)?;
        inversion.advance(1)?;
        let start = Reading::now();
        inversion.advance(count)?;
        meter.add(Activity::Inversion, of_one * (count - 1) as f64, start.took());
        Ok(())
    }
}

/// Units of a phase whose unit has that many operations.
fn units(work: f64) -> usize {
    let enough = (ENOUGH / work.max(1.0)).ceil() as usize + 1;
    enough.clamp(*UNITS.start(), *UNITS.end())
}

/// The short run: the classes before the last task as base, the last task's after them, and images of noise for both.
fn small(checked: &Checked, sizes: &Sizes) -> Result<(Checked, TrainSet, TestSet)> {
    let config = checked.config();
    let tasks = checked.increments().tasks();
    let n_old = checked.increments().seen(tasks.saturating_sub(2));
    let n_new = if tasks > 1 { checked.increments().sizes()[tasks - 1] } else { 0 };
    let recipe = &config.recipe;
    let batch = recipe.increment.training.batch.max(recipe.base.training.batch);
    let mut counts = spread(n_old, recipe.base.training.batch);
    counts.extend(spread(n_new, batch));
    let tested = spread(n_old + n_new, EVALUATED);
    let own = Sizes { image: sizes.image, train: counts, test: tested };

    let mut short = RunConfig {
        classes: n_old + n_new,
        increments: if tasks > 1 { vec![n_old, n_new] } else { vec![n_old] },
        validation_per_class: 0,
        evaluate_on: Evaluate::Test,
        ..config.clone()
    };
    let once = items(&shortened(short.clone(), &BTreeMap::new())?, &own, false)?;
    let epochs = once.iter().map(|it| (it.activity, units(it.work))).collect();
    short = shortened(short, &epochs)?.config().clone();
    let (train, test) = noise(checked, &own)?;
    Ok((short.check().context("a short run")?, train, test))
}

/// The same with that many epochs of each phase, two where nothing is said, and one iteration of an inversion.
fn shortened(mut config: RunConfig, epochs: &BTreeMap<Activity, usize>) -> Result<Checked> {
    let cut = |training: &mut Training, activity| {
        training.epochs = epochs.get(&activity).copied().unwrap_or(2);
        training.schedule = Schedule::constant();
        // Noise teaches nothing, and a high rate may make it diverge.
        training.learning_rate = training.learning_rate.min(1e-4);
    };
    let recipe = &mut config.recipe;
    cut(&mut recipe.base.training, Activity::Base);
    cut(&mut recipe.increment.training, Activity::Student);
    if let Some(teacher) = &mut recipe.new_teacher {
        cut(&mut teacher.training, Activity::NewTeacher);
    }
    if let Some(balance) = &mut recipe.balance {
        cut(&mut balance.training, Activity::Balance);
    }
    if let Some(replay) = &mut recipe.replay {
        replay.inversion.iterations = 1;
    }
    config.check().context("a short run")
}

/// `images` images over `classes` classes, at least one of each.
fn spread(classes: usize, images: usize) -> Vec<usize> {
    let over = images % classes.max(1);
    (0..classes).map(|class| (images / classes + usize::from(class < over)).max(1)).collect()
}

/// Images of noise of the run's classes.
fn noise(checked: &Checked, sizes: &Sizes) -> Result<(TrainSet, TestSet)> {
    let [channels, height, width] = sizes.image;
    let labels = checked.order().labels();
    let mut stream = Draw::new(0, "estimate").stream("pixels");
    let mut images = |counts: &[usize]| {
        let of_class = labels.iter().zip(counts).flat_map(|(label, count)| vec![*label as u16; *count]);
        let labels: Vec<u16> = of_class.collect();
        let pixels = (0..labels.len() * channels * height * width).map(|_| stream.below(256) as u8).collect();
        Images::new(height, width, pixels, labels)
    };
    let (train, test) = (images(&sizes.train)?, images(&sizes.test)?);
    let classes = checked.config().classes_of_dataset()?;
    let names = (0..classes).map(|class| format!("noise {class}")).collect();
    let dataset = Dataset::of_images("noise", names, train, test)?;
    dataset.split(checked.order(), 0, Evaluate::Test)
}
