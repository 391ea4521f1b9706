//! What an operation takes here, by phase.
//!
//! One decision: a learner of the same recipe and networks is driven over noise, about a batch of old classes and one
//! of new ones, through two tasks that are as short as can be; the first unit of a phase is not timed, since it fetches
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
use cil_train::event::{Event, PhaseKind};
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
    /// Values of student and teachers, and what the student's optimiser keeps.
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
        if let (Event::Progress { phase: PhaseKind::Inversion, .. }, Some(replay)) =
            (&event, learner.replay())
        {
            // A run makes a picture of as many.
            replay.sample(run::PICTURED.0, Draw::new(0, "estimate"))?;
        }
        if interrupt.is_asked() {
            return Err(Interrupted("interrupted".to_owned()).into());
        }
        unit = Reading::now();
    }
    let network_bytes = learner.model().map_or(0, |model| network_bytes(checked, model));
    Ok(Measured { wall: meter.wall, processor: meter.processor, network_bytes })
}

/// Student with gradient and momentum, and its teachers.
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
    // A whole batch, and the part of one that the run itself ends its epochs with: a step of another size takes memory of
    // its own.
    let and_rest = |batch: usize, images: usize| batch + images % batch;
    let base = and_rest(recipe.base.training.batch, sizes.train_of(checked.increments().classes(0)));
    let new = match tasks {
        1 => 0,
        _ => {
            and_rest(recipe.increment.training.batch, sizes.train_of(checked.increments().classes(tasks - 1)))
        }
    };
    let mut counts = spread(n_old, base);
    counts.extend(spread(n_new, new));
    let tested = spread(n_old + n_new, and_rest(EVALUATED, sizes.test_of(0..n_old + n_new)));
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::args::{DeviceName, Global, Kernels};
    use crate::commands::configuration;

    #[test]
    fn every_phase_of_a_recipe_is_timed() {
        let global = Global {
            data_dir: PathBuf::new(),
            out: PathBuf::new(),
            device: DeviceName::Cpu,
            seed: None,
            threads: None,
            kernels: Kernels::Auto,
            json: false,
            lifeline: false,
        };
        let engine = Engine::new(&global).unwrap();
        let changes =
            ["architecture.width=4", "recipe.replay.inversion.generator.channels=8"].map(str::to_owned);
        let checked = configuration("demo-lucir-e20-dfgr-dtidkl", &changes, None).unwrap();
        let sizes = Sizes { image: [3, 32, 32], train: vec![250; 10], test: vec![50; 10] };
        let measured = measure(&checked, &sizes, &engine, &Interrupt::default()).unwrap();
        let activities: Vec<Activity> = measured.wall.keys().copied().collect();
        use Activity::{Base, Evaluation, Inversion, Memory, NewTeacher, Student};
        assert_eq!(activities, [Inversion, NewTeacher, Base, Student, Memory, Evaluation]);
        assert!(measured.wall.values().all(|pace| pace.work > 0.0 && pace.seconds > 0.0));
        let asked = Interrupt::default();
        asked.ask();
        assert!(measure(&checked, &sizes, &engine, &asked).unwrap_err().is::<Interrupted>());
    }

    #[test]
    fn images_are_spread_over_classes() {
        assert_eq!(spread(3, 8), [3, 3, 2]);
        assert_eq!(spread(3, 2), [1, 1, 1]);
        assert_eq!(spread(0, 2), Vec::<usize>::new());
        assert_eq!((units(1e30), units(1e10), units(1.0)), (3, 4, 20));
    }
}
