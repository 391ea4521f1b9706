//! The error when training ends in values that are not finite.
//!
//! A loss belongs to the weights before a step, so losses alone do not show divergence; weights are checked at the end
//! of a phase, and logits at evaluation. The same run would diverge again, so this is an error of its own type, and a
//! program that drives a learner need not offer to resume.

use std::fmt;

use crate::event::PhaseKind;
use crate::recipe::Recipe;

/// A network whose values, losses or answers are NaN or infinite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverged {
    network: &'static str,
    /// None if it was found when the task was evaluated.
    phase: Option<PhaseKind>,
    /// From 0; shown from 1, as everywhere.
    task: usize,
    what: String,
    advice: String,
}

impl fmt::Display for Diverged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, phase, task, what, advice } = self;
        let task = task + 1;
        match phase {
            Some(phase) => write!(formatter, "{network} diverged in task {task}, {} phase", phase.name())?,
            None => write!(formatter, "{network} diverged; the evaluation after task {task} found it")?,
        }
        write!(formatter, ": {what}; {advice}")
    }
}

impl std::error::Error for Diverged {}

impl Diverged {
    /// Of the network that a phase trains. `what`: which of its numbers is none.
    pub(crate) fn in_phase(phase: PhaseKind, task: usize, what: String) -> Self {
        let network = match phase {
            PhaseKind::Inversion => "the generator of old classes",
            PhaseKind::NewInversion => "the generator of new classes",
            PhaseKind::NewTeacher => "the new teacher",
            _ if task == 0 => "the base model",
            _ => "the student",
        };
        let advice = "a lower learning-rate may help".to_owned();
        Self { network, phase: Some(phase), task, what, advice }
    }

    /// Of a network that is evaluated after `task`.
    pub(crate) fn evaluated(network: &'static str, task: usize, what: String) -> Self {
        let advice = "a lower learning-rate of the phase before may help".to_owned();
        Self { network, phase: None, task, what, advice }
    }

    /// The same error with the setting that most likely led to it, if it is of this type.
    pub(crate) fn advised(error: anyhow::Error, recipe: &Recipe) -> anyhow::Error {
        match error.downcast::<Self>() {
            Ok(mut diverged) => {
                if let Some(phase) = diverged.phase {
                    diverged.advice = recipe.advice(phase, diverged.task);
                }
                diverged.into()
            }
            Err(other) => other,
        }
    }
}
