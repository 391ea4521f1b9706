//! The schedule of a run: its phases, their units, images and passes of networks, counted once.
//!
//! The learner takes its phases from here, and whoever estimates or shows a run's time takes the work: passes times the
//! operations of one.

use std::ops::Range;

use cil_data::split::Increments;

use crate::event::PhaseKind;
use crate::loss::rotation::TURNS;
use crate::means::SYNTHETIC_PER_CLASS;
use crate::phase_kind::phases;
pub use crate::phase_kind::{Activity, trainings};
use crate::recipe::{PhaseSpec, Recipe, ReplaySpec, Trained, Training};

/// Numbers of images by class, in the order of learning.
#[derive(Clone, Copy, Debug)]
pub struct ImageCounts<'a> {
    /// Training images of each class.
    pub train: &'a [usize],
    /// Images of each class that accuracies are of.
    pub test: &'a [usize],
}

/// Images that go through networks in one unit, by kind of pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Passes {
    /// A classifier, forward and backward.
    pub train: f64,
    /// A classifier, forward.
    pub inference: f64,
    /// A frozen classifier, forward and backward to its input.
    pub probe: f64,
    /// The generator of old classes, forward and backward.
    pub generator_train: f64,
    /// The generator of old classes, forward.
    pub generator: f64,
    /// The generator of new classes, forward and backward.
    pub new_generator_train: f64,
    /// The generator of new classes, forward.
    pub new_generator: f64,
}

/// One activity of one task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scheduled {
    /// From 0.
    pub task: usize,
    /// The activity.
    pub activity: Activity,
    /// Units, an event each.
    pub units: usize,
    /// Images that go through the network that is trained in one unit, as [`Progress`](crate::event::Event::Progress)
    /// counts them, on average over the units; 0 where none is trained.
    pub images: f64,
    /// Passes of one unit.
    pub passes: Passes,
}

/// All activities of a run in order; without the base classes' training where their model is taken from a file. What is
/// not networks' work (herding, pictures) is not counted.
pub fn schedule(
    recipe: &Recipe,
    increments: &Increments,
    images: ImageCounts<'_>,
    base_is_taken: bool,
) -> Vec<Scheduled> {
    let mut all = Vec::new();
    for task in 0..increments.tasks() {
        let of = OfTask::new(recipe, increments, images, task);
        if task > 0 || !base_is_taken {
            all.extend(
                phases(recipe, increments.classes(task).len(), task).into_iter().map(|it| of.phase(it)),
            );
        }
        for (activity, passes) in [(Activity::Memory, of.memory()), (Activity::Evaluation, of.evaluation())] {
            all.push(Scheduled { task, activity, units: 1, images: 0.0, passes });
        }
    }
    all
}

/// Images of one task.
struct OfTask<'a> {
    recipe: &'a Recipe,
    increments: &'a Increments,
    images: ImageCounts<'a>,
    task: usize,
    classes: Range<usize>,
    /// Training images of this task's classes that are trained on.
    new: usize,
    /// Exemplars at hand while the task is learned; all earlier images where all are kept.
    old: usize,
}

impl<'a> OfTask<'a> {
    fn new(recipe: &'a Recipe, increments: &'a Increments, images: ImageCounts<'a>, task: usize) -> Self {
        let classes = increments.classes(task);
        let mut of = Self { recipe, increments, images, task, classes, new: 0, old: 0 };
        of.new = of.classes.clone().map(|class| of.trained_on(task, class)).sum();
        of.old = match (recipe.joint, task) {
            (true, _) => images.train[..of.classes.start].iter().sum(),
            (false, 0) => 0,
            (false, _) => of.kept(task - 1),
        };
        of
    }

    /// Images of each class that are held out for a bias correction after a task.
    fn held_out(&self, task: usize) -> usize {
        let kept = self.recipe.exemplars.per_class(self.increments.seen(task));
        self.recipe.bias_correction.as_ref().map_or(0, |spec| spec.held_out_of(kept))
    }

    /// The same of a class of the task that is learned: as many as of the old ones.
    fn held_out_of_new(&self, task: usize) -> usize {
        self.held_out(task.saturating_sub(1))
    }

    /// Images of a class of that task that are trained on.
    fn trained_on(&self, task: usize, class: usize) -> usize {
        self.images.train[class].saturating_sub(self.held_out_of_new(task))
    }

    /// Exemplars of all classes seen that are kept after a task.
    fn kept(&self, task: usize) -> usize {
        self.chosen(
            0..=task,
            self.recipe.exemplars.per_class(self.increments.seen(task)) - self.held_out(task),
        )
    }

    /// `each` images of every class of those tasks, or as many as there are.
    fn chosen(&self, tasks: impl Iterator<Item = usize>, each: usize) -> usize {
        tasks
            .flat_map(|task| self.increments.classes(task).map(move |class| (task, class)))
            .map(|(task, class)| each.min(self.trained_on(task, class)))
            .sum()
    }

    fn phase(&self, (phase, units): (PhaseKind, usize)) -> Scheduled {
        let recipe = self.recipe;
        let (images, passes) = match phase {
            PhaseKind::Inversion => {
                let images = per_unit(recipe.replay.as_ref().map(|it| &it.inversion), units);
                (images, Passes { generator_train: images, probe: images, ..Passes::default() })
            }
            PhaseKind::NewInversion => {
                let images = per_unit(recipe.new_replay.as_ref().map(|it| &it.inversion), units);
                (images, Passes { new_generator_train: images, probe: images, ..Passes::default() })
            }
            PhaseKind::NewTeacher => {
                let exemplars = recipe.new_teacher.as_ref().is_some_and(|it| it.exemplars);
                let images = self.new + if exemplars { self.old } else { 0 };
                let images = recipe.new_teacher.as_ref().map_or(0, |it| whole(&it.training, images)) as f64;
                (images, Passes { train: images, ..Passes::default() })
            }
            PhaseKind::Student if self.task == 0 => {
                let images = whole(&recipe.base.training, self.new) as f64;
                (images, Passes { train: images + turned(&recipe.base, images), ..Passes::default() })
            }
            PhaseKind::Student => {
                let beside = if recipe.oversample { self.new } else { self.old };
                let (images, mut passes) = self.epoch(&recipe.increment, self.new + beside);
                // They are made at the phase's beginning; each unit has its share.
                if let Some(spec) = &recipe.adversarial {
                    let made = self.classes.start * spec.images * spec.iterations;
                    passes.probe += made as f64 / units.max(1) as f64;
                }
                (images, passes)
            }
            PhaseKind::Balance => {
                let images = match recipe.joint || recipe.exemplars.is_none() {
                    true => self.images.train[self.classes.clone()].iter().sum::<usize>() + self.old,
                    false => {
                        let each = recipe.exemplars.per_class(self.classes.end);
                        let kept =
                            recipe.exemplars.per_class(self.classes.start) - self.held_out(self.task - 1);
                        self.chosen(0..self.task, each.min(kept))
                            + self.chosen(self.task..self.task + 1, each)
                    }
                };
                recipe.balance.as_ref().map_or_else(Default::default, |spec| self.epoch(spec, images))
            }
            PhaseKind::BiasCorrection => {
                let seen = self.classes.end;
                recipe.bias_correction.as_ref().map_or_else(Default::default, |spec| {
                    self.epoch(&spec.phase(), seen * self.held_out_of_new(self.task))
                })
            }
        };
        Scheduled { task: self.task, activity: Activity::of_phase(phase, self.task), units, images, passes }
    }

    /// One pass over that many images of a later task, with generated ones beside them and teachers; where new images
    /// are not shared, over generated ones in their place.
    fn epoch(&self, phase: &PhaseSpec, real: usize) -> (f64, Passes) {
        let (recipe, batch) = (self.recipe, phase.training.batch);
        let drawn = recipe.new_replay.as_ref().map(|it| batch * it.steps(self.classes.len(), batch));
        let (real, new) = drawn.map_or((real, self.new), |drawn| (drawn, drawn));
        let steps = phase.training.steps(real);
        let real = whole(&phase.training, real);
        let adversarial = recipe.adversarial.filter(|_| self.task > 0).map_or(0, |it| it.batch);
        let generated = steps * recipe.replay.as_ref().map_or(adversarial, |it: &ReplaySpec| it.batch);
        let images = (real + generated) as f64;
        let mut passes = Passes {
            generator: if adversarial > 0 { 0.0 } else { generated as f64 },
            new_generator: drawn.unwrap_or(0) as f64,
            ..Passes::default()
        };
        match phase.trained {
            Trained::All => passes.train = images + turned(phase, new.min(real) as f64),
            Trained::Head | Trained::ClassWeights | Trained::Correction => passes.inference = images,
        }
        if !recipe.joint {
            passes.inference += images;
        }
        if recipe.new_teacher.is_some() {
            passes.inference += new as f64;
        }
        (images, passes)
    }

    /// Passes when exemplars are chosen, statistics are taken and new classes are appended.
    fn memory(&self) -> Passes {
        if let (Some(spec), 1..) = (&self.recipe.logistic, self.task) {
            // Each image is classified once; the generator's own teacher is asked about a generated one, too.
            let generated = spec.generated as f64;
            let inference = (self.new + self.old) as f64 + 2.0 * generated;
            return Passes { inference, generator: generated, ..Passes::default() };
        }
        let herded = if self.recipe.exemplars.is_none() { 0 } else { self.new };
        // The model is asked about the images at hand, and so is the old one, if there is one.
        let of_statistics = match (&self.recipe.discriminant, self.task) {
            (None, _) => 0,
            (Some(spec), task) if task == 0 || spec.is_of_a_frozen_backbone() => {
                self.new * (1 + usize::from(spec.mirrored))
            }
            (Some(spec), _) => {
                let views = spec.views.map_or(0, |views| views.count() * self.new);
                2 * ((self.new + self.old) * (1 + usize::from(spec.mirrored)) + views)
            }
        };
        let of_matrix = if self.recipe.needs_feature_matrix() { self.new } else { 0 };
        // Of adversarial images the old model is asked in every step and once more, and the new one once.
        let images = self.recipe.discriminant.as_ref().and_then(|spec| spec.carry.adversarial());
        let adversarial = images.map_or(0, |it| self.classes.start * it.images.min(self.new));
        let steps = images.map_or(0, |it| it.iterations);
        Passes {
            inference: (herded + of_statistics + of_matrix + 3 * adversarial) as f64,
            probe: (adversarial * steps) as f64,
            ..Passes::default()
        }
    }

    fn evaluation(&self) -> Passes {
        let (recipe, classes) = (self.recipe, &self.classes);
        let mut inference: usize = self.images.test[..classes.end].iter().sum();
        let (mut drawn, mut new_drawn) = (0, 0);
        if !recipe.exemplars.is_none() {
            inference += self.kept(self.task);
        } else if recipe.replay.is_some() && self.task > 0 {
            drawn = classes.start * SYNTHETIC_PER_CLASS;
            // The generator's own teacher is asked about what it drew, and so is the model.
            inference += 2 * drawn;
            match recipe.new_replay {
                Some(_) => new_drawn = classes.len() * SYNTHETIC_PER_CLASS,
                None => inference += self.new,
            }
            inference += 2 * new_drawn;
        }
        Passes {
            inference: inference as f64,
            generator: drawn as f64,
            new_generator: new_drawn as f64,
            ..Passes::default()
        }
    }
}

/// Turned copies of that many new images, where a term learns from them.
fn turned(phase: &PhaseSpec, new: f64) -> f64 {
    let turns = phase.terms.iter().any(|it| it.settings().turns_images());
    if turns { (TURNS - 1) as f64 * new } else { 0.0 }
}

/// Images of an epoch: without a last batch that is not full, where it is left out.
fn whole(training: &Training, images: usize) -> usize {
    images.min(training.steps(images) * training.batch)
}

/// Images of one unit of an inversion, on average.
fn per_unit(inversion: Option<&dfgr::InversionConfig>, units: usize) -> f64 {
    inversion.map_or(0.0, |it| (it.iterations * it.batch) as f64 / units.max(1) as f64)
}
