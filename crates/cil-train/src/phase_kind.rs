//! The phases of a task: their names, their order, and what a recipe says of each.
//!
//! A new phase is a kind here, its passes in `schedule.rs`, and its network and images in `learner/work.rs`.

use dfgr::InversionConfig;
use serde::{Deserialize, Serialize};

use crate::recipe::{PhaseSpec, Recipe, ReplaySpec, TermSpec, Training};

/// The phases of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseKind {
    /// A generator is trained from the old teacher.
    Inversion,
    /// The new teacher is trained on the new classes.
    NewTeacher,
    /// A second generator is trained from the new teacher.
    NewInversion,
    /// The student learns the task.
    Student,
    /// The head is fine-tuned on a balanced set.
    Balance,
    /// The newest classes' logits are corrected on images that no training saw.
    BiasCorrection,
}

impl PhaseKind {
    /// Its name in events, results and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inversion => "inversion",
            Self::NewTeacher => "new-teacher",
            Self::NewInversion => "new-inversion",
            Self::Student => "student",
            Self::Balance => "balance",
            Self::BiasCorrection => "bias-correction",
        }
    }

    /// The purpose of its random draws, which no phase shares with another.
    pub(crate) fn purpose(self) -> &'static str {
        match self {
            Self::NewTeacher => "new teacher",
            Self::NewInversion => "new inversion",
            Self::BiasCorrection => "bias correction",
            other => other.name(),
        }
    }
}

/// What a recipe says of one phase.
pub(crate) enum PhaseSettings<'a> {
    /// A classifier's training: its table in the recipe, and the terms that are listed there.
    Training(&'static str, &'a Training, &'a [TermSpec]),
    /// A generator's training: its table in the recipe.
    Inversion(&'static str, &'a InversionConfig),
}

impl<'a> PhaseSettings<'a> {
    /// The settings of a phase; `None` if the recipe does not have the phase.
    pub(crate) fn of(recipe: &'a Recipe, phase: PhaseKind, task: usize) -> Option<Self> {
        let whole = |key, spec: &'a PhaseSpec| Self::Training(key, &spec.training, &spec.terms);
        let plain = |key, training| Self::Training(key, training, &[]);
        match phase {
            PhaseKind::Inversion => recipe.replay.as_ref().map(|it| Self::Inversion("replay", &it.inversion)),
            PhaseKind::NewTeacher => recipe.new_teacher.as_ref().map(|it| plain("new-teacher", &it.training)),
            PhaseKind::NewInversion => {
                recipe.new_replay.as_ref().map(|it| Self::Inversion("new-replay", &it.inversion))
            }
            PhaseKind::Student if task == 0 => Some(whole("base", &recipe.base)),
            PhaseKind::Student => Some(whole("increment", &recipe.increment)),
            PhaseKind::Balance => recipe.balance.as_ref().map(|it| whole("balance", it)),
            PhaseKind::BiasCorrection => {
                recipe.bias_correction.as_ref().map(|it| plain("bias-correction", &it.training))
            }
        }
    }

    /// Units of work: epochs, or slices of an inversion's iterations.
    fn units(&self) -> usize {
        match self {
            Self::Training(_, training, _) => training.epochs,
            Self::Inversion(_, inversion) => inversion.iterations.div_ceil(ReplaySpec::UNIT),
        }
    }
}

/// Phases of a task in order, and units of each.
pub(crate) fn phases(recipe: &Recipe, n_new: usize, task: usize) -> Vec<(PhaseKind, usize)> {
    let later = task > 0;
    let is_there = |phase: &PhaseKind| match phase {
        // A logistic regression stands in place of the student's training.
        PhaseKind::Student => !later || recipe.logistic.is_none(),
        PhaseKind::NewTeacher => later && recipe.new_teacher.as_ref().is_some_and(|it| it.applies_to(n_new)),
        _ => later,
    };
    let in_order = [
        PhaseKind::Inversion,
        PhaseKind::NewTeacher,
        PhaseKind::NewInversion,
        PhaseKind::Student,
        PhaseKind::BiasCorrection,
        PhaseKind::Balance,
    ];
    let units = |phase| Some((phase, PhaseSettings::of(recipe, phase, task)?.units()));
    in_order.into_iter().filter(is_there).filter_map(units).collect()
}

/// The training of every phase of a classifier, to be changed.
pub fn trainings(recipe: &mut Recipe) -> Vec<(Activity, &mut Training)> {
    let mut found = vec![
        (Activity::Base, &mut recipe.base.training),
        (Activity::Student, &mut recipe.increment.training),
    ];
    found.extend(recipe.new_teacher.as_mut().map(|it| (Activity::NewTeacher, &mut it.training)));
    found.extend(recipe.balance.as_mut().map(|it| (Activity::Balance, &mut it.training)));
    found.extend(recipe.bias_correction.as_mut().map(|it| (Activity::BiasCorrection, &mut it.training)));
    found
}

/// Kinds of work with a pace of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    /// A generator is trained.
    Inversion,
    /// The new teacher is trained.
    NewTeacher,
    /// A second generator is trained.
    NewInversion,
    /// The base classes are learned.
    Base,
    /// A later task is learned.
    Student,
    /// The head is balanced.
    Balance,
    /// The head's bias is corrected.
    BiasCorrection,
    /// Exemplars are chosen.
    Memory,
    /// Class means are taken, and images are classified.
    Evaluation,
}

impl Activity {
    /// The activity of a phase of a task.
    pub fn of_phase(phase: PhaseKind, task: usize) -> Self {
        match phase {
            PhaseKind::Inversion => Self::Inversion,
            PhaseKind::NewTeacher => Self::NewTeacher,
            PhaseKind::NewInversion => Self::NewInversion,
            PhaseKind::Student if task == 0 => Self::Base,
            PhaseKind::Student => Self::Student,
            PhaseKind::Balance => Self::Balance,
            PhaseKind::BiasCorrection => Self::BiasCorrection,
        }
    }

    /// Its name on a screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inversion => "inversion",
            Self::NewTeacher => "new teacher",
            Self::NewInversion => "new inversion",
            Self::Base => "base classes",
            Self::Student => "student",
            Self::Balance => "balance",
            Self::BiasCorrection => "bias correction",
            Self::Memory => "exemplars and statistics",
            Self::Evaluation => "evaluation",
        }
    }
}
