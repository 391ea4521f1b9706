//! A term of a program that uses this library.

use std::sync::Arc;

use crate::term::Term;

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

    /// Weight in the objective.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// The term for a phase.
    pub(crate) fn term(&self) -> Box<dyn Term> {
        (self.make)()
    }
}

impl std::fmt::Debug for CustomTerm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "CustomTerm({} times {:?})", self.weight, self.term())
    }
}

/// Equal if both came from the same call of [`CustomTerm::new`].
impl PartialEq for CustomTerm {
    fn eq(&self, other: &Self) -> bool {
        self.weight == other.weight && Arc::ptr_eq(&self.make, &other.make)
    }
}
