//! The data sets that can be fetched, and their known properties.
//!
//! A data set is described by a value, so tests describe a tiny one and run the same code. The digests are those that
//! the publisher prints.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Deserialize;

use super::{IMAGE_BYTES, Split};

/// How an official archive stores the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug)]
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
}

impl Listed {
    /// The entry of the data set `name`.
    fn of(name: &str) -> Self {
        let text = include_str!("../../../datasets/known.json");
        let mut all: BTreeMap<String, Self> =
            serde_json::from_str(text).expect("datasets/known.json is compiled in, and a test reads it");
        all.remove(name).expect("every data set that can be fetched is in datasets/known.json")
    }
}

impl Spec {
    /// CIFAR-100 (Krizhevsky 2009).
    pub fn cifar100() -> Self {
        let binary = Archive {
            file: "cifar-100-binary.tar.gz".into(),
            md5: "03b5dce01913d631647c71ecec9e9cb8".into(),
            form: Form::Binary,
            folder: "cifar-100-binary".into(),
            train: vec!["train.bin".into()],
            test: "test.bin".into(),
            names: "fine_label_names.txt".into(),
        };
        let python = Archive {
            file: "cifar-100-python.tar.gz".into(),
            md5: "eb9058c3a382ffc7106e4002c42a8d85".into(),
            form: Form::Python,
            folder: "cifar-100-python".into(),
            train: vec!["train".into()],
            test: "test".into(),
            names: "meta".into(),
        };
        let listed = Listed::of("cifar100");
        Self {
            name: "cifar100".into(),
            classes: listed.classes,
            side: listed.side,
            in_parts: false,
            train_per_class: listed.train_per_class,
            test_per_class: listed.test_per_class,
            coarse_labels: true,
            archives: vec![binary, python],
            hub_label: "fine_label".into(),
            python_labels: "fine_labels".into(),
            python_names: "fine_label_names".into(),
            hub_repository: "uoft-cs/cifar100".into(),
            known: listed.digests,
        }
    }

    /// CIFAR-10 (Krizhevsky 2009).
    pub fn cifar10() -> Self {
        let binary = Archive {
            file: "cifar-10-binary.tar.gz".into(),
            md5: "c32a1d4ab5d03f1284b67883e8d87530".into(),
            form: Form::Binary,
            folder: "cifar-10-batches-bin".into(),
            train: (1..=5).map(|batch| format!("data_batch_{batch}.bin")).collect(),
            test: "test_batch.bin".into(),
            names: "batches.meta.txt".into(),
        };
        let python = Archive {
            file: "cifar-10-python.tar.gz".into(),
            md5: "c58f30108f718f92721af3b95e74349a".into(),
            form: Form::Python,
            folder: "cifar-10-batches-py".into(),
            train: (1..=5).map(|batch| format!("data_batch_{batch}")).collect(),
            test: "test_batch".into(),
            names: "batches.meta".into(),
        };
        let listed = Listed::of("cifar10");
        Self {
            name: "cifar10".into(),
            classes: listed.classes,
            side: listed.side,
            in_parts: false,
            train_per_class: listed.train_per_class,
            test_per_class: listed.test_per_class,
            coarse_labels: false,
            archives: vec![binary, python],
            hub_label: "label".into(),
            python_labels: "labels".into(),
            python_names: "label_names".into(),
            hub_repository: "uoft-cs/cifar10".into(),
            known: listed.digests,
        }
    }

    /// Tiny-ImageNet (Stanford's CS231n, 2015): 200 classes of ImageNet at 64 pixels. Its test images have no labels,
    /// so the validation images are what is evaluated on, as everywhere.
    pub fn tiny_imagenet() -> Self {
        let listed = Listed::of("tiny-imagenet");
        Self {
            name: "tiny-imagenet".into(),
            classes: listed.classes,
            side: listed.side,
            in_parts: true,
            train_per_class: listed.train_per_class,
            test_per_class: listed.test_per_class,
            archives: Vec::new(),
            hub_repository: String::new(),
            known: listed.digests,
            ..Self::cifar10()
        }
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
        IMAGE_BYTES + if self.coarse_labels { 2 } else { 1 }
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
    fn other_images_than_the_published_ones_are_refused() {
        let spec = Spec::cifar100();
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
