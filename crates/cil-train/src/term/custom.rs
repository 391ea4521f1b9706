//! A term of a program that uses this library.

use std::sync::Arc;

use candle_core::Result;
use cil_engine::Graph;

use super::{Settings, Term};
use crate::step::Rows;

/// A weight and what makes the term: a phase makes its terms anew, since they may hold networks of their own.
#[derive(Clone)]
pub struct CustomTerm {
    weight: f64,
    make: Arc<dyn Fn() -> Box<dyn Term> + Send + Sync>,
}

impl CustomTerm {
    /// A term that `make` makes, times `weight` in the objective.
    pub fn new(weight: f64, make: impl Fn() -> Box<dyn Term> + Send + Sync + 'static) -> Self {
        Self { weight, make: Arc::new(make) }
    }
}

impl Settings for CustomTerm {
    fn weight(&self) -> f64 {
        self.weight
    }

    fn selections(&self) -> Vec<Rows> {
        Vec::new()
    }

    fn build(&self, _graph: &Graph) -> Result<Box<dyn Term>> {
        Ok((self.make)())
    }
}

impl std::fmt::Debug for CustomTerm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "CustomTerm({} times {:?})", self.weight, (self.make)())
    }
}

/// Equal if both came from the same call of [`CustomTerm::new`].
impl PartialEq for CustomTerm {
    fn eq(&self, other: &Self) -> bool {
        self.weight == other.weight && Arc::ptr_eq(&self.make, &other.make)
    }
}
