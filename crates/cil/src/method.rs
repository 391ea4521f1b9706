//! Methods: a base method, and the two schemes on top of it.

use cil_data::exemplars::Budget;
use cil_engine::optim::Schedule;
use cil_train::methods;
use cil_train::recipe::{
    DiscriminantSpec, NewTeacherSpec, Recipe, ReplaySpec, SyntheticNorm, TermSpec, Training,
};
use dfgr::InversionConfig;
use dtid::dual::{DtidConfig, DualForm};

/// Stochastic gradient descent: batch 128, rate 0.1 falling to 0 by a cosine, momentum 0.9, weight decay 5e-4 (LUCIR's
/// values for CIFAR-100, but for the cosine).
#[derive(Clone, Debug)]
#[must_use]
pub struct Sgd(Training);

impl Sgd {
    /// That many passes over the training images of a task.
    pub fn epochs(epochs: usize) -> Self {
        Self(Training {
            epochs,
            batch: 128,
            learning_rate: 0.1,
            schedule: Schedule::cosine(),
            momentum: 0.9,
            nesterov: false,
            weight_decay: 5e-4,
            gradient_limit: None,
            drop_last: false,
        })
    }

    /// Images in a step.
    pub fn batch(mut self, batch: usize) -> Self {
        self.0.batch = batch;
        self
    }

    /// The starting learning rate.
    pub fn rate(mut self, learning_rate: f64) -> Self {
        self.0.learning_rate = learning_rate;
        self
    }

    /// The rate times `gamma` at each of these epochs (from 0), in place of the cosine.
    pub fn steps(mut self, milestones: &[usize], gamma: f64) -> Self {
        self.0.schedule = Schedule::multi_step(milestones, gamma);
        self
    }

    /// The L2 penalty on every trained weight.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.0.weight_decay = weight_decay;
        self
    }

    /// All settings, to change what has no method here.
    pub fn training(self) -> Training {
        self.0
    }
}

/// A method, as a value.
#[derive(Clone, Debug)]
#[must_use]
pub struct Method {
    pub(crate) recipe: Recipe,
    /// How the base method trains a later task: a new teacher trains so too unless told otherwise.
    increment: Training,
}

/// Cross-entropy on the new images alone: what forgetting looks like.
pub fn fine_tune(training: Sgd) -> Method {
    Method::of(training, methods::fine_tune)
}

/// Every task anew with all images: an upper bound.
pub fn joint(training: Sgd) -> Method {
    Method::of(training, methods::joint)
}

/// Learning without forgetting (Li & Hoiem 2016).
pub fn lwf(training: Sgd) -> Method {
    Method::of(training, methods::lwf)
}

/// LUCIR (Hou et al. 2019), without exemplars; see [`Method::exemplars`].
pub fn lucir(training: Sgd) -> Method {
    Method::of(training, |base, increment| methods::lucir(base, increment, 0))
}

/// PODNet (Douillard et al. 2020), without exemplars. Wants [`crate::Resnet::podnet`].
pub fn podnet(training: Sgd) -> Method {
    Method::of(training, |base, increment| methods::podnet(base, increment.clone(), increment, 0))
}

impl Method {
    fn of(training: Sgd, make: impl Fn(Training, Training) -> Recipe) -> Self {
        let Sgd(training) = training;
        Self { recipe: make(training.clone(), training.clone()), increment: training }
    }

    /// Trains later tasks in another way than the base classes.
    pub fn later_tasks(mut self, training: Sgd) -> Self {
        self.recipe.increment.training = training.0.clone();
        self.increment = training.0;
        self
    }

    /// Keeps that many real images of every class.
    pub fn exemplars(mut self, per_class: usize) -> Self {
        self.recipe.exemplars = Budget::PerClass(per_class);
        self
    }

    /// Answers by a linear discriminant of kept class means of features and one covariance, in place of the trained head;
    /// `shrinkage` is the share of the mean variance added to the covariance's diagonal (0.01 in our runs).
    pub fn discriminant(mut self, shrinkage: f64) -> Self {
        self.recipe.discriminant = Some(DiscriminantSpec::pooled(shrinkage));
        self
    }

    /// Adds a scheme: [`DfGr`], [`DtId`], or one of your own.
    pub fn with(self, modifier: impl Modifier) -> Self {
        modifier.apply(self)
    }

    /// Adds a loss to every later task; see [`TermSpec::Custom`].
    pub fn term(mut self, term: TermSpec) -> Self {
        self.recipe.increment.terms.push(term);
        self
    }

    /// The recipe, to change what has no method here.
    pub fn recipe_mut(&mut self) -> &mut Recipe {
        &mut self.recipe
    }
}

/// A function from method to method.
pub trait Modifier {
    /// The method with this on top.
    fn apply(self, method: Method) -> Method;
}

impl<F: FnOnce(Method) -> Method> Modifier for F {
    fn apply(self, method: Method) -> Method {
        self(method)
    }
}

/// Data-free generative replay (Choi et al. 2021): before every later task a generator is trained from scratch, from the
/// frozen model of the task before alone; its images take part in every step.
#[derive(Clone, Debug)]
#[must_use]
pub struct DfGr(ReplaySpec);

impl DfGr {
    /// A generator trained by that many steps of Adam: some hundreds for a try, 5 000 in published inversions.
    pub fn iterations(iterations: usize) -> Self {
        Self(ReplaySpec {
            inversion: InversionConfig::unconditional(iterations),
            batch: 128,
            synthetic_norm: SyntheticNorm::Joint,
            exemplar_share: None,
            warm_start: false,
        })
    }

    /// Generated images in a step of the inversion and in a step of the student; 128 unless set.
    pub fn batch(mut self, batch: usize) -> Self {
        (self.0.inversion.batch, self.0.batch) = (batch, batch);
        self
    }

    /// Channels of the generator's widest map, an even number; 128 unless set.
    pub fn channels(mut self, channels: usize) -> Self {
        self.0.inversion.generator.channels = channels;
        self
    }

    /// All settings, to change what has no method here.
    pub fn replay(self) -> ReplaySpec {
        self.0
    }
}

impl Modifier for DfGr {
    fn apply(self, method: Method) -> Method {
        Method { recipe: methods::with_dfgr(method.recipe, self.0), increment: method.increment }
    }
}

/// Dual-teacher information distillation (Choi et al. 2021): the old model teaches the old classes, a model trained on the
/// new images teaches the new ones.
#[derive(Clone, Debug)]
#[must_use]
pub struct DtId {
    weight: f64,
    maps: bool,
    new_teacher: Option<Training>,
}

impl DtId {
    /// Both teachers' logits.
    pub fn logits() -> Self {
        Self { weight: 1.0, maps: false, new_teacher: None }
    }

    /// Both teachers' logits and stage maps (variational information distillation).
    pub fn logits_and_maps() -> Self {
        Self { maps: true, ..Self::logits() }
    }

    /// Weight of the loss on logits; 1 unless set.
    pub fn weight(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    /// How the new teacher is trained; as a later task is unless set.
    pub fn new_teacher(self, training: Sgd) -> Self {
        Self { new_teacher: Some(training.0), ..self }
    }
}

impl Modifier for DtId {
    fn apply(self, method: Method) -> Method {
        let training = self.new_teacher.unwrap_or_else(|| method.increment.clone());
        let teacher = NewTeacherSpec { from_old: true, exemplars: false, training };
        let config = DtidConfig { temperature: 2.0, form: DualForm::Columns { old: 1.0, new: 1.0 } };
        let maps = self.maps.then(|| methods::both_teachers_maps(1.0));
        let recipe = methods::with_dtid(method.recipe, teacher, self.weight, config, maps);
        Method { recipe, increment: method.increment }
    }
}
