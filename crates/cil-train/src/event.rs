//! The events of a run, as data.
//!
//! A library never prints: the learner returns events, and the caller records or shows them. Every number that
//! is reported later is computed from these events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::phase_kind::Activity;
pub use crate::phase_kind::PhaseKind;

/// Counts of (true class, predicted class) over the classes seen so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// `rows[truth][prediction]`: images of class `truth` that were taken for `prediction`.
    pub rows: Vec<Vec<u32>>,
}

/// One evaluation over all classes seen so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The classifier's predictions.
    pub classifier: Confusion,
    /// The trained head's predictions, where a discriminant is the classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_head: Option<Confusion>,
    /// Images whose true class is among the five largest logits, per true class.
    pub top5: Vec<u32>,
    /// Images classified right when only the classes of their own task compete, per true class.
    pub task_aware: Vec<u32>,
    /// Predictions by the nearest mean of class features, if there were images to take means of.
    pub nearest_mean: Option<Confusion>,
    /// Where the class means came from, or why there are none.
    pub nearest_mean_source: String,
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A task begins.
    TaskStart {
        /// From 0.
        task: usize,
        /// Classes of this task.
        new_classes: usize,
        /// Classes seen, this task's included.
        classes_seen: usize,
    },
    /// A unit of work is done: an epoch, or a slice of an inversion.
    Progress {
        /// From 0.
        task: usize,
        /// The phase.
        phase: PhaseKind,
        /// Units done, this one included.
        done: usize,
        /// Units of the phase.
        total: usize,
        /// Learning rate of the unit.
        learning_rate: f64,
        /// Images that went through the student or generator in this unit.
        images: usize,
        /// Mean of each part of the loss over the unit, unweighted.
        losses: BTreeMap<String, f64>,
    },
    /// A task is learned; the model may be evaluated now.
    TaskLearned {
        /// From 0.
        task: usize,
        /// Bytes kept for the next task beside the model: exemplars, and the generator where the next one begins as it.
        stored_bytes: u64,
        /// Real images kept for the next task, those held out among them; absent from older logs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exemplars: Option<u64>,
    },
    /// A learned task was evaluated, by whoever holds the evaluation images: the learner never does.
    TaskEnd {
        /// From 0.
        task: usize,
        /// The evaluation on test or validation images.
        evaluation: Evaluation,
    },
    /// All tasks are learned.
    RunEnd,
}

impl Event {
    /// The activity that it reports, and its task; `None` where it reports no work.
    pub fn activity(&self) -> Option<(usize, Activity)> {
        match self {
            Self::Progress { task, phase, .. } => Some((*task, Activity::of_phase(*phase, *task))),
            Self::TaskLearned { task, .. } => Some((*task, Activity::Memory)),
            Self::TaskEnd { task, .. } => Some((*task, Activity::Evaluation)),
            Self::TaskStart { .. } | Self::RunEnd => None,
        }
    }
}
