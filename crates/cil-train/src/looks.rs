//! The features that statistics are taken of.
//!
//! A model's features of images are pooled ones of length 1, or averages over cells of several stages, or random
//! features of either, as a recipe's discriminant says; they are taken of every image without augmentation, and of its
//! mirror image if the recipe says so. How a change of the backbone is seen in other views of them is in `views`.

pub(crate) mod views;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::{Tensor, Var};
use cil_backbone::head::{normalized, random_features};
use cil_backbone::{Frozen, Outputs, POOLED, cells};
use cil_data::store::{SampleId, TrainSet};
use cil_engine::parameters::initial_value;

use crate::means::INFERENCE_BATCH;
use crate::plan::Plan;
use crate::recipe::discriminant::DiscriminantSpec;
use crate::turned::mirrored;

/// A model whose features statistics are taken of.
pub(crate) struct Looked<'a> {
    plan: &'a Plan,
    spec: &'a DiscriminantSpec,
    model: Frozen,
    projection: Option<Tensor>,
}

impl<'a> Looked<'a> {
    /// `model`, with the features that the plan's discriminant uses.
    ///
    /// # Errors
    /// If the plan has no discriminant, or the model not its stages.
    pub(crate) fn new(plan: &'a Plan, model: &Frozen) -> Result<Self> {
        let spec = plan.recipe.discriminant.as_ref().context("the recipe has no discriminant")?;
        let model = match spec.stages.as_slice() {
            [] => model.clone(),
            stages => model.with_maps(&cells::taps(stages))?,
        };
        Ok(Self { plan, spec, model, projection: projection(plan, spec)? })
    }

    /// `[images, width]`; twice as many rows where mirror images are included.
    ///
    /// # Errors
    /// If an executor fails, or there is no image.
    pub(crate) fn features(&self, train: &TrainSet, samples: &[SampleId]) -> Result<Tensor> {
        let Plan { preparation, device, .. } = self.plan;
        let mut rows = Vec::new();
        for batch in samples.chunks(INFERENCE_BATCH) {
            let images = train.images(batch, preparation, None, device)?;
            rows.push(self.of(&images)?);
            if self.spec.mirrored {
                rows.push(self.of(&mirrored(&images)?)?);
            }
        }
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// The same features, and beside them pooled ones of length 1, `[images, pooled width]`, of the images without
    /// their mirror images. Each image passes the model once.
    ///
    /// # Errors
    /// If an executor fails, or there is no image.
    pub(crate) fn beside_pooled(&self, train: &TrainSet, samples: &[SampleId]) -> Result<(Tensor, Tensor)> {
        let Plan { preparation, device, .. } = self.plan;
        let (mut rows, mut pooled) = (Vec::new(), Vec::new());
        for batch in samples.chunks(INFERENCE_BATCH) {
            let images = train.images(batch, preparation, None, device)?;
            let view = self.model.forward(&images)?;
            pooled.push(normalized(&view.features)?);
            rows.push(self.read(view)?);
            if self.spec.mirrored {
                rows.push(self.of(&mirrored(&images)?)?);
            }
        }
        Ok((Tensor::cat(&rows, 0)?, Tensor::cat(&pooled, 0)?))
    }

    /// `[images, width]` of the images alone, without mirror images.
    ///
    /// # Errors
    /// If an executor fails, or there is no image.
    pub(crate) fn as_they_are(&self, train: &TrainSet, samples: &[SampleId]) -> Result<Tensor> {
        let Plan { preparation, device, .. } = self.plan;
        let of_batch = |batch| Ok(self.of(&train.images(batch, preparation, None, device)?)?);
        let rows = samples.chunks(INFERENCE_BATCH).map(of_batch).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// `[images, width]` of images as they are; pooled features of length 1, but as they are where what answers divides
    /// them itself.
    ///
    /// # Errors
    /// If an executor fails.
    pub(crate) fn of(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.read(self.model.forward(images)?)
    }

    fn read(&self, view: Outputs) -> candle_core::Result<Tensor> {
        let read = match self.spec.stages.as_slice() {
            [] if self.spec.is_of_a_frozen_backbone() => view.features,
            [] => normalized(&view.features)?,
            stages => cells::features(&view.maps, stages)?,
        };
        match &self.projection {
            Some(projection) => random_features(&read, projection),
            None => Ok(read),
        }
    }
}

impl Looked<'_> {
    /// Where `images` are as [`Self::of`] sees them, and the gradient to them of half the sum of their squared
    /// distances from `point`, `[1, width]`.
    ///
    /// # Errors
    /// If the features are random ones, or an executor fails.
    pub(crate) fn towards(&self, images: &Tensor, point: &Tensor) -> Result<(Tensor, Tensor)> {
        if self.projection.is_some() {
            bail!("random features have no gradient to the images");
        }
        let probe = self.model.probe(images)?;
        if !self.spec.stages.is_empty() {
            let read = cells::features(&probe.maps, &self.spec.stages)?;
            let apart = read.broadcast_sub(point)?;
            let taps = cells::backward(&probe.maps, &self.spec.stages, &apart)?;
            return Ok((read, self.model.probe_backward(probe, taps, BTreeMap::new())?));
        }
        let features = Var::from_tensor(&probe.features)?;
        let read = normalized(&features)?;
        let half = (read.broadcast_sub(point)?.sqr()?.sum_all()? / 2.0)?;
        let grads = half.backward()?;
        let gradient = grads.get(&features).context("the features have no gradient")?.clone();
        let taps = BTreeMap::from([(POOLED.to_owned(), gradient)]);
        Ok((read.detach(), self.model.probe_backward(probe, taps, BTreeMap::new())?))
    }
}

/// The matrix of random features, the same in every task: it is drawn by the plan's seed and is not among what is
/// kept.
///
/// # Errors
/// If the device refuses it.
pub(crate) fn projection(plan: &Plan, spec: &DiscriminantSpec) -> Result<Option<Tensor>> {
    let drawn = spec.head(&plan.backbone).projection_spec();
    Ok(drawn.map(|drawn| initial_value(&drawn, plan.seed, &plan.device)).transpose()?)
}
