//! New images that the old model takes for images of an old class.
//!
//! A new image near an old class's mean is moved along the gradient of the distance between its features and that mean
//! until the old model places it there (ADC, Goswami et al. 2024). It stays a photograph with a small change, so the
//! backbone's later changes move it much as they would have moved an old image. No old image is read. They show how
//! statistics have to follow the backbone ([`Adversary`]), or are replayed in every step ([`Pool`]).

use std::sync::Arc;

use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor};
use cil_backbone::{Frozen, Outputs};
use cil_data::store::{SampleId, TrainSet};
use cil_engine::uploads;
use cil_random::Draw;
use nalgebra::DMatrix;

use crate::discriminant::{ClassStatistics, matrix};
use crate::looks::Looked;
use crate::means::INFERENCE_BATCH;
use crate::plan::Plan;
use crate::recipe::{AdversarialImages, AdversarialReplaySpec};

/// The new images at hand, and what the old model says of them.
pub(crate) struct Adversary<'a> {
    pub(crate) plan: &'a Plan,
    /// The old model.
    pub(crate) old: &'a Looked<'a>,
    pub(crate) train: &'a TrainSet,
    /// New images.
    pub(crate) samples: &'a [SampleId],
    /// `[samples, width]`, as the old model sees them.
    pub(crate) features: &'a DMatrix<f64>,
    /// `[old classes, width]`.
    pub(crate) means: &'a DMatrix<f64>,
    pub(crate) settings: AdversarialImages,
}

impl Adversary<'_> {
    /// Images that stand for an old class, `[images, channels, height, width]`: those of its nearest new images that
    /// the old model places nearest to its mean after the change, or, where there is none, these new images as they
    /// are.
    ///
    /// # Errors
    /// If there is no new image, or an executor fails.
    pub(crate) fn images_of(&self, class: usize) -> Result<Tensor> {
        let nearest = nearest_rows(self.features, self.means, class, self.settings.images);
        if nearest.is_empty() {
            bail!("there is no new image that could stand for class {class}");
        }
        let samples: Vec<SampleId> = nearest.into_iter().map(|row| self.samples[row]).collect();
        let mut placed = Vec::new();
        let mut unchanged = Vec::new();
        for batch in samples.chunks(INFERENCE_BATCH) {
            let images = self.train.images(batch, &self.plan.preparation, None, &self.plan.device)?;
            let changed = self.changed(&images, class)?;
            let rows: Vec<u32> = self.placed_at(&changed, class)?;
            if !rows.is_empty() {
                let count = rows.len();
                placed.push(changed.index_select(&Tensor::from_vec(rows, count, changed.device())?, 0)?);
            }
            unchanged.push(images);
        }
        let found = if placed.is_empty() { unchanged } else { placed };
        Ok(Tensor::cat(&found, 0)?)
    }

    /// After all steps towards the class's mean; pixels stay between the least and the largest of these images.
    fn changed(&self, images: &Tensor, class: usize) -> Result<Tensor> {
        let point = point(self.means, class, images)?;
        moved(images, self.settings, true, |images| Ok(self.old.towards(images, &point)?.1))
    }

    /// Rows that are nearest to the class's mean among all old ones.
    fn placed_at(&self, images: &Tensor, class: usize) -> Result<Vec<u32>> {
        let features = matrix(&self.old.of(images)?)?;
        let nearest = |row: usize| {
            let distance = |of: usize| (features.row(row) - self.means.row(of)).norm_squared();
            (0..self.means.nrows()).min_by(|one, other| distance(*one).total_cmp(&distance(*other)))
        };
        Ok((0..features.nrows()).filter(|row| nearest(*row) == Some(class)).map(|row| row as u32).collect())
    }
}

/// `[1, width]`, a class's mean.
fn point(means: &DMatrix<f64>, class: usize, like: &Tensor) -> Result<Tensor> {
    let mean: Vec<f64> = means.row(class).iter().copied().collect();
    let width = mean.len();
    Ok(Tensor::from_vec(mean, (1, width), &Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())?)
}

/// The rows of `features` nearest to the class's mean, at most `count`, the nearest first; equal ones in their order.
fn nearest_rows(features: &DMatrix<f64>, means: &DMatrix<f64>, class: usize, count: usize) -> Vec<usize> {
    let distance = |row: usize| (features.row(row) - means.row(class)).norm_squared();
    let mut rows: Vec<(f64, usize)> = (0..features.nrows()).map(|row| (distance(row), row)).collect();
    rows.sort_by(|one, other| one.0.total_cmp(&other.0));
    rows.into_iter().take(count).map(|(_, row)| row).collect()
}

/// After all steps against `gradient`; if `within`, pixels stay between the least and the largest of these images.
fn moved(
    images: &Tensor,
    settings: AdversarialImages,
    within: bool,
    gradient: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let all = images.flatten_all()?;
    let (least, largest) = (all.min(0)?, all.max(0)?);
    let mut moved = images.clone();
    for _ in 0..settings.iterations {
        let next = stepped(&moved, &gradient(&moved)?, settings.step)?;
        moved = if within { next.broadcast_maximum(&least)?.broadcast_minimum(&largest)? } else { next };
    }
    Ok(moved)
}

/// A step against the gradient: its root mean square length over the images is `length`. Where the gradient is 0 the
/// images stay.
fn stepped(images: &Tensor, gradient: &Tensor, length: f64) -> Result<Tensor> {
    let norm = gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?.sqrt()?.to_scalar::<f64>()?;
    if norm == 0.0 {
        return Ok(images.clone());
    }
    let scale = length * (images.dim(0)? as f64).sqrt() / norm;
    Ok((images - (gradient * scale)?)?)
}

/// Adversarial images of all old classes, of which every step draws some; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    /// `[images, channels, height, width]`, normalised, on the host.
    images: Tensor,
    /// The class that each stands for.
    labels: Arc<[u32]>,
    /// The old model.
    teacher: Frozen,
    device: Device,
    /// Images of a step.
    batch: usize,
}

impl Pool {
    /// Of all classes of `statistics`, which `old` has, from `samples`, the new images of a task; a function of the
    /// plan's seed and the task.
    ///
    /// # Errors
    /// If there is no new image, or an executor fails.
    pub(crate) fn new(
        plan: &Plan,
        task: usize,
        (old, statistics): (&Frozen, &ClassStatistics),
        (train, samples): (&TrainSet, &[SampleId]),
        spec: AdversarialReplaySpec,
    ) -> Result<Self> {
        let looked = Looked::new(plan, old)?;
        let features = matrix(&looked.as_they_are(train, samples)?)?;
        let means = statistics.means();
        let deviation = spec.noise * statistics.deviation();
        let (mut pool, mut labels) = (Vec::new(), Vec::new());
        for class in 0..means.nrows() {
            let draw = Draw { task, position: class as u64, ..Draw::new(plan.seed, "adversarial") };
            let mut stream = draw.stream("noise");
            let nearest = nearest_rows(&features, means, class, spec.images);
            let near: Vec<SampleId> = nearest.into_iter().map(|row| samples[row]).collect();
            for batch in near.chunks(INFERENCE_BATCH) {
                let images = train.images(batch, &plan.preparation, Some(draw), &plan.device)?;
                let mean = point(means, class, &images)?;
                let dims = (batch.len(), means.ncols());
                let noise: Vec<f32> =
                    (0..dims.0 * dims.1).map(|_| (deviation * stream.normal()) as f32).collect();
                let noise = Tensor::from_vec(noise, dims, &Device::Cpu)?.to_device(images.device())?;
                let points = noise.to_dtype(mean.dtype())?.broadcast_add(&mean)?;
                let towards = |images: &Tensor| Ok(looked.towards(images, &points)?.1);
                pool.push(moved(&images, spec.images(), false, towards)?.to_device(&Device::Cpu)?);
                labels.extend(std::iter::repeat_n(class as u32, batch.len()));
            }
        }
        let images = Tensor::cat(&pool, 0)?;
        let (teacher, device) = (old.clone(), plan.device.clone());
        Ok(Self { images, labels: labels.into(), teacher, device, batch: spec.batch })
    }

    /// The same with a teacher whose views hold the maps of these taps as well.
    ///
    /// # Errors
    /// If the backbone has no tap of such a name.
    pub(crate) fn with_maps(self, maps: &[String]) -> Result<Self> {
        Ok(Self { teacher: self.teacher.with_maps(maps)?, ..self })
    }

    /// Images of a step, on the host, and the classes that they stand for: a function of the draw.
    ///
    /// # Errors
    /// If there is no memory.
    pub(crate) fn draw(&self, draw: Draw<'_>) -> Result<(Tensor, Vec<u32>)> {
        let mut stream = draw.stream("pool");
        let rows: Vec<u32> = (0..self.batch).map(|_| stream.below(self.labels.len()) as u32).collect();
        let labels = rows.iter().map(|row| self.labels[*row as usize]).collect();
        let rows = Tensor::from_vec(rows, self.batch, &Device::Cpu)?;
        Ok((self.images.index_select(&rows, 0)?, labels))
    }

    /// Drawn images where the networks are, and the old model's outputs for them.
    ///
    /// # Errors
    /// If an executor fails.
    pub(crate) fn seen(&self, images: &Tensor) -> Result<(Tensor, Outputs)> {
        let images = match images.device() {
            Device::Cpu if !self.device.is_cpu() => {
                uploads::fresh(images.flatten_all()?.to_vec1::<f32>()?, images.dims(), &self.device)?
            }
            _ => images.clone(),
        };
        let images = images.to_dtype(self.teacher.dtype())?;
        let view = self.teacher.forward(&images)?;
        Ok((images, view))
    }

    /// Images of each of `classes` old classes in that many steps, on average.
    pub(crate) fn counts(&self, classes: usize, steps: usize) -> Vec<usize> {
        let share = (steps * self.batch) as f64 / self.labels.len() as f64;
        let of = |class: usize| self.labels.iter().filter(|label| **label as usize == class).count();
        (0..classes).map(|class| (of(class) as f64 * share).round() as usize).collect()
    }
}

#[cfg(test)]
mod tests;
