//! Methods: a base method, and the two schemes on top of it.

use std::sync::Arc;

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

/// A method, as a value: a base method, and what is put on top of it. The order of the calls does not matter for the
/// base method's own settings: what is on top is applied to them when the learner is built.
#[derive(Clone)]
#[must_use]
pub struct Method {
    base: Arc<dyn Fn(Training, Training, usize) -> Recipe + Send + Sync>,
    base_training: Training,
    increment: Training,
    exemplars: usize,
    on_top: Vec<Arc<dyn Modifier + Send + Sync>>,
}

impl std::fmt::Debug for Method {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.recipe().fmt(formatter)
    }
}

/// Cross-entropy on the new images alone: what forgetting looks like.
pub fn fine_tune(training: Sgd) -> Method {
    Method::of(training, |base, increment, _| methods::fine_tune(base, increment))
}

/// Every task anew with all images: an upper bound.
pub fn joint(training: Sgd) -> Method {
    Method::of(training, |base, increment, _| methods::joint(base, increment))
}

/// Learning without forgetting (Li & Hoiem 2016).
pub fn lwf(training: Sgd) -> Method {
    Method::of(training, |base, increment, _| methods::lwf(base, increment))
}

/// LUCIR (Hou et al. 2019), without exemplars; see [`Method::exemplars`].
pub fn lucir(training: Sgd) -> Method {
    Method::of(training, methods::lucir)
}

/// PODNet (Douillard et al. 2020), without exemplars. Wants [`crate::Resnet::podnet`].
pub fn podnet(training: Sgd) -> Method {
    Method::of(training, |base, increment, exemplars| {
        methods::podnet(base, increment.clone(), increment, exemplars)
    })
}

impl Method {
    fn of(training: Sgd, base: impl Fn(Training, Training, usize) -> Recipe + Send + Sync + 'static) -> Self {
        let Sgd(training) = training;
        let (base, increment) = (Arc::new(base), training.clone());
        Self { base, base_training: training, increment, exemplars: 0, on_top: Vec::new() }
    }

    /// Trains later tasks in another way than the base classes.
    pub fn later_tasks(self, training: Sgd) -> Self {
        Self { increment: training.0, ..self }
    }

    /// Keeps that many real images of every class.
    pub fn exemplars(self, per_class: usize) -> Self {
        Self { exemplars: per_class, ..self }
    }

    /// Answers by a linear discriminant of kept class means of features and one covariance, in place of the trained
    /// head; `shrinkage` is the share of the mean variance added to the covariance's diagonal (0.01 in our runs).
    pub fn discriminant(self, shrinkage: f64) -> Self {
        self.with(move |mut recipe: Recipe, _: &Training| {
            recipe.discriminant = Some(DiscriminantSpec::pooled(shrinkage));
            recipe
        })
    }

    /// Adds a scheme: [`DfGr`], [`DtId`], or a function from recipe to recipe.
    pub fn with(mut self, modifier: impl Modifier + Send + Sync + 'static) -> Self {
        self.on_top.push(Arc::new(modifier));
        self
    }

    /// Adds a loss to every later task: one of this library's, or a [`CustomTerm`](cil_train::recipe::CustomTerm).
    pub fn term(self, term: impl Into<TermSpec>) -> Self {
        let term = term.into();
        self.with(move |mut recipe: Recipe, _: &Training| {
            recipe.increment.terms.push(term.clone());
            recipe
        })
    }

    /// The recipe.
    pub fn recipe(&self) -> Recipe {
        let mut recipe = (self.base)(self.base_training.clone(), self.increment.clone(), self.exemplars);
        recipe.exemplars = Budget::PerClass(self.exemplars);
        self.on_top.iter().fold(recipe, |recipe, modifier| modifier.apply(recipe, &self.increment))
    }
}

/// A function from recipe to recipe; it receives the settings of the base method's later tasks.
pub trait Modifier {
    /// The recipe with this on top.
    fn apply(&self, recipe: Recipe, increment: &Training) -> Recipe;
}

impl<F: Fn(Recipe, &Training) -> Recipe> Modifier for F {
    fn apply(&self, recipe: Recipe, increment: &Training) -> Recipe {
        self(recipe, increment)
    }
}

/// Data-free generative replay (Choi et al. 2021): before every later task a generator is trained from scratch, from
/// the frozen model of the task before alone; its images take part in every step.
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
    fn apply(&self, recipe: Recipe, _: &Training) -> Recipe {
        methods::with_dfgr(recipe, self.0.clone())
    }
}

/// Dual-teacher information distillation (Choi et al. 2021): the old model teaches the old classes, a model trained on
/// the new images teaches the new ones.
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
    fn apply(&self, recipe: Recipe, increment: &Training) -> Recipe {
        let training = self.new_teacher.as_ref().unwrap_or(increment).clone();
        let teacher = NewTeacherSpec { from_old: true, exemplars: false, training };
        let config = DtidConfig { temperature: 2.0, form: DualForm::Columns { old: 1.0, new: 1.0 } };
        let maps = self.maps.then(|| methods::both_teachers_maps(1.0));
        methods::with_dtid(recipe, teacher, self.weight, config, maps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_base_method_and_what_is_on_top_come_in_any_order() {
        let (dfgr, dtid) = (|| DfGr::iterations(50), DtId::logits);
        let later = || Sgd::epochs(3).rate(0.02);
        let one = lucir(Sgd::epochs(2)).exemplars(20).later_tasks(later()).with(dfgr()).with(dtid());
        let other = lucir(Sgd::epochs(2)).with(dfgr()).with(dtid()).later_tasks(later()).exemplars(20);
        assert_eq!(one.recipe(), other.recipe());
        let recipe = one.recipe();
        let ranks = |it: &TermSpec| matches!(it, TermSpec::MarginRanking { .. });
        assert!(recipe.increment.terms.iter().any(ranks), "margins are ranked where exemplars are kept");
        assert_eq!(recipe.new_teacher.map(|it| it.training), Some(later().training()));
    }
}
