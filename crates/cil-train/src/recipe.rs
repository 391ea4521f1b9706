//! A class-incremental method as a value.
//!
//! A [`Recipe`] says which head a network has, what is remembered between tasks, which [`TermSpec`]s are minimised and
//! for how long. It is plain data: it goes into the run's config and comes back from it, and a variant of a method is a
//! function from recipe to recipe (see [`crate::methods`]). Unknown keys are refused.

mod advice;
mod check;
pub mod correction;
mod custom;
pub mod discriminant;
pub mod fecam;
mod new_replay;
pub mod scaling;
mod small;
mod term_spec;

pub use custom::CustomTerm;
pub use discriminant::DiscriminantSpec;
pub use fecam::{Covariance, FecamSpec};
pub use new_replay::NewReplaySpec;
pub use term_spec::{Columns, Regressor, Rows, Teachers, TermSpec};

use cil_backbone::HeadKind;
use cil_data::exemplars::Budget;
use cil_engine::optim::Schedule;
use dfgr::InversionConfig;
use serde::{Deserialize, Serialize};

use correction::{AlignSpec, BiasCorrectionSpec};

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
    /// Beside exemplars: their share of what old classes count for where every class counts the same, the rest being
    /// generated images'. Where it is not written every row of an old class counts alike, so that 20 exemplars beside
    /// 128 generated images have 14 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exemplar_share: Option<f64>,
    /// Whether a generator begins as the one of the task before, which is kept for that and counts as stored; else from
    /// scratch, as the paper's abstract has it. Adam begins anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warm_start: bool,
}

impl ReplaySpec {
    /// Iterations of the inversion that make one unit of work.
    pub(crate) const UNIT: usize = 50;

    /// Units of work of the inversion.
    pub fn units(&self) -> usize {
        self.inversion.iterations.div_ceil(Self::UNIT)
    }
}

/// The second teacher (DT-ID), trained on the new classes only, unless it is given exemplars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NewTeacherSpec {
    /// Whether its backbone starts from the old model; from scratch otherwise.
    pub from_old: bool,
    /// Whether it also learns exemplars: it then classifies all classes seen, and is followed on its maps and on its
    /// logits of the new classes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exemplars: bool,
    /// Cross-entropy on the new classes.
    pub training: Training,
}

/// Stochastic gradient descent of one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Training {
    /// Passes over the phase's real images.
    pub epochs: usize,
    /// Real images in every step; where new images are not shared, generated ones of new classes.
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
    /// Whether an epoch ends before a batch that would not be full (`drop_last` of PyTorch's loader). An only batch
    /// stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drop_last: bool,
}

impl Training {
    /// Steps of an epoch over that many images.
    pub fn steps(&self, images: usize) -> usize {
        match self.drop_last && images >= self.batch {
            true => images / self.batch.max(1),
            false => images.div_ceil(self.batch.max(1)),
        }
    }
}

/// What a phase moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trained {
    /// Backbone and head, but for the blocks that `freeze-old-head` leaves alone.
    All,
    /// The whole head; the backbone runs with its running statistics.
    Head,
    /// The head's weights of classes, old and new, its scale left alone; the backbone runs with batch statistics, and
    /// its running ones move (PODNet's fine-tuning).
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
    /// Whether a task of that many new classes has one: of a single class it needs others to tell it from.
    pub fn is_there(&self, n_new: usize) -> bool {
        n_new > 1 || self.exemplars
    }

    /// The phase that trains it.
    pub fn phase(&self) -> PhaseSpec {
        let (rows, columns) = (if self.exemplars { Rows::Real } else { Rows::New }, Columns::Seen);
        PhaseSpec {
            trained: Trained::All,
            terms: vec![TermSpec::CrossEntropy {
                weight: 1.0,
                rows,
                columns,
                balanced: false,
                smoothing: 0.0,
            }],
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
    /// Whether exemplars are drawn at random; the most typical ones otherwise (herding).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub random_exemplars: bool,
    /// Whether a student sees as many exemplars as new images: drawn with replacement when its task begins. Each once
    /// otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oversample: bool,
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
    /// Generated images of new classes in place of theirs, which the student is then not trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_replay: Option<NewReplaySpec>,
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
    /// What answers in place of the trained head after every task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discriminant: Option<DiscriminantSpec>,
}
