//! New images that the old model takes for images of an old class.
//!
//! A new image near an old class's mean is moved along the gradient of the distance between its features and that mean
//! until the old model places it there (ADC, Goswami et al. 2024). It stays a photograph with a small change, so the
//! backbone's later changes move it much as they would have moved an old image. No old image is read.

use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor};
use cil_data::store::{SampleId, TrainSet};
use nalgebra::DMatrix;

use crate::looks::Looked;
use crate::means::INFERENCE_BATCH;
use crate::plan::Plan;
use crate::recipe::AdversarialImages;

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
    /// Images that stand for an old class, `[images, channels, height, width]`: those of its nearest new images that the
    /// old model places nearest to its mean after the change, or, where there is none, these new images as they are.
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

    /// After all steps towards the class's mean.
    fn changed(&self, images: &Tensor, class: usize) -> Result<Tensor> {
        let point = self.point(class, images)?;
        moved(images, self.settings, |images| Ok(self.old.towards(images, &point)?.1))
    }

    /// Rows that are nearest to the class's mean among all old ones.
    fn placed_at(&self, images: &Tensor, class: usize) -> Result<Vec<u32>> {
        let features = crate::discriminant::matrix(&self.old.of(images)?)?;
        let nearest = |row: usize| {
            let distance = |of: usize| (features.row(row) - self.means.row(of)).norm_squared();
            (0..self.means.nrows()).min_by(|one, other| distance(*one).total_cmp(&distance(*other)))
        };
        Ok((0..features.nrows()).filter(|row| nearest(*row) == Some(class)).map(|row| row as u32).collect())
    }

    /// `[1, width]`, the class's mean.
    fn point(&self, class: usize, like: &Tensor) -> Result<Tensor> {
        let mean: Vec<f64> = self.means.row(class).iter().copied().collect();
        let width = mean.len();
        Ok(Tensor::from_vec(mean, (1, width), &Device::Cpu)?
            .to_dtype(like.dtype())?
            .to_device(like.device())?)
    }
}

/// The rows of `features` nearest to the class's mean, at most `count`, the nearest first; equal ones in their order.
fn nearest_rows(features: &DMatrix<f64>, means: &DMatrix<f64>, class: usize, count: usize) -> Vec<usize> {
    let distance = |row: usize| (features.row(row) - means.row(class)).norm_squared();
    let mut rows: Vec<(f64, usize)> = (0..features.nrows()).map(|row| (distance(row), row)).collect();
    rows.sort_by(|one, other| one.0.total_cmp(&other.0));
    rows.into_iter().take(count).map(|(_, row)| row).collect()
}

/// After all steps against `gradient`; pixels stay between the least and the largest of these images.
fn moved(
    images: &Tensor,
    settings: AdversarialImages,
    gradient: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let all = images.flatten_all()?;
    let (least, largest) = (all.min(0)?, all.max(0)?);
    let mut moved = images.clone();
    for _ in 0..settings.iterations {
        let next = stepped(&moved, &gradient(&moved)?, settings.step)?;
        moved = next.broadcast_maximum(&least)?.broadcast_minimum(&largest)?;
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

#[cfg(test)]
mod tests;
