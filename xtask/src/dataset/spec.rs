//! The data sets that can be fetched, and their known properties.
//!
//! A data set is described by a value, so tests describe a tiny one and run the same code. The digests are those that
//! the publisher prints.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Deserialize;

use super::{CHANNELS, Split};

/// How an official archive stores the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Fixed-length records.
    Binary,
    /// Python pickles.
    Python,
}

impl Form {
    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Form::Binary => "binary",
            Form::Python => "python",
        }
    }
}

/// One official archive and the members that are read from it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Archive {
    /// File name at the publisher.
    pub file: String,
    /// Published MD5, in hexadecimal.
    pub md5: String,
    /// How the members are stored.
    pub form: Form,
    /// Folder inside the archive.
    pub folder: String,
    /// Members with training images, in any order.
    pub train: Vec<String>,
    /// Member with test images.
    pub test: String,
    /// Member with the class names.
    pub names: String,
}

/// A data set that can be fetched.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name of the data set and of its folder.
    pub name: String,
    /// Number of fine classes.
    pub classes: usize,
    /// Rows and columns of an image.
    pub side: usize,
    /// Whether a copy of some of its classes is taken as well.
    pub in_parts: bool,
    /// Training images of each class.
    pub train_per_class: usize,
    /// Test images of each class.
    pub test_per_class: usize,
    /// Whether binary records carry a coarse label before the fine one.
    pub coarse_labels: bool,
    /// Official archives, the preferred one first.
    pub archives: Vec<Archive>,
    /// Column of the fine label in hub shards, and its key in pickles.
    pub hub_label: String,
    /// Key of the fine labels in the Python archive.
    pub python_labels: String,
    /// Key of the class names in the Python archive.
    pub python_names: String,
    /// Repository on the hub.
    pub hub_repository: String,
    /// The digests of its images, where they are known; see [`Known`].
    pub known: Option<Known>,
}

/// Digests of labels and pixels, in canonical order, of a data set as it was published.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    train: String,
    test: String,
}

impl Known {
    /// The digest of `split`.
    pub fn split(&self, split: Split) -> &str {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}

/// The entry of a data set in `datasets/known.json`, which the crate that learns from the images reads too.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Listed {
    #[serde(default)]
    classes: usize,
    #[serde(default)]
    side: usize,
    #[serde(default)]
    train_per_class: usize,
    #[serde(default)]
    test_per_class: usize,
    digests: Option<Known>,
    fetch: Option<Fetch>,
}

/// Where the images of a data set come from, and how they are stored there.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Fetch {
    #[serde(default)]
    in_parts: bool,
    #[serde(default)]
    coarse_labels: bool,
    #[serde(default)]
    hub_repository: String,
    #[serde(default)]
    hub_label: String,
    #[serde(default)]
    python_labels: String,
    #[serde(default)]
    python_names: String,
    #[serde(default)]
    archives: Vec<Archive>,
}

fn listed() -> BTreeMap<&'static str, Listed> {
    let text = include_str!("../../../datasets/known.json");
    serde_json::from_str(text).expect("datasets/known.json is compiled in, and a test reads it")
}

impl Spec {
    /// Names of the data sets of `datasets/known.json` that can be fetched.
    pub fn names() -> Vec<&'static str> {
        listed().into_iter().filter(|it| it.1.fetch.is_some()).map(|it| it.0).collect()
    }

    /// The data set of that name in `datasets/known.json`, if it can be fetched.
    ///
    /// CIFAR-100 and CIFAR-10 are Krizhevsky's (2009). Tiny-ImageNet (Stanford's CS231n, 2015) has 200 classes of
    /// ImageNet at 64 pixels; its test images have no labels, so the validation images are evaluated on, as everywhere.
    pub fn named(name: &str) -> Option<Self> {
        let Listed { classes, side, train_per_class, test_per_class, digests, fetch } =
            listed().remove(name)?;
        let fetch = fetch?;
        Some(Self {
            name: name.to_owned(),
            classes,
            side,
            in_parts: fetch.in_parts,
            train_per_class,
            test_per_class,
            coarse_labels: fetch.coarse_labels,
            archives: fetch.archives,
            hub_label: fetch.hub_label,
            python_labels: fetch.python_labels,
            python_names: fetch.python_names,
            hub_repository: fetch.hub_repository,
            known: digests,
        })
    }

    /// Bytes of one image, `[channel][row][column]`.
    pub fn image_bytes(&self) -> usize {
        CHANNELS * self.side * self.side
    }

    /// The data set with `classes` of its classes, if it may be taken in parts and has as many.
    #[must_use]
    pub fn part(&self, classes: usize) -> Self {
        let is_part = self.in_parts && (1..=self.classes).contains(&classes);
        Self { classes: if is_part { classes } else { self.classes }, ..self.clone() }
    }

    /// Refuses images that are not those of the published data set, where that is known.
    pub fn check_content(&self, split: Split, content_sha256: &str) -> Result<()> {
        let right = self.known.as_ref().map(|known| known.split(split));
        if let Some(right) = right.filter(|right| *right != content_sha256) {
            bail!(
                "the {} images and labels are not those of {}: their digest is {content_sha256}, not {right}; take \
                 them from another source",
                split.name(),
                self.name
            );
        }
        Ok(())
    }

    /// Images of each class in `split`.
    pub fn per_class(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train_per_class,
            Split::Test => self.test_per_class,
        }
    }

    /// Images in `split`.
    pub fn count(&self, split: Split) -> usize {
        self.classes * self.per_class(split)
    }

    /// Bytes of one record of the binary form.
    pub fn record_bytes(&self) -> usize {
        self.image_bytes() + if self.coarse_labels { 2 } else { 1 }
    }

    /// Refuses counts per class that this data set does not have.
    pub fn check_counts(&self, split: Split, per_class: &[usize]) -> Result<()> {
        let total: usize = per_class.iter().sum();
        if total != self.count(split) {
            bail!("{} has {total} images, {} has {}", split.name(), self.name, self.count(split));
        }
        let wanted = self.per_class(split);
        if let Some((class, count)) = per_class.iter().enumerate().find(|(_, count)| **count != wanted) {
            bail!("{} has {count} images of class {class}, {} has {wanted}", split.name(), self.name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_can_be_fetched_and_says_its_sizes() {
        assert_eq!(Spec::names(), ["cifar10", "cifar100", "tiny-imagenet"]);
        for name in Spec::names() {
            let spec = Spec::named(name).unwrap();
            assert!(
                spec.image_bytes() > 0 && Split::ALL.iter().all(|split| spec.count(*split) > 0),
                "{name}"
            );
            let from_hub = [&spec.hub_label, &spec.python_labels, &spec.python_names, &spec.hub_repository];
            assert!(spec.archives.is_empty() || from_hub.iter().all(|it| !it.is_empty()), "{name}");
        }
        assert!(Spec::named("imagenet").is_none() && Spec::named("cifar1000").is_none());
    }

    #[test]
    fn other_images_than_the_published_ones_are_refused() {
        let spec = Spec::named("cifar100").unwrap();
        let known = spec.known.clone().unwrap();
        for split in Split::ALL {
            spec.check_content(split, known.split(split)).unwrap();
            let message = spec.check_content(split, &"0".repeat(64)).unwrap_err().to_string();
            assert!(
                message
                    .contains(&format!("the {} images and labels are not those of cifar100", split.name()))
            );
        }
        Spec { known: None, ..spec }.check_content(Split::Train, "0").unwrap();
    }
}
