//! A class-incremental learner as a state that advances.
//!
//! [`Learner::advance`] does one unit of work (an epoch, or some iterations of an inversion) and returns what happened,
//! so the caller can record, show, evaluate, save ([`Learner::save`]) or stop between any two units. It never
//! sees an image to be evaluated on; [`Learner::model`] is the model so far, frozen.

mod adopt;
mod keep;
mod saved;
mod work;

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use cil_backbone::{Frozen, Network, Snapshot};
use cil_data::augment::Preparation;
use cil_data::exemplars::Exemplars;
use cil_data::store::TrainSet;
use cil_engine::Parameters;
use cil_engine::parameters::not_finite;
use cil_random::Draw;
use dfgr::{Inversion, Replay};
use serde::{Deserialize, Serialize};

use crate::answers::Kept;
use crate::discriminant::ClassStatistics;
use crate::diverged::Diverged;
use crate::event::{Event, PhaseKind};
use crate::memory;
use crate::phase::PhaseContext;
use crate::phase_kind::phases;
pub use crate::plan::Plan;
use crate::recipe::{PhaseSpec, ReplaySpec};
pub use adopt::classifier_of;
pub use saved::{Position, Saved};
use work::Work;

/// Images that a network is asked about when its training ends.
const ASKED: usize = 8;

/// Where a learner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Stage {
    /// Before a task.
    Before,
    /// In phase `index` of the task.
    Within { index: usize },
    /// All tasks are learned.
    Done,
}

/// A learner between two units of work.
pub struct Learner {
    plan: Plan,
    task: usize,
    stage: Stage,
    work: Option<Work>,
    /// The model of the task before: the old teacher.
    old: Option<Frozen>,
    /// The model so far; `None` before the base classes are learned.
    model: Option<Frozen>,
    new_teacher: Option<Frozen>,
    replay: Option<Replay>,
    new_replay: Option<Replay>,
    exemplars: Exemplars,
    /// Of the classes learned, as `old` sees them, where a discriminant answers.
    statistics: Option<ClassStatistics>,
    /// The empirical feature matrix of `old` on the images of its newest classes, where a term needs it.
    feature_matrix: Option<Tensor>,
    /// What is kept where another head of a frozen backbone answers.
    kept: Option<Kept>,
}

impl Learner {
    /// A learner before its first task.
    ///
    /// # Errors
    /// If the recipe or the architecture does not pass its check.
    pub fn new(plan: Plan) -> Result<Self> {
        plan.recipe.check().context("recipe")?;
        plan.backbone.check()?;
        plan.recipe.check_network(&plan.backbone).context("recipe")?;
        plan.recipe.check_increments(plan.increments.sizes()).context("recipe")?;
        Ok(Self {
            plan,
            task: 0,
            stage: Stage::Before,
            work: None,
            old: None,
            model: None,
            new_teacher: None,
            replay: None,
            new_replay: None,
            exemplars: Exemplars::default(),
            statistics: None,
            feature_matrix: None,
            kept: None,
        })
    }

    /// Takes a model of the base classes instead of training one; a run continues from it exactly as from its own.
    ///
    /// # Errors
    /// If the run has begun, or the model has another form than the plan's base model.
    pub fn adopt_base(&mut self, base: Snapshot) -> Result<()> {
        let (plan, classes) = (&self.plan, self.plan.increments.seen(0));
        if self.task > 0 || self.stage != Stage::Before {
            bail!("a base model can only be taken before the run begins");
        }
        if base.backbone != plan.backbone {
            bail!("the base model is {}, the run needs {}", base.backbone, plan.backbone);
        }
        if !base.head.stages.is_empty() {
            bail!(
                "the base model's classifier is computed from statistics of several stages; use base.safetensors of \
                 its run, which has the trained head"
            );
        }
        if base.head.kind != plan.recipe.head || base.head.blocks != [classes] {
            bail!(
                "the base model's head is {:?} with blocks {:?}, the run needs {:?} with [{classes}]",
                base.head.kind,
                base.head.blocks,
                plan.recipe.head
            );
        }
        self.model = Some(Network::from_snapshot(base, &plan.executors, plan.seed, &plan.device)?.freeze()?);
        Ok(())
    }

    /// The model after the last task that was learned.
    pub fn model(&self) -> Option<&Frozen> {
        self.model.as_ref()
    }

    /// The generator of the task that is being learned or was learned last.
    pub fn replay(&self) -> Option<&Replay> {
        self.replay.as_ref()
    }

    /// The generator of the newest classes, inverted from the new teacher.
    pub fn new_replay(&self) -> Option<&Replay> {
        self.new_replay.as_ref()
    }

    /// Real images that are kept.
    pub fn exemplars(&self) -> &Exemplars {
        &self.exemplars
    }

    /// How images are changed and normalised.
    pub fn preparation(&self) -> &Preparation {
        &self.plan.preparation
    }

    /// Its plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Tasks that were learned to their end.
    pub fn tasks_learned(&self) -> usize {
        self.task
    }

    /// Units that are left, each of them one [`Event::Progress`]; before the run begins, those of the whole run.
    pub fn units(&self) -> u64 {
        let of_phases = |task: usize, first: usize| -> u64 {
            self.phases(task).into_iter().skip(first).map(|(_, units)| units as u64).sum()
        };
        let later = |task: usize| -> u64 {
            (task..self.plan.increments.tasks()).map(|task| of_phases(task, 0)).sum()
        };
        match self.stage {
            Stage::Done => 0,
            // A base model that was taken is past its phases.
            Stage::Before if self.task == 0 && self.model.is_some() => later(1),
            Stage::Before => later(self.task),
            Stage::Within { index } => {
                let done = self.work.as_ref().map_or(0, Work::units_done);
                (of_phases(self.task, index) + later(self.task + 1)).saturating_sub(done)
            }
        }
    }

    /// Does one unit of work; `None` after [`Event::RunEnd`].
    ///
    /// # Errors
    /// If a loss is not finite, or an executor or the device fails. The learner is of no use then.
    pub fn advance(&mut self, train: &TrainSet) -> Result<Option<Event>> {
        match self.stage {
            Stage::Done => Ok(None),
            Stage::Before if self.task == self.plan.increments.tasks() => {
                self.stage = Stage::Done;
                Ok(Some(Event::RunEnd))
            }
            Stage::Before => {
                // A base model that was taken is past its phases.
                let index = if self.task == 0 && self.model.is_some() { self.phases(0).len() } else { 0 };
                self.stage = Stage::Within { index };
                let classes = self.plan.increments.classes(self.task);
                Ok(Some(Event::TaskStart {
                    task: self.task,
                    new_classes: classes.len(),
                    classes_seen: classes.end,
                }))
            }
            Stage::Within { index } => match self.phases(self.task).get(index) {
                Some((phase, _)) => self.unit(*phase, index, train).map(Some),
                None => self.finish_task(train).map(Some),
            },
        }
    }

    /// Phases of a task in order, and units of each.
    fn phases(&self, task: usize) -> Vec<(PhaseKind, usize)> {
        phases(&self.plan.recipe, self.plan.increments.classes(task).len(), task)
    }

    fn student_spec(&self, task: usize) -> &PhaseSpec {
        if task == 0 { &self.plan.recipe.base } else { &self.plan.recipe.increment }
    }

    /// Advances the phase by one unit, beginning or ending it where due.
    fn unit(&mut self, phase: PhaseKind, index: usize, train: &TrainSet) -> Result<Event> {
        let mut work = match self.work.take() {
            Some(work) => work,
            None => Work::begin(self, phase, train)?,
        };
        let advised = |error| Diverged::advised(error, &self.plan.recipe);
        let event = self.advance_work(phase, &mut work, train).map_err(advised)?;
        let Event::Progress { done, total, .. } = &event else { bail!("a phase's unit is no progress") };
        if done < total {
            self.work = Some(work);
            return Ok(event);
        }
        self.stage = Stage::Within { index: index + 1 };
        if let Err(error) = self.end(phase, work, train) {
            return Err(Diverged::advised(error, &self.plan.recipe));
        }
        Ok(event)
    }

    fn advance_work(&self, phase: PhaseKind, work: &mut Work, train: &TrainSet) -> Result<Event> {
        let task = self.task;
        match work {
            Work::Invert(inversion) => {
                let units = self.phases(task).into_iter().find(|it| it.0 == phase);
                let total = units.map_or(0, |it| it.1);
                invert_unit(inversion, phase, task, total)
            }
            Work::Train(job) => {
                let Plan { preparation, device, seed, .. } = &self.plan;
                job.epoch(&PhaseContext { train, preparation, device, seed: *seed, task })
            }
        }
    }

    fn end(&mut self, phase: PhaseKind, work: Work, train: &TrainSet) -> Result<()> {
        match work {
            Work::Invert(inversion) => {
                let replay = inversion.replay();
                let said = || Ok(replay.sample(ASKED, self.asking())?.view.logits);
                self.sound(phase, replay.parameters(), said)?;
                match phase {
                    PhaseKind::NewInversion => self.new_replay = Some(replay),
                    _ => self.replay = Some(replay),
                }
            }
            Work::Train(job) => {
                let kind = job.kind;
                let mut network = job.finished()?;
                if let (PhaseKind::Student, Some(spec)) = (kind, self.plan.recipe.align)
                    && self.task > 0
                {
                    memory::align(&mut network, spec)?;
                }
                let model = network.freeze()?;
                self.sound(phase, &model.snapshot().parameters, || self.asked(&model, train.image_dims()))?;
                match kind {
                    PhaseKind::NewTeacher => self.new_teacher = Some(model),
                    _ => self.model = Some(model),
                }
            }
        }
        Ok(())
    }

    /// Refuses a network whose values, or whose answers to some images, are no numbers.
    fn sound(
        &self,
        phase: PhaseKind,
        values: &Parameters,
        said: impl FnOnce() -> Result<Tensor>,
    ) -> Result<()> {
        let mut what = values.not_finite()?.map(|(name, value)| format!("its {name} holds {value}"));
        if what.is_none() {
            what = not_finite(&said()?)?.map(|value| format!("its logits hold {value}"));
        }
        match what {
            Some(what) => Err(Diverged::in_phase(phase, self.task, what).into()),
            None => Ok(()),
        }
    }

    /// The logits of a trained network for noise; no image is read for this.
    fn asked(&self, model: &Frozen, [channels, height, width]: [usize; 3]) -> Result<Tensor> {
        let mut stream = self.asking().stream("noise");
        let count = ASKED * channels * height * width;
        let values: Vec<f32> = (0..count).map(|_| stream.normal() as f32).collect();
        let images = Tensor::from_vec(values, (ASKED, channels, height, width), &self.plan.device)?;
        Ok(model.forward(&images)?.logits)
    }

    fn asking(&self) -> Draw<'static> {
        Draw { task: self.task, ..Draw::new(self.plan.seed, "is it sound") }
    }
}

/// One unit of an inversion.
pub(crate) fn invert_unit(
    inversion: &mut Inversion,
    phase: PhaseKind,
    task: usize,
    total: usize,
) -> Result<Event> {
    let report = inversion.advance(ReplaySpec::UNIT)?;
    if let Some((name, mean)) = report.losses.iter().find(|(_, mean)| !mean.is_finite()) {
        let what = format!("the loss {name} is {mean} after {} iterations", report.done);
        return Err(Diverged::in_phase(phase, task, what).into());
    }
    Ok(Event::Progress {
        task,
        phase,
        done: report.done.div_ceil(ReplaySpec::UNIT),
        total,
        learning_rate: report.learning_rate,
        images: report.images,
        losses: report.losses,
    })
}
