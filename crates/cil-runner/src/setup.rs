//! The inputs of a run from a checked configuration: images, their split, and a learner's plan.

use std::path::Path;

use anyhow::Result;
use cil_data::augment::Preparation;
use cil_data::dataset::{Dataset, Evaluate};
use cil_data::store::{TestSet, TrainSet};
use cil_train::learner::Plan;

use crate::config::Checked;
use crate::engine::Engine;
use crate::results::result::Facts;

/// The progress message of [`load`].
pub fn loading(checked: &Checked) -> &'static str {
    match checked.config().dataset.is_procedural() {
        true => "drawing images",
        false => "reading images",
    }
}

/// The images that a configuration names.
pub fn load(checked: &Checked, data_dir: &Path) -> Result<Dataset> {
    let config = checked.config();
    match &config.procedural {
        Some(procedural) => Dataset::procedural(&procedural.config, procedural.seed),
        None => config.dataset.load(data_dir, &|_| {}),
    }
}

/// Training and evaluation images of a configuration.
pub fn split(checked: &Checked, dataset: &Dataset) -> Result<(TrainSet, TestSet)> {
    let config = checked.config();
    dataset.split(checked.order(), config.validation_per_class, config.evaluate_on)
}

/// The plan of a learner with this configuration.
pub fn plan(checked: &Checked, engine: &Engine) -> Plan {
    let config = checked.config();
    Plan {
        recipe: config.recipe.clone(),
        backbone: checked.backbone().clone(),
        increments: checked.increments().clone(),
        preparation: Preparation {
            augmentation: config.augmentation.clone(),
            normalisation: config.normalisation.clone(),
        },
        seed: config.seed,
        executors: engine.executors.clone(),
        device: engine.device.clone(),
    }
}

/// The parts of the configuration that a result repeats.
pub fn facts(checked: &Checked) -> Facts {
    let config = checked.config();
    Facts {
        preset: config.preset.clone(),
        method: config.method.clone(),
        dataset: config.dataset.name().to_owned(),
        evaluated_on: match config.evaluate_on {
            Evaluate::Test => "test".to_owned(),
            Evaluate::Validation => "validation".to_owned(),
        },
        seed: config.seed,
        class_order: checked.order().labels().to_vec(),
        increments: checked.increments().sizes().to_vec(),
        exemplars_per_class: match config.recipe.exemplars {
            cil_data::exemplars::Budget::PerClass(count) => Some(count),
            cil_data::exemplars::Budget::Total(_) => None,
        },
    }
}
