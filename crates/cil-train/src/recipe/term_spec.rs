//! The parts of an objective as data.
//!
//! Every option of a term is a key of its own table, documented with its source; the methods here answer what all kinds
//! have in common.

use dtid::dual::DtidConfig;
use dtid::regression::Centring;
use serde::{Deserialize, Serialize};

use super::custom::CustomTerm;
use super::scaling::Scaling;
use crate::loss::nca::NcaForm;

/// Which rows of a step's batch a term acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rows {
    /// Images of this task's classes: real ones, or generated ones where they are not shared.
    New,
    /// The same, and exemplars.
    Real,
    /// Exemplars and generated images of old classes.
    Old,
    /// Exemplars alone.
    Exemplars,
    /// Generated images of old classes.
    Synthetic,
    /// Every row.
    All,
}

/// Which classes compete in a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Columns {
    /// All classes seen so far.
    Seen,
    /// This task's classes; only for rows of these classes.
    New,
}

/// The teachers whose maps a term distils.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Teachers {
    /// The model of the task before.
    Old,
    /// The teacher of the new classes.
    New,
    /// Either, each with regressors of its own.
    Both,
}

/// The network from the student's map to a teacher's in variational information distillation; the number of channels
/// stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Regressor {
    /// Three 1x1 convolutions with ReLU between, as RepDistiller's port of the authors' code.
    Plain,
    /// 1x1 convolution, batch norm, ReLU, 1x1 convolution (ours): a third less work, and scaled by its batch.
    Normed,
    /// None: the student's map itself is the Gaussian's mean, and variances alone are learned. Student and teachers are
    /// of one form, so maps fit.
    Identity,
}

/// One weighted part of the objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum TermSpec {
    /// Cross-entropy on the labels.
    CrossEntropy {
        /// Weight in the objective.
        weight: f64,
        /// Rows with a label to learn.
        rows: Rows,
        /// Classes that compete.
        columns: Columns,
        /// Whether rows are weighted so that every class counts the same (ABD, R-DFCIL).
        balanced: bool,
        /// Label smoothing: this share of a row's target is spread over all classes that compete, the label's too
        /// (PyTorch's `label_smoothing`); 0 where it is not written.
        #[serde(default, skip_serializing_if = "is_zero")]
        smoothing: f64,
    },
    /// PODNet's classification loss on the labels, over all classes seen.
    Nca {
        /// Weight in the objective; 1 in PODNet.
        weight: f64,
        /// The released code's, or the paper's.
        form: NcaForm,
        /// Rows with a label to learn.
        rows: Rows,
        /// Whether rows are weighted so that every class counts the same.
        balanced: bool,
    },
    /// KL to the old teacher on its columns (LwF).
    LogitKd {
        /// Weight in the objective.
        weight: f64,
        /// Softmax temperature of both sides.
        temperature: f64,
        /// Rows to agree on.
        rows: Rows,
    },
    /// One minus the cosine between the student's and the old teacher's features (LUCIR).
    LessForget {
        /// Weight before the factor below; 5 on CIFAR-100, 10 on ImageNet (LUCIR's code).
        weight: f64,
        /// Whether the weight is multiplied by sqrt(old classes / new classes), as LUCIR does.
        adaptive: bool,
        /// Rows to agree on.
        rows: Rows,
    },
    /// The same by PODNet (POD-flat), whose weight grows otherwise.
    PodFlat {
        /// Weight before the factor below; 1 on CIFAR-100, 10 on ImageNet (PODNet's code).
        weight: f64,
        /// Whether the weight is multiplied by sqrt(classes seen / new classes), as PODNet does.
        adaptive: bool,
        /// Rows to agree on.
        rows: Rows,
    },
    /// Margin between an old image's own class and the nearest new ones (LUCIR); cosine head only.
    MarginRanking {
        /// Weight in the objective; 1 in LUCIR.
        weight: f64,
        /// Margin between cosines; 0.5 in LUCIR.
        margin: f64,
        /// How many new classes are pushed away; 2 in LUCIR.
        negatives: usize,
        /// Rows with old images; `old` where it is not written. Generated ones are pushed too far: `exemplars` beside
        /// replay.
        #[serde(default = "old", skip_serializing_if = "is_old")]
        rows: Rows,
    },
    /// KL of both teachers on the logits (DT-ID at the output).
    DualTeacher {
        /// Weight in the objective.
        weight: f64,
        /// Form and temperature.
        config: DtidConfig,
        /// Rows on which the old teacher is followed; `all` where it is not written. Not of the joint form, which
        /// follows both teachers on the rows of the new one.
        #[serde(default = "all", skip_serializing_if = "is_all")]
        rows: Rows,
        /// Rows on which the new teacher is followed; `new` where it is not written, the images that it was trained on.
        #[serde(default = "new", skip_serializing_if = "is_new")]
        new_rows: Rows,
    },
    /// Distance between the student's and the old teacher's maps by their sums over width and over height, the mean
    /// over all stages and over rows (POD-spatial of PODNet).
    PodSpatial {
        /// Weight before the factor below; 3 on CIFAR-100, 8 on ImageNet (PODNet's code).
        weight: f64,
        /// Whether the weight is multiplied by sqrt(classes seen / new classes), as PODNet does.
        adaptive: bool,
        /// Rows to agree on.
        rows: Rows,
    },
    /// Variational information distillation of the teachers' stage maps, summed over stages and teachers (DT-ID at
    /// intermediate layers). Regressors and variances train with the student and end with the phase.
    Vid {
        /// Weight in the objective; 1 in RepDistiller's code.
        weight: f64,
        /// The teachers whose maps are distilled. In a task without a new teacher, the old one's alone.
        teachers: Teachers,
        /// Stages by number, from 1; empty for all.
        stages: Vec<usize>,
        /// Rows on which the old teacher is followed: best `all`, as LUCIR and PODNet distil on new images too, or
        /// `old`.
        rows: Rows,
        /// Rows on which the new teacher is followed; `new` where it is not written, the images that it was trained on.
        #[serde(default = "new", skip_serializing_if = "is_new")]
        new_rows: Rows,
        /// Form of the regressors.
        regressor: Regressor,
    },
    /// Another term times a factor of how many classes are old and new; in later tasks only.
    Scaled {
        /// The factor.
        by: Scaling,
        /// The term, with its own weight.
        term: Box<TermSpec>,
    },
    /// Binary cross-entropy of every class seen, summed over classes: with the old teacher's sigmoid for an old class,
    /// with the label for a new one (iCaRL's classification and distillation in one).
    BinaryCrossEntropy {
        /// Weight in the objective; 0.01 in iCaRL's code, which takes the mean over 100 outputs.
        weight: f64,
        /// Rows to learn.
        rows: Rows,
    },
    /// Mean absolute difference to the old teacher's logits on its columns (R-DFCIL's hard distillation).
    LogitL1 {
        /// Weight in the objective; 0.15 before the factor in R-DFCIL.
        weight: f64,
        /// Rows to agree on.
        rows: Rows,
    },
    /// KL to the old teacher's prediction among all classes seen, new ones at 0 (ABD's comparison DeepInversion).
    GlobalKd {
        /// Weight in the objective.
        weight: f64,
        /// Softmax temperature of both sides.
        temperature: f64,
        /// Rows to agree on.
        rows: Rows,
    },
    /// Absolute difference between the angles that the student's and the old teacher's features form (R-DFCIL).
    AngleRelation {
        /// Weight in the objective; 0.5 before the factor in R-DFCIL.
        weight: f64,
        /// Rows whose features form angles, three at a time.
        rows: Rows,
        /// Width of the learned space that each is projected into, in widths of the features; 0 for none, 2 in R-DFCIL.
        projection: usize,
    },
    /// Cross-entropy over all classes seen in which every class counts the same, by how many images of each an epoch
    /// sees (R-DFCIL's refinement of the head).
    ClassBalanced {
        /// Weight in the objective; 0.5 in R-DFCIL.
        weight: f64,
        /// Rows with a label to learn.
        rows: Rows,
    },
    /// Cross-entropy over all classes seen that moves the head alone (ABD).
    HeadCrossEntropy {
        /// Weight in the objective; 0.5 in ABD, whose weights of rows are half of ours.
        weight: f64,
        /// Rows with a label to learn.
        rows: Rows,
        /// Whether rows are weighted so that every class counts the same.
        balanced: bool,
    },
    /// Squared difference between what the old teacher's head makes of the student's features and of its own (ABD's
    /// importance-weighted feature distillation); linear heads only.
    OldHead {
        /// Weight in the objective; 0.1 in ABD.
        weight: f64,
        /// Rows to agree on.
        rows: Rows,
    },
    /// Squared difference to both teachers' centred logits, on every row (DMC's double distillation).
    DoubleRegression {
        /// Weight in the objective; 1 in DMC.
        weight: f64,
        /// The mean that is subtracted from the teachers' logits.
        centring: Centring,
    },
    /// A term of a program that uses this library. No file can name it: a recipe with one cannot be written.
    #[serde(skip)]
    Custom(CustomTerm),
}

fn all() -> Rows {
    Rows::All
}

fn new() -> Rows {
    Rows::New
}

fn old() -> Rows {
    Rows::Old
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_all(rows: &Rows) -> bool {
    *rows == all()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_old(rows: &Rows) -> bool {
    *rows == old()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_new(rows: &Rows) -> bool {
    *rows == new()
}

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
            Self::Custom(ref term) => term.weight(),
        }
    }

    /// Selections of rows that it acts on; none where it acts on every row whatever is written.
    pub(super) fn selections(&self) -> Vec<Rows> {
        match *self {
            Self::CrossEntropy { rows, .. }
            | Self::Nca { rows, .. }
            | Self::LogitKd { rows, .. }
            | Self::LessForget { rows, .. }
            | Self::PodFlat { rows, .. }
            | Self::MarginRanking { rows, .. }
            | Self::PodSpatial { rows, .. }
            | Self::BinaryCrossEntropy { rows, .. }
            | Self::LogitL1 { rows, .. }
            | Self::GlobalKd { rows, .. }
            | Self::AngleRelation { rows, .. }
            | Self::ClassBalanced { rows, .. }
            | Self::HeadCrossEntropy { rows, .. }
            | Self::OldHead { rows, .. } => vec![rows],
            Self::DualTeacher { rows, new_rows, .. } | Self::Vid { rows, new_rows, .. } => {
                vec![rows, new_rows]
            }
            Self::Scaled { ref term, .. } => term.selections(),
            Self::DoubleRegression { .. } | Self::Custom(_) => Vec::new(),
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

    /// The teachers whose maps a variational term distils.
    pub(super) fn vid_teachers(&self) -> Option<Teachers> {
        match *self {
            Self::Vid { teachers, .. } => Some(teachers),
            Self::Scaled { ref term, .. } => term.vid_teachers(),
            _ => None,
        }
    }
}
