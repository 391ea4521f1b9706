//! The work of a run, in floating-point operations.
//!
//! Phases, units and passes of networks come from [`cil_train::schedule`]. Here each pass is multiplied by its
//! operations (see [`flops`]). What networks do not do (herding, pictures) is left out: the rate that is measured
//! beside it carries it. It measures nothing.

use anyhow::Result;
use cil_engine::{ForwardSpec, Shape};
pub use cil_train::schedule::Activity;
use cil_train::schedule::{ImageCounts, Passes, schedule};
use dfgr::InversionConfig;
use dfgr::generator::generator;

use crate::config::Checked;
use crate::config::sizes::Sizes;
use crate::estimate::flops;

/// The work of one activity in one task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    /// From 0.
    pub task: usize,
    /// The activity.
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

/// All items of a run in order.
///
/// # Errors
/// If the networks cannot be made for images of that size.
pub fn items(checked: &Checked, sizes: &Sizes, base_is_taken: bool) -> Result<Vec<Item>> {
    let (recipe, increments) = (&checked.config().recipe, checked.increments());
    let images = ImageCounts { train: &sizes.train, test: &sizes.test };
    let costs =
        (0..increments.tasks()).map(|task| Costs::new(checked, sizes, task)).collect::<Result<Vec<_>>>()?;
    let scheduled = schedule(recipe, increments, images, base_is_taken).into_iter();
    Ok(scheduled
        .map(|it| Item {
            task: it.task,
            activity: it.activity,
            units: it.units,
            work: costs[it.task].of(&it.passes),
        })
        .collect())
}

/// Floating-point operations of a pass over one image, in one task.
struct Costs {
    train: f64,
    inference: f64,
    probe: f64,
    /// The generator of old classes, and that of new ones.
    generator: OfGenerator,
    new_generator: OfGenerator,
}

/// Operations of a generator, forward and backward, and forward; 0 where there is none.
#[derive(Default)]
struct OfGenerator {
    train: f64,
    inference: f64,
}

impl OfGenerator {
    fn new(inversion: &InversionConfig, classes: usize, images: Shape) -> Result<Self> {
        let graph = generator(&inversion.generator, classes, images)?;
        let of = |spec: ForwardSpec| flops::of_pass(&graph, spec.keep);
        Ok(Self { train: of(ForwardSpec::TRAIN), inference: of(ForwardSpec::EVAL) })
    }
}

impl Costs {
    fn new(checked: &Checked, sizes: &Sizes, task: usize) -> Result<Self> {
        let recipe = &checked.config().recipe;
        let [channels, height, width] = sizes.image;
        let images = Shape::Map { channels, height, width };
        let network = checked.backbone().graph(images)?;
        let classes = checked.increments().classes(task);
        let of = |inversion: Option<&InversionConfig>, classes| match inversion.filter(|_| task > 0) {
            Some(inversion) => OfGenerator::new(inversion, classes, images),
            None => Ok(OfGenerator::default()),
        };
        Ok(Self {
            train: flops::of_pass(&network, ForwardSpec::TRAIN.keep),
            inference: flops::of_pass(&network, ForwardSpec::EVAL.keep),
            probe: flops::of_pass(&network, ForwardSpec::PROBE.keep),
            generator: of(recipe.replay.as_ref().map(|it| &it.inversion), classes.start)?,
            new_generator: of(recipe.new_replay.as_ref().map(|it| &it.inversion), classes.len())?,
        })
    }

    fn of(&self, passes: &Passes) -> f64 {
        passes.train * self.train
            + passes.inference * self.inference
            + passes.probe * self.probe
            + passes.generator_train * self.generator.train
            + passes.generator * self.generator.inference
            + passes.new_generator_train * self.new_generator.train
            + passes.new_generator * self.new_generator.inference
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::target::configuration;

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
        // 500 images are four whole steps of 128, which are drawn as well: a drawing costs about two inferences of so
        // small a network.
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
