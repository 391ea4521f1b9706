//! A step as something that a GPU can repeat by itself.

use anyhow::Result;
use candle_core::Tensor;
use cil_engine::captures::Repeatable;
use cil_engine::optim::Moved;

use super::inputs::Layout;
use super::{Job, PhaseContext, TOTAL};

/// What a step did on the host.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Done {
    /// Of the network's values and of those that terms bring.
    pub(super) moved: [Moved; 2],
    pub(super) parts: Vec<String>,
}

/// A step under way.
pub(super) struct Stepping<'a> {
    pub(super) job: &'a mut Job,
    pub(super) context: &'a PhaseContext<'a>,
    pub(super) learning_rate: f64,
    pub(super) layout: Layout,
}

impl Repeatable for Stepping<'_> {
    type Done = Done;
    type Error = anyhow::Error;

    fn state(&mut self) -> Vec<&mut Tensor> {
        self.job.values_mut()
    }

    fn step(&mut self, inputs: &[Tensor]) -> Result<Done> {
        self.job.step(&self.layout, inputs, self.learning_rate, self.context)
    }

    fn prepare(&mut self, done: &Done) -> Result<()> {
        let learning_rate = self.learning_rate;
        Ok(done.moved.iter().try_for_each(|moved| self.job.optimizer.prepare(moved, learning_rate))?)
    }

    fn repeat(&mut self, done: &Done) {
        done.moved.iter().for_each(|moved| self.job.optimizer.repeated(moved));
        self.job.meter.repeated(done.parts.iter().map(String::as_str).chain([TOTAL]));
    }
}
