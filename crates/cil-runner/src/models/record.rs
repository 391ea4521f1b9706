//! Where a model comes from: the record in its file.
//!
//! A record is facts from the program that wrote the file, kept as data; nothing in it changes what the network
//! computes but `discriminant`, which says how the statistics beside it answer.

use std::path::Path;

use anyhow::{Context, Result, bail};
use cil_backbone::file::Model;
use cil_train::recipe::{DiscriminantSpec, LogisticSpec};
use serde::{Deserialize, Serialize};

/// The record of a model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Record {
    /// The learned tasks, the first model first.
    pub tasks: Vec<Task>,
    /// Features and settings of the discriminant of the statistics in the file; none without statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discriminant: Option<DiscriminantSpec>,
    /// How classes were appended beside a head that stayed; the statistics in the file are then of these classes, for
    /// the next extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logistic: Option<LogisticSpec>,
    /// The classifier.
    pub answers: Answers,
}

/// Which classifier of a model answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answers {
    /// The head that was trained.
    Head,
    /// The discriminant of the statistics in the file.
    Statistics,
}

/// One task of a model's past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Task {
    /// Its classes.
    pub classes: Vec<String>,
    /// Images that it was learned from; unknown of a model of another program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// SHA-256 over labels and pixels of these images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_digest: Option<String>,
    /// How it was learned.
    pub method: String,
    /// The recipe, as TOML; none of a model of another program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Seed of weights, batches, augmentation and noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Commit of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_version: Option<String>,
    /// The file of the model before, by name and SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Before>,
    /// Accuracies after the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

/// Accuracies from 0 to 1 of the time when a task was learned, all classes of the model competing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Measured {
    /// The images, in words.
    pub on: String,
    /// Of the task's classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<f64>,
    /// Of the classes of earlier tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<f64>,
    /// Of the classes of earlier tasks by the model before, among themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_before: Option<f64>,
    /// Share of generated images of old classes that are answered as the model before answers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement_on_generated: Option<f64>,
}

impl Task {
    /// A task of which nothing is known but its classes and a word on how they were learned.
    pub fn of_classes(classes: Vec<String>, method: &str) -> Self {
        let method = method.to_owned();
        let (images, data_digest, recipe, seed) = (None, None, None, None);
        let (code_version, from, measured) = (None, None, None);
        Self { classes, images, data_digest, method, recipe, seed, code_version, from, measured }
    }
}

/// The model that another was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Before {
    /// As it was named.
    pub file: String,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl Record {
    /// Of a model file of this program; one that a run wrote has none, and then a task for each block of its head.
    ///
    /// # Errors
    /// If the record is not one, or not of this model.
    pub fn of(model: &Model) -> Result<Self> {
        let names = &model.card.class_names;
        let Some(value) = &model.record else {
            return Ok(Self::without_statistics(by_blocks(model, "a run of cil-runner")));
        };
        let record: Self =
            serde_json::from_value(value.clone()).context("the record in the file cannot be read")?;
        let learned: Vec<&String> = record.tasks.iter().flat_map(|task| &task.classes).collect();
        if learned != names.iter().collect::<Vec<_>>() {
            bail!("the record in the file is of other classes than the model");
        }
        let blocks: Vec<usize> = record.tasks.iter().map(|task| task.classes.len()).collect();
        if blocks != model.snapshot.head.blocks {
            bail!(
                "the record in the file has tasks of {blocks:?} classes, the head {:?}",
                model.snapshot.head.blocks
            );
        }
        if let Some(spec) = &record.discriminant
            && !(spec.shrinkage.is_finite() && spec.shrinkage > 0.0)
        {
            bail!("the record's discriminant.shrinkage is {}; use a positive number", spec.shrinkage);
        }
        let stages = record.logistic.as_ref().map_or(&[][..], |spec| &spec.stages);
        if stages != model.snapshot.head.stages {
            bail!(
                "the record says that the head reads {stages:?}, it reads {:?}",
                model.snapshot.head.stages
            );
        }
        if record.answers == Answers::Statistics && record.discriminant.is_none() {
            bail!("the record says that statistics classify, but has no discriminant");
        }
        Ok(record)
    }

    /// Of a model of another program.
    pub fn of_another_program(path: &Path, model: &Model) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self::without_statistics(by_blocks(model, &format!("another program ({name})")))
    }

    fn without_statistics(tasks: Vec<Task>) -> Self {
        Self { tasks, discriminant: None, logistic: None, answers: Answers::Head }
    }

    /// Images of all tasks whose number is known: where the next task's images are counted from, so that their draws
    /// are those of one run over all.
    pub fn images(&self) -> usize {
        self.tasks.iter().filter_map(|task| task.images).sum()
    }
}

/// A task for each block of the head, of which nothing is known but its classes.
fn by_blocks(model: &Model, method: &str) -> Vec<Task> {
    let (mut names, blocks) = (model.card.class_names.iter().cloned(), &model.snapshot.head.blocks);
    blocks.iter().map(|classes| Task::of_classes(names.by_ref().take(*classes).collect(), method)).collect()
}
