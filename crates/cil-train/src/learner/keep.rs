//! The data that a learner keeps of a task.
//!
//! One ranking by the current model (herding) chooses the typical images of a class, both for those that are kept and
//! for those that are used once more.

use anyhow::{Result, bail};
use candle_core::Tensor;
use cil_backbone::Frozen;
use cil_data::store::{SampleId, TrainSet};

use super::{Learner, Stage, adopt};
use crate::answers::Kept;
use crate::discriminant::ClassStatistics;
use crate::event::{Event, PhaseKind};
use crate::logistic::At;
use crate::looks;
use crate::means::{self, ClassMeans};
use crate::memory;
use crate::recipe::{DiscriminantSpec, LogisticSpec};

impl Learner {
    /// Herds exemplars; the model becomes the next task's old teacher.
    pub(super) fn finish_task(&mut self, train: &TrainSet) -> Result<Event> {
        if let (Some(spec), 1..) = (&self.plan.recipe.logistic, self.task) {
            let (model, statistics) = self.appended(spec, train)?;
            (self.model, self.statistics) = (Some(model), Some(statistics));
        }
        let Some(model) = self.model.clone() else { bail!("a task ended without a model") };
        let images = memory::remember(&self.plan, self.task, &model, train, &mut self.exemplars)?;
        let spec = self.plan.recipe.discriminant.as_ref();
        if spec.is_some_and(DiscriminantSpec::is_of_a_frozen_backbone) {
            self.kept = Some(Kept::after(&self.plan, self.task, &model, self.kept.as_ref(), train)?);
        } else if spec.is_some() {
            let models = (self.old.as_ref(), &model);
            let before = self.statistics.as_ref();
            let found = match (before, &self.replay) {
                (None, Some(replay)) if self.task > 0 => {
                    memory::statistics_from_generated(&self.plan, self.task, &model, replay, train)?
                }
                _ => memory::statistics(&self.plan, self.task, models, before, &self.exemplars, train)?,
            };
            self.statistics = Some(found);
        }
        if self.plan.recipe.needs_feature_matrix() {
            self.feature_matrix = Some(memory::feature_matrix(&self.plan, self.task, &model, train)?);
        }
        self.new_teacher = None;
        self.old = Some(model);
        let task = self.task;
        self.task += 1;
        self.stage = Stage::Before;
        let statistics = self.statistics.as_ref().map_or(0, ClassStatistics::bytes);
        let kept = self.kept.as_ref().map_or(0, Kept::bytes);
        let matrix = self.feature_matrix.as_ref().map_or(0, bytes);
        let stored_bytes = images * train.image_bytes() + self.generator_bytes() + statistics + matrix + kept;
        let exemplars = Some(images as u64);
        Ok(Event::TaskLearned { task, stored_bytes: stored_bytes as u64, exemplars })
    }

    /// The network that answers after the last task that was learned: the model, or its backbone with a discriminant
    /// for a head; `None` before the first.
    ///
    /// # Errors
    /// If the statistics have no discriminant, or the device refuses its tensors.
    pub fn classifier(&self) -> Result<Option<Frozen>> {
        if let (Some(spec), Some(kept), Some(model)) = (&self.plan.recipe.discriminant, &self.kept, &self.old)
        {
            return Ok(Some(kept.answering(model, spec, &self.plan.device)?));
        }
        let (Some(spec), Some(statistics)) = (&self.plan.recipe.discriminant, &self.statistics) else {
            return Ok(self.old.clone());
        };
        let Some(model) = &self.old else { return Ok(None) };
        let projection = looks::projection(&self.plan, spec)?;
        Ok(Some(adopt::answering(model, spec, statistics, projection, &self.plan.device)?))
    }

    /// The model with the task's classes appended, and the statistics of all that were.
    fn appended(&self, spec: &LogisticSpec, train: &TrainSet) -> Result<(Frozen, ClassStatistics)> {
        let (Some(old), Some(replay)) = (&self.old, &self.replay) else {
            bail!("there is no old model that new classes could be appended to");
        };
        let (plan, statistics, exemplars) = (&self.plan, self.statistics.as_ref(), self.exemplars.all());
        let at = At { plan, task: self.task, spec, old, replay, statistics, train, exemplars: &exemplars };
        let (model, statistics) = at.append()?;
        let answers = || self.asked(&model, train.image_dims());
        self.sound(PhaseKind::Student, &model.snapshot().parameters, answers)?;
        Ok((model, statistics))
    }

    /// Bytes of the generator that is kept for the next task to begin with.
    fn generator_bytes(&self) -> usize {
        let kept = self.plan.recipe.replay.as_ref().is_some_and(|replay| replay.warm_start);
        let replay = self.replay.iter().filter(|_| kept);
        replay.flat_map(|it| it.parameters().iter()).map(|(_, value)| bytes(value)).sum()
    }

    /// Means of the classes seen, by the model after the last task that was learned.
    ///
    /// # Errors
    /// If no task is learned yet, or an executor fails.
    pub fn class_means(&self, train: &TrainSet) -> Result<ClassMeans> {
        let (Some(model), Some(task)) = (&self.old, self.task.checked_sub(1)) else {
            bail!("no task is learned yet");
        };
        let context = means::MeanContext {
            model,
            train,
            preparation: &self.plan.preparation,
            device: &self.plan.device,
            seed: self.plan.seed,
            task,
            new_classes: self.plan.increments.classes(task),
        };
        if !self.plan.recipe.exemplars.is_none() {
            return context.of_exemplars(&self.exemplars);
        }
        match &self.replay {
            Some(replay) => context.of_synthetic(replay, self.new_replay.as_ref()),
            None => Ok(ClassMeans::none("no exemplars are kept, and nothing is generated")),
        }
    }

    /// Equally many images of every class if exemplars are kept; otherwise all images of the task.
    pub(super) fn balanced(&self, model: &Frozen, train: &TrainSet) -> Result<Vec<SampleId>> {
        let classes = self.plan.increments.classes(self.task);
        let budget = self.plan.recipe.exemplars;
        if self.plan.recipe.joint || budget.is_none() {
            let first = if self.plan.recipe.joint { 0 } else { classes.start };
            return Ok(train.samples(first..classes.end));
        }
        let count = budget.per_class(classes.end);
        let mut samples = Vec::new();
        for class in classes.clone() {
            samples.extend(memory::typical(&self.plan, self.task, class, model, train, count)?);
        }
        let kept = (0..classes.start).flat_map(|class| self.exemplars.of(class).iter().take(count));
        samples.extend(kept);
        Ok(samples)
    }
}

/// Bytes of a tensor that is kept.
fn bytes(value: &Tensor) -> usize {
    value.elem_count() * value.dtype().size_in_bytes()
}
