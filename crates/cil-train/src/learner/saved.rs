//! A learner's state, to be kept and taken up again.
//!
//! Everything that the plan, the position and the images determine is computed again; only values are saved, and every
//! name, shape and count is compared with the plan before the learner takes them. Values that no unit changes are
//! separate from those that every unit changes, and keep the version of their store, so they need to be written only
//! once.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor};
use cil_backbone::head::Head;
use cil_backbone::{Frozen, Network, Snapshot};
use cil_data::exemplars::Exemplars;
use cil_data::store::TrainSet;
use cil_engine::{Parameters, Shape};
use dfgr::invert::InversionState;
use dfgr::{InversionConfig, Replay};
use serde::{Deserialize, Serialize};

use super::work::{self, Work};
use super::{Learner, Plan, Stage};
use crate::answers::Kept;
use crate::discriminant::{ClassStatistics, Form};
use crate::event::PhaseKind;
use crate::memory;
use crate::phase::{AUX_NETS, Job, NETWORK, OPTIMIZER};
use crate::start;

const OLD: &str = "old";
const MODEL: &str = "model";
const NEW_TEACHER: &str = "new-teacher";
const STATISTICS: &str = "statistics";
const KEPT: &str = "kept";
const FEATURE_MATRIX: &str = "feature-matrix";
const GENERATOR: &str = "generator";
const GENERATOR_TEACHER: &str = "generator-teacher";
const NEW_GENERATOR: &str = "new-generator";
const NEW_GENERATOR_TEACHER: &str = "new-generator-teacher";

/// Where a learner stands, as plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Position {
    task: usize,
    stage: Stage,
    /// Epochs or iterations done of the phase that is going; `None` between phases.
    done: Option<usize>,
    exemplars: Exemplars,
}

/// A learner's state between two units.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Where it stands.
    pub position: Position,
    /// Teachers, models and generators, by what they are; no unit changes them.
    pub fixed: BTreeMap<String, Parameters>,
    /// The values being trained, by name of the store; every unit changes them. Empty between phases.
    pub moving: BTreeMap<String, Parameters>,
}

impl Learner {
    /// The state. It shares its values with the learner, whose further units do not change it.
    ///
    /// # Errors
    /// If the device refuses a tensor.
    pub fn save(&self) -> Result<Saved> {
        let (done, moving) = match &self.work {
            None => (None, BTreeMap::new()),
            Some(Work::Train(job)) => {
                let (done, values) = job.state()?;
                (Some(done), values)
            }
            Some(Work::Invert(inversion)) => {
                let InversionState { done, generator, optimizer } = inversion.state()?;
                (Some(done), [(NETWORK.to_owned(), generator), (OPTIMIZER.to_owned(), optimizer)].into())
            }
        };
        let values = |frozen: &Frozen| frozen.snapshot().parameters.clone();
        let fixed = [
            (OLD, self.old.as_ref().map(values)),
            (MODEL, self.model.as_ref().map(values)),
            (NEW_TEACHER, self.new_teacher.as_ref().map(values)),
            (STATISTICS, self.statistics.as_ref().map(ClassStatistics::values).transpose()?),
            (KEPT, self.kept.as_ref().map(Kept::values).transpose()?),
            (FEATURE_MATRIX, self.feature_matrix.as_ref().map(alone)),
            (GENERATOR, self.replay.as_ref().map(|it| it.parameters().clone())),
            (GENERATOR_TEACHER, self.replay.as_ref().map(|it| values(it.teacher()))),
            (NEW_GENERATOR, self.new_replay.as_ref().map(|it| it.parameters().clone())),
            (NEW_GENERATOR_TEACHER, self.new_replay.as_ref().map(|it| values(it.teacher()))),
        ];
        let fixed = fixed.into_iter().filter_map(|(name, values)| Some((name.to_owned(), values?))).collect();
        let (task, stage, exemplars) = (self.task, self.stage, self.exemplars.clone());
        Ok(Saved { position: Position { task, stage, done, exemplars }, fixed, moving })
    }

    /// The learner of a state that one of the same plan gave; it continues over the same images to the same bits.
    ///
    /// # Errors
    /// If the plan does not pass its checks, or the state is not one of this plan and these images.
    pub fn restore(plan: Plan, saved: &Saved, train: &TrainSet) -> Result<Self> {
        let mut learner = Self::new(plan)?;
        learner.stand(&saved.position, train)?;
        let appended = learner.appended_before(saved)?;
        let forms = learner.forms(saved.fixed.contains_key(MODEL), appended.as_ref())?;
        let spec = learner.plan.recipe.discriminant.as_ref().filter(|_| learner.task > 0);
        let kept = spec.filter(|it| it.is_of_a_frozen_backbone()).map(|_| KEPT);
        let discriminant = spec.is_some() && kept.is_none();
        let statistics = (discriminant || appended.is_some()).then_some(STATISTICS);
        let matrix =
            (learner.plan.recipe.needs_feature_matrix() && learner.task > 0).then_some(FEATURE_MATRIX);
        let generators = [(GENERATOR_TEACHER, GENERATOR), (NEW_GENERATOR_TEACHER, NEW_GENERATOR)];
        let generators =
            generators.into_iter().filter(|(teacher, _)| forms.contains_key(teacher)).map(|it| it.1);
        let beside = generators.chain(statistics).chain(kept).chain(matrix);
        check_names(forms.keys().copied().chain(beside), &saved.fixed)?;
        let mut frozen = BTreeMap::new();
        for (name, blocks) in forms {
            let reads_pooled = name == GENERATOR_TEACHER || blocks.len() == 1;
            let head = learner.head(blocks, reads_pooled);
            let network = learner.network(head, store(&saved.fixed, name)?, train);
            frozen.insert(name, network.and_then(|it| Ok(it.freeze()?)).context(name)?);
        }
        learner.old = frozen.remove(OLD);
        learner.model = frozen.remove(MODEL);
        learner.new_teacher = frozen.remove(NEW_TEACHER);
        let (plan, recipe) = (&learner.plan, &learner.plan.recipe);
        let replay = |teacher: Frozen, config: &InversionConfig, name| {
            let (config, values) = (config.generator.clone(), store(&saved.fixed, name)?);
            Replay::restore(config, teacher, &plan.executors, values, &plan.device).context(name)
        };
        let of_old = frozen.remove(GENERATOR_TEACHER).zip(recipe.replay.as_ref());
        let of_new = frozen.remove(NEW_GENERATOR_TEACHER).zip(recipe.new_replay.as_ref());
        let of_old = of_old.map(|(teacher, spec)| replay(teacher, &spec.inversion, GENERATOR)).transpose()?;
        let of_new =
            of_new.map(|(teacher, spec)| replay(teacher, &spec.inversion, NEW_GENERATOR)).transpose()?;
        (learner.replay, learner.new_replay) = (of_old, of_new);
        if let (Some(_), Some(spec)) = (statistics, &recipe.discriminant) {
            let (seen, width) = (plan.increments.seen(learner.task - 1), spec.width(&plan.backbone));
            let form = memory::form(plan);
            let values = ClassStatistics::restore(store(&saved.fixed, STATISTICS)?, seen, width, form);
            learner.statistics = Some(values.context(STATISTICS)?);
        }
        if let (Some(_), Some(spec)) = (kept, &learner.plan.recipe.discriminant) {
            let form = (learner.plan.increments.seen(learner.task - 1), spec.width(&learner.plan.backbone));
            learner.kept = Some(Kept::restore(store(&saved.fixed, KEPT)?, spec, form).context(KEPT)?);
        }
        if matrix.is_some() {
            learner.feature_matrix = Some(learner.feature_matrix_of(saved).context(FEATURE_MATRIX)?);
        }
        if appended.is_some() {
            learner.statistics = appended;
        }
        learner.work = learner.resumed(saved, train)?;
        Ok(learner)
    }

    fn feature_matrix_of(&self, saved: &Saved) -> Result<Tensor> {
        let value = store(&saved.fixed, FEATURE_MATRIX)?.get(FEATURE_MATRIX)?;
        let width = self.plan.backbone.feature_width();
        if value.dims() != [width, width] || value.dtype() != DType::F32 {
            bail!("it is {:?} of {:?}, not [{width}, {width}] of F32", value.dims(), value.dtype());
        }
        Ok(value.to_device(&self.plan.device)?)
    }

    /// Statistics of the classes that were appended, if any were.
    fn appended_before(&self, saved: &Saved) -> Result<Option<ClassStatistics>> {
        let Plan { recipe, backbone, .. } = &self.plan;
        let (Some(spec), Some(values)) = (&recipe.logistic, saved.fixed.get(STATISTICS)) else {
            return Ok(None);
        };
        let width = spec.head(backbone).width;
        Ok(Some(ClassStatistics::restore_all(values, width, Form::Wide).context(STATISTICS)?))
    }

    /// Takes up a position of this plan.
    fn stand(&mut self, position: &Position, train: &TrainSet) -> Result<()> {
        let tasks = self.plan.increments.tasks();
        let &Position { task, stage, done, .. } = position;
        let is_there = match stage {
            Stage::Before => task <= tasks && done.is_none(),
            Stage::Within { index } => task < tasks && index <= self.phases(task).len(),
            Stage::Done => task == tasks && done.is_none(),
        };
        if !is_there {
            bail!(
                "a run of {tasks} tasks does not come to {stage:?} of task {} with {done:?} of it done",
                task.saturating_add(1)
            );
        }
        if !position.exemplars.are_of(train) {
            bail!("the exemplars are not of these images");
        }
        (self.task, self.stage, self.exemplars) = (task, stage, position.exemplars.clone());
        Ok(())
    }

    /// Whether that phase of the task is over.
    fn is_past(&self, phase: PhaseKind) -> bool {
        let Stage::Within { index } = self.stage else { return false };
        self.phases(self.task).iter().position(|it| it.0 == phase).is_some_and(|at| at < index)
    }

    /// The networks of a learner at its position, with their head blocks. `has_model`: at task 0, whether a base
    /// model was taken.
    fn forms(
        &self,
        has_model: bool,
        appended: Option<&ClassStatistics>,
    ) -> Result<BTreeMap<&'static str, &[usize]>> {
        let (sizes, task) = (self.plan.increments.sizes(), self.task);
        let taken = task == 0 && has_model;
        let learned = task + usize::from(taken || self.is_past(PhaseKind::Student));
        let inverted = task + usize::from(self.is_past(PhaseKind::Inversion));
        let mut forms = BTreeMap::new();
        if task > 0 {
            forms.insert(OLD, &sizes[..task]);
        }
        if learned > 0 {
            forms.insert(MODEL, &sizes[..learned]);
        }
        if let (true, Some(spec)) = (self.is_past(PhaseKind::NewTeacher), &self.plan.recipe.new_teacher) {
            forms.insert(NEW_TEACHER, start::new_teacher_blocks(&self.plan, spec, task));
        }
        // Task 0 inverts nothing, every later one the model of the task before.
        if self.plan.recipe.replay.is_some() && inverted > 1 {
            let mut of_teacher = &sizes[..inverted - 1];
            if self.plan.recipe.logistic.is_some() {
                // The classes of no statistics, whatever was appended since.
                let classes = self.plan.increments.seen(task.saturating_sub(1));
                let base = classes.checked_sub(appended.map_or(0, ClassStatistics::classes));
                let blocks = (1..=task).find(|blocks| Some(sizes[..*blocks].iter().sum()) == base);
                of_teacher = &sizes[..blocks.context("the statistics are not of whole tasks")?];
            }
            forms.insert(GENERATOR_TEACHER, of_teacher);
        }
        // The new teacher of the last task that inverted one.
        let last = if self.is_past(PhaseKind::NewInversion) { Some(task) } else { task.checked_sub(1) };
        if let (Some(last @ 1..), Some(_), Some(spec)) =
            (last, &self.plan.recipe.new_replay, &self.plan.recipe.new_teacher)
        {
            forms.insert(NEW_GENERATOR_TEACHER, start::new_teacher_blocks(&self.plan, spec, last));
        }
        Ok(forms)
    }

    /// A head of this plan with those blocks; one that classes were appended to may read more than pooled features.
    fn head(&self, blocks: &[usize], reads_pooled: bool) -> Head {
        let Plan { recipe, backbone, .. } = &self.plan;
        let head = match &recipe.logistic {
            Some(spec) if !reads_pooled => spec.head(backbone),
            _ => Head::new(recipe.head, backbone.feature_width()),
        };
        Head { blocks: blocks.to_vec(), ..head }
    }

    /// A network of this plan with that head and values.
    fn network(&self, head: Head, values: &Parameters, train: &TrainSet) -> Result<Network> {
        let plan = &self.plan;
        let [channels, height, width] = train.image_dims();
        let snapshot = Snapshot {
            backbone: plan.backbone.clone(),
            images: Shape::Map { channels, height, width },
            head,
            parameters: values.clone(),
        };
        Ok(Network::from_snapshot(snapshot, &plan.executors, plan.seed, &plan.device)?)
    }

    /// The work that was being trained.
    fn resumed(&self, saved: &Saved, train: &TrainSet) -> Result<Option<Work>> {
        let moving = &saved.moving;
        let (Stage::Within { index }, Some(done)) = (self.stage, saved.position.done) else {
            check_names([], moving)?;
            return Ok(None);
        };
        let Some((phase, _)) = self.phases(self.task).get(index).copied() else {
            bail!("the task's phases are over, and {done} of another is done");
        };
        if let PhaseKind::Inversion | PhaseKind::NewInversion = phase {
            check_names([NETWORK, OPTIMIZER], moving)?;
            let mut inversion = work::inversion(self, phase)?;
            let (generator, optimizer) = (store(moving, NETWORK)?.clone(), store(moving, OPTIMIZER)?.clone());
            inversion.restore(&InversionState { done, generator, optimizer })?;
            return Ok(Some(Work::Invert(Box::new(inversion))));
        }
        check_names([NETWORK, AUX_NETS, OPTIMIZER], moving)?;
        let blocks = match (phase, &self.plan.recipe.new_teacher) {
            (PhaseKind::NewTeacher, Some(spec)) => start::new_teacher_blocks(&self.plan, spec, self.task),
            _ => &self.plan.increments.sizes()[..=self.task],
        };
        let values = store(moving, NETWORK)?;
        let network =
            self.network(self.head(blocks, true), &Job::own_values(values), train).context(NETWORK)?;
        let mut job = work::job(self, phase, network, train)?;
        if done >= job.total() {
            bail!("{done} of {} epochs are done in a phase that is going", job.total());
        }
        job.restore(done, values, store(moving, AUX_NETS)?, store(moving, OPTIMIZER)?)?;
        Ok(Some(Work::Train(Box::new(job))))
    }
}

/// A store of the feature matrix alone.
fn alone(matrix: &Tensor) -> Parameters {
    Parameters::from_tensors([(FEATURE_MATRIX.to_owned(), matrix.clone())].into())
}

/// Refuses stores of other names than those.
fn check_names<'a>(
    expected: impl IntoIterator<Item = &'a str>,
    stores: &'a BTreeMap<String, Parameters>,
) -> Result<()> {
    let expected: BTreeSet<&str> = expected.into_iter().collect();
    let found: BTreeSet<&str> = stores.keys().map(String::as_str).collect();
    if found != expected {
        bail!("the state has values of {found:?}; at its position it should have those of {expected:?}");
    }
    Ok(())
}

fn store<'a>(stores: &'a BTreeMap<String, Parameters>, name: &str) -> Result<&'a Parameters> {
    stores.get(name).with_context(|| format!("the state has no values of {name}"))
}
