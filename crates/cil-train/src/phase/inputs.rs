//! The draws of the host for a step, and their order as inputs.
//!
//! Everything that differs from step to step is drawn here, before anything of the step is computed, and reaches it as
//! tensors in one order; so a GPU can replay steps of one [`Layout`].

use anyhow::{Result, bail};
use candle_core::{Device, Tensor};
use cil_backbone::Outputs;
use cil_data::store::SampleId;
use cil_random::Draw;
use dfgr::replay::predicted_labels;

use super::{Job, PhaseContext};
use crate::event::PhaseKind;

/// Where a step's random numbers come from.
pub(super) struct Draws<'a> {
    /// Changes to real images.
    pub(super) images: Draw<'a>,
    /// Noise of generated ones of old classes, and of new classes.
    pub(super) noise: [Draw<'a>; 2],
}

impl<'a> Draws<'a> {
    /// Of step `position` of a phase, counted over all its epochs: never two steps of a task with the same noise.
    pub(super) fn new(kind: PhaseKind, images: Draw<'a>, position: u64) -> Self {
        let purposes = match kind {
            PhaseKind::Balance => ["replay balance", "new replay balance"],
            _ => ["replay", "new replay"],
        };
        Self { images, noise: purposes.map(|purpose| Draw { purpose, position, ..images }) }
    }
}

/// How a step's rows follow each other: images of new classes, exemplars, generated images of old classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Images of new classes; all of them are generated where no image is real.
    pub(super) n_new: usize,
    /// These and exemplars.
    pub(super) n_first: usize,
    /// Generated images of old classes.
    pub(super) n_replayed: usize,
    new_ones_are_generated: bool,
    /// Whether the labels of the first rows, and of the replayed ones, are on the host; otherwise teachers predict
    /// them.
    labels_on_host: (bool, bool),
}

impl Layout {
    /// All rows.
    pub(super) fn rows(&self) -> usize {
        self.n_first + self.n_replayed
    }

    /// Distinguishes it from layouts whose inputs have the same shapes.
    pub(super) fn kind(&self) -> [usize; 5] {
        let flags =
            [self.new_ones_are_generated, self.labels_on_host.0, self.labels_on_host.1].map(usize::from);
        [self.n_new, self.n_first, flags[0], flags[1], flags[2]]
    }
}

/// The draws of the host for a step.
pub(super) struct Drawn {
    pub(super) layout: Layout,
    /// Those of [`Inputs`] that there are, in its order.
    pub(super) tensors: Vec<Tensor>,
}

/// A step's inputs by what they are.
pub(super) struct Inputs<'a> {
    /// Real images, or a table of what becomes of them where they lie.
    pub(super) images: Option<&'a Tensor>,
    /// The input of the generator of new classes.
    pub(super) new_code: Option<&'a Tensor>,
    /// The input of the generator of old classes, or adversarial images of them.
    pub(super) code: Option<&'a Tensor>,
    /// Classes that the host labels_on_host, u32, in the order of rows.
    labels: Option<&'a Tensor>,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(layout: &Layout, tensors: &'a [Tensor]) -> Result<Self> {
        let mut rest = tensors.iter();
        let mut next = |there: bool| if there { rest.next() } else { None };
        let inputs = Self {
            images: next(layout.n_first > 0 && !layout.new_ones_are_generated),
            new_code: next(layout.new_ones_are_generated),
            code: next(layout.n_replayed > 0),
            labels: next(
                (layout.n_first > 0 && layout.labels_on_host.0)
                    || (layout.n_replayed > 0 && layout.labels_on_host.1),
            ),
        };
        if rest.next().is_some() {
            bail!("a step of {layout:?} has {} inputs", tensors.len());
        }
        Ok(inputs)
    }

    /// Class of every row, u32 `[rows]`. `new` and `old`: what their generators' teachers say of generated images.
    pub(super) fn labels(
        &self,
        layout: &Layout,
        new: Option<&Outputs>,
        old: Option<&Outputs>,
        n_old: usize,
    ) -> Result<Tensor> {
        let mut known = 0;
        let mut parts = Vec::new();
        for (rows, is_known, view, shift) in [
            (layout.n_first, layout.labels_on_host.0, new, n_old),
            (layout.n_replayed, layout.labels_on_host.1, old, 0),
        ] {
            match (rows, is_known, self.labels, view) {
                (0, ..) => {}
                (_, true, Some(labels), _) => {
                    parts.push(labels.narrow(0, known, rows)?);
                    known += rows;
                }
                // A teacher of new classes alone counts them from 0.
                (_, false, _, Some(view)) if shift > 0 => {
                    parts.push((predicted_labels(view)? + shift as f64)?)
                }
                (_, false, _, Some(view)) => parts.push(predicted_labels(view)?),
                _ => bail!("the labels of {rows} rows are missing"),
            }
        }
        match parts.as_slice() {
            [] => bail!("a step without an image"),
            [all] => Ok(all.clone()),
            _ => Ok(Tensor::cat(&parts, 0)?),
        }
    }
}

impl Job {
    /// The inputs of a step on `batch`, which is empty in a phase without real images.
    pub(super) fn draw_inputs(
        &self,
        batch: &[SampleId],
        draws: &Draws<'_>,
        context: &PhaseContext<'_>,
    ) -> Result<Drawn> {
        let (mut tensors, mut labels) = (Vec::new(), Vec::new());
        let mut layout = Layout {
            n_new: 0,
            n_first: 0,
            n_replayed: 0,
            new_ones_are_generated: false,
            labels_on_host: (true, true),
        };
        match &self.teachers.new_replay {
            Some(replay) if batch.is_empty() => {
                let rows = self.spec.training.batch;
                let code = replay.code(rows, draws.noise[1])?;
                (layout.n_new, layout.n_first, layout.new_ones_are_generated) = (rows, rows, true);
                layout.labels_on_host.0 = code.labels.is_some();
                labels.extend(code.labels.iter().flatten().map(|label| label + self.n_old as u32));
                tensors.push(code.input);
            }
            _ => {
                let is_new =
                    |sample: &SampleId| context.train.class_of(*sample) >= self.columns.start + self.n_old;
                let (mut samples, old): (Vec<SampleId>, Vec<SampleId>) =
                    batch.iter().partition(|sample| is_new(sample));
                layout.n_new = samples.len();
                samples.extend(old);
                layout.n_first = samples.len();
                if !samples.is_empty() {
                    let draw = Some(draws.images);
                    tensors.push(context.train.plan_batch(
                        &samples,
                        context.preparation,
                        draw,
                        context.device,
                    )?);
                }
                let column =
                    |sample: &SampleId| (context.train.class_of(*sample) - self.columns.start) as u32;
                labels.extend(samples.iter().map(column));
            }
        }
        if let Some((replay, spec)) = &self.teachers.replay {
            let code = replay.code(spec.batch, draws.noise[0])?;
            layout.n_replayed = spec.batch;
            layout.labels_on_host.1 = code.labels.is_some();
            labels.extend(code.labels.into_iter().flatten());
            tensors.push(code.input);
        }
        if let Some(pool) = &self.teachers.adversarial {
            let (images, of_classes) = pool.draw(draws.noise[0])?;
            layout.n_replayed = of_classes.len();
            labels.extend(of_classes);
            tensors.push(images);
        }
        if !labels.is_empty() {
            let count = labels.len();
            tensors.push(Tensor::from_vec(labels, count, &Device::Cpu)?);
        }
        Ok(Drawn { layout, tensors })
    }
}
