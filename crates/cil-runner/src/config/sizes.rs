//! How many images a run learns from and is evaluated on.
//!
//! Counts are by class in the order of learning: from the images where they are loaded, otherwise from the data set's
//! description, as if all its classes had the same size.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use cil_data::dataset::Evaluate;
use cil_data::store::{TestSet, TrainSet};

use crate::cli::failure::{bad_input, sentence};
use crate::config::{Procedural, RunConfig};

/// Side of a generated image.
const PROCEDURAL_SIDE: usize = 32;

/// Counts of images by class, in the order of learning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Channels, height and width of an image.
    pub image: [usize; 3],
    /// Training images of each class.
    pub train: Vec<usize>,
    /// Images of each class that accuracies are of.
    pub test: Vec<usize>,
}

impl Sizes {
    /// Counts of the images themselves.
    pub fn of_images(train: &TrainSet, test: &TestSet) -> Self {
        let classes = train.classes();
        Self {
            image: train.image_dims(),
            train: (0..classes).map(|class| train.samples(class..class + 1).len()).collect(),
            test: (0..classes).map(|class| test.len(class + 1) - test.len(class)).collect(),
        }
    }

    /// Counts from the data set's description, without its images.
    ///
    /// # Errors
    /// If the data set is not there.
    pub fn of_outline(config: &RunConfig, data_dir: &Path) -> Result<Self> {
        let (image, train, test) = match &config.procedural {
            Some(Procedural { config, .. }) => {
                ([3, PROCEDURAL_SIDE, PROCEDURAL_SIDE], config.train_per_class, config.test_per_class)
            }
            None => {
                let outline = config.dataset.outline(data_dir)?;
                (outline.image, outline.train / outline.classes, outline.test / outline.classes)
            }
        };
        let held_out = config.validation_per_class;
        let test = match config.evaluate_on {
            Evaluate::Test => test,
            Evaluate::Validation => held_out,
        };
        let classes = config.classes;
        Ok(Self { image, train: vec![train.saturating_sub(held_out); classes], test: vec![test; classes] })
    }

    /// Refuses images of a shape that the method cannot use, and classes with too few images for it.
    ///
    /// # Errors
    /// Naming the class or the task, its count, the key and what would do.
    pub fn check(&self, config: &RunConfig) -> Result<()> {
        let [_, height, width] = self.image;
        let checked = config.recipe.check_sides(height, width);
        let checked = checked.and_then(|()| config.recipe.check_images(&config.increments, &self.train));
        checked.map_err(|error| bad_input(format!("recipe.{}", sentence(&error))))
    }

    /// Training images of some classes.
    pub fn train_of(&self, classes: Range<usize>) -> usize {
        self.train[classes].iter().sum()
    }

    /// Images of some classes that accuracies are of.
    pub fn test_of(&self, classes: Range<usize>) -> usize {
        self.test[classes].iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::target::configuration;
    use crate::setup;

    #[test]
    fn the_outline_says_what_the_images_say() {
        let changes = ["validation-per-class=5", "evaluate-on=validation"].map(str::to_owned);
        let checked = configuration("demo-lwf", &changes, None).unwrap();
        let dataset = setup::load(&checked, Path::new("none")).unwrap();
        let (train, test) = setup::split(&checked, &dataset).unwrap();
        let sizes = Sizes::of_images(&train, &test);
        assert_eq!(Sizes::of_outline(checked.config(), Path::new("none")).unwrap(), sizes);
        assert_eq!((sizes.train_of(0..2), sizes.test_of(1..4)), (490, 15));
    }
}
