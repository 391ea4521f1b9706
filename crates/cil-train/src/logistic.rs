//! Weights of new classes beside old ones that stay, by logistic regression.
//!
//! The backbone and the old classes' weights are frozen, so training needs features only: of new images, of generated
//! ones, and samples from kept statistics. The regression's weights become a head block.

mod regression;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use cil_backbone::head::Head;
use cil_backbone::{Backbone, Frozen, Snapshot, StageCells, cells};
use cil_data::store::{SampleId, TrainSet};
use cil_random::Draw;
use dfgr::Replay;
use nalgebra::DMatrix;

use crate::discriminant::{ClassStatistics, Form};
use crate::learner::Plan;
use crate::means::INFERENCE_BATCH;
use crate::memory;
use crate::recipe::LogisticSpec;
use regression::{NewRows, PARTS, Seen};

/// The training data for appended classes.
pub(crate) struct At<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) task: usize,
    pub(crate) spec: &'a LogisticSpec,
    /// The model that is extended.
    pub(crate) old: &'a Frozen,
    /// Of the classes that are in no statistics.
    pub(crate) replay: &'a Replay,
    /// Of classes that were appended before, as `old` sees them.
    pub(crate) statistics: Option<&'a ClassStatistics>,
    pub(crate) train: &'a TrainSet,
    /// Images of old classes.
    pub(crate) exemplars: &'a [SampleId],
}

impl At<'_> {
    /// `old` with a head block more, and the statistics of all classes that were appended.
    ///
    /// # Errors
    /// If an executor fails, a new class has no image, or the model's head reads something else than the recipe says.
    pub(crate) fn append(&self) -> Result<(Frozen, ClassStatistics)> {
        let new = self.plan.increments.classes(self.task);
        let old = widened(self.old, self.spec)?;
        let looked = old.with_maps(&cells::taps(&self.spec.stages))?;
        let mut seen = Gathered::default();
        let mut of_new = Vec::new();
        for class in new.clone() {
            let of_class =
                self.of_samples(&looked, &memory::trained_on_of(self.plan, self.task, class, self.train))?;
            of_new.push(seen.add(&of_class, |_| class)?);
        }
        if !self.exemplars.is_empty() {
            let kept = self.of_samples(&looked, self.exemplars)?;
            seen.add(&kept, |row| self.train.class_of(self.exemplars[row]))?;
        }
        let mut draw = Draw { task: self.task, ..Draw::new(self.plan.seed, "logistic") };
        let mut left = self.spec.generated;
        while left > 0 {
            let images = self.replay.sample(left.min(INFERENCE_BATCH), draw)?;
            let labels = images.labels.to_vec()?;
            seen.add(&self.features(&looked, &images.images)?, |row| labels[row] as usize)?;
            left -= labels.len();
            draw.position += 1;
        }
        if let Some(statistics) = self.statistics {
            let each = self.spec.generated.div_ceil(self.replay.teacher().classes());
            let first = new.start - statistics.classes();
            for (class, features) in statistics.sampled(each, draw, &self.plan.device)?.iter().enumerate() {
                seen.add(&features.to_dtype(old.dtype())?, |_| first + class)?;
            }
        }
        let rows = seen.beside(&old, &self.plan.device)?.calibrated(new.len(), self.spec)?;
        let newer = ClassStatistics::of(of_new.into_iter().map(Ok), Form::Wide)?;
        let statistics = match self.statistics {
            Some(before) => before.joined(&newer),
            None => newer,
        };
        Ok((rows.appended(&old, &self.plan.device)?, statistics))
    }

    fn of_samples(&self, looked: &Frozen, samples: &[SampleId]) -> Result<Tensor> {
        let Plan { preparation, device, .. } = self.plan;
        let of = |batch| self.features(looked, &self.train.images(batch, preparation, None, device)?);
        let batches = samples.chunks(INFERENCE_BATCH).map(of).collect::<Result<Vec<_>>>()?;
        if batches.is_empty() {
            bail!("a new class has no image that its weights could be fitted to; it needs {PARTS} at least");
        }
        Ok(Tensor::cat(&batches, 0)?)
    }

    /// The features of images that the head reads, `[images, width]`.
    fn features(&self, looked: &Frozen, images: &Tensor) -> Result<Tensor> {
        let view = looked.forward(images)?;
        Ok(match self.spec.stages.as_slice() {
            [] => view.features,
            stages => cells::features(&view.maps, stages)?,
        })
    }
}

/// A model whose head reads what `spec` says: as it is, or one of pooled features, which the last stage's averages are,
/// with zeros for what it did not read.
fn widened(model: &Frozen, spec: &LogisticSpec) -> Result<Frozen> {
    let Snapshot { backbone, head, parameters, .. } = model.snapshot();
    if head.stages == spec.stages {
        return Ok(model.clone());
    }
    if !head.stages.is_empty() {
        bail!(
            "the model's head reads {:?}; set logistic.stages to the same, not {:?}",
            head.stages,
            spec.stages
        );
    }
    let width = cells::width(backbone, &spec.stages);
    let wide = Head { stages: spec.stages.clone(), width, ..head.clone() };
    let before = width_before_pooled(backbone, &spec.stages);
    let mut tensors = BTreeMap::new();
    for name in head.names() {
        let value = parameters.get(&name)?;
        let value = match value.rank() {
            2 => value.pad_with_zeros(1, before, width - before - head.width)?,
            _ => value.clone(),
        };
        tensors.insert(name, value);
    }
    Ok(model.with_head(wide, tensors)?)
}

/// Width of what is read before the last stage's averages, which are the pooled features.
fn width_before_pooled(backbone: &Backbone, stages: &[StageCells]) -> usize {
    let before = stages.iter().take_while(|it| it.stage != backbone.stages());
    before.map(|it| cells::width(backbone, &[*it])).sum()
}

/// The model as it was before any class was appended whose statistics are kept: what a generator is trained from.
///
/// # Errors
/// If the statistics are not of whole blocks of the model's head.
pub(crate) fn original(model: &Frozen, appended: usize) -> Result<Frozen> {
    let Snapshot { backbone, head, parameters, .. } = model.snapshot();
    if appended == 0 {
        return Ok(model.clone());
    }
    let (mut blocks, mut left) = (head.blocks.clone(), appended);
    while left > 0 {
        let last = blocks
            .pop()
            .filter(|last| *last <= left)
            .context("the statistics kept beside the model are not of whole blocks of its head")?;
        left -= last;
    }
    let width = backbone.feature_width();
    let before = width_before_pooled(backbone, &head.stages);
    let plain = Head { blocks, stages: Vec::new(), width, ..head.clone() };
    let mut tensors = BTreeMap::new();
    for name in plain.names() {
        let value = parameters.get(&name)?;
        let value = match value.rank() {
            2 => value.narrow(1, before, width)?.contiguous()?,
            _ => value.clone(),
        };
        tensors.insert(name, value);
    }
    Ok(model.with_head(plain, tensors)?)
}

/// Features and classes of images, as they come.
#[derive(Default)]
struct Gathered {
    features: Vec<f64>,
    classes: Vec<usize>,
}

impl Gathered {
    /// Takes features `[images, width]` of images of these classes, and hands them back.
    fn add(&mut self, features: &Tensor, class: impl Fn(usize) -> usize) -> candle_core::Result<Tensor> {
        self.features.extend(features.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?);
        self.classes.extend((0..features.dim(0)?).map(class));
        Ok(features.clone())
    }

    /// With the logits of a model's classes.
    fn beside(self, old: &Frozen, device: &Device) -> Result<Seen> {
        let rows = self.classes.len();
        let features = DMatrix::from_row_slice(rows, self.features.len() / rows.max(1), &self.features);
        let dims = (rows, features.ncols());
        let head = old.snapshot().head.weights(&old.snapshot().parameters)?;
        let inputs = Tensor::from_vec(self.features, dims, device)?.to_dtype(old.dtype())?;
        let logits = head.forward(&inputs)?.logits.to_dtype(DType::F64)?;
        let logits = logits.flatten_all()?.to_vec1::<f64>()?;
        let old = DMatrix::from_row_slice(rows, old.classes(), &logits);
        Ok(Seen { features, old, classes: self.classes })
    }
}

impl NewRows {
    /// A model with these rows for a last head block.
    fn appended(&self, model: &Frozen, device: &Device) -> Result<Frozen> {
        let Snapshot { head, parameters, .. } = model.snapshot();
        let mut grown = head.clone();
        grown.blocks.push(self.biases.len());
        let mut tensors = BTreeMap::new();
        for name in head.names() {
            tensors.insert(name.clone(), parameters.get(&name)?.clone());
        }
        let weights = self.weights.transpose();
        let weights = Tensor::from_slice(weights.as_slice(), self.weights.shape(), device)?;
        let biases = Tensor::from_slice(self.biases.as_slice(), self.biases.len(), device)?;
        for (name, value) in grown.block_names(head.blocks.len()).into_iter().zip([weights, biases]) {
            tensors.insert(name, value.to_dtype(DType::F32)?.to_dtype(model.dtype())?);
        }
        Ok(model.with_head(grown, tensors)?)
    }
}
