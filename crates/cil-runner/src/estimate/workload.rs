//! What a run will do, counted from its configuration.
//!
//! One decision: an item is what one kind of event reports of one task, and its work is counted in floating-point
//! operations of networks (see [`flops`]), as [`cil_train::learner`] will ask for them. What networks do not do (herding,
//! pictures) is left out: the rate that is measured beside it carries it. It measures nothing.

use anyhow::Result;
use cil_engine::{ForwardSpec, Shape};
use cil_train::event::{Event, PhaseKind};
use cil_train::recipe::{PhaseSpec, ReplaySpec, Trained};
use dfgr::InversionConfig;
use dfgr::generator::generator;

use super::sizes::Sizes;
use crate::bench::flops;
use crate::config::Checked;

/// Images of a generator for each of its classes when class means are taken (see `cil_train::means`).
const SYNTHETIC_PER_CLASS: usize = 100;

/// What is being done, as far as its speed goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    /// A generator is trained.
    Inversion,
    /// The new teacher is trained.
    NewTeacher,
    /// A second generator is trained.
    NewInversion,
    /// The base classes are learned.
    Base,
    /// A later task is learned.
    Student,
    /// The head is balanced.
    Balance,
    /// The head's bias is corrected.
    BiasCorrection,
    /// Exemplars are chosen.
    Memory,
    /// Class means are taken, and images are classified.
    Evaluation,
}

impl Activity {
    /// Its name on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inversion => "inversion",
            Self::NewTeacher => "new teacher",
            Self::NewInversion => "new inversion",
            Self::Base => "base classes",
            Self::Student => "student",
            Self::Balance => "balance",
            Self::BiasCorrection => "bias correction",
            Self::Memory => "choice of exemplars",
            Self::Evaluation => "evaluation",
        }
    }
}

/// What one task asks of one activity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    /// From 0.
    pub task: usize,
    /// What is done.
    pub activity: Activity,
    /// Units, an event each.
    pub units: usize,
    /// Floating-point operations of a unit.
    pub work: f64,
}

impl Item {
    /// Floating-point operations of all units.
    pub fn total(&self) -> f64 {
        self.units as f64 * self.work
    }
}

/// The activity that an event reports, and its task; `None` where it reports no work.
pub fn reported(event: &Event) -> Option<(usize, Activity)> {
    match event {
        Event::Progress { task, phase, .. } => Some((*task, of_phase(*phase, *task))),
        Event::TaskLearned { task, .. } => Some((*task, Activity::Memory)),
        Event::TaskEnd { task, .. } => Some((*task, Activity::Evaluation)),
        Event::TaskStart { .. } | Event::RunEnd => None,
    }
}

fn of_phase(phase: PhaseKind, task: usize) -> Activity {
    match phase {
        PhaseKind::Inversion => Activity::Inversion,
        PhaseKind::NewTeacher => Activity::NewTeacher,
        PhaseKind::NewInversion => Activity::NewInversion,
        PhaseKind::Student if task == 0 => Activity::Base,
        PhaseKind::Student => Activity::Student,
        PhaseKind::Balance => Activity::Balance,
        PhaseKind::BiasCorrection => Activity::BiasCorrection,
    }
}

/// All items of a run in order.
///
/// # Errors
/// If the networks cannot be made for images of that size.
pub fn items(checked: &Checked, sizes: &Sizes, base_is_taken: bool) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for task in 0..checked.increments().tasks() {
        let counter = Counter::new(checked, sizes, task)?;
        if task > 0 || !base_is_taken {
            items.extend(counter.phases());
        }
        for (activity, work) in
            [(Activity::Memory, counter.memory()), (Activity::Evaluation, counter.evaluation())]
        {
            items.push(Item { task, activity, units: 1, work });
        }
    }
    Ok(items)
}

/// Operations for one image, and images, of one task.
struct Counter<'a> {
    checked: &'a Checked,
    sizes: &'a Sizes,
    task: usize,
    /// Training images of this task's classes, and those of earlier classes that are kept after it.
    new: usize,
    /// Exemplars at hand while the task is learned; all earlier images where all are kept.
    old: usize,
    /// A network that learns, that looks, and that is seen through.
    learns: f64,
    looks: f64,
    probed: f64,
    /// The generator of old classes, and that of new ones.
    generator: OfGenerator,
    new_generator: OfGenerator,
}

/// Operations of a generator that learns, and that draws; 0 where there is none.
#[derive(Default)]
struct OfGenerator {
    learns: f64,
    draws: f64,
}

impl OfGenerator {
    fn new(inversion: &InversionConfig, classes: usize, images: Shape) -> Result<Self> {
        let graph = generator(&inversion.generator, classes, images)?;
        let of = |spec: ForwardSpec| flops::of_pass(&graph, spec.keep);
        Ok(Self { learns: of(ForwardSpec::TRAIN), draws: of(ForwardSpec::EVAL) })
    }
}

impl<'a> Counter<'a> {
    fn new(checked: &'a Checked, sizes: &'a Sizes, task: usize) -> Result<Self> {
        let (recipe, increments) = (&checked.config().recipe, checked.increments());
        let [channels, height, width] = sizes.image;
        let images = Shape::Map { channels, height, width };
        let network = checked.config().architecture.graph(images)?;
        let classes = increments.classes(task);
        let of = |inversion: Option<&InversionConfig>, classes| match inversion.filter(|_| task > 0) {
            Some(inversion) => OfGenerator::new(inversion, classes, images),
            None => Ok(OfGenerator::default()),
        };
        let generator = of(recipe.replay.as_ref().map(|it| &it.inversion), classes.start)?;
        let new_generator = of(recipe.new_replay.as_ref().map(|it| &it.inversion), classes.len())?;
        let old = match recipe.joint {
            true => sizes.train_of(0..classes.start),
            false => kept(checked, sizes, classes.start),
        };
        Ok(Self {
            checked,
            sizes,
            task,
            new: sizes.train_of(classes),
            old,
            learns: flops::of_pass(&network, ForwardSpec::TRAIN.keep),
            looks: flops::of_pass(&network, ForwardSpec::EVAL.keep),
            probed: flops::of_pass(&network, ForwardSpec::PROBE.keep),
            generator,
            new_generator,
        })
    }

    fn phases(&self) -> Vec<Item> {
        let recipe = &self.checked.config().recipe;
        let item = |activity, units, work| Item { task: self.task, activity, units, work };
        if self.task == 0 {
            let epochs = recipe.base.training.epochs;
            return vec![item(Activity::Base, epochs, self.new as f64 * self.learns)];
        }
        let mut items = Vec::new();
        if let Some(replay) = &recipe.replay {
            let work = self.inversion(&replay.inversion, &self.generator) / replay.units() as f64;
            items.push(item(Activity::Inversion, replay.units(), work));
        }
        let n_new = self.checked.increments().classes(self.task).len();
        if let Some(spec) = recipe.new_teacher.as_ref().filter(|it| it.is_there(n_new)) {
            let images = self.new + if spec.exemplars { self.old } else { 0 };
            items.push(item(Activity::NewTeacher, spec.training.epochs, images as f64 * self.learns));
        }
        if let Some(replay) = &recipe.new_replay {
            let work = self.inversion(&replay.inversion, &self.new_generator) / replay.units() as f64;
            items.push(item(Activity::NewInversion, replay.units(), work));
        }
        let student = &recipe.increment;
        let beside = if recipe.oversample { self.new } else { self.old };
        if recipe.logistic.is_some() {
            return items;
        }
        items.push(item(Activity::Student, student.training.epochs, self.epoch(student, self.new + beside)));
        let seen = self.checked.increments().seen(self.task);
        if let Some(balance) = &recipe.balance {
            let balanced = match recipe.joint || recipe.exemplars.is_none() {
                true => self.new + self.old,
                false => kept(self.checked, self.sizes, seen),
            };
            items.push(item(Activity::Balance, balance.training.epochs, self.epoch(balance, balanced)));
        }
        if let Some(spec) = &recipe.bias_correction {
            let images = seen * spec.held_out_of(recipe.exemplars.per_class(seen));
            let phase = spec.phase();
            let work = self.epoch(&phase, images);
            items.push(item(Activity::BiasCorrection, phase.training.epochs, work));
        }
        items
    }

    fn inversion(&self, inversion: &InversionConfig, generator: &OfGenerator) -> f64 {
        (inversion.iterations * inversion.batch) as f64 * (generator.learns + self.probed)
    }

    /// One pass over that many images of a later task, with generated ones beside them and teachers that look on; where new
    /// images are not shared, over generated ones in their place.
    fn epoch(&self, phase: &PhaseSpec, real: usize) -> f64 {
        let (recipe, batch) = (&self.checked.config().recipe, phase.training.batch);
        let n_new = self.checked.increments().classes(self.task).len();
        let drawn = recipe.new_replay.as_ref().map(|it| batch * it.steps(n_new, batch));
        let (real, new) = drawn.map_or((real, self.new), |drawn| (drawn, drawn));
        let steps = phase.training.steps(real);
        // Without a last batch that is not full.
        let real = real.min(steps * batch);
        let generated = steps * recipe.replay.as_ref().map_or(0, |it: &ReplaySpec| it.batch);
        let student = match phase.trained {
            Trained::All => self.learns,
            Trained::Head | Trained::ClassWeights | Trained::Correction => self.looks,
        };
        let old_teacher = if recipe.joint { 0.0 } else { self.looks };
        let new_teacher = if recipe.new_teacher.is_some() { new as f64 * self.looks } else { 0.0 };
        let draws =
            generated as f64 * self.generator.draws + drawn.unwrap_or(0) as f64 * self.new_generator.draws;
        (real + generated) as f64 * (student + old_teacher) + draws + new_teacher
    }

    fn memory(&self) -> f64 {
        let recipe = &self.checked.config().recipe;
        // Each new image is looked at once, and each generated one drawn and looked at.
        if let (Some(spec), 1..) = (&recipe.logistic, self.task) {
            let generated = spec.generated as f64 * (self.generator.draws + 2.0 * self.looks);
            return generated + (self.new + self.old) as f64 * self.looks;
        }
        let herded = if recipe.exemplars.is_none() { 0 } else { self.new };
        // The model looks at the images at hand, and so does the old one, if there is one.
        let of_statistics = match (&recipe.discriminant, self.task) {
            (None, _) => 0,
            (Some(spec), 0) => self.new * (1 + usize::from(spec.mirrored)),
            (Some(spec), _) => 2 * (self.new + self.old) * (1 + usize::from(spec.mirrored)),
        };
        (herded + of_statistics) as f64 * self.looks
    }

    fn evaluation(&self) -> f64 {
        let (recipe, classes) = (&self.checked.config().recipe, self.checked.increments().classes(self.task));
        let mut looks = self.sizes.test_of(0..classes.end);
        let (mut drawn, mut new_drawn) = (0, 0);
        if !recipe.exemplars.is_none() {
            looks += kept(self.checked, self.sizes, classes.end);
        } else if recipe.replay.is_some() && self.task > 0 {
            drawn = classes.start * SYNTHETIC_PER_CLASS;
            // The generator's own teacher looks at what it drew, and so does the model.
            looks += 2 * drawn;
            match recipe.new_replay {
                Some(_) => new_drawn = classes.len() * SYNTHETIC_PER_CLASS,
                None => looks += self.new,
            }
            looks += 2 * new_drawn;
        }
        let draws = drawn as f64 * self.generator.draws + new_drawn as f64 * self.new_generator.draws;
        looks as f64 * self.looks + draws
    }
}

/// Exemplars that are kept once `classes` are seen.
fn kept(checked: &Checked, sizes: &Sizes, classes: usize) -> usize {
    let budget = checked.config().recipe.exemplars;
    let each = budget.per_class(classes);
    (0..classes).map(|class| each.min(sizes.train_of(class..class + 1))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::configuration;

    fn of(preset: &str, changes: &[&str]) -> Vec<Item> {
        let changes: Vec<String> = changes.iter().map(|it| (*it).to_owned()).collect();
        let checked = configuration(preset, &changes, None).unwrap();
        let sizes = Sizes { image: [3, 32, 32], train: vec![250; 10], test: vec![50; 10] };
        items(&checked, &sizes, false).unwrap()
    }

    fn find(items: &[Item], task: usize, activity: Activity) -> Item {
        *items.iter().find(|it| it.task == task && it.activity == activity).unwrap()
    }

    #[test]
    fn units_are_those_of_the_learner_and_work_follows_the_images() {
        let items = of("demo-lucir-e0-dfgr-dtidkl", &[]);
        let of_task = |task| items.iter().filter(move |it| it.task == task).map(|it| it.units);
        assert_eq!(of_task(0).collect::<Vec<_>>(), [10, 1, 1]);
        // 200 iterations are four units of 50; then 6 epochs of the new teacher and 8 of the student.
        assert_eq!(of_task(1).collect::<Vec<_>>(), [4, 6, 8, 1, 1]);
        let (base, teacher) = (find(&items, 0, Activity::Base), find(&items, 1, Activity::NewTeacher));
        assert_eq!(base.work / teacher.work, 3.0, "six classes and two");
        assert_eq!(find(&items, 1, Activity::Memory).work, 0.0);
        let kept = of("demo-frozen-discriminant", &[]);
        assert_eq!(find(&kept, 1, Activity::Memory).work * 1.5, find(&kept, 0, Activity::Memory).work);
        let lwf = of("demo-lwf", &[]);
        // 500 real images are four steps of 64 generated ones each.
        let ratio = find(&items, 1, Activity::Student).work / find(&lwf, 1, Activity::Student).work;
        assert!(ratio > 756.0 / 500.0, "{ratio}");
        // A last step of one image has as many generated ones as any.
        let of_batch = |batch: &str| find(&of("demo-lucir-e0-dfgr", &[batch]), 1, Activity::Student).work;
        let batch = "recipe.increment.training.batch";
        assert!(of_batch(&format!("{batch}=499")) > of_batch(&format!("{batch}=500")));
    }

    #[test]
    fn a_second_generator_and_its_images_are_counted() {
        let preset = "demo-lucir-e0-dfgr-dtid";
        let (shared, unshared) = (of(preset, &[]), of(&format!("{preset}-unshared"), &[]));
        let of_task = |task| unshared.iter().filter(move |it| it.task == task).map(|it| it.units);
        assert_eq!(of_task(0).collect::<Vec<_>>(), [10, 1, 1]);
        assert_eq!(of_task(1).collect::<Vec<_>>(), [4, 6, 4, 8, 1, 1]);
        // Generators of old and of new classes have one form.
        let (old, new) =
            (find(&unshared, 1, Activity::Inversion), find(&unshared, 1, Activity::NewInversion));
        assert_eq!(old.work, new.work);
        let ratio = find(&unshared, 1, Activity::Student).work / find(&shared, 1, Activity::Student).work;
        // 500 images are four whole steps of 128, which are drawn as well: a drawing is some two looks of so small a network.
        assert!((1.2..1.4).contains(&ratio), "{ratio}");
        let twice = of(&format!("{preset}-unshared"), &["recipe.new-replay.images-per-class=512"]);
        let ratio = find(&twice, 1, Activity::Student).work / find(&unshared, 1, Activity::Student).work;
        assert_eq!(ratio, 2.0);
        assert!(find(&unshared, 1, Activity::Evaluation).work > 0.0);
    }

    #[test]
    fn exemplars_and_joint_training_add_their_images() {
        let exemplars = of("demo-lucir-e20", &[]);
        let none = of("demo-lucir-e0", &[]);
        let of_student = |items: &[Item], task| find(items, task, Activity::Student).work;
        let ratio = of_student(&exemplars, 2) / of_student(&none, 2);
        assert!((ratio - 660.0 / 500.0).abs() < 1e-9, "{ratio}");
        assert!(find(&exemplars, 0, Activity::Memory).work > 0.0);
        let joint = of("demo-joint", &[]);
        assert_eq!(of_student(&joint, 2) / of_student(&joint, 1), 10.0 / 8.0);
    }

    #[test]
    fn a_base_that_is_taken_is_no_work() {
        let checked = configuration("demo-lwf", &[], None).unwrap();
        let sizes = Sizes { image: [3, 32, 32], train: vec![250; 10], test: vec![50; 10] };
        let taken = items(&checked, &sizes, true).unwrap();
        assert!(taken.iter().all(|it| it.activity != Activity::Base));
        assert_eq!(taken.len() + 1, items(&checked, &sizes, false).unwrap().len());
    }
}
