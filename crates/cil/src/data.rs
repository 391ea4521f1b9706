//! Data sets and the order in which their classes are learned.

use std::path::Path;

use cil_data::dataset::Evaluate;
use cil_data::fit::Fit;
use cil_data::folder::Decode;
use cil_data::order;
use cil_data::procedural::ProceduralConfig;
use cil_data::store::{Images, TestSet, TrainSet};

use crate::Result;

/// Share of each class that is evaluated on where a folder has no part for it.
const HELD_OUT: f64 = 0.2;

/// Named classes with their training and test images.
#[derive(Clone, Debug)]
pub struct Dataset {
    inner: cil_data::dataset::Dataset,
}

impl Dataset {
    /// Synthetic images of that many classes (at most 24), drawn by this library: for a first try and for tests.
    pub fn procedural(classes: usize) -> Procedural {
        let config = ProceduralConfig { classes, train_per_class: 100, test_per_class: 20 };
        Procedural { config, seed: 1 }
    }

    /// The data set `name` that `cargo xtask fetch-data` put below `folder`, such as `cifar100` below `datasets`.
    ///
    /// # Errors
    /// If a file is missing, or its contents are not those that the manifest names.
    pub fn load(folder: impl AsRef<Path>, name: &str) -> Result<Self> {
        Ok(Self { inner: cil_data::dataset::Dataset::load(folder.as_ref(), name)? })
    }

    /// A folder of pictures, a folder a class, as squares of `side` pixels; see [`cil_data::folder`] for how it may
    /// look. Where it has no part to evaluate on, a fifth of each class is held out for it.
    ///
    /// # Errors
    /// If the folder has no classes, a class has no picture, or a picture cannot be read: all such are named.
    pub fn folder(folder: impl AsRef<Path>, side: usize) -> Result<Self> {
        let mut found = cil_data::folder::scan(folder.as_ref())?;
        if found.test.is_empty() {
            found = found.held_out(HELD_OUT);
        }
        let by = Decode { fit: Fit::of(side), skip_broken: false };
        Ok(Self { inner: found.decode(&by, &|_| {})?.dataset })
    }

    /// Images in memory; see [`Images::new`].
    ///
    /// # Errors
    /// If an image's label is not a class.
    pub fn of_images(name: &str, class_names: Vec<String>, train: Images, test: Images) -> Result<Self> {
        Ok(Self { inner: cil_data::dataset::Dataset::of_images(name, class_names, train, test)? })
    }

    /// Names of the classes, by label.
    pub fn class_names(&self) -> &[String] {
        self.inner.class_names()
    }

    /// This data set with its classes in the order in which they are learned.
    pub fn in_order(&self, order: ClassOrder) -> Ordered<'_> {
        Ordered { dataset: &self.inner, order, held_out: 0 }
    }

    /// The data set of the crate `cil-data`.
    pub fn inner(&self) -> &cil_data::dataset::Dataset {
        &self.inner
    }
}

/// A synthetic data set to be built.
#[derive(Clone, Debug)]
#[must_use]
pub struct Procedural {
    config: ProceduralConfig,
    seed: u64,
}

impl Procedural {
    /// Training and test images of each class; 100 and 20 unless set.
    pub fn images(mut self, train_per_class: usize, test_per_class: usize) -> Self {
        (self.config.train_per_class, self.config.test_per_class) = (train_per_class, test_per_class);
        self
    }

    /// Seed of the images; 1 unless set.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Draws the images.
    ///
    /// # Errors
    /// If there are no classes, more than 24, or no images.
    pub fn build(self) -> Result<Dataset> {
        Ok(Dataset { inner: cil_data::dataset::Dataset::procedural(&self.config, self.seed)? })
    }
}

/// In which order the classes of a data set are learned.
#[derive(Clone, Debug)]
pub struct ClassOrder {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    AsLabelled,
    Seeded(u64),
    Published(String),
    Labels(Vec<usize>),
}

impl ClassOrder {
    /// Class 0 first, and so on.
    pub fn as_labelled() -> Self {
        Self { form: Form::AsLabelled }
    }

    /// A random order of all classes.
    pub fn seeded(seed: u64) -> Self {
        Self { form: Form::Seeded(seed) }
    }

    /// A published order of the data set, such as `lucir_1993` or `podnet_1` of `cifar100`.
    pub fn published(name: &str) -> Self {
        Self { form: Form::Published(name.to_owned()) }
    }

    /// These labels and no others.
    pub fn labels(labels: impl Into<Vec<usize>>) -> Self {
        Self { form: Form::Labels(labels.into()) }
    }

    fn of(&self, dataset: &cil_data::dataset::Dataset) -> Result<order::ClassOrder> {
        let classes = dataset.class_names().len();
        match &self.form {
            Form::AsLabelled => order::ClassOrder::from_labels((0..classes).collect(), classes),
            Form::Seeded(seed) => Ok(order::ClassOrder::seeded(classes, *seed)),
            Form::Published(name) => order::ClassOrder::published(dataset.name(), name),
            Form::Labels(labels) => order::ClassOrder::from_labels(labels.clone(), classes),
        }
    }
}

/// A data set with an order of its classes.
#[derive(Clone, Debug)]
#[must_use]
pub struct Ordered<'a> {
    dataset: &'a cil_data::dataset::Dataset,
    order: ClassOrder,
    held_out: usize,
}

impl Ordered<'_> {
    /// Holds that many training images of every class out and evaluates on them: for choosing settings. The test images
    /// are out of reach then.
    pub fn validation(self, per_class: usize) -> Self {
        Self { held_out: per_class, ..self }
    }

    /// Images to train on and images to evaluate on. The two are different types, and no training function takes the
    /// second.
    ///
    /// # Errors
    /// If the order names a class that is not there, or a class has too few images.
    pub fn split(self) -> Result<(TrainSet, TestSet)> {
        let order = self.order.of(self.dataset)?;
        let evaluate = if self.held_out > 0 { Evaluate::Validation } else { Evaluate::Test };
        self.dataset.split(&order, self.held_out, evaluate)
    }
}
