//! The parts of an objective.
//!
//! A new idea is one file here, one variant of [`TermSpec`], and one test. A term only reads a [`Step`]; it says which
//! rows it acts on and never writes, so the order of terms does not matter.

mod cross_entropy;
mod dual_teacher;
mod less_forget;
mod logit_kd;
mod margin_ranking;

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, bail};

use crate::recipe::TermSpec;
use crate::step::Step;

/// One part of an objective.
pub trait Term: std::fmt::Debug + Send {
    /// Name in events.
    fn name(&self) -> &'static str;

    /// The unweighted loss, or `None` where the term does not apply (no old teacher in task 0).
    ///
    /// # Errors
    /// If the step lacks what the term needs, such as a cosine head.
    fn loss(&self, step: &Step<'_>) -> Result<Option<Tensor>>;
}

/// A weighted list of terms.
#[derive(Debug)]
pub struct Objective {
    terms: Vec<(f64, Box<dyn Term>)>,
}

impl Objective {
    /// The objective that the specs describe.
    pub fn new(specs: &[TermSpec]) -> Self {
        Self { terms: specs.iter().map(build).collect() }
    }

    /// The weighted sum, and each term's own value.
    ///
    /// # Errors
    /// If no term applies to the step, or one fails.
    pub fn loss(&self, step: &Step<'_>) -> Result<(Tensor, BTreeMap<String, Tensor>)> {
        let (mut total, mut parts): (Option<Tensor>, _) = (None, BTreeMap::new());
        for (weight, term) in &self.terms {
            let Some(part) = term.loss(step)? else { continue };
            let weighted = (&part * *weight)?;
            total = Some(match total {
                Some(sum) => (sum + weighted)?,
                None => weighted,
            });
            parts.insert(term.name().to_owned(), part.detach());
        }
        match total {
            Some(total) => Ok((total, parts)),
            None => bail!("no term of the objective applies to this step"),
        }
    }
}

fn build(spec: &TermSpec) -> (f64, Box<dyn Term>) {
    match *spec {
        TermSpec::CrossEntropy { weight, rows, columns, balanced } => {
            (weight, Box::new(cross_entropy::CrossEntropy { rows, columns, balanced }))
        }
        TermSpec::LogitKd { weight, temperature, rows } => {
            (weight, Box::new(logit_kd::LogitKd { temperature, rows }))
        }
        TermSpec::LessForget { weight, adaptive, rows } => {
            (weight, Box::new(less_forget::LessForget { adaptive, rows }))
        }
        TermSpec::MarginRanking { weight, margin, negatives } => {
            (weight, Box::new(margin_ranking::MarginRanking { margin, negatives }))
        }
        TermSpec::DualTeacher { weight, config } => (weight, Box::new(dual_teacher::DualTeacher { config })),
    }
}

/// Rows `range` of a tensor.
fn narrow(tensor: &Tensor, range: &std::ops::Range<usize>) -> Result<Tensor> {
    tensor.narrow(0, range.start, range.len())
}
