//! One iteration: what the host draws for it, and what it does.
//!
//! Everything that differs from one iteration to the next is an input, so a GPU repeats them by itself.

use candle_core::{Device, Result, Tensor, bail};
use cil_engine::Shape;
use cil_engine::captures::Repeatable;
use cil_engine::optim::Moved;
use cil_random::Draw;

use super::{Inversion, STATISTICS_MOMENTUM, view};
use crate::loss;
use crate::replay::Code;

/// The work of an iteration on the host.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Done {
    moved: Moved,
    parts: Vec<String>,
}

/// One step of Adam.
pub(super) struct Iteration<'a>(pub(super) &'a mut Inversion);

impl Repeatable for Iteration<'_> {
    type Done = Done;
    type Error = candle_core::Error;

    fn state(&mut self) -> Vec<&mut Tensor> {
        self.0.values_mut()
    }

    fn step(&mut self, inputs: &[Tensor]) -> Result<Done> {
        let of = &mut *self.0;
        let grad = of.grad(inputs)?;
        let (group, rate) = (std::slice::from_ref(&of.group), of.rate());
        let moved = of.optimizer.step(&mut of.parameters, &grad.gradients, group, rate)?;
        of.parameters.update_statistics(&grad.update, STATISTICS_MOMENTUM)?;
        for (name, value) in &grad.parts {
            of.meter.add(name, value)?;
        }
        Ok(Done { moved, parts: grad.parts.into_keys().collect() })
    }

    fn prepare(&mut self, done: &Done) -> Result<()> {
        let rate = self.0.rate();
        self.0.optimizer.prepare(&done.moved, rate)
    }

    fn repeat(&mut self, done: &Done) {
        self.0.optimizer.repeated(&done.moved);
        self.0.meter.repeated(done.parts.iter().map(String::as_str));
    }
}

/// An iteration's inputs by what they are.
pub(super) struct Asked<'a> {
    pub(super) code: &'a Tensor,
    pub(super) labels: Option<&'a Tensor>,
    /// Where the pixels that the teacher sees come from.
    pub(super) sources: Option<&'a Tensor>,
    pub(super) pairs: Option<(&'a Tensor, &'a Tensor)>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(inputs: &'a [Tensor], conditional: bool, changed: bool) -> Result<Self> {
        let (code, labels, rest) = match (inputs, conditional) {
            ([code, labels, rest @ ..], true) => (code, Some(labels), rest),
            ([code, rest @ ..], false) => (code, None, rest),
            _ => bail!("an iteration has a code, and labels if it asks for them"),
        };
        let (sources, pairs) = match (rest, changed) {
            ([sources, pairs @ ..], true) => (Some(sources), pairs),
            (pairs, false) => (None, pairs),
            _ => bail!("an iteration whose images are changed has a table of their pixels"),
        };
        let pairs = match pairs {
            [] => None,
            [first, second] => Some((first, second)),
            _ => bail!("a pair is of two rows"),
        };
        Ok(Self { code, labels, sources, pairs })
    }
}

impl Inversion {
    /// The draws of the host for the next iteration: a code, labels if it is conditional, where the pixels that the
    /// teacher sees come from if images are changed, and the rows of each pair whose difference is used.
    pub(super) fn inputs(&self) -> Result<Vec<Tensor>> {
        let draw =
            Draw { seed: self.seed, purpose: "inversion", task: self.task, position: self.done as u64 };
        let Code { input, labels } =
            Code::draw(&self.config.generator, self.teacher.classes(), self.config.batch, draw)?;
        let row = |values: Vec<u32>| {
            let count = values.len();
            Tensor::from_vec(values, count, &Device::Cpu)
        };
        let mut inputs = vec![input];
        if let Some(labels) = &labels {
            inputs.push(row(labels.clone())?);
        }
        if self.config.is_changed() {
            let Shape::Map { height, width, .. } = self.teacher.image_shape() else {
                bail!("the teacher's images are no maps");
            };
            let change = (self.config.crop_padding, self.config.flip);
            inputs.push(view::sources(self.config.batch, (height, width), change, draw)?);
        }
        if self.config.weights.diversity > 0.0 {
            let pairs = match &labels {
                Some(labels) => loss::pairs_within_labels(labels),
                None => loss::pairs_of_halves(self.config.batch),
            };
            let (first, second): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
            if !first.is_empty() {
                inputs.extend([row(first)?, row(second)?]);
            }
        }
        Ok(inputs)
    }
}
