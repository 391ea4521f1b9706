//! Both teachers' centred logits, regressed by the student's (DMC).

use candle_core::{Result, Tensor, bail};
use dtid::regression::{Centring, double_logit_regression};

use super::Term;
use crate::step::Step;

/// See [`crate::recipe::TermSpec::DoubleRegression`].
#[derive(Debug)]
pub(super) struct DoubleRegression {
    pub(super) centring: Centring,
}

impl Term for DoubleRegression {
    fn name(&self) -> &'static str {
        "double-regression"
    }

    fn asks_new_teacher_of_all(&self) -> bool {
        true
    }

    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let Some(old) = step.old else { return Ok(None) };
        let Some(new) = step.new_of_all else { bail!("double-regression needs both teachers on every row") };
        double_logit_regression(&step.student.logits, &old.logits, &new.logits, self.centring).map(Some)
    }
}
