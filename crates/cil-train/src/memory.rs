//! The data that is kept of a task after it is learned: exemplars, statistics of features, and a corrected head.
//!
//! It trains nothing and keeps no state of its own; each function turns a model into a model.

use anyhow::{Result, bail};
use candle_core::{Device, Tensor};
use cil_backbone::align::alignment;
use cil_backbone::{Frozen, Network};
use cil_data::batches::shuffled_batches;
use cil_data::exemplars::{Budget, Exemplars, herd};
use cil_data::store::{SampleId, TrainSet};
use cil_random::Draw;
use dfgr::Replay;
use nalgebra::{DMatrix, RowDVector};

use crate::adversarial::Adversary;
use crate::discriminant::{ClassStatistics, Form, matrix};
use crate::looks::{self, Looked};
use crate::loss;
use crate::means;
use crate::plan::Plan;
use crate::recipe::correction::AlignSpec;
use crate::recipe::{AdversarialImages, Carry, DiscriminantSpec};

/// Brings exemplars to the budget of the classes seen and herds those of the task's classes; how many images are kept.
pub(crate) fn remember(
    plan: &Plan,
    task: usize,
    model: &Frozen,
    train: &TrainSet,
    exemplars: &mut Exemplars,
) -> Result<usize> {
    let (classes, budget) = (plan.increments.classes(task), plan.recipe.exemplars);
    if budget.is_none() {
        return Ok(0);
    }
    let held_out = held_out_count(plan, task);
    let (count, seen) = (budget.per_class(classes.end) - held_out, classes.end);
    exemplars.trim(Budget::PerClass(count), seen);
    for class in classes {
        exemplars.remember(class, typical(plan, task, class, model, train, count)?);
    }
    Ok(exemplars.len() + held_out * seen)
}

/// Statistics of all classes seen as `model` sees them: of the task's classes from their images; of old ones as they
/// were kept, carried from the old model to this one by what both see in the images at hand.
pub(crate) fn statistics(
    plan: &Plan,
    task: usize,
    (old, model): (Option<&Frozen>, &Frozen),
    before: Option<&ClassStatistics>,
    exemplars: &Exemplars,
    train: &TrainSet,
) -> Result<ClassStatistics> {
    let form = form(plan);
    let looked = Looked::new(plan, model)?;
    let classes: Vec<_> =
        plan.increments.classes(task).map(|class| trained_on_of(plan, task, class, train)).collect();
    // A task's features are needed once more where old statistics are carried; those of the base classes are not.
    let carried = old.zip(before);
    let mut after = Vec::new();
    let features = classes.iter().map(|samples| {
        let features = looked.features(train, samples)?;
        if carried.is_some() {
            after.push(features.clone());
        }
        Ok(features)
    });
    let newer = ClassStatistics::of(features, form)?;
    let Some((old, before)) = carried else { return Ok(newer) };
    let old = Looked::new(plan, old)?;
    let kept = exemplars.all();
    let mut seen = classes.iter().map(|samples| old.features(train, samples)).collect::<Result<Vec<_>>>()?;
    if !kept.is_empty() {
        after.push(looked.features(train, &kept)?);
        seen.push(old.features(train, &kept)?);
    }
    if let Some(views) = plan.recipe.discriminant.as_ref().and_then(|spec| spec.views) {
        for (number, batch) in classes.concat().chunks(means::INFERENCE_BATCH).enumerate() {
            let draw = Draw { task, position: number as u64, ..Draw::new(plan.seed, "views") };
            for view in looks::views::of(plan, train, batch, views, draw)? {
                seen.push(old.of(&view)?);
                after.push(looked.of(&view)?);
            }
        }
    }
    let (seen, after) = (Tensor::cat(&seen, 0)?, Tensor::cat(&after, 0)?);
    let carried = match plan.recipe.discriminant.as_ref().map_or(Carry::Map, |spec| spec.carry) {
        Carry::Map => before.carried(&seen, &after)?,
        Carry::None => before.clone(),
        Carry::Nearby { sigma } => before.carried_nearby(&seen, &after, sigma)?,
        Carry::Linear => before.carried_linearly(&seen, &after)?,
        Carry::Adversarial(settings) => {
            let change = adversarial(plan, before, (&old, &looked), (train, &classes.concat()), settings)?;
            let rows: Vec<_> = change.iter().map(|it| it.shift.clone()).collect();
            let moved = before.moved(&DMatrix::from_rows(&rows))?;
            let of_all = |first: &Tensor, of: fn(&Change) -> &Tensor| {
                let more = change.iter().map(of).filter(|_| settings.map);
                Tensor::cat(&std::iter::once(first).chain(more).collect::<Vec<_>>(), 0)
            };
            let by_map = before.carried(&of_all(&seen, |it| &it.old)?, &of_all(&after, |it| &it.new)?)?;
            if settings.map { by_map } else { by_map.with_means_of(&moved) }
        }
    };
    Ok(carried.joined(&newer))
}

/// The empirical feature matrix of `model`, `[width, width]`: of its head on the task's images, as they are.
///
/// # Errors
/// If the head is no linear one of pooled features, or an executor fails.
pub(crate) fn feature_matrix(plan: &Plan, task: usize, model: &Frozen, train: &TrainSet) -> Result<Tensor> {
    let mut logits = Vec::new();
    for batch in trained_on(plan, task, train).chunks(means::INFERENCE_BATCH) {
        logits.push(model.forward(&train.images(batch, &plan.preparation, None, &plan.device)?)?.logits);
    }
    let snapshot = model.snapshot();
    let head = Tensor::cat(&snapshot.head.weights(&snapshot.parameters)?.weights, 0)?;
    // On the host: a few classes and features, in f64.
    let logits = Tensor::cat(&logits, 0)?.to_device(&Device::Cpu)?;
    let found = loss::features::feature_matrix(&logits, &head.to_device(&Device::Cpu)?)?;
    Ok(found.to_device(&plan.device)?)
}

/// Features of the images that stand for an old class, `[images, width]`.
struct Change {
    /// As the old model sees them.
    old: Tensor,
    /// As the new model does.
    new: Tensor,
    /// Mean of the latter minus mean of the former.
    shift: RowDVector<f64>,
}

/// The change of adversarial images of each old class.
fn adversarial(
    plan: &Plan,
    before: &ClassStatistics,
    (old, new): (&Looked<'_>, &Looked<'_>),
    (train, samples): (&TrainSet, &[SampleId]),
    settings: AdversarialImages,
) -> Result<Vec<Change>> {
    let features = &matrix(&old.as_they_are(train, samples)?)?;
    let adversary = Adversary { plan, old, train, samples, features, means: before.means(), settings };
    let change = |class: usize| {
        let images = adversary.images_of(class)?;
        let (old, new) = (old.of(&images)?, new.of(&images)?);
        let shift = matrix(&new)?.row_mean() - matrix(&old)?.row_mean();
        Ok(Change { old, new, shift })
    };
    (0..before.classes()).map(change).collect()
}

/// Statistics of all classes seen where none were kept: of old classes from generated images, by the class that the
/// generator's teacher sees in them, of the task's classes from their images.
///
/// # Errors
/// If the recipe does not say of how many images, or the generator makes no image of a class.
pub(crate) fn statistics_from_generated(
    plan: &Plan,
    task: usize,
    model: &Frozen,
    replay: &Replay,
    train: &TrainSet,
) -> Result<ClassStatistics> {
    let Some(count) = plan.recipe.discriminant.as_ref().and_then(|spec| spec.generated) else {
        bail!(
            "no statistics of the old classes were kept, and discriminant.generated is missing; set it, such as \
               6000"
        );
    };
    let looked = Looked::new(plan, model)?;
    let mut of_class = vec![Vec::new(); replay.teacher().classes()];
    let mut draw = Draw { task, ..Draw::new(plan.seed, "statistics") };
    while (draw.position as usize) < count.div_ceil(means::INFERENCE_BATCH) {
        let images = replay.sample(means::INFERENCE_BATCH, draw)?;
        let features = looked.of(&images.images)?;
        for (row, label) in images.labels.to_vec()?.iter().enumerate() {
            of_class[*label as usize].push(features.narrow(0, row, 1)?);
        }
        draw.position += 1;
    }
    if let Some(class) = of_class.iter().position(Vec::is_empty) {
        bail!(
            "among {count} generated images there is none of class {class}, so it has no statistics; more \
             replay.inversion.iterations or more discriminant.generated may help"
        );
    }
    let features = of_class.iter().map(|rows| Ok(Tensor::cat(rows, 0)?));
    let older = ClassStatistics::of(features, form(plan))?;
    Ok(older.joined(&statistics(plan, task, (None, model), None, &Exemplars::default(), train)?))
}

/// How the plan's discriminant takes and keeps its statistics.
pub(crate) fn form(plan: &Plan) -> Form {
    plan.recipe.discriminant.as_ref().map_or(Form::Pooled, form_of)
}

/// How a discriminant takes and keeps its statistics.
pub(crate) fn form_of(spec: &DiscriminantSpec) -> Form {
    let wide = !spec.stages.is_empty() || spec.random_features.is_some();
    if wide { Form::Wide } else { Form::Pooled }
}

/// The images of one of the task's classes that `count` exemplars of it would be: the most typical first (herding), or
/// drawn at random.
pub(crate) fn typical(
    plan: &Plan,
    task: usize,
    class: usize,
    model: &Frozen,
    train: &TrainSet,
    count: usize,
) -> Result<Vec<SampleId>> {
    let samples = trained_on_of(plan, task, class, train);
    if plan.recipe.random_exemplars {
        let draw = Draw { task: class, ..Draw::new(plan.seed, "random exemplars") };
        let mut drawn = shuffled_batches(samples, usize::MAX, draw).concat();
        drawn.truncate(count);
        return Ok(drawn);
    }
    let features = means::features(model, train, &samples, &plan.preparation, &plan.device)?;
    let chosen = herd(&features.flatten_all()?.to_vec1::<f32>()?, model.feature_width(), count);
    Ok(chosen.into_iter().map(|at| samples[at]).collect())
}

/// Images of each class seen that are kept after a task and no training sees.
fn held_out_count(plan: &Plan, task: usize) -> usize {
    let kept = plan.recipe.exemplars.per_class(plan.increments.seen(task));
    plan.recipe.bias_correction.as_ref().map_or(0, |spec| spec.held_out_of(kept))
}

/// Images of a new class that the task holds out: as many as are held out of an old one, and of a base class as many as
/// will be kept. Later budgets are smaller, so what is held out later was held out from the beginning.
fn held_out_of_new(plan: &Plan, task: usize) -> usize {
    held_out_count(plan, task.saturating_sub(1))
}

/// A class's images in an order of their own, from which those held out are the first.
fn in_order(plan: &Plan, class: usize, train: &TrainSet) -> Vec<SampleId> {
    let samples = train.samples(class..class + 1);
    let draw = Draw { task: class, ..Draw::new(plan.seed, "held out") };
    shuffled_batches(samples, usize::MAX, draw).concat()
}

/// A new class's images without those held out, in the data set's order.
pub(crate) fn trained_on_of(plan: &Plan, task: usize, class: usize, train: &TrainSet) -> Vec<SampleId> {
    let count = held_out_of_new(plan, task);
    if count == 0 {
        return train.samples(class..class + 1);
    }
    let mut samples =
        in_order(plan, class, train).split_off(count.min(train.samples(class..class + 1).len()));
    samples.sort_unstable();
    samples
}

/// The task's new images that are trained on.
pub(crate) fn trained_on(plan: &Plan, task: usize, train: &TrainSet) -> Vec<SampleId> {
    let classes = plan.increments.classes(task);
    classes.flat_map(|class| trained_on_of(plan, task, class, train)).collect()
}

/// Images of all classes seen that no training saw, as many of each.
pub(crate) fn held_out(plan: &Plan, task: usize, train: &TrainSet) -> Result<Vec<SampleId>> {
    let count = held_out_of_new(plan, task);
    if count == 0 {
        bail!("the exemplars leave no image of a class to hold out; bias-correction needs more of them");
    }
    let first = |class| in_order(plan, class, train).into_iter().take(count);
    Ok((0..plan.increments.seen(task)).flat_map(first).collect())
}

/// Multiplies the newest classes' logits by the factor that gives their weights the mean length of the old ones'.
pub(crate) fn align(network: &mut Network, spec: AlignSpec) -> Result<()> {
    let head = network.head().weights(network.parameters())?;
    let Some((new, old)) = head.weights.split_last() else { bail!("there is no head to align") };
    let mut factor = alignment(&Tensor::cat(old, 0)?, new, spec.length)?;
    if spec.shrink_only {
        factor = factor.min(1.0);
    }
    for name in network.head().block_names(old.len()) {
        let scaled = (network.parameters().get(&name)? * factor)?;
        network.parameters_mut().set(&name, scaled);
    }
    Ok(())
}
