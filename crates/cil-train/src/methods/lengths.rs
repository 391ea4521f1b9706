//! How long each phase of a recipe is, and how it is trained.

use cil_data::exemplars::Budget;
use cil_engine::optim::{Decay, Schedule};
use dfgr::InversionConfig;

use crate::recipe::{ReplaySpec, SyntheticNorm, Training};

/// What a protocol decides of a recipe: the training of each phase, inversion, and exemplars. A recipe reads the
/// fields of the phases that it has.
#[derive(Clone, Debug)]
pub struct Lengths {
    /// Training of the base classes.
    pub base: Training,
    /// Training of later tasks.
    pub increment: Training,
    /// Training of a second teacher.
    pub new_teacher: Training,
    /// PODNet's fine-tuning of its proxies.
    pub fine_tuning: Training,
    /// Correction of a bias.
    pub correction: Training,
    /// Refinement of the head.
    pub refinement: Training,
    /// Inversion.
    pub inversion: InversionConfig,
    /// Generated images in a step.
    pub synthetic: usize,
    /// Generated images of a new class in an epoch where its own are not shared; as many as there would be of these.
    pub images_per_class: usize,
    /// What is kept of old classes: the protocol's budget, or what a method's name says.
    pub exemplars: Budget,
}

impl Lengths {
    /// Exemplars of each class; 0 where the budget is for all classes together.
    pub fn exemplars_per_class(&self) -> usize {
        match self.exemplars {
            Budget::PerClass(count) => count,
            Budget::Total(_) => 0,
        }
    }

    /// Replay of generated images (DF-GR), in one batch norm with the real ones.
    pub fn replay(&self) -> ReplaySpec {
        ReplaySpec {
            inversion: self.inversion.clone(),
            batch: self.synthetic,
            synthetic_norm: SyntheticNorm::Joint,
            exemplar_share: None,
            warm_start: false,
        }
    }

    /// [`Self::replay`] with the inversion of ABD and R-DFCIL, at this protocol's batch and width.
    pub fn dreams(&self) -> ReplaySpec {
        let mut inversion = InversionConfig::always_be_dreaming(self.inversion.iterations);
        inversion.batch = self.inversion.batch;
        inversion.generator.channels = self.inversion.generator.channels;
        ReplaySpec { inversion, ..self.replay() }
    }
}

/// SGD with momentum 0.9 and decay 5e-4, batch 128 (LUCIR's code for CIFAR-100, where the rate is 0.1), for that many
/// epochs.
pub fn sgd(epochs: usize, learning_rate: f64, decay: Decay) -> Training {
    Training {
        epochs,
        batch: 128,
        learning_rate,
        schedule: Schedule { warm_up: 0, decay },
        momentum: 0.9,
        nesterov: false,
        weight_decay: 5e-4,
        gradient_limit: None,
        drop_last: false,
    }
}

/// Correction of a bias on a few images: all of them in a step, and the decay of BiC's code, which is of the shift
/// alone.
pub fn correction(epochs: usize, learning_rate: f64, decay: Decay) -> Training {
    Training { weight_decay: 0.1, ..sgd(epochs, learning_rate, decay) }
}

/// Without a last batch that is not full, as the loaders of ABD, R-DFCIL and iCaRL.
pub fn full_batches(training: Training) -> Training {
    Training { drop_last: true, ..training }
}

/// The same training of every task, with 2000 exemplars in all.
pub fn same_in_every_task(training: Training) -> Lengths {
    Lengths {
        base: training.clone(),
        increment: training.clone(),
        new_teacher: training.clone(),
        // ABD's: as the rest, at a hundredth of the rate.
        correction: Training { learning_rate: 0.01 * training.learning_rate, drop_last: false, ..training },
        fine_tuning: sgd(20, 0.05, Decay::Constant),
        refinement: sgd(40, 0.005, Decay::Constant),
        inversion: InversionConfig::unconditional(5000),
        synthetic: 128,
        images_per_class: 500,
        exemplars: Budget::Total(2000),
    }
}
