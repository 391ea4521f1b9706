//! A data set: named classes, training and test images.
//!
//! Loading checks every file's length, every label and the digest over all labels and pixels; a data set with the name
//! of a published one must have the published digest.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use cil_random::Draw;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::augment::Size;
use crate::known;
use crate::manifest::{Manifest, Part};
use crate::order::ClassOrder;
use crate::procedural::{self, ProceduralConfig};
use crate::store::{Images, Selection, TestSet, TrainSet};

/// Which images the accuracies are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evaluate {
    /// The test images.
    Test,
    /// Images held out of the training images: for choosing settings.
    Validation,
}

/// SHA-256 over labels and pixels of each part, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Of the training images.
    pub train: String,
    /// Of the test images.
    pub test: String,
}

/// The description of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Classes.
    pub classes: usize,
    /// Channels, height and width of an image.
    pub image: [usize; 3],
    /// Training images.
    pub train: usize,
    /// Test images.
    pub test: usize,
}

/// Named classes and their images.
#[derive(Clone, Debug)]
pub struct Dataset {
    name: String,
    class_names: Vec<String>,
    train: Images,
    test: Images,
    digests: Digests,
}

impl Dataset {
    /// Loads the data set `name` from its folder below `data_dir`.
    ///
    /// # Errors
    /// Naming the file that is missing, of the wrong length, with a wrong label, or of another digest.
    pub fn load(data_dir: &Path, name: &str) -> Result<Self> {
        let folder = data_dir.join(name);
        let manifest = Manifest::load(&folder, name)?;
        let size = Size { height: manifest.height, width: manifest.width };
        let part = |part: &Part| -> Result<Images> {
            let images = load_part(&folder, part, size, manifest.classes.len())?;
            if content_digest(&images) != part.content_sha256 {
                bail!(
                    "{} and {} are not what {} says: the digest differs; run `cargo xtask fetch-data {name} --force`",
                    folder.join(&part.images).display(),
                    part.labels,
                    folder.join("manifest.json").display()
                );
            }
            Ok(images)
        };
        let (train, test) = (part(&manifest.splits.train)?, part(&manifest.splits.test)?);
        let digests = Digests {
            train: manifest.splits.train.content_sha256.clone(),
            test: manifest.splits.test.content_sha256.clone(),
        };
        known::check(&folder, name, &digests.train, &digests.test)?;
        Ok(Self { name: manifest.name, class_names: manifest.classes, train, test, digests })
    }

    /// How large the data set `name` below `data_dir` says it is; its images are not read.
    ///
    /// # Errors
    /// If its manifest is missing or is none.
    pub fn outline(data_dir: &Path, name: &str) -> Result<Outline> {
        let manifest = Manifest::load(&data_dir.join(name), name)?;
        Ok(Outline {
            classes: manifest.classes.len().max(1),
            image: [3, manifest.height, manifest.width],
            train: manifest.splits.train.count,
            test: manifest.splits.test.count,
        })
    }

    /// Generates a data set; see [`procedural`].
    ///
    /// # Errors
    /// If the configuration does not pass its check.
    pub fn procedural(config: &ProceduralConfig, seed: u64) -> Result<Self> {
        let (train, test) = procedural::generate(config, seed)?;
        let digests = Digests { train: content_digest(&train), test: content_digest(&test) };
        let class_names = procedural::class_names(config.classes);
        Ok(Self { name: "procedural".to_owned(), class_names, train, test, digests })
    }

    /// A data set of images in memory, such as noise to measure with.
    ///
    /// # Errors
    /// If an image's label is no class.
    pub fn of_images(name: &str, class_names: Vec<String>, train: Images, test: Images) -> Result<Self> {
        for images in [&train, &test] {
            if let Some(at) = (0..images.len()).find(|at| images.label(*at) >= class_names.len()) {
                let (label, classes) = (images.label(at), class_names.len());
                bail!("{name}: image {at} has label {label}, there are {classes} classes");
            }
        }
        let digests = Digests { train: content_digest(&train), test: content_digest(&test) };
        Ok(Self { name: name.to_owned(), class_names, train, test, digests })
    }

    /// A data set of images whose digests are known.
    pub(crate) fn of_parts(
        name: &str,
        class_names: Vec<String>,
        train: Images,
        test: Images,
        digests: Digests,
    ) -> Self {
        Self { name: name.to_owned(), class_names, train, test, digests }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of the classes, by label.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// SHA-256 over labels and pixels of each part.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Training and test images.
    pub(crate) fn parts_mut(&mut self) -> [&mut Images; 2] {
        [&mut self.train, &mut self.test]
    }

    /// The test images, in the data set's own order.
    pub fn test(&self) -> &Images {
        &self.test
    }

    /// The training images, in the data set's own order.
    pub fn train(&self) -> &Images {
        &self.train
    }

    /// Images to train and to evaluate on, of the order's classes.
    ///
    /// Of every class `validation_per_class` training images are held out: which ones depends on the data set alone, so
    /// that runs with other seeds or orders hold out the same. They are what [`Evaluate::Validation`] evaluates on; the
    /// test images are out of reach then.
    ///
    /// # Errors
    /// If the order has a label that is not the data set's, or a class has too few images.
    pub fn split(
        &self,
        order: &ClassOrder,
        validation_per_class: usize,
        evaluate: Evaluate,
    ) -> Result<(TrainSet, TestSet)> {
        if evaluate == Evaluate::Validation && validation_per_class == 0 {
            bail!("validation-per-class is 0; evaluating on held-out images needs at least 1 of each class");
        }
        let (mut train, mut held_out, mut test) = (Vec::new(), Vec::new(), Vec::new());
        for label in order.labels() {
            if *label >= self.class_names.len() {
                bail!(
                    "the class order has label {label}; {} has {} classes",
                    self.name,
                    self.class_names.len()
                );
            }
            let mut positions = positions_of(&self.train, *label);
            if positions.len() <= validation_per_class {
                bail!(
                    "validation-per-class is {validation_per_class}; class {label} of {} has {} training images",
                    self.name,
                    positions.len()
                );
            }
            let draw = Draw { position: *label as u64, ..Draw::new(0, "held out") };
            draw.stream("positions").shuffle(&mut positions);
            let mut kept = positions.split_off(validation_per_class);
            kept.sort_unstable();
            positions.sort_unstable();
            train.push(kept);
            held_out.push(positions);
            let tested = positions_of(&self.test, *label);
            if tested.is_empty() && evaluate == Evaluate::Test {
                bail!("class {label} of {} has no test image", self.name);
            }
            test.push(tested);
        }
        let evaluated = match evaluate {
            Evaluate::Test => Selection::new(self.test.clone(), &test),
            Evaluate::Validation => Selection::new(self.train.clone(), &held_out),
        };
        Ok((TrainSet::new(Selection::new(self.train.clone(), &train)), TestSet::new(evaluated)))
    }
}

fn positions_of(images: &Images, label: usize) -> Vec<u32> {
    (0..images.len()).filter(|at| images.label(*at) == label).map(|at| at as u32).collect()
}

fn load_part(folder: &Path, part: &Part, size: Size, classes: usize) -> Result<Images> {
    let labels_path = folder.join(&part.labels);
    let labels = exactly(&labels_path, part.count.checked_mul(2))?;
    let labels: Vec<u16> =
        labels.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    if let Some(at) = labels.iter().position(|label| usize::from(*label) >= classes) {
        bail!("{}: image {at} has label {}, there are {classes} classes", labels_path.display(), labels[at]);
    }
    let pixels = exactly(&folder.join(&part.images), part.count.checked_mul(size.values()))?;
    Ok(Images { size, pixels: Arc::new(pixels), labels: Arc::new(labels), device_copy: None, packed: None })
}

/// The file's bytes, if it has that length.
fn exactly(path: &Path, length: Option<usize>) -> Result<Vec<u8>> {
    let place = || format!("cannot read {}", path.display());
    let metadata = fs::metadata(path).with_context(place)?;
    if !metadata.is_file() {
        bail!("{} is not a file", path.display());
    }
    let found = metadata.len();
    match length {
        Some(length) if found == length as u64 => {
            let mut bytes = Vec::with_capacity(length);
            fs::File::open(path)
                .with_context(place)?
                .take(found)
                .read_to_end(&mut bytes)
                .with_context(place)?;
            if bytes.len() != length {
                bail!("{} changed while it was read", path.display());
            }
            Ok(bytes)
        }
        Some(length) => bail!("{} has {found} bytes, its manifest says {length}", path.display()),
        None => bail!("{}: its manifest counts more images than any memory holds", path.display()),
    }
}

/// SHA-256 over each image's label (two bytes, little endian) and pixels, in hexadecimal.
fn content_digest(images: &Images) -> String {
    let mut digest = Sha256::new();
    for at in 0..images.len() {
        digest.update((images.label(at) as u16).to_le_bytes());
        digest.update(images.image(at));
    }
    hex(&digest.finalize())
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
