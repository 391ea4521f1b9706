//! Another term times a factor of class counts.

use candle_core::{Device, Result, Tensor};
use cil_engine::ParameterSpec;

use super::{AuxNet, MapGrads, Term};
use crate::recipe::scaling::Scaling;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::Scaled`].
#[derive(Debug)]
pub(super) struct Scaled {
    pub(super) by: Scaling,
    pub(super) term: Box<dyn Term>,
}

impl Scaled {
    /// `None` where no class is old.
    fn factor(&self, step: &Step<'_>) -> Option<f64> {
        (step.old_classes > 0).then(|| self.by.factor(step.old_classes, step.classes - step.old_classes))
    }
}

impl Term for Scaled {
    fn name(&self) -> &'static str {
        self.term.name()
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let Some(factor) = self.factor(step) else { return Ok(None) };
        self.term.loss(step)?.map(|loss| loss * factor).transpose()
    }

    fn maps(&self) -> Vec<String> {
        self.term.maps()
    }

    fn aux_nets(&self, device: &Device) -> Result<Vec<AuxNet>> {
        self.term.aux_nets(device)
    }

    fn values(&self) -> Vec<ParameterSpec> {
        self.term.values()
    }

    fn counts_classes(&self) -> bool {
        self.term.counts_classes()
    }

    fn asks_new_teacher_of_all(&self) -> bool {
        self.term.asks_new_teacher_of_all()
    }

    fn loss_on_maps(&self, step: &Step<'_>, weight: f64, grads: &mut MapGrads) -> Result<Option<Tensor>> {
        let Some(factor) = self.factor(step) else { return Ok(None) };
        self.term.loss_on_maps(step, weight * factor, grads)?.map(|loss| loss * factor).transpose()
    }
}
