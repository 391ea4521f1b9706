//! A learner that continues from a model of another process or program.
//!
//! It then has the state of a run that has just learned that model's classes, so that everything that follows is
//! the same to the bit. What is kept beside the model comes back by name and shape; statistics that were never taken
//! are those of generated images ([`DiscriminantSpec::generated`]).

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use cil_backbone::head::PROJECTION;
use cil_backbone::{Frozen, Head, Network, Snapshot};
use cil_data::exemplars::Exemplars;
use cil_engine::Parameters;

use super::{Learner, Stage};
use crate::discriminant::{ClassStatistics, Form};
use crate::memory;
use crate::recipe::DiscriminantSpec;

impl Learner {
    /// Goes on from `model`, each of whose head blocks is a task that is learned; the plan's increments begin with
    /// them. `statistics` are those that [`Self::kept_statistics`] gave of it, `exemplars` images of its classes in the
    /// set that is learned from.
    ///
    /// # Errors
    /// If the run has begun, the model has another form than the plan's, or the statistics are not of its classes.
    pub fn adopt(
        &mut self,
        model: Snapshot,
        statistics: Option<&Parameters>,
        exemplars: Exemplars,
    ) -> Result<()> {
        let plan = &self.plan;
        if self.task > 0 || self.stage != Stage::Before || self.model.is_some() {
            bail!("a model can only be taken before the run begins");
        }
        if model.backbone != plan.backbone {
            bail!("the model is {}, the plan has {}", model.backbone, plan.backbone);
        }
        if model.head.kind != plan.recipe.head {
            bail!("the model's head is {:?}, the recipe has {:?}", model.head.kind, plan.recipe.head);
        }
        let (blocks, sizes) = (&model.head.blocks, plan.increments.sizes());
        let learned = blocks.len();
        if blocks.is_empty() || learned >= sizes.len() || sizes[..learned] != blocks[..] {
            bail!("the model's head has blocks {blocks:?}; the plan's tasks {sizes:?} do not continue them");
        }
        if !model.head.stages.is_empty() && plan.recipe.logistic.is_none() {
            bail!("the model's head reads several stages; use a recipe with logistic");
        }
        if !model.head.stages.is_empty() && statistics.is_none() {
            bail!(
                "the model's head reads several stages, and the file has no statistics of the appended classes"
            );
        }
        if plan.recipe.needs_feature_matrix() {
            bail!(
                "the recipe has elastic-features, whose matrix is taken of the model's own images and is in no model \
                 file; leave the term out to go on from a model"
            );
        }
        if plan.recipe.discriminant.as_ref().is_some_and(DiscriminantSpec::is_of_a_frozen_backbone) {
            bail!("discriminant.fecam and fetril are of a whole run; leave them out to go on from a model");
        }
        if let (Some(spec), Some(values)) = (&plan.recipe.logistic, statistics) {
            let found = ClassStatistics::restore_all(values, spec.head(&model.backbone).width, Form::Wide)
                .context("the statistics kept beside the model")?;
            if found.classes() >= model.head.classes() {
                bail!(
                    "the statistics in the file are of {} classes, which the model does not have",
                    found.classes()
                );
            }
            self.statistics = Some(found);
        } else if let (Some(spec), Some(values)) = (&plan.recipe.discriminant, statistics) {
            self.statistics = Some(restored(spec, &model, values)?);
        } else if let Some(spec) = &plan.recipe.discriminant
            && spec.generated.is_none()
        {
            bail!(
                "no statistics of the old classes were kept; set discriminant.generated to the number of images to generate for them, such as 6000"
            );
        }
        let frozen = Network::from_snapshot(model, &plan.executors, plan.seed, &plan.device)?.freeze()?;
        (self.old, self.model) = (Some(frozen.clone()), Some(frozen));
        (self.task, self.exemplars) = (learned, exemplars);
        Ok(())
    }

    /// Statistics of the classes learned, by name, where a discriminant answers: what [`Self::adopt`] and
    /// [`classifier_of`] take.
    ///
    /// # Errors
    /// If the device refuses a tensor.
    pub fn kept_statistics(&self) -> Result<Option<Parameters>> {
        self.statistics.as_ref().map(ClassStatistics::values).transpose()
    }
}

/// The network that answers by statistics: `model`'s backbone with their discriminant for a head.
///
/// # Errors
/// If the statistics are not of the model's classes, or have no discriminant.
pub fn classifier_of(
    model: &Frozen,
    spec: &DiscriminantSpec,
    statistics: &Parameters,
    device: &Device,
) -> Result<Frozen> {
    if spec.random_features.is_some() {
        bail!(
            "random features depend on a run's seed, which a model file does not have; use a discriminant without them"
        );
    }
    answering(model, spec, &restored(spec, model.snapshot(), statistics)?, None, device)
}

/// The statistics of a model's classes.
fn restored(spec: &DiscriminantSpec, model: &Snapshot, values: &Parameters) -> Result<ClassStatistics> {
    let (classes, width) = (model.head.classes(), spec.width(&model.backbone));
    ClassStatistics::restore(values, classes, width, memory::form_of(spec))
        .context("the statistics kept beside the model")
}

/// `model`'s backbone with the discriminant of statistics for a head.
pub(super) fn answering(
    model: &Frozen,
    spec: &DiscriminantSpec,
    statistics: &ClassStatistics,
    projection: Option<Tensor>,
    device: &Device,
) -> Result<Frozen> {
    let (weights, biases) = statistics.answer(spec, device)?;
    let blocks = &model.snapshot().head.blocks;
    let (mut tensors, mut row) = (BTreeMap::new(), 0);
    for (block, classes) in blocks.iter().enumerate() {
        let rows = |of: &Tensor| of.narrow(0, row, *classes)?.contiguous()?.to_dtype(model.dtype());
        tensors.insert(format!("head.{block}.weight"), rows(&weights)?);
        tensors.insert(format!("head.{block}.bias"), rows(&biases)?);
        row += classes;
    }
    if let Some(projection) = projection {
        tensors.insert(PROJECTION.to_owned(), projection.to_dtype(model.dtype())?);
    }
    let head = Head { blocks: blocks.clone(), ..spec.head(&model.snapshot().backbone) };
    Ok(model.with_head(head, tensors)?)
}
