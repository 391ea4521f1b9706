//! Model files: of this program and of others, what answers in them, and where they come from.
//!
//! A file holds the network that was trained, with the head that it was trained with; where statistics of features are
//! kept beside it, the discriminant made of them answers ([`Opened::classifier`]).

pub mod attempt;
pub mod card;
pub mod folders;
pub mod hub;
pub mod measure;
pub mod model;
pub mod onnx;
pub mod recipes;
pub mod record;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cil_backbone::file::{self, Model};
use cil_backbone::foreign::{self, Hints};
use cil_backbone::{Frozen, Network};
use cil_data::fit::Fit;
use cil_data::normalise::Normalisation;
use cil_engine::Shape;
use cil_train::learner::classifier_of;

use crate::cli::args::models::About;
use crate::cli::failure::bad_input;
use crate::engine::Engine;
use crate::folder::environment::sha256;
use record::{Answers, Record};

/// A model file in memory.
#[derive(Debug)]
pub struct Opened {
    /// As it was named; of one of the hub, its address with commit and file.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Bytes of the file.
    pub bytes: usize,
    /// Network, classes, and what is kept beside them.
    pub model: Model,
    /// Where it comes from.
    pub record: Record,
    /// How a picture is brought to the network's size.
    pub fit: Fit,
    /// The normalisation of pixels.
    pub normalisation: Normalisation,
}

impl Opened {
    /// Reads a model file of this program, or of another with what `about` says of it.
    ///
    /// # Errors
    /// A sentence that names the file, and what in it is wrong.
    pub fn read(path: &Path, about: &About, engine: &Engine) -> Result<Self> {
        let hub::Located { name, path: located } = hub::locate(path)?;
        let path = name.as_path();
        let place = |error: &dyn std::fmt::Display| bad_input(format!("{}: {error}", path.display()));
        let bytes = fs::read(&located)
            .map_err(|error| bad_input(format!("cannot read {}: {error}", path.display())))?;
        let hints = hints(about)?;
        let own = file::is_own(&bytes).map_err(|error| place(&error))?;
        if own && !hints.is_empty() {
            return Err(place(
                &"its file has classes and normalisation; leave --classes, --mean, --std and --image-side out",
            ));
        }
        let (model, record) = if own {
            let model = Model::from_bytes(&bytes, &engine.device).map_err(|error| place(&error))?;
            let record = Record::of(&model).map_err(|error| place(&format!("{error:#}")))?;
            (model, record)
        } else {
            let config = config_beside(&located)?;
            let model = foreign::from_bytes(&bytes, config.as_deref(), &hints, &engine.device)
                .map_err(|error| place(&error))?;
            let record = Record::of_another_program(path, &model);
            (model, record)
        };
        let fit = fit(&model).map_err(|error| place(&format!("{error:#}")))?;
        let normalisation = normalisation(&model).map_err(|error| place(&format!("{error:#}")))?;
        let sha256 = sha256(&bytes);
        Ok(Self { path: path.to_owned(), sha256, bytes: bytes.len(), model, record, fit, normalisation })
    }

    /// Class names in the order of the logits.
    pub fn class_names(&self) -> &[String] {
        &self.model.card.class_names
    }

    /// The network with the head that was trained, as a teacher.
    ///
    /// # Errors
    /// If its values are not those of its form.
    pub fn trained(&self, engine: &Engine) -> Result<Frozen> {
        let snapshot = self.model.snapshot.clone();
        Ok(Network::from_snapshot(snapshot, &engine.executors, 0, &engine.device)?.freeze()?)
    }

    /// The network that answers.
    ///
    /// # Errors
    /// If the statistics beside it do not suit it.
    pub fn classifier(&self, engine: &Engine) -> Result<Frozen> {
        let trained = self.trained(engine)?;
        match (&self.record.discriminant, self.record.answers) {
            (None, _) | (_, Answers::Head) => Ok(trained),
            (Some(spec), Answers::Statistics) => {
                classifier_of(&trained, spec, &self.model.attached, &engine.device)
                    .map_err(|error| bad_input(format!("{}: {error:#}", self.path.display())))
            }
        }
    }
}

/// The text of the `config.json` beside a file of another program, if there is one.
fn config_beside(path: &Path) -> Result<Option<String>> {
    let config = path.with_file_name("config.json");
    if !config.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
    Ok(Some(text))
}

/// The description of a classifier by flags.
fn hints(about: &About) -> Result<Hints> {
    let class_names = about.classes.as_deref().map(class_names).transpose()?;
    let three = |flag: &str, values: &Option<Vec<f32>>| match values {
        Some(values) if values.len() != 3 || values.iter().any(|it| !it.is_finite()) => {
            Err(bad_input(format!("--{flag} {values:?}: give three numbers, for red, green and blue")))
        }
        other => Ok(other.clone()),
    };
    Ok(Hints {
        class_names,
        mean: three("mean", &about.mean)?,
        deviation: three("std", &about.deviation)?,
        side: about.image_side.map(usize::from),
    })
}

/// Names separated by commas, or those of a file's lines.
fn class_names(text: &str) -> Result<Vec<String>> {
    let path = Path::new(text);
    let names: Vec<String> = match path.is_file() {
        true => {
            let text = fs::read_to_string(path)
                .map_err(|error| bad_input(format!("--classes {}: {error}", path.display())))?;
            text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
        }
        false => text.split(',').map(|name| name.trim().to_owned()).collect(),
    };
    if let Some(at) = names.iter().position(String::is_empty) {
        return Err(bad_input(format!("--classes {text}: name {} is empty", at + 1)));
    }
    let mut sorted = names.clone();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(bad_input(format!("--classes {text}: {:?} is named twice", pair[0]))),
        None => Ok(names),
    }
}

fn fit(model: &Model) -> Result<Fit> {
    let Shape::Map { channels: 3, height, width } = model.snapshot.images else {
        anyhow::bail!(
            "the network takes {:?}; this program reads images of three colours",
            model.snapshot.images
        )
    };
    anyhow::ensure!(
        height == width,
        "the network takes images of {height}x{width}; this program reads square images only"
    );
    let usual = Fit::of(height);
    let fit = Fit { side: height, shorter: model.resize.unwrap_or(usual.shorter) };
    fit.check()?;
    Ok(fit)
}

fn normalisation(model: &Model) -> Result<Normalisation> {
    let three = |values: &[f32]| <[f32; 3]>::try_from(values).context("three colours are normalised");
    let normalisation =
        Normalisation { mean: three(&model.card.mean)?, deviation: three(&model.card.deviation)? };
    normalisation.check()?;
    Ok(normalisation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_are_read_from_a_text_or_a_file() {
        assert_eq!(class_names("a, b c,d").unwrap(), ["a", "b c", "d"]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.txt");
        fs::write(&path, "ant\n\n bee, the \r\n").unwrap();
        assert_eq!(class_names(&path.display().to_string()).unwrap(), ["ant", "bee, the"]);
        assert!(class_names("a,,b").unwrap_err().to_string().contains("name 2 is empty"));
        assert!(class_names("a,b,a").unwrap_err().to_string().contains("\"a\" is named twice"));
    }

    #[test]
    fn three_numbers_are_asked_for() {
        let about = About { mean: Some(vec![0.5; 2]), ..About::default() };
        assert!(hints(&about).unwrap_err().to_string().contains("--mean [0.5, 0.5]: give three numbers"));
    }
}
