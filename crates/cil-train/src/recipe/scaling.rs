//! Factors of how many classes are old and how many are new.
//!
//! Where a method's weight depends on class counts, the recipe names the rule, and the number is computed in every
//! task.

use serde::{Deserialize, Serialize};

/// A factor of the class counts of a later task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// `old / (old + new)`: distillation in WA (Zhao et al. 2020) and BiC (Wu et al. 2019).
    OldShare,
    /// `new / (old + new)`: cross-entropy in the same.
    NewShare,
    /// `log2(new / 2 + 1) · sqrt(old / new)`: what keeps old classes in R-DFCIL (Gao et al. 2022).
    Keeping,
    /// `(1 + 1 / log2(new / 2 + 1)) / sqrt(old / new)`: what learns new ones in the same.
    Learning,
}

impl Scaling {
    /// The factor where `old` and `new` classes are told apart; both at least 1.
    pub fn factor(self, old: usize, new: usize) -> f64 {
        let (old, new) = (old as f64, new as f64);
        let (spread, ratio) = ((new / 2.0 + 1.0).log2(), (old / new).sqrt());
        match self {
            Self::OldShare => old / (old + new),
            Self::NewShare => new / (old + new),
            Self::Keeping => spread * ratio,
            Self::Learning => (1.0 + 1.0 / spread) / ratio,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_by_hand() {
        assert_eq!((Scaling::OldShare.factor(6, 2), Scaling::NewShare.factor(6, 2)), (0.75, 0.25));
        // Six new classes: log2(4) = 2; 24 old ones: sqrt(4) = 2.
        assert_eq!(Scaling::Keeping.factor(24, 6), 4.0);
        assert_eq!(Scaling::Learning.factor(24, 6), 0.75);
        assert!(Scaling::Learning.factor(1, 1).is_finite());
    }
}
