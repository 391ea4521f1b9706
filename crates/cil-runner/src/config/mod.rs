//! The configuration of a run.
//!
//! A configuration is complete (no key has a default), so what is saved with a run says everything; and only a
//! [`Checked`] one can be run. Keys that concern the method alone are in the recipe.

pub mod comments;
mod data;
pub mod identity;
mod network;
mod order;
pub mod overlay;
pub mod sizes;
mod written;

use std::path::Path;

use anyhow::{Context, Result};
use cil_backbone::Backbone;
use cil_data::augment::Augmentation;
use cil_data::dataset::Evaluate;
use cil_data::normalise::Normalisation;
use cil_data::order::ClassOrder;
use cil_data::procedural::ProceduralConfig;
use cil_data::split::Increments;
use cil_train::recipe::Recipe;
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::cli::failure::{bad_input, sentence};
pub use data::{DatasetSpec, FolderSpec, Named};
pub use network::{NetworkFile, NetworkSpec};
pub use order::OrderSpec;
use sizes::Sizes;
pub use written::{Difference, differences};

/// The generated data set: it is data, so its seed is not the run's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Procedural {
    /// Seed of the images.
    pub seed: u64,
    /// How many classes there are and how many images each has.
    pub config: ProceduralConfig,
}

/// Everything that a run is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunConfig {
    /// The preset that this came from, if any; it may have been changed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// The method's name in results.
    pub method: String,
    /// Which images are learned.
    pub dataset: DatasetSpec,
    /// How many classes of the order are learned.
    pub classes: usize,
    /// In which order the data set's classes are learned.
    pub class_order: OrderSpec,
    /// Classes of each task, the base first.
    pub increments: Vec<usize>,
    /// Training images of each class that are held out.
    pub validation_per_class: usize,
    /// Which images the accuracies are of.
    pub evaluate_on: Evaluate,
    /// Seed of weights, batches, augmentation and noise.
    pub seed: u64,
    /// The network.
    pub architecture: NetworkSpec,
    /// Changes to training images.
    pub augmentation: Augmentation,
    /// Mean and deviation of each colour channel.
    pub normalisation: Normalisation,
    /// The generated data set; only there if `dataset` is `procedural`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub procedural: Option<Procedural>,
    /// The method.
    pub recipe: Recipe,
}

/// A configuration that can be run, and what was worked out to know it.
#[derive(Clone, Debug)]
pub struct Checked {
    config: RunConfig,
    order: ClassOrder,
    increments: Increments,
    backbone: Backbone,
    text: String,
}

impl Checked {
    /// The configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The classes that are learned, in order.
    pub fn order(&self) -> &ClassOrder {
        &self.order
    }

    /// How they are divided into tasks.
    pub fn increments(&self) -> &Increments {
        &self.increments
    }

    /// The network.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// The configuration as TOML, whole.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl RunConfig {
    /// Reads a file and applies `changes` (`key=value`) to it.
    pub fn load(path: &Path, changes: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| bad_input(format!("cannot read {}: {error}", path.display())))?;
        let table = overlay::parse_table(&text, &path.display().to_string())?;
        Self::changed(table, changes, &path.display().to_string())
    }

    /// This configuration with `changes` (`key=value`) applied; `origin` begins every complaint.
    pub fn with_changes(&self, changes: &[String], origin: &str) -> Result<Self> {
        if changes.is_empty() {
            return Ok(self.clone());
        }
        Self::changed(Table::try_from(self).context("the configuration is not TOML")?, changes, origin)
    }

    fn changed(mut table: Table, changes: &[String], origin: &str) -> Result<Self> {
        let mut made = Vec::new();
        for change in changes {
            made.extend(overlay::set(&mut table, change)?.map(|table| (table, change)));
        }
        overlay::read(table, origin).map_err(|error| {
            // Most often a change that is meant for several methods, one of which has no such table.
            let message = sentence(&error);
            match made.iter().find(|(table, _)| message.contains(&format!("the key {table}."))) {
                Some((table, change)) => bad_input(format!(
                    "--set {change}: {origin} has no table {table}; leave this out, use it for a method that has \
                     one, \
                     or set all keys of {table}: {message}"
                )),
                None => error,
            }
        })
    }

    /// Classes that the data set has.
    pub fn classes_of_dataset(&self) -> Result<usize> {
        match (self.dataset.is_procedural(), &self.procedural) {
            (true, Some(procedural)) => Ok(procedural.config.classes),
            (true, None) => Err(bad_input(
                "procedural: the table is missing and dataset is \"procedural\"; add the \
                                           table",
            )),
            (false, Some(_)) => {
                let name = self.dataset.name();
                Err(bad_input(format!(
                    "procedural: the table is set and dataset is {name:?}; leave the table out"
                )))
            }
            (false, None) => self.dataset.classes(),
        }
    }

    /// This configuration with the number of the data set's classes, where it was not written and can be counted:
    /// those of a folder, or of a data set with a manifest below `data_dir`; and with the network that it takes from a
    /// file.
    ///
    /// # Errors
    /// If a folder cannot be looked through, a data set of an unknown name is not there, or a file holds no network.
    pub fn counted(mut self, data_dir: Option<&Path>) -> Result<Self> {
        self.dataset.check()?;
        self.dataset.count(data_dir)?;
        self.architecture.read()?;
        Ok(self)
    }

    /// Refuses what cannot be run; every complaint names the key.
    pub fn check(self) -> Result<Checked> {
        // First: the class order is as long as the data set says.
        if let Some(procedural) = &self.procedural {
            let wrong = |error: anyhow::Error| bad_input(format!("procedural.config.{error}"));
            procedural.config.check().map_err(wrong)?;
        }
        self.dataset.check()?;
        let available = self.classes_of_dataset()?;
        if self.classes == 0 || self.classes > available {
            let (classes, name) = (self.classes, self.dataset.name());
            return Err(bad_input(format!("classes: {classes} of the {available} classes of {name}")));
        }
        let at =
            |key: &'static str| move |error: anyhow::Error| bad_input(format!("{key}: {}", sentence(&error)));
        let order =
            self.class_order.resolve(&self.dataset.of_order(), available).map_err(at("class-order"))?;
        let order = order.take(self.classes).map_err(at("classes"))?;
        let increments = Increments::new(self.increments.clone(), self.classes).map_err(at("increments"))?;
        if self.evaluate_on == Evaluate::Validation && self.validation_per_class == 0 {
            return Err(bad_input("evaluate-on: \"validation\" needs validation-per-class above 0"));
        }
        self.augmentation.check().map_err(at("augmentation"))?;
        self.normalisation.check().map_err(at("normalisation"))?;
        let backbone = self.architecture.backbone()?;
        backbone.check().map_err(|error| bad_input(error.to_string()))?;
        self.recipe
            .check()
            .and_then(|()| self.recipe.check_network(&backbone))
            .and_then(|()| self.recipe.check_increments(&self.increments))
            .map_err(|error| {
                bad_input(format!("recipe.{}", sentence(&error).trim_start_matches("recipe: ")))
            })?;
        if self.procedural.is_some() {
            // Of other data sets the images are counted when they are loaded.
            Sizes::of_outline(&self, Path::new(""))?.check(&self)?;
        }
        let text = written::text(&self)?;
        Ok(Checked { config: self, order, increments, backbone, text })
    }
}
