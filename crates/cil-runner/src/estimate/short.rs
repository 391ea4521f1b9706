//! A run of the same networks and batches that is as short as can be.
//!
//! Two tasks, the classes before the last task and the last task's, over images of noise; every phase of the recipe is
//! there, a few units long.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use cil_data::dataset::{Dataset, Evaluate};
use cil_data::store::{Images, TestSet, TrainSet};
use cil_engine::optim::Schedule;
use cil_random::Draw;
use cil_train::recipe::Training;
use cil_train::schedule::trainings;

use super::workload::{Activity, items};
use crate::config::sizes::Sizes;
use crate::config::{Checked, RunConfig};
use crate::engine::Engine;

/// Images that are classified to time it; one batch of `cil_train::evaluate`.
const EVALUATED: usize = 250;
/// Operations that a phase is timed for, if it has enough units: some tenths of a second of two threads.
const ENOUGH: f64 = 3e10;
/// Units of a phase, the first of which is not timed.
const UNITS: std::ops::RangeInclusive<usize> = 3..=20;

/// Units of a phase whose unit has that many operations.
pub(super) fn units(work: f64) -> usize {
    let enough = (ENOUGH / work.max(1.0)).ceil() as usize + 1;
    enough.clamp(*UNITS.start(), *UNITS.end())
}

/// The short run: the classes before the last task as base, the last task's after them, and images of noise for both.
pub(super) fn short_run(
    checked: &Checked,
    sizes: &Sizes,
    engine: &Engine,
) -> Result<(Checked, TrainSet, TestSet)> {
    let config = checked.config();
    let tasks = checked.increments().tasks();
    let n_old = checked.increments().seen(tasks.saturating_sub(2));
    let n_new = if tasks > 1 { checked.increments().sizes()[tasks - 1] } else { 0 };
    let recipe = &config.recipe;
    // A whole batch, and the part of one that the run itself ends its epochs with: a step of another size takes memory
    // of its own.
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
    let (train, test) = noise(checked, &own, engine)?;
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
    for (activity, training) in trainings(recipe) {
        cut(training, activity);
    }
    if let Some(replay) = &mut recipe.replay {
        (replay.inversion.iterations, replay.inversion.schedule) = (1, Schedule::constant());
    }
    if let Some(replay) = &mut recipe.new_replay {
        replay.inversion.schedule = Schedule::constant();
        // An epoch of one step.
        (replay.inversion.iterations, replay.images_per_class) = (1, 1);
    }
    config.check().context("a short run")
}

/// `images` images over `classes` classes, at least one of each.
fn spread(classes: usize, images: usize) -> Vec<usize> {
    let over = images % classes.max(1);
    (0..classes).map(|class| (images / classes + usize::from(class < over)).max(1)).collect()
}

/// Images of noise of the run's classes.
fn noise(checked: &Checked, sizes: &Sizes, engine: &Engine) -> Result<(TrainSet, TestSet)> {
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
    let dataset = engine.keep(Dataset::of_images("noise", names, train, test)?)?;
    dataset.split(checked.order(), 0, Evaluate::Test)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_spread_over_classes() {
        assert_eq!(spread(3, 8), [3, 3, 2]);
        assert_eq!(spread(3, 2), [1, 1, 1]);
        assert_eq!(spread(0, 2), Vec::<usize>::new());
        assert_eq!((units(1e30), units(1e10), units(1.0)), (3, 4, 20));
    }
}
