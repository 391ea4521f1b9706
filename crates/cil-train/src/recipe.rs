//! A class-incremental method as a value.
//!
//! A [`Recipe`] says which head a network has, what is kept between tasks, which [`TermSpec`]s are minimised and for
//! how long. It is plain data, written to and read from a run's configuration, and a variant of a method is a function
//! from recipe to recipe (see [`crate::methods`]). Unknown keys are refused.

mod adversarial;
mod advice;
pub mod carry;
mod check;
pub mod correction;
pub mod discriminant;
pub mod fecam;
mod logistic;
mod new_replay;
mod small;
mod views;

pub use adversarial::AdversarialReplaySpec;
pub use carry::{AdversarialImages, Carry};
pub use discriminant::DiscriminantSpec;
pub use fecam::{Covariance, FecamSpec};
pub use logistic::LogisticSpec;
pub use new_replay::NewReplaySpec;
pub use views::Views;

use cil_backbone::HeadKind;
use cil_data::exemplars::Budget;
use cil_engine::optim::Schedule;
use dfgr::InversionConfig;
use serde::{Deserialize, Serialize};

use correction::{AlignSpec, BiasCorrectionSpec};

pub use crate::step::Rows;
use crate::term::CrossEntropy;
pub use crate::term::{ClassScale, Columns, CustomTerm, Regressor, Teachers, TermSpec};

/// How the student's batch norm treats generated images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyntheticNorm {
    /// A separate pass with running statistics, which generated images do not update.
    Running,
    /// One batch with the real images.
    Joint,
    /// A separate batch, whose statistics update the running ones after those of the real images (R-DFCIL).
    Separate,
    /// Running statistics of the old model for all images; they are not updated.
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
    /// How the student's batch norm treats them.
    pub synthetic_norm: SyntheticNorm,
    /// The exemplars' share of the old classes' weight in a balanced loss; generated images have the rest. If absent,
    /// every row of an old class has the same weight, so that 20 exemplars beside 128 generated images have 14 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exemplar_share: Option<f64>,
    /// Whether a generator starts from the one of the task before, which is kept for this and counts as stored; if
    /// not, from scratch, as in the paper's abstract. Adam restarts.
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
    /// Whether it is also trained on exemplars: it then classifies all classes seen, and its maps and its logits of the
    /// new classes are distilled.
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
    /// The learning rate by epoch.
    pub schedule: Schedule,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// L2 penalty on every trained weight.
    pub weight_decay: f64,
    /// Clamps each gradient element to `[-limit, limit]`; 5 in PODNet's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_limit: Option<f64>,
    /// Whether an epoch leaves out a last batch that is not full (`drop_last` of PyTorch's loader). A single batch is
    /// kept.
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

/// The parameters that a phase trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trained {
    /// Backbone and head, except for the blocks that `freeze-old-head` freezes.
    All,
    /// The whole head; the backbone runs with its running statistics.
    Head,
    /// The head's class weights, old and new, but not its scale; the backbone runs with batch statistics and updates
    /// its running ones (PODNet's fine-tuning).
    ClassWeights,
    /// Only BiC's bias-correction parameters: `alpha * logit + beta` for the newest classes. For `bias-correction`
    /// only.
    Correction,
}

/// One phase of a task: trained parameters, loss terms and training settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PhaseSpec {
    /// The parameters that are trained.
    pub trained: Trained,
    /// The loss terms; terms that need a teacher are skipped where there is none.
    pub terms: Vec<TermSpec>,
    /// Settings of the optimiser.
    pub training: Training,
}

impl NewTeacherSpec {
    /// Whether a task of that many new classes has one: a classifier needs at least two classes.
    pub fn applies_to(&self, n_new: usize) -> bool {
        n_new > 1 || self.exemplars
    }

    /// The phase that trains it.
    pub fn phase(&self) -> PhaseSpec {
        let rows = if self.exemplars { Rows::Real } else { Rows::New };
        PhaseSpec {
            trained: Trained::All,
            terms: vec![CrossEntropy::plain(rows, Columns::Seen).into()],
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
    /// Whether a student trains on as many exemplars as new images, drawn with replacement when its task begins; if
    /// not, on each exemplar once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oversample: bool,
    /// Whether every task starts with a new network and trains on all real images seen so far: the upper bound.
    pub joint: bool,
    /// Whether the student of a later task starts as a new network (DMC).
    pub restart: bool,
    /// Whether the head's blocks of old classes are frozen (LUCIR).
    pub freeze_old_head: bool,
    /// Whether new head blocks are initialised from the new classes' features: with their mean direction (LUCIR), or
    /// with the centres of as many clusters as there are proxies (PODNet). Not for a linear head.
    pub imprint: bool,
    /// The base classes.
    pub base: PhaseSpec,
    /// Every later task.
    pub increment: PhaseSpec,
    /// Generated images of old classes, in every step of a later task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplaySpec>,
    /// Adversarial images of old classes, in every step of a later task's student.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<AdversarialReplaySpec>,
    /// The second teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_teacher: Option<NewTeacherSpec>,
    /// Generated images of new classes; the student is then trained on these and not on the real ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_replay: Option<NewReplaySpec>,
    /// A phase after every later task: with exemplars, on equally many images of every class, those of new classes
    /// chosen by the current model; without, on the new images. Generated images are added if there is a replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<PhaseSpec>,
    /// Weight aligning after every later task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<AlignSpec>,
    /// Bias correction after every later task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias_correction: Option<BiasCorrectionSpec>,
    /// The classifier in place of the trained head after every task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discriminant: Option<DiscriminantSpec>,
    /// The newest classes' weights beside old ones that stay, in place of trained ones, after every later task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logistic: Option<LogisticSpec>,
}

impl Recipe {
    /// Whether the empirical feature matrix of each task's model is kept for the next task.
    pub(crate) fn needs_feature_matrix(&self) -> bool {
        let phases = [Some(&self.increment), self.balance.as_ref()];
        let mut terms = phases.into_iter().flatten().flat_map(|phase| &phase.terms);
        !self.joint && self.logistic.is_none() && terms.any(|term| term.settings().needs_feature_matrix())
    }
}
