//! Published heads on a backbone that stays: FeCAM and FeTrIL.
//!
//! Both keep numbers of features as the backbone gives them and never carry them, so the recipe says that no later task
//! trains the backbone; what is kept between tasks and what answers are apart, and only the first is counted as kept.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use cil_backbone::{Frozen, Head};
use cil_data::store::TrainSet;
use cil_engine::Parameters;

use crate::looks::Looked;
use crate::memory;
use crate::plan::Plan;
use crate::recipe::DiscriminantSpec;
use fecam::Fecam;
use fetril::Fetril;

mod fecam;
mod fetril;
pub(crate) mod svm;
mod values;

/// What is kept of the classes seen, and what of the newest task answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kept {
    /// Means and covariances.
    Fecam(Fecam),
    /// Means, and the linear classifier of this task.
    Fetril(Fetril),
}

impl Kept {
    /// What is kept after `task`, whose classes' images `train` has, from what was kept before it.
    ///
    /// # Errors
    /// If the plan has no such head, a class has too few images, or an executor fails.
    pub(crate) fn after(
        plan: &Plan,
        task: usize,
        model: &Frozen,
        before: Option<&Self>,
        train: &TrainSet,
    ) -> Result<Self> {
        let spec = plan.recipe.discriminant.as_ref().context("the recipe has no discriminant")?;
        let looked = Looked::new(plan, model)?;
        let features = plan
            .increments
            .classes(task)
            .map(|class| looked.features(train, &memory::trained_on_of(plan, task, class, train)));
        match (&spec.fecam, before) {
            (Some(fecam), None) => Ok(Self::Fecam(Fecam::of(fecam, features)?)),
            (Some(fecam), Some(Self::Fecam(before))) => {
                Ok(Self::Fecam(before.joined(&Fecam::of(fecam, features)?)))
            }
            (None, None) => Ok(Self::Fetril(Fetril::after(None, features, 1.0 / spec.shrinkage)?)),
            (None, Some(Self::Fetril(before))) => {
                Ok(Self::Fetril(Fetril::after(Some(before), features, 1.0 / spec.shrinkage)?))
            }
            (_, Some(_)) => bail!("what was kept before is of another head"),
        }
    }

    /// `model`'s backbone with the head that answers.
    ///
    /// # Errors
    /// If a covariance has no inverse, or the device refuses the tensors.
    pub(crate) fn answering(
        &self,
        model: &Frozen,
        spec: &DiscriminantSpec,
        device: &Device,
    ) -> Result<Frozen> {
        let answer = match (self, &spec.fecam) {
            (Self::Fecam(kept), Some(fecam)) => kept.answer(fecam, spec.shrinkage)?,
            (Self::Fetril(kept), None) => kept.answer(),
            _ => bail!("what was kept is of another head"),
        };
        let blocks = model.snapshot().head.blocks.clone();
        let head = Head { blocks, ..spec.head(&model.snapshot().backbone) };
        let (of_class, width) = (head.rows_of_class(), answer.weights.ncols());
        let tensor = |values: Vec<f64>, dims: &[usize]| -> Result<Tensor> {
            Ok(Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(model.dtype())?.to_device(device)?)
        };
        let (mut tensors, mut first) = (BTreeMap::new(), 0);
        for (block, classes) in head.blocks.iter().enumerate() {
            let rows = classes * of_class;
            // Column by column of the transpose is row by row.
            let weights = answer.weights.rows(first, rows).transpose().as_slice().to_vec();
            tensors.insert(format!("head.{block}.weight"), tensor(weights, &[rows, width])?);
            let biases = answer.biases.rows(first, rows).iter().copied().collect();
            tensors.insert(format!("head.{block}.bias"), tensor(biases, &[rows])?);
            first += rows;
        }
        if let Some(power) = answer.power {
            tensors.insert(cil_backbone::head::POWER.to_owned(), tensor(vec![power], &[1])?);
        }
        Ok(model.with_head(head, tensors)?)
    }

    /// Bytes that are kept for later tasks.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Fecam(kept) => kept.bytes(),
            Self::Fetril(kept) => kept.bytes(),
        }
    }

    /// All values by name: what is kept and what answers.
    ///
    /// # Errors
    /// If the device refuses a tensor.
    pub(crate) fn values(&self) -> Result<Parameters> {
        let values = match self {
            Self::Fecam(kept) => kept.values()?.to_vec(),
            Self::Fetril(kept) => kept.values()?.to_vec(),
        };
        Ok(Parameters::from_tensors(values.into_iter().map(|(name, it)| (name.to_owned(), it)).collect()))
    }

    /// What gave `values`, of `classes` classes whose features have that width.
    ///
    /// # Errors
    /// If the values have another form.
    pub(crate) fn restore(
        values: &Parameters,
        spec: &DiscriminantSpec,
        (classes, width): (usize, usize),
    ) -> Result<Self> {
        let get = |name: &str, dims: &[usize]| -> Result<Vec<f64>> {
            let value = values.get(name)?;
            if value.dims() != dims || value.dtype() != DType::F32 {
                bail!("{name} is {:?} of {:?}, not {dims:?} of F32", value.dims(), value.dtype());
            }
            Ok(value.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?)
        };
        match &spec.fecam {
            Some(fecam) => Ok(Self::Fecam(Fecam::restore(fecam, get, (classes, width))?)),
            None => Ok(Self::Fetril(Fetril::restore(get, (classes, width))?)),
        }
    }
}

#[cfg(test)]
mod tests;
