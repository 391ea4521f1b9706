//! The time of an operation on this machine, by phase.
//!
//! A learner of the same recipe and networks is driven over noise, about a batch of old classes and one of new ones,
//! through two tasks that are as short as possible; the first unit of a phase is not timed, since it allocates memory.
//! The trained weights are discarded.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use cil_backbone::Frozen;
use cil_data::store::{TestSet, TrainSet};
use cil_engine::optim::Schedule;
use cil_random::Draw;
use cil_train::event::{Event, PhaseKind};
use cil_train::learner::Learner;
use dfgr::{Inversion, InversionConfig};

use super::forecast::Pace;
use super::short::{short_run, units};
use super::workload::{Activity, Item, items};
use crate::cli::failure::Interrupted;
use crate::cli::interrupt::Interrupt;
use crate::config::Checked;
use crate::config::sizes::Sizes;
use crate::engine::Engine;
use crate::engine::machine;
use crate::render::pictures;
use crate::setup;

/// The measurements.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Seconds that passed, by activity.
    pub wall: BTreeMap<Activity, Pace>,
    /// Processor time of all threads; `None` where the system does not report it.
    pub processor: Option<BTreeMap<Activity, Pace>>,
    /// Values of student and teachers, and what the student's optimiser keeps.
    pub network_bytes: u64,
}

/// Does some steps of each phase of a run.
///
/// # Errors
/// If an executor fails, or the user interrupts it.
pub fn measure(checked: &Checked, sizes: &Sizes, engine: &Engine, interrupt: &Interrupt) -> Result<Measured> {
    let (small, train, test) = short_run(checked, sizes, engine)?;
    let context = ShortRun { checked: &small, engine, train: &train, test: &test };
    let own = Sizes::of_images(&train, &test);
    let mut meter = Meter { items: items(&small, &own, false)?, ..Meter::default() };
    let mut learner = Learner::new(setup::plan(&small, engine))?;
    let mut unit = Reading::now();
    while let Some(event) = learner.advance(&train)? {
        let is_first = matches!(event, Event::Progress { done: 1, .. });
        if !is_first {
            meter.note(&event, unit.took());
        }
        if let Event::TaskLearned { task, .. } = event {
            context.evaluation(&learner, task, &mut meter)?;
            if let (0, Some(model)) = (task, learner.model()) {
                context.inversions(model, &mut meter)?;
            }
        }
        let inverted = match &event {
            Event::Progress { phase: PhaseKind::Inversion, .. } => learner.replay(),
            Event::Progress { phase: PhaseKind::NewInversion, .. } => learner.new_replay(),
            _ => None,
        };
        if let Some(replay) = inverted {
            // A run makes a picture of as many.
            replay.sample(pictures::PICTURED.0, Draw::new(0, "estimate"))?;
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
        let Some((task, activity)) = event.activity() else { return };
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

/// The inputs of the short run.
struct ShortRun<'a> {
    checked: &'a Checked,
    engine: &'a Engine,
    train: &'a TrainSet,
    test: &'a TestSet,
}

impl ShortRun<'_> {
    /// Class means and one evaluation; once before it, untimed, where it is the first.
    fn evaluation(&self, learner: &Learner, task: usize, meter: &mut Meter) -> Result<()> {
        let once = || learner.evaluator(self.train)?.evaluate(self.test);
        if task == 0 {
            once()?;
        }
        let start = Reading::now();
        let evaluation = once()?;
        meter.note(&Event::TaskEnd { task, evaluation }, start.took());
        Ok(())
    }

    /// Both inversions; the base model has the new teacher's form, but for its classes.
    fn inversions(&self, model: &Frozen, meter: &mut Meter) -> Result<()> {
        let recipe = &self.checked.config().recipe;
        if let Some(replay) = &recipe.replay {
            self.inversion(&replay.inversion, Activity::Inversion, model, meter)?;
        }
        if let Some(replay) = &recipe.new_replay {
            self.inversion(&replay.inversion, Activity::NewInversion, model, meter)?;
        }
        Ok(())
    }

    /// Some iterations of an inversion of the base model, after one that is not timed.
    fn inversion(
        &self,
        inversion: &InversionConfig,
        activity: Activity,
        model: &Frozen,
        meter: &mut Meter,
    ) -> Result<()> {
        let item = meter.items.iter().find(|it| it.activity == activity).copied();
        let Some(item) = item else { return Ok(()) };
        // The short run's inversion is one iteration long.
        let of_one = item.total() / inversion.iterations as f64;
        let count = units(of_one);
        let schedule = Schedule::constant();
        let mut inversion = InversionConfig { iterations: count, schedule, ..inversion.clone() };
        if inversion.weights.features > 0.0 {
            // What it takes beside the networks is little, and there are no statistics yet.
            inversion.weights.features = 0.0;
            inversion.weights.statistics.weight = inversion.weights.statistics.weight.max(1.0);
        }
        let (executors, device, seed) =
            (&self.engine.executors, &self.engine.device, self.checked.config().seed);
        let mut inversion = Inversion::new(inversion, model.clone(), executors, seed, 1, device)?;
        inversion.advance(1)?;
        let start = Reading::now();
        inversion.advance(count)?;
        meter.add(activity, of_one * (count - 1) as f64, start.took());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::cli::args::{DeviceName, Global, Kernels};
    use crate::presets::target::configuration;

    #[test]
    fn every_phase_of_a_recipe_is_timed() {
        let global = Global {
            data_dir: PathBuf::new(),
            out: PathBuf::new(),
            device: DeviceName::Cpu,
            seed: None,
            threads: None,
            kernels: Kernels::Auto,
            no_cuda_graphs: false,
            json: false,
            lifeline: false,
        };
        let engine = Engine::new(&global).unwrap();
        let mut changes = vec!["architecture.width=4", "recipe.replay.inversion.generator.channels=8"];
        let of = |preset: &str, changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|it| (*it).to_owned()).collect();
            configuration(preset, &changes, None).unwrap()
        };
        let checked = of("demo-lucir-e20-dfgr-dtidkl", &changes);
        let sizes = Sizes { image: [3, 32, 32], train: vec![250; 10], test: vec![50; 10] };
        let measured = measure(&checked, &sizes, &engine, &Interrupt::default()).unwrap();
        let activities: Vec<Activity> = measured.wall.keys().copied().collect();
        use Activity::{Base, Evaluation, Inversion, Memory, NewInversion, NewTeacher, Student};
        assert_eq!(activities, [Inversion, NewTeacher, Base, Student, Memory, Evaluation]);
        assert!(measured.wall.values().all(|pace| pace.work > 0.0 && pace.seconds > 0.0));
        changes.push("recipe.new-replay.inversion.generator.channels=8");
        let unshared = of("demo-lucir-e0-dfgr-dtid-unshared", &changes);
        let measured = measure(&unshared, &sizes, &engine, &Interrupt::default()).unwrap();
        for activity in [Inversion, NewTeacher, NewInversion, Student] {
            assert!(measured.wall[&activity].work > 0.0 && measured.wall[&activity].seconds > 0.0);
        }
        let asked = Interrupt::default();
        asked.ask();
        assert!(measure(&checked, &sizes, &engine, &asked).unwrap_err().is::<Interrupted>());
    }
}
