//! What every kind of term has in common.

use super::{Teachers, TermSpec};

impl TermSpec {
    /// Weight in the objective.
    pub fn weight(&self) -> f64 {
        match *self {
            Self::CrossEntropy { weight, .. }
            | Self::Nca { weight, .. }
            | Self::LogitKd { weight, .. }
            | Self::LessForget { weight, .. }
            | Self::PodFlat { weight, .. }
            | Self::MarginRanking { weight, .. }
            | Self::DualTeacher { weight, .. }
            | Self::PodSpatial { weight, .. }
            | Self::BinaryCrossEntropy { weight, .. }
            | Self::LogitL1 { weight, .. }
            | Self::GlobalKd { weight, .. }
            | Self::AngleRelation { weight, .. }
            | Self::ClassBalanced { weight, .. }
            | Self::HeadCrossEntropy { weight, .. }
            | Self::OldHead { weight, .. }
            | Self::DoubleRegression { weight, .. }
            | Self::Vid { weight, .. } => weight,
            Self::Scaled { ref term, .. } => term.weight(),
        }
    }

    /// The term itself, without a factor around it.
    pub(super) fn inner(&self) -> &Self {
        match self {
            Self::Scaled { term, .. } => term.inner(),
            _ => self,
        }
    }

    /// Stages whose maps it reads, by number, none for all; `None` for a term that reads no map.
    pub(super) fn stages(&self) -> Option<&[usize]> {
        match self {
            Self::Vid { stages, .. } => Some(stages),
            Self::PodSpatial { .. } => Some(&[]),
            Self::Scaled { term, .. } => term.stages(),
            _ => None,
        }
    }

    /// Whose maps a variational term follows.
    pub(super) fn vid_teachers(&self) -> Option<Teachers> {
        match *self {
            Self::Vid { teachers, .. } => Some(teachers),
            Self::Scaled { ref term, .. } => term.vid_teachers(),
            _ => None,
        }
    }
}
