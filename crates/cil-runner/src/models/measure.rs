//! Accuracies and predictions of a model on images.

use anyhow::Result;
use candle_core::{DType, Device};
use cil_backbone::Frozen;
use cil_data::augment::{Augmentation, Preparation};
use cil_data::normalise::Normalisation;
use cil_data::split::Increments;
use cil_data::store::{Images, TestSet};
use cil_train::evaluate::{Subject, evaluate};
use cil_train::event::Confusion;
use cil_train::means::ClassMeans;
use cil_train::metrics::accuracy;
use serde::Serialize;

/// Images that go through a network at once.
const BATCH: usize = 250;

/// The results of `evaluate`.
#[derive(Clone, Debug, Serialize)]
pub struct Accuracies {
    /// Share of all images that are classified right, from 0 to 1.
    pub accuracy: f64,
    /// The mean of the classes' own accuracies, of classes with images.
    pub mean_class_accuracy: f64,
    /// Share of images whose class is among the five likeliest.
    pub top5: f64,
    /// Images.
    pub images: usize,
    /// Each of the model's classes, in their order.
    pub classes: Vec<OfClass>,
}

/// One class of [`Accuracies`].
#[derive(Clone, Debug, Serialize)]
pub struct OfClass {
    /// Its name.
    pub class: String,
    /// Images of it.
    pub images: usize,
    /// Share of them that are classified right; null without images.
    pub accuracy: Option<f64>,
    /// The class that they are mistaken for most often; null if they never are.
    pub mostly_taken_for: Option<String>,
}

/// How images go into a network that is not trained.
pub fn preparation(normalisation: &Normalisation) -> Preparation {
    Preparation { augmentation: Augmentation::none(), normalisation: normalisation.clone() }
}

/// Counts of a classifier over images with its class numbers; all its classes compete.
///
/// # Errors
/// If a label is no class, or an executor fails.
pub fn confusion(
    classifier: &Frozen,
    images: &Images,
    normalisation: &Normalisation,
    device: &Device,
) -> Result<(Confusion, Vec<u32>)> {
    let classes = classifier.classes();
    let test = TestSet::of(images.clone(), classes)?;
    let increments = Increments::new(vec![classes], classes)?;
    let means = ClassMeans::none("not asked for");
    let subject = Subject { classifier, trained: None, means: &means };
    let found = evaluate(subject, &test, &increments, 0, &preparation(normalisation), device)?;
    Ok((found.classifier, found.top5))
}

/// Accuracies from counts.
pub fn accuracies(confusion: &Confusion, top5: &[u32], names: &[String]) -> Accuracies {
    let total: u64 = confusion.rows.iter().flatten().map(|count| u64::from(*count)).sum();
    let of_class = |(class, row): (usize, &Vec<u32>)| {
        let others = row.iter().enumerate().filter(|(other, count)| *other != class && **count > 0);
        OfClass {
            class: names[class].clone(),
            images: row.iter().sum::<u32>() as usize,
            accuracy: accuracy(confusion, class..class + 1),
            mostly_taken_for: others.max_by_key(|(_, count)| **count).map(|(other, _)| names[other].clone()),
        }
    };
    let classes: Vec<OfClass> = confusion.rows.iter().enumerate().map(of_class).collect();
    let own: Vec<f64> = classes.iter().filter_map(|it| it.accuracy).collect();
    Accuracies {
        accuracy: accuracy(confusion, 0..confusion.rows.len()).unwrap_or(0.0),
        mean_class_accuracy: own.iter().sum::<f64>() / own.len().max(1) as f64,
        top5: top5.iter().map(|count| f64::from(*count)).sum::<f64>() / (total.max(1)) as f64,
        images: total as usize,
        classes,
    }
}

/// `[image][class]`: probabilities of all classes.
///
/// # Errors
/// If an executor fails.
pub fn probabilities(
    classifier: &Frozen,
    images: &TestSet,
    normalisation: &Normalisation,
    device: &Device,
) -> Result<Vec<Vec<f32>>> {
    let (mut rows, preparation) = (Vec::new(), preparation(normalisation));
    for batch in images.batches(1, BATCH, &preparation, device) {
        let logits = classifier.forward(&batch?.0)?.logits.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        rows.extend(logits.iter().map(|row| softmax(row)));
    }
    Ok(rows)
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.iter().map(|it| it / sum).collect()
}

/// The `count` largest values' places, the largest first; of equal ones the first.
pub fn largest(row: &[f32], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..row.len()).collect();
    places.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
    places.truncate(count);
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracies_are_of_all_images_and_of_each_class() {
        let confusion = Confusion { rows: vec![vec![3, 1, 0], vec![0, 0, 0], vec![0, 1, 1]] };
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let found = accuracies(&confusion, &[4, 0, 2], &names);
        assert_eq!((found.accuracy, found.images, found.top5), (4.0 / 6.0, 6, 1.0));
        assert_eq!(found.mean_class_accuracy, (0.75 + 0.5) / 2.0);
        assert_eq!(found.classes[1].accuracy, None);
        assert_eq!(found.classes[2].mostly_taken_for.as_deref(), Some("b"));
        assert_eq!(found.classes[0].images, 4);
    }

    #[test]
    fn probabilities_are_ranked_with_ties_in_order() {
        let row = softmax(&[1e4, 0.0, 1e4]);
        assert_eq!(row, [0.5, 0.0, 0.5]);
        assert_eq!(largest(&row, 2), [0, 2]);
        assert_eq!(largest(&row, 9), [0, 2, 1]);
    }
}
