//! A class-incremental method as a value.
//!
//! A [`Recipe`] says which head a network has, what is remembered between tasks, which [`TermSpec`]s are minimised and
//! for how long. It is plain data: it goes into the run's config and comes back from it, and a variant of a method is a
//! function from recipe to recipe (see [`crate::methods`]). Unknown keys are refused.

mod check;
pub mod correction;
pub mod scaling;
mod term_spec;

use cil_backbone::HeadKind;
use cil_data::exemplars::Budget;
use cil_engine::optim::Schedule;
use dfgr::InversionConfig;
use dtid::dual::DtidConfig;
use dtid::regression::Centring;
use serde::{Deserialize, Serialize};

use crate::loss::nca::NcaForm;
use correction::{AlignSpec, BiasCorrectionSpec};
use scaling::Scaling;

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
    /// Generated images.
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

/// Whose maps a term follows.
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

/// What maps the student's map to a teacher's in variational information distillation; channels stay as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Regressor {
    /// Three 1x1 convolutions with ReLU between, as RepDistiller's port of the authors' code.
    Plain,
    /// 1x1 convolution, batch norm, ReLU, 1x1 convolution (ours): a third less work, and scaled by its batch.
    Normed,
}

/// One weighted part of the objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
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
    },
    /// KL of both teachers on the logits (DT-ID at the output).
    DualTeacher {
        /// Weight in the objective.
        weight: f64,
        /// Form and temperature.
        config: DtidConfig,
    },
    /// Distance between the student's and the old teacher's maps by their sums over width and over height, the mean over
    /// all stages and over rows (POD-spatial of PODNet).
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
        /// Whose maps. In a task without a new teacher, the old one's alone.
        teachers: Teachers,
        /// Stages by number, from 1; empty for all.
        stages: Vec<usize>,
        /// Rows on which the old teacher is followed: best `all`, as LUCIR and PODNet distil on new images too, or `old`.
        /// The new teacher is followed on the new rows.
        rows: Rows,
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
    /// Binary cross-entropy of every class seen, summed over classes: with the old teacher's sigmoid for an old class, with
    /// the label for a new one (iCaRL's classification and distillation in one).
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
    /// Cross-entropy over all classes seen in which every class counts the same, by how many images of each an epoch sees
    /// (R-DFCIL's refinement of the head).
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
        /// What is subtracted from the teachers' logits.
        centring: Centring,
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
    /// A batch of their own, whose statistics move the running ones after those of the real images (R-DFCIL).
    Separate,
    /// Running statistics for all images; they stay those of the old model.
    Frozen,
}

/// Replay of images generated from the old teacher (DF-GR).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReplaySpec {
    /// How the generator is trained.
    pub inversion: InversionConfig,
    /// Generated images in every step.
    pub batch: usize,
    /// How the student's batch norm meets them.
    pub synthetic_norm: SyntheticNorm,
}

impl ReplaySpec {
    /// Iterations of the inversion that make one unit of work.
    pub(crate) const UNIT: usize = 50;

    /// Units of work of the inversion.
    pub fn units(&self) -> usize {
        self.inversion.iterations.div_ceil(Self::UNIT)
    }
}

/// The second teacher, trained on the new classes only (DT-ID). A task of one class has none: a softmax over one class
/// says nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NewTeacherSpec {
    /// Whether its backbone starts from the old model; from scratch otherwise.
    pub from_old: bool,
    /// Cross-entropy on the new classes.
    pub training: Training,
}

/// Stochastic gradient descent of one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Training {
    /// Passes over the phase's real images.
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
    /// Elements of gradients are brought into the range from minus this to this, where it is there; 5 in PODNet's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_limit: Option<f64>,
}

/// What a phase moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trained {
    /// Backbone and head, but for the blocks that `freeze-old-head` leaves alone.
    All,
    /// The whole head; the backbone runs with its running statistics.
    Head,
    /// The head's weights of classes, old and new, its scale left alone; the backbone runs with batch statistics, and its
    /// running ones move (PODNet's fine-tuning).
    ClassWeights,
    /// Two numbers: the newest classes' logits times one plus the other (BiC); all else is left as it is. For
    /// `bias-correction` alone.
    Correction,
}

/// One phase of a task: what is minimised, over what, for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PhaseSpec {
    /// What moves.
    pub trained: Trained,
    /// What is minimised; terms that need a teacher are silent where there is none.
    pub terms: Vec<TermSpec>,
    /// How.
    pub training: Training,
}

impl NewTeacherSpec {
    /// The phase that trains it.
    pub fn phase(&self) -> PhaseSpec {
        let (rows, columns) = (Rows::New, Columns::Seen);
        PhaseSpec {
            trained: Trained::All,
            terms: vec![TermSpec::CrossEntropy { weight: 1.0, rows, columns, balanced: false }],
            training: self.training.clone(),
        }
    }
}

/// A method: everything that distinguishes one learner from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recipe {
    /// The classifier's form.
    pub head: HeadKind,
    /// Real images kept between tasks.
    pub exemplars: Budget,
    /// Whether every task begins with a new network and trains on all real images seen so far: the upper bound.
    pub joint: bool,
    /// Whether the student of a later task begins as a new network (DMC).
    pub restart: bool,
    /// Whether the head's blocks of old classes are left as they are while everything trains (LUCIR).
    pub freeze_old_head: bool,
    /// Whether new head blocks start where the new classes' features are: at their mean direction (LUCIR), or at the
    /// centres of as many groups as there are proxies (PODNet). Not for a linear head.
    pub imprint: bool,
    /// The base classes.
    pub base: PhaseSpec,
    /// Every later task.
    pub increment: PhaseSpec,
    /// Generated images of old classes, in every step of a later task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplaySpec>,
    /// The second teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_teacher: Option<NewTeacherSpec>,
    /// A phase after every later task, on what is kept: as many images of every class where there are exemplars, new
    /// classes' chosen by the model so far; else on the new images. Generated images join if there is a replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<PhaseSpec>,
    /// Weight aligning after every later task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<AlignSpec>,
    /// Bias correction after every later task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias_correction: Option<BiasCorrectionSpec>,
}
