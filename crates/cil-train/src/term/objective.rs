//! A weighted list of terms.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, bail};
use cil_engine::{Graph, ParameterSpec};

use super::{AuxNet, MapGrads, Term, TermSpec};
use crate::step::Step;

/// The objective on a step.
#[derive(Debug)]
pub struct Outcome {
    /// The weighted sum; candle differentiates the part of it that is not of maps.
    pub total: Tensor,
    /// Each term's own value.
    pub parts: BTreeMap<String, Tensor>,
    /// The gradients of the part that is of maps.
    pub grads: MapGrads,
}

/// A weighted list of terms.
#[derive(Debug)]
pub struct Objective {
    terms: Vec<(f64, Box<dyn Term>)>,
}

impl Objective {
    /// The objective that the specs describe, for a backbone of that graph with all its taps.
    ///
    /// # Errors
    /// If a term reads a stage that the backbone has not.
    pub fn new(specs: &[TermSpec], graph: &Graph) -> Result<Self> {
        Ok(Self {
            terms: specs
                .iter()
                .map(|it| Ok((it.settings().weight(), it.settings().build(graph)?)))
                .collect::<Result<_>>()?,
        })
    }

    /// Taps whose maps are read, of student and teachers; sorted.
    pub fn maps(&self) -> Vec<String> {
        let mut maps: Vec<String> = self.terms.iter().flat_map(|(_, term)| term.maps()).collect();
        maps.sort();
        maps.dedup();
        maps
    }

    /// The terms' own networks, as they begin.
    ///
    /// # Errors
    /// If a graph cannot be built or the device refuses a tensor.
    pub fn aux_nets(&self, device: &Device) -> Result<Vec<AuxNet>> {
        let aux_nets =
            self.terms.iter().map(|(_, term)| term.aux_nets(device)).collect::<Result<Vec<_>>>()?;
        Ok(aux_nets.into_iter().flatten().collect())
    }

    /// Values of the terms' own, in a task of that many new classes.
    pub fn values(&self, n_new: usize) -> Vec<ParameterSpec> {
        self.terms.iter().flat_map(|(_, term)| term.values(n_new)).collect()
    }

    /// Whether a term reads [`Step::class_counts`].
    pub fn counts_classes(&self) -> bool {
        self.terms.iter().any(|(_, term)| term.counts_classes())
    }

    /// Whether a term reads [`Step::new_of_all`].
    pub fn asks_new_teacher_of_all(&self) -> bool {
        self.terms.iter().any(|(_, term)| term.asks_new_teacher_of_all())
    }

    /// The weighted sum, each term's own value, and the gradients of terms on maps.
    ///
    /// # Errors
    /// If no term applies to the step, or one fails.
    pub fn loss(&self, step: &Step<'_>) -> Result<Outcome> {
        let (mut total, mut parts): (Option<Tensor>, _) = (None, BTreeMap::new());
        let mut grads = MapGrads::default();
        for (weight, term) in &self.terms {
            let part = match term.loss(step)? {
                Some(part) => Some(part),
                None => term.loss_on_maps(step, *weight, &mut grads)?,
            };
            let Some(part) = part else { continue };
            let weighted = (&part * *weight)?;
            total = Some(match total {
                Some(sum) => (sum + weighted)?,
                None => weighted,
            });
            parts.insert(term.name().to_owned(), part.detach());
        }
        match total {
            Some(total) => Ok(Outcome { total, parts, grads }),
            None => bail!("no term of the objective applies to this step"),
        }
    }
}
