//! Models that come in from files, and what a run writes beside its own.
//!
//! A model is compared with its use wherever one is loaded (`--base-model`, a sweep's bases,
//! `audit`): its classes in their order, its normalisation, and the images that it was trained on. A model of the right
//! form that means something else would be taken without a word, and every number after it would be wrong.

use std::path::Path;

use anyhow::Result;
use cil_backbone::Snapshot;
use cil_backbone::file::{self, ModelCard, TrainedOn};
use cil_data::dataset::Dataset;

use crate::cli::failure::bad_input;
use crate::config::Checked;
use crate::engine::Engine;
use crate::folder::environment::BaseModel;
use crate::folder::integrity;
use crate::models::hub;

/// A model file.
pub struct Loaded {
    /// The model.
    pub snapshot: Snapshot,
    /// Its card.
    pub card: ModelCard,
    /// Its record.
    pub record: BaseModel,
}

/// The model in a file.
///
/// # Errors
/// Naming the file, if it cannot be read, is no model or holds what is no number.
pub fn load(path: &Path, engine: &Engine) -> Result<Loaded> {
    let hub::Located { name, path: located } = hub::locate(path)?;
    let path = name.as_path();
    let bytes = std::fs::read(&located)
        .map_err(|error| bad_input(format!("cannot read {}: {error}", path.display())))?;
    integrity::hold_file(&located, &bytes)?;
    let (snapshot, card) = file::from_bytes(&bytes, &engine.device)
        .map_err(|error| bad_input(format!("{}: {error}", path.display())))?;
    if let Some((name, value)) = snapshot.parameters.not_finite()? {
        let message = format!("{name} holds {value}: a model whose training diverged; use another model");
        return Err(bad_input(format!("{}: {message}", path.display())));
    }
    Ok(Loaded { snapshot, card, record: BaseModel::new(path, &bytes) })
}

/// The card of a model of all classes of this run.
pub fn card(checked: &Checked, dataset: &Dataset) -> ModelCard {
    let config = checked.config();
    let labels = checked.order().labels();
    ModelCard {
        class_names: labels.iter().map(|label| dataset.class_names()[*label].clone()).collect(),
        mean: config.normalisation.mean.to_vec(),
        deviation: config.normalisation.deviation.to_vec(),
        trained_on: Some(TrainedOn {
            dataset: dataset.name().to_owned(),
            train_digest: dataset.digests().train.clone(),
            held_out_per_class: config.validation_per_class,
        }),
    }
}

/// Refuses the model of `path`, which says `card` of itself, for a run whose own models would say `own`.
///
/// # Errors
/// Naming the file, what differs, both values and what would be right.
pub fn check_suits(path: &Path, card: &ModelCard, own: &ModelCard) -> Result<()> {
    match difference(card, own) {
        None => Ok(()),
        Some(message) => Err(bad_input(format!("{}: {message}", path.display()))),
    }
}

fn difference(card: &ModelCard, own: &ModelCard) -> Option<String> {
    let (found, wanted) = (&card.class_names, &own.class_names);
    if let Some(at) = (0..found.len().min(wanted.len())).find(|at| found[*at] != wanted[*at]) {
        return Some(format!(
            "the model's class {at} is {:?}, the run's is {:?}; use the class-order of the run that trained it",
            found[at], wanted[at]
        ));
    }
    if found.len() > wanted.len() {
        let (found, wanted) = (found.len(), wanted.len());
        return Some(format!("the model has {found} classes and the run learns {wanted}; use another model"));
    }
    if (&card.mean, &card.deviation) != (&own.mean, &own.deviation) {
        return Some(format!(
            "the model's images were normalised by mean {:?} and deviation {:?}, the run's are by {:?} and {:?}; \
             use the model's normalisation",
            card.mean, card.deviation, own.mean, own.deviation
        ));
    }
    // Files of before this was recorded do not say it.
    let (Some(of_model), Some(of_run)) = (&card.trained_on, &own.trained_on) else { return None };
    if of_model.dataset != of_run.dataset {
        return Some(format!(
            "the model was trained on {}, the run learns {}; use another model",
            of_model.dataset, of_run.dataset
        ));
    }
    if of_model.train_digest != of_run.train_digest {
        return Some(format!(
            "the model was trained on images of the digest {}, the run's have {}; use a model of the same images",
            of_model.train_digest, of_run.train_digest
        ));
    }
    if of_model.held_out_per_class != of_run.held_out_per_class {
        return Some(format!(
            "{} images of each class were held out when the model was trained, the run holds out {}; \
             use the model's validation-per-class",
            of_model.held_out_per_class, of_run.held_out_per_class
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> ModelCard {
        ModelCard {
            class_names: ["a", "b", "c"].map(str::to_owned).to_vec(),
            mean: vec![0.5; 3],
            deviation: vec![0.25; 3],
            trained_on: Some(TrainedOn {
                dataset: "cifar10".to_owned(),
                train_digest: "12ab".to_owned(),
                held_out_per_class: 0,
            }),
        }
    }

    #[test]
    fn every_difference_is_named_with_both_values() {
        let message = |change: &dyn Fn(&mut ModelCard)| {
            let mut card = own();
            card.class_names.truncate(2);
            change(&mut card);
            difference(&card, &own())
        };
        assert_eq!(message(&|_| {}), None);
        assert_eq!(message(&|it| it.trained_on = None), None, "an old file");
        let of = |change: &dyn Fn(&mut ModelCard), parts: [&str; 2]| {
            let message = message(change).unwrap();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        };
        of(&|it| it.class_names.swap(0, 1), ["class 0 is \"b\"", "the run's is \"a\""]);
        of(
            &|it| it.class_names = ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
            ["has 4 classes", "learns 3"],
        );
        of(&|it| it.mean[1] = 0.4, ["[0.5, 0.4, 0.5]", "by [0.5, 0.5, 0.5]"]);
        of(&|it| it.deviation[2] = 0.2, ["[0.25, 0.25, 0.2]", "and [0.25, 0.25, 0.25]"]);
        let images =
            |it: &mut ModelCard, change: &dyn Fn(&mut TrainedOn)| change(it.trained_on.as_mut().unwrap());
        of(&|it| images(it, &|of| of.dataset = "cifar100".into()), ["on cifar100", "learns cifar10;"]);
        of(&|it| images(it, &|of| of.train_digest = "34cd".into()), ["digest 34cd", "have 12ab"]);
        of(&|it| images(it, &|of| of.held_out_per_class = 50), ["50 images of each", "holds out 0"]);
    }
}
