//! A class-incremental method as a value.
//!
//! A [`Recipe`] says which head a network has, what is remembered between tasks, which [`TermSpec`]s are minimised and
//! for how long. It is plain data: it goes into the run's config and comes back from it, and a variant of a method is a
//! function from recipe to recipe (see [`crate::methods`]). Unknown keys are refused.

use cil_backbone::HeadKind;
use cil_data::exemplars::Budget;
use cil_engine::optim::Schedule;
use dfgr::InversionConfig;
use dtid::dual::DtidConfig;
use serde::{Deserialize, Serialize};

/// Which rows of a step's batch a term acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rows {
    /// Real images of this task's classes.
    New,
    /// Real images: this task's, and exemplars.
    Real,
    /// Exemplars and generated images.
    Old,
    /// Every row.
    All,
}

/// One weighted part of the objective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TermSpec {
    /// Cross-entropy over the classes seen so far.
    CrossEntropy {
        /// Weight in the objective.
        weight: f64,
        /// Rows with a label to learn.
        rows: Rows,
        /// Whether rows are weighted so that every class counts the same (ABD, R-DFCIL).
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
    /// Margin between an old image's own class and the nearest new ones (LUCIR); cosine head only.
    MarginRanking {
        /// Weight in the objective; 1 in LUCIR.
        weight: f64,
        /// Margin between cosines; 0.5 in LUCIR.
        margin: f64,
        /// How many new classes are pushed away; 2 in LUCIR.
        negatives: usize,
    },
    /// KL of both teachers on the logits (DT-ID at the output).
    DualTeacher {
        /// Weight in the objective.
        weight: f64,
        /// Form and temperature.
        config: DtidConfig,
    },
}

/// How the student's batch norm meets generated images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyntheticNorm {
    /// A pass of their own with the running statistics, which they do not move.
    Running,
    /// One batch with the real images.
    Joint,
    /// Running statistics for all images; they stay those of the old model.
    Frozen,
}

/// Replay of images generated from the old teacher (DF-GR).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySpec {
    /// How the generator is trained.
    pub inversion: InversionConfig,
    /// Generated images in every step.
    pub batch: usize,
    /// How the student's batch norm meets them.
    pub synthetic_norm: SyntheticNorm,
}

/// The second teacher, trained on the new classes only (DT-ID).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTeacherSpec {
    /// Epochs of cross-entropy on the new classes.
    pub epochs: usize,
    /// Starting learning rate.
    pub learning_rate: f64,
    /// Whether its backbone starts from the old model; from scratch otherwise.
    pub from_old: bool,
}

/// Stochastic gradient descent of one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Passes over the task's images.
    pub epochs: usize,
    /// Real images in every step.
    pub batch: usize,
    /// Starting learning rate.
    pub learning_rate: f64,
    /// How it moves, by epoch.
    pub schedule: Schedule,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// L2 penalty on every trained weight.
    pub weight_decay: f64,
}

/// A method: everything that distinguishes one learner from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The classifier's form.
    pub head: HeadKind,
    /// Real images kept between tasks.
    pub exemplars: Budget,
    /// Whether every task trains on all real images seen so far: the upper bound.
    pub joint: bool,
    /// Generated images of old classes.
    pub replay: Option<ReplaySpec>,
    /// The second teacher.
    pub new_teacher: Option<NewTeacherSpec>,
    /// What is minimised; terms that need an old teacher are silent in task 0.
    pub terms: Vec<TermSpec>,
    /// Whether the head's blocks of old classes are left as they are (LUCIR).
    pub freeze_old_head: bool,
    /// Whether new head blocks start at the new classes' mean features (LUCIR).
    pub imprint: bool,
    /// Training of the base classes.
    pub base: Training,
    /// Training of every later task.
    pub increment: Training,
}

impl Recipe {
    /// The recipe with one more term.
    #[must_use]
    pub fn with(mut self, term: TermSpec) -> Self {
        self.terms.push(term);
        self
    }
}
