//! A step's passes: what goes through the networks together, and the way back.
//!
//! The rows of all passes follow each other, new images first, and terms and heads see them as one batch.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Result, bail};
use candle_core::{DType, Tensor};
use cil_backbone::{Frozen, Outputs, POOLED};
use cil_engine::{ForwardSpec, Gradients, Keep, Norm, NormUpdate, Pass, Upstream, measures};
use dtid::values::{Value, grain, with_values};
use rayon::prelude::*;

use super::inputs::{Inputs, Layout};
use super::{Job, PhaseContext};
use crate::recipe::{SyntheticNorm, Trained};
use crate::turned::turns;

/// A training pass whose batch norm keeps the running statistics.
const TRAIN_RUNNING: ForwardSpec =
    ForwardSpec { norm: Norm::Running, moments: false, keep: Keep::Tape { weights: true, input: false } };

/// A pass with batch statistics through a backbone that is not trained.
const STATISTICS: ForwardSpec = ForwardSpec { norm: Norm::Batch, moments: false, keep: Keep::Nothing };

/// Images of a step's first rows, new classes first: real ones, or generated ones of new classes alone.
pub(super) struct First {
    /// `None` in a step of replayed images alone.
    pub(super) images: Option<Tensor>,
    pub(super) n_new: usize,
    /// The new teacher's outputs for them, if they are its generator's.
    pub(super) said: Option<Outputs>,
}

/// Generated or adversarial images of old classes, and the old teacher's outputs for them.
pub(super) struct Replayed {
    pub(super) images: Tensor,
    pub(super) view: Outputs,
    norm: SyntheticNorm,
}

impl Job {
    /// A step's images, and of generated ones what teachers say.
    pub(super) fn images(
        &self,
        layout: &Layout,
        inputs: &Inputs<'_>,
        context: &PhaseContext<'_>,
    ) -> Result<(First, Option<Replayed>)> {
        let n_new = layout.n_new;
        let first = match (inputs.images, inputs.new_code, &self.teachers.new_replay) {
            (Some(drawn), ..) => {
                let images = context.train.materialize(drawn, context.preparation, true, context.device)?;
                First { images: Some(images.to_dtype(self.dtype())?), n_new, said: None }
            }
            (None, Some(code), Some(replay)) => {
                let (images, said) = replay.generate(code)?;
                First { images: Some(images), n_new, said: Some(said) }
            }
            _ => First { images: None, n_new, said: None },
        };
        let replayed = match (inputs.code, &self.teachers.replay) {
            (Some(code), Some((replay, spec))) => {
                let (images, view) = replay.generate(code)?;
                Some(Replayed { images, view, norm: spec.synthetic_norm })
            }
            (Some(images), None) => match &self.teachers.adversarial {
                Some(pool) => {
                    let (images, view) = pool.seen(images)?;
                    Some(Replayed { images, view, norm: SyntheticNorm::Joint })
                }
                None => None,
            },
            _ => None,
        };
        Ok((first, replayed))
    }

    /// Type of the network's values: `f32`, but for checks in `f64`.
    fn dtype(&self) -> DType {
        self.network.parameters().iter().next().map_or(DType::F32, |(_, value)| value.dtype())
    }

    /// The new images turned by one, two and three right angles, one turn after the other: `[3 new rows, ..]`. `None`
    /// where no term reads them or no image is new.
    pub(super) fn turned(&self, first: &First) -> Result<Option<Tensor>> {
        match &first.images {
            Some(images) if self.turns_images && first.n_new > 0 => {
                Ok(Some(Tensor::cat(&turns(&images.narrow(0, 0, first.n_new)?)?, 0)?))
            }
            _ => Ok(None),
        }
    }

    /// The network's passes over real, generated and turned images; their rows follow each other.
    pub(super) fn passes(
        &self,
        real: &First,
        synthetic: Option<&Replayed>,
        turned: Option<&Tensor>,
    ) -> Result<Vec<Pass>> {
        let run =
            |images: &Tensor, spec| self.network.executor().forward(self.network.parameters(), images, spec);
        let parts: Vec<&Tensor> =
            real.images.iter().chain(synthetic.map(|it| &it.images)).chain(turned).collect();
        let together = match parts.as_slice() {
            [] => bail!("a step without an image"),
            [images] => (*images).clone(),
            _ => Tensor::cat(&parts, 0)?,
        };
        let (batch, running) = match self.spec.trained {
            Trained::All => (ForwardSpec::TRAIN, TRAIN_RUNNING),
            Trained::Head | Trained::Correction => (ForwardSpec::EVAL, ForwardSpec::EVAL),
            Trained::ClassWeights => (STATISTICS, ForwardSpec::EVAL),
        };
        let apart = |real: &Tensor, synthetic: &Tensor, norm| {
            let mut passes = vec![run(real, batch)?, run(synthetic, norm)?];
            passes.extend(turned.map(|images| run(images, batch)).transpose()?);
            Ok(passes)
        };
        match (&real.images, synthetic.map(|it| (&it.images, it.norm))) {
            (Some(real), Some((images, SyntheticNorm::Running))) if batch != running => {
                apart(real, images, running)
            }
            (Some(real), Some((images, SyntheticNorm::Separate))) if batch != running => {
                apart(real, images, batch)
            }
            (_, Some((_, SyntheticNorm::Frozen))) => Ok(vec![run(&together, running)?]),
            _ => Ok(vec![run(&together, batch)?]),
        }
    }

    /// The new teacher's outputs for the new images, and for all rows where a term needs them.
    pub(super) fn new_teacher_views(
        &self,
        real: &First,
        synthetic: Option<&Replayed>,
    ) -> candle_core::Result<(Option<Outputs>, Option<Outputs>)> {
        let Some(teacher) = &self.teachers.new else { return Ok((None, None)) };
        let n_new = self.columns.len() - self.n_old;
        let of_new_images = match &real.images {
            Some(_) if real.said.is_some() => {
                real.said.clone().map(|said| of_new_classes(said, n_new)).transpose()?
            }
            // On a GPU it is asked of all rows: where exemplars make the number of new ones vary, algorithms and memory
            // of two dozen shapes would cost more than the rows.
            Some(images) if real.n_new > 0 && images.device().is_cuda() => {
                Some(of_new_classes(first_rows(teacher.forward(images)?, real.n_new)?, n_new)?)
            }
            Some(images) if real.n_new > 0 => {
                Some(of_new_classes(teacher.forward(&images.narrow(0, 0, real.n_new)?)?, n_new)?)
            }
            _ => None,
        };
        let of_all = match self.objective.asks_new_teacher_of_all() {
            true => Some(of_new_classes(view_of_all(teacher, real, synthetic)?, n_new)?),
            false => None,
        };
        Ok((of_new_images, of_all))
    }

    /// Hands every pass its rows of the taps' gradients; the statistics that batch norm should move towards.
    pub(super) fn backward(
        &self,
        passes: Vec<Pass>,
        grads: &BTreeMap<String, Tensor>,
        into: &mut Gradients,
    ) -> Result<Vec<NormUpdate>> {
        let (mut row, mut updates) = (0, Vec::new());
        for mut pass in passes {
            let rows = pass.tap(POOLED)?.dim(0)?;
            if let (Some(tape), false) = (pass.tape.take(), grads.is_empty()) {
                let share = |(name, grad): (&String, &Tensor)| {
                    Ok((name.clone(), grad.narrow(0, row, rows)?.contiguous()?))
                };
                let taps = grads.iter().map(share).collect::<Result<_>>()?;
                let upstream = Upstream { taps, moments: BTreeMap::new() };
                self.network.executor().backward(self.network.parameters(), tape, &upstream, into)?;
            }
            row += rows;
            updates.extend(pass.statistics);
        }
        Ok(updates)
    }
}

/// A tap of all passes.
pub(super) fn joined(passes: &[Pass], tap: &str) -> candle_core::Result<Tensor> {
    match passes {
        [pass] => pass.tap(tap).cloned(),
        _ => {
            Tensor::cat(&passes.iter().map(|pass| pass.tap(tap)).collect::<candle_core::Result<Vec<_>>>()?, 0)
        }
    }
}

/// Gradients to some rows of maps (tap, rows, gradient) as gradients to all `n_rows`, by tap.
pub(super) fn gather(
    parts: Vec<(String, Range<usize>, Tensor)>,
    n_rows: usize,
) -> candle_core::Result<BTreeMap<String, Tensor>> {
    let mut by_map = BTreeMap::<String, Vec<(Range<usize>, Tensor)>>::new();
    for (map, rows, gradient) in parts {
        by_map.entry(map).or_default().push((rows, gradient));
    }
    let sum = |(map, parts): (String, Vec<(Range<usize>, Tensor)>)| {
        let sum = match parts.as_slice() {
            [(rows, gradient)] if rows.len() == n_rows => gradient.clone(),
            // A GPU's maps stay there.
            _ => match (measures::sum_of_rows(&parts, n_rows)?, parts[0].1.dtype()) {
                (Some(sum), _) => sum,
                (None, DType::F64) => summed::<f64>(&parts, n_rows)?,
                (None, _) => summed::<f32>(&parts, n_rows)?,
            },
        };
        Ok((map, sum))
    };
    by_map.into_iter().map(sum).collect()
}

/// The sum of gradients to some rows of one map each, in their order: `[n_rows, ..]`.
fn summed<T: Value>(parts: &[(Range<usize>, Tensor)], n_rows: usize) -> candle_core::Result<Tensor> {
    let (_, first) = &parts[0];
    let mut dims = first.dims().to_vec();
    let sample: usize = dims[1..].iter().product();
    dims[0] = n_rows;
    let mut sum = vec![T::narrow(0.0); n_rows * sample];
    for (rows, part) in parts {
        with_values(part, |part: &[T]| {
            sum[rows.start * sample..rows.end * sample]
                .par_chunks_exact_mut(sample)
                .zip(part.par_chunks_exact(sample))
                .with_min_len(grain(sample))
                .for_each(|(sum, part)| sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += *part));
            Ok(())
        })?;
    }
    Tensor::from_vec(sum, dims, first.device())
}

/// The old teacher's outputs for all rows; those of generated images are reused, because the same teacher computed
/// them.
pub(super) fn old_view(
    teacher: &Frozen,
    real: &First,
    synthetic: Option<&Replayed>,
) -> candle_core::Result<Outputs> {
    let of_real = real.images.as_ref().map(|images| teacher.forward(images)).transpose()?;
    joined_views(of_real, synthetic.map(|it| it.view.clone()))
}

/// A new teacher's outputs with the logits of the new classes alone: one with exemplars has those of old classes too.
fn of_new_classes(mut view: Outputs, n_new: usize) -> candle_core::Result<Outputs> {
    let known = view.logits.dim(1)?;
    if known > n_new {
        view.logits = view.logits.narrow(1, known - n_new, n_new)?.contiguous()?;
    }
    Ok(view)
}

/// The first `rows` rows of a view.
fn first_rows(mut view: Outputs, rows: usize) -> candle_core::Result<Outputs> {
    if view.logits.dim(0)? > rows {
        let similarities = view.similarities.iter_mut();
        for tensor in [&mut view.features, &mut view.logits]
            .into_iter()
            .chain(similarities)
            .chain(view.maps.values_mut())
        {
            *tensor = tensor.narrow(0, 0, rows)?;
        }
    }
    Ok(view)
}

/// The new teacher's outputs for all rows.
fn view_of_all(teacher: &Frozen, real: &First, synthetic: Option<&Replayed>) -> candle_core::Result<Outputs> {
    let of_real = match (&real.said, &real.images) {
        (Some(said), _) => Some(said.clone()),
        (None, images) => images.as_ref().map(|images| teacher.forward(images)).transpose()?,
    };
    joined_views(of_real, synthetic.map(|it| teacher.forward(&it.images)).transpose()?)
}

/// Views of rows that follow each other.
fn joined_views(real: Option<Outputs>, synthetic: Option<Outputs>) -> candle_core::Result<Outputs> {
    let (view, synthetic) = match (real, synthetic) {
        (Some(view), Some(synthetic)) => (view, synthetic),
        (Some(view), None) | (None, Some(view)) => return Ok(view),
        (None, None) => candle_core::bail!("a step without an image"),
    };
    let join = |left: &Tensor, right: &Tensor| Tensor::cat(&[left, right], 0);
    let similarities = match (&view.similarities, &synthetic.similarities) {
        (Some(left), Some(right)) => Some(join(left, right)?),
        _ => None,
    };
    let mut maps = BTreeMap::new();
    for (name, map) in &view.maps {
        let Some(other) = synthetic.maps.get(name) else {
            candle_core::bail!("the generator's teacher returns no map {name}")
        };
        maps.insert(name.clone(), join(map, other)?);
    }
    Ok(Outputs {
        maps,
        features: join(&view.features, &synthetic.features)?,
        logits: join(&view.logits, &synthetic.logits)?,
        similarities,
        scale: view.scale,
    })
}
