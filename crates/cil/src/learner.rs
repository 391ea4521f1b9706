//! The learner: built with defaults, taught task by task, evaluated after each.

use anyhow::bail;
use cil_backbone::{Architecture, Backbone, Frozen, HeadKind};
use cil_data::augment::{Augmentation, Preparation};
use cil_data::normalise::Normalisation;
use cil_data::split::Increments;
use cil_data::store::{TestSet, TrainSet};
use cil_train::evaluate::Evaluator;
use cil_train::event::{Evaluation, Event};
use cil_train::learner::{Plan, Saved};
use cil_train::metrics;

use crate::method::Method;
use crate::{Device, Result};

/// A residual network.
#[derive(Clone, Copy, Debug)]
pub struct Resnet;

impl Resnet {
    /// LUCIR's for small images, of that depth (8, 14, 20, 32, ...) and width 16.
    pub fn lucir(depth: usize) -> Network {
        Network(Architecture::lucir(depth))
    }

    /// PODNet's for small images, of that depth and width 16.
    pub fn podnet(depth: usize) -> Network {
        Network(Architecture::podnet(depth))
    }

    /// ResNet-18 with LUCIR's stem for large images.
    pub fn imagenet() -> Network {
        Network(Architecture::imagenet())
    }

    /// ResNet-18 with a stem for small images.
    pub fn imagenet_small() -> Network {
        Network(Architecture::imagenet_small())
    }
}

/// A residual network of some width.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Network(Architecture);

impl Network {
    /// Channels of the first stage; every later stage has twice as many.
    pub fn width(mut self, width: usize) -> Self {
        self.0.width = width;
        self
    }
}

impl From<Network> for Backbone {
    fn from(network: Network) -> Self {
        network.0.into()
    }
}

/// The settings of a new learner.
#[derive(Clone, Debug)]
#[must_use]
pub struct LearnerBuilder {
    method: Method,
    backbone: Backbone,
    tasks: Vec<usize>,
    device: Option<Device>,
    seed: u64,
    preparation: Preparation,
}

impl LearnerBuilder {
    /// The network, a [`Resnet`] or a [`Backbone::own`]; LUCIR's ResNet-32, or PODNet's where the method is PODNet's,
    /// unless set.
    pub fn network(self, network: impl Into<Backbone>) -> Self {
        Self { backbone: network.into(), ..self }
    }

    /// New classes of each task, the base task first.
    pub fn tasks(self, tasks: impl Into<Vec<usize>>) -> Self {
        Self { tasks: tasks.into(), ..self }
    }

    /// The device; [`Device::best`] unless set.
    pub fn device(self, device: Device) -> Self {
        Self { device: Some(device), ..self }
    }

    /// Seed of weights, batches, augmentation and noise; 1 unless set.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Random changes to training images; crop by 4 and flip unless set.
    pub fn augmentation(mut self, augmentation: Augmentation) -> Self {
        self.preparation.augmentation = augmentation;
        self
    }

    /// Mean and deviation of each colour; one half and one quarter unless set.
    pub fn normalisation(mut self, normalisation: Normalisation) -> Self {
        self.preparation.normalisation = normalisation;
        self
    }

    /// The learner, before its first task.
    ///
    /// # Errors
    /// If no task is named, one has no class, or the method does not fit the network or the tasks.
    pub fn build(self) -> Result<Learner> {
        Ok(Learner { inner: cil_train::learner::Learner::new(self.plan()?)? })
    }

    /// The learner where [`Learner::save`] left it, to the same bits: one of the same settings, over the same images.
    ///
    /// # Errors
    /// As [`Self::build`], and if the state is not one of these settings and images.
    pub fn restore(self, saved: &Saved, train: &TrainSet) -> Result<Learner> {
        Ok(Learner { inner: cil_train::learner::Learner::restore(self.plan()?, saved, train)? })
    }

    fn plan(self) -> Result<Plan> {
        if self.tasks.is_empty() {
            bail!("a learner without tasks: call .tasks([base classes, later classes, ..])");
        }
        let device = self.device.map_or_else(Device::best, Ok)?;
        let classes = self.tasks.iter().sum();
        Ok(Plan {
            recipe: self.method.recipe(),
            backbone: self.backbone,
            increments: Increments::new(self.tasks, classes)?,
            preparation: self.preparation,
            seed: self.seed,
            executors: device.executors,
            device: device.place,
        })
    }
}

/// A class-incremental learner.
pub struct Learner {
    inner: cil_train::learner::Learner,
}

impl std::fmt::Debug for Learner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Learner({:?})", self.inner.model())
    }
}

impl Learner {
    /// A learner by this method, with defaults for all else.
    pub fn builder(method: Method) -> LearnerBuilder {
        let podnet = matches!(method.recipe().head, HeadKind::MultiProxy { .. });
        let augmentation = Augmentation { crop_padding: 4, flip: true, ..Augmentation::none() };
        LearnerBuilder {
            method,
            backbone: if podnet { Resnet::podnet(32) } else { Resnet::lucir(32) }.into(),
            tasks: Vec::new(),
            device: None,
            seed: 1,
            preparation: Preparation { augmentation, normalisation: Normalisation::half() },
        }
    }

    /// Learns the tasks that are left, one at each step of the iterator.
    pub fn tasks<'a>(&'a mut self, train: &'a TrainSet) -> Tasks<'a> {
        Tasks { learner: &mut self.inner, train }
    }

    /// The state between two units of work, such as two tasks; see [`LearnerBuilder::restore`].
    ///
    /// # Errors
    /// If the device refuses a tensor.
    pub fn save(&self) -> Result<Saved> {
        self.inner.save()
    }

    /// The learner of the crate `cil-train`, which advances by single units of work, saves and restores.
    pub fn inner(&mut self) -> &mut cil_train::learner::Learner {
        &mut self.inner
    }
}

/// Learns a task at each step.
pub struct Tasks<'a> {
    learner: &'a mut cil_train::learner::Learner,
    train: &'a TrainSet,
}

impl std::fmt::Debug for Tasks<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Tasks")
    }
}

impl Iterator for Tasks<'_> {
    type Item = Result<Learned>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.learner.advance(self.train) {
                Ok(Some(Event::TaskLearned { task, .. })) => {
                    let evaluator = self.learner.evaluator(self.train);
                    return Some(evaluator.map(|evaluator| Learned { task: task + 1, evaluator }));
                }
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The state of a learner after a task.
#[derive(Clone, Debug)]
pub struct Learned {
    /// The task, from 1.
    pub task: usize,
    evaluator: Evaluator,
}

impl Learned {
    /// The network that answers, frozen.
    pub fn classifier(&self) -> &Frozen {
        self.evaluator.classifier()
    }

    /// Counts over the images of all classes learned so far.
    ///
    /// # Errors
    /// If an executor fails.
    pub fn evaluate(&self, test: &TestSet) -> Result<Answer> {
        Ok(Answer { evaluation: self.evaluator.evaluate(test)? })
    }
}

/// How well the images of all classes learned so far are classified.
#[derive(Clone, Debug)]
pub struct Answer {
    evaluation: Evaluation,
}

impl Answer {
    /// Share of images classified right, 0 to 1; all classes learned so far compete.
    pub fn accuracy(&self) -> f64 {
        let confusion = &self.evaluation.classifier;
        metrics::accuracy(confusion, 0..confusion.rows.len()).unwrap_or(0.0)
    }

    /// Confusion matrix, top 5, accuracy within the own task, nearest class mean.
    pub fn evaluation(&self) -> &Evaluation {
        &self.evaluation
    }
}
