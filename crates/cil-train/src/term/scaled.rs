//! Another term times a factor of how many classes are old and how many are new.
//!
//! Where a method's weight depends on class counts, the recipe names the rule, and the number is computed in every
//! task.

use candle_core::{Device, Result, Tensor};
use cil_backbone::HeadKind;
use cil_engine::{Graph, ParameterSpec};
use serde::{Deserialize, Serialize};

use super::{AuxNet, MapGrads, Settings, Teachers, Term, TermSpec};
use crate::step::{Rows, Step};

/// A factor of the class counts of a later task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassScale {
    /// `old / (old + new)`: distillation in WA (Zhao et al. 2020) and BiC (Wu et al. 2019).
    OldShare,
    /// `new / (old + new)`: cross-entropy in the same.
    NewShare,
    /// `log2(new / 2 + 1) · sqrt(old / new)`: what keeps old classes in R-DFCIL (Gao et al. 2022).
    Keeping,
    /// `(1 + 1 / log2(new / 2 + 1)) / sqrt(old / new)`: what learns new ones in the same.
    Learning,
    /// `sqrt(old / new)`: LUCIR's less-forget constraint.
    OldOverNew,
    /// `sqrt((old + new) / new)`: distillation in PODNet.
    SeenOverNew,
}

impl ClassScale {
    /// The factor where `old` and `new` classes are told apart; both at least 1.
    pub fn factor(self, old: usize, new: usize) -> f64 {
        let (old, new) = (old as f64, new as f64);
        let (spread, ratio) = ((new / 2.0 + 1.0).log2(), (old / new).sqrt());
        match self {
            Self::OldShare => old / (old + new),
            Self::NewShare => new / (old + new),
            Self::Keeping => spread * ratio,
            Self::Learning => (1.0 + 1.0 / spread) / ratio,
            Self::OldOverNew => ratio,
            Self::SeenOverNew => ((old + new) / new).sqrt(),
        }
    }

    /// The factor of a step's classes; 1 without a rule.
    pub(super) fn of(rule: Option<Self>, step: &Step<'_>) -> f64 {
        rule.map_or(1.0, |it| it.factor(step.old_classes, step.classes - step.old_classes))
    }
}

/// Another term times a factor of how many classes are old and new; in later tasks only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scaled {
    /// The factor.
    pub by: ClassScale,
    /// The term, with its own weight.
    pub term: Box<TermSpec>,
}

impl Scaled {
    /// That term times the factor.
    pub fn new(by: ClassScale, term: impl Into<TermSpec>) -> Self {
        Self { by, term: Box::new(term.into()) }
    }
}

impl TermSpec {
    /// The term itself, without a factor around it.
    pub(crate) fn inner(&self) -> &Self {
        match self {
            Self::Scaled(scaled) => scaled.term.inner(),
            _ => self,
        }
    }
}

impl Settings for Scaled {
    fn weight(&self) -> f64 {
        self.term.settings().weight()
    }

    fn selections(&self) -> Vec<Rows> {
        self.term.settings().selections()
    }

    fn check(&self, head: HeadKind) -> anyhow::Result<()> {
        self.term.settings().check(head)
    }

    fn stages(&self) -> Option<&[usize]> {
        self.term.settings().stages()
    }

    fn vid_teachers(&self) -> Option<Teachers> {
        self.term.settings().vid_teachers()
    }

    fn turns_images(&self) -> bool {
        self.term.settings().turns_images()
    }

    fn needs_new_teacher(&self) -> bool {
        self.term.settings().needs_new_teacher()
    }

    fn needs_feature_matrix(&self) -> bool {
        self.term.settings().needs_feature_matrix()
    }

    fn applies_without_new_teacher(&self) -> bool {
        self.term.settings().applies_without_new_teacher()
    }

    fn build(&self, graph: &Graph) -> Result<Box<dyn Term>> {
        Ok(Box::new(Times { by: self.by, term: self.term.settings().build(graph)? }))
    }
}

/// The term that a factor multiplies.
#[derive(Debug)]
struct Times {
    by: ClassScale,
    term: Box<dyn Term>,
}

impl Times {
    /// `None` where no class is old.
    fn factor(&self, step: &Step<'_>) -> Option<f64> {
        (step.old_classes > 0).then(|| self.by.factor(step.old_classes, step.classes - step.old_classes))
    }
}

impl Term for Times {
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

    fn values(&self, n_new: usize) -> Vec<ParameterSpec> {
        self.term.values(n_new)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_by_hand() {
        assert_eq!((ClassScale::OldShare.factor(6, 2), ClassScale::NewShare.factor(6, 2)), (0.75, 0.25));
        // Six new classes: log2(4) = 2; 24 old ones: sqrt(4) = 2.
        assert_eq!(ClassScale::Keeping.factor(24, 6), 4.0);
        assert_eq!(ClassScale::Learning.factor(24, 6), 0.75);
        assert!(ClassScale::Learning.factor(1, 1).is_finite());
        assert_eq!((ClassScale::OldOverNew.factor(8, 2), ClassScale::SeenOverNew.factor(6, 2)), (2.0, 2.0));
    }
}
