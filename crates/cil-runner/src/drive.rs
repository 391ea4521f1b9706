//! One run: a checked configuration to a run folder.
//!
//! It drives a learner and contains nothing of a method. Each event of the learner is recorded before it is shown;
//! evaluation images are held here and given to [`cil_train::evaluate`] alone.

mod agreement;
mod recording;
mod tell;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cil_backbone::file::{self, ModelCard};
use cil_data::dataset::Dataset;
use cil_data::store::{TestSet, TrainSet};
use cil_engine::ranks;
use cil_train::event::{Event, PhaseKind};
use cil_train::learner::Learner;

use crate::cli::failure::{Kept, bad_input};
use crate::cli::interrupt::Interrupt;
use crate::config::overlay;
use crate::config::sizes::Sizes;
use crate::config::{Checked, Difference, RunConfig, differences};
use crate::engine::Engine;
use crate::engine::ranks::same;
use crate::estimate::workload::items;
use crate::folder::checkpoint;
use crate::folder::contents::{
    BASE, CONFIG, ENVIRONMENT, MODEL, RESULT, STATISTICS, UNBEGUN, json, read_environment,
};
use crate::folder::environment::{self, Environment, Resume};
use crate::folder::integrity;
use crate::folder::log::beginning;
use crate::folder::name::check_name;
use crate::folder::writer::{Recorder, is_unbegun, lock, refuse_diverged};
use crate::models::model::{self, Loaded};
use crate::render::export::live::Live;
use crate::render::progress::Progress;
use crate::results::result::{RunResult, report};
use crate::setup::{facts, load, loading, plan, split};
use recording::Recording;
pub use tell::picture_name;

/// The settings of a run beside its configuration.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// Where data sets live.
    pub data_dir: &'a Path,
    /// Where the run folder goes.
    pub out: &'a Path,
    /// Its name.
    pub name: &'a str,
    /// The label of its progress.
    pub label: &'a str,
    /// The engine.
    pub engine: &'a Engine,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// Whether to show nothing while it goes.
    pub silent: bool,
    /// A model of the base classes.
    pub base_model: Option<&'a Path>,
    /// Where event files of TensorBoard go, in a folder of the run's name.
    pub tensorboard: Option<&'a Path>,
    /// Time between two checkpoints; none is written more often than units of work end.
    pub checkpoint_every: Duration,
}

/// Runs a configuration; the run's folder and its result.
///
/// # Errors
/// If the name is taken, the images are not there, or the run fails or is stopped.
pub fn run(checked: &Checked, context: &RunContext<'_>) -> Result<(PathBuf, RunResult)> {
    check_name(context.name)?;
    let (mut progress, dataset) = loaded(checked, context)?;
    let images = Images::new(checked, dataset)?;
    images.sizes.check(checked.config())?;
    progress.expect(items(checked, &images.sizes, context.base_model.is_some())?);
    let mut learner = Learner::new(plan(checked, context.engine))?;
    let base_model = match context.base_model {
        Some(path) => {
            let Loaded { snapshot, card, record } = model::load(path, context.engine)?;
            learner
                .adopt_base(snapshot)
                .map_err(|error| bad_input(format!("{}: {error:#}", path.display())))?;
            model::check_suits(path, &card, &model::card(checked, &images.dataset))?;
            Some(record)
        }
        None => None,
    };
    let environment = Environment::new(context.engine, &images.dataset, base_model);
    same_everywhere(checked, &environment, context)?;
    let recorder = match context.engine.writes() {
        true => Recording::Here(Recorder::create(context.out, context.name)?),
        false => Recording::elsewhere(&context.out.join(context.name), Vec::new()),
    };
    let mut drive = Drive::new(checked, context, &images, learner, environment, recorder, progress);
    let begun = drive.begin();
    drive.ended(begun)
}

/// Resumes the run in the folder `partial`, which another process left; its folder and its result.
///
/// # Errors
/// If another process works on it, no checkpoint is intact, or this process would not compute the same bits.
pub fn resume(partial: &Path, checked: &Checked, context: &RunContext<'_>) -> Result<(PathBuf, RunResult)> {
    if is_unbegun(partial) {
        return Err(bad_input(format!("{}: {UNBEGUN}", partial.display())));
    }
    refuse_diverged(partial)?;
    let lock = context.engine.writes().then(|| lock(partial)).transpose()?;
    // The checkpoint has the digest of its configuration and can name a changed key, so it is compared first and the
    // file's own digest after it.
    integrity::hold_but(partial, &[CONFIG])?;
    let mut environment = read_environment(partial)?;
    let (mut progress, dataset) = loaded(checked, context)?;
    let own = Environment::new(context.engine, &dataset, None);
    environment.check_same(&own).map_err(|message| bad_input(format!("{}: {message}", partial.display())))?;
    same_everywhere(checked, &own, context)?;
    let images = Images::new(checked, dataset)?;
    progress.expect(items(checked, &images.sizes, environment.base_model.is_some())?);
    let (checkpoint, wrong) = checkpoint::newest(partial, &context.engine.device)?;
    wrong.iter().for_each(|message| progress.say(&format!("{message}; the checkpoint before it is used")));
    same_configuration(partial, checked, &checkpoint.config)?;
    let place = || format!("the checkpoint of {} is not one of its config.toml", partial.display());
    let learner = Learner::restore(plan(checked, context.engine), &checkpoint.saved, &images.train)
        .with_context(place)?;
    integrity::hold(partial)?;
    let lines = beginning(partial, checkpoint.events_bytes)?.lines;
    // Rank 0 writes into the folder from here on: every rank must have read it.
    ranks::any(&*context.engine.ranks, false)?;
    let mut recorder = match lock {
        Some(lock) => Recording::Here(Recorder::reopen(partial, lock, checkpoint.events_bytes)?),
        None => Recording::elsewhere(&partial.with_extension(""), lines),
    };
    recorder.lines().iter().for_each(|line| progress.past(line));
    let seconds = recorder.lines().last().map_or(0.0, |line| line.seconds);
    environment.resumes.push(Resume {
        seconds,
        threads: own.threads,
        ranks: own.ranks,
        processor: own.processor,
        made: own.made,
    });
    recorder.write(ENVIRONMENT, &json(&environment)?)?;
    let mut drive = Drive::new(checked, context, &images, learner, environment, recorder, progress);
    let begun = drive.show();
    drive.ended(begun)
}

/// Refuses to resume with a configuration that is not the one that the run began with: the record would claim it for
/// epochs that ran with another.
fn same_configuration(partial: &Path, checked: &Checked, begun: &str) -> Result<()> {
    let begun: RunConfig = overlay::read(overlay::parse_table(begun, "the checkpoint")?, "the checkpoint")?;
    let found = differences(checked.config(), &begun)?;
    let Some(Difference { key, left, right }) = found.first() else { return Ok(()) };
    let more = match found.len() {
        1 => String::new(),
        count => format!(", and so differ {} other keys", count - 1),
    };
    Err(bad_input(format!(
        "{}: {key} is {left}, and the run began with {right}{more}; restore the first value, or start another run \
         with `cil-runner run`",
        partial.join(CONFIG).display()
    )))
}

/// Refuses ranks that were started with other settings or other images.
fn same_everywhere(checked: &Checked, own: &Environment, context: &RunContext<'_>) -> Result<()> {
    let ranks = &*context.engine.ranks;
    let configuration = environment::sha256(checked.text().as_bytes());
    same(ranks, "a configuration of digest", &configuration, "start all ranks by the same command")?;
    let images = format!("{} and {}", own.train_digest, own.test_digest);
    same(ranks, "images of digests", &images, "use --data-dir with the same images on all ranks")
}

/// The progress of a run, and its data set, which the progress shows while it is read.
fn loaded(checked: &Checked, context: &RunContext<'_>) -> Result<(Progress, Dataset)> {
    let progress = match context.silent {
        true => Progress::silent(),
        false => Progress::on_standard_error(context.label),
    };
    let load = || context.engine.keep(load(checked, context.data_dir)?);
    let dataset = progress.during(loading(checked), load)?;
    Ok((progress, dataset))
}

/// The images of a run.
struct Images {
    dataset: Dataset,
    train: TrainSet,
    test: TestSet,
    sizes: Sizes,
}

impl Images {
    fn new(checked: &Checked, dataset: Dataset) -> Result<Self> {
        let (train, test) = split(checked, &dataset)?;
        let sizes = Sizes::of_images(&train, &test);
        Ok(Self { dataset, train, test, sizes })
    }
}

struct Drive<'a> {
    checked: &'a Checked,
    context: &'a RunContext<'a>,
    train: &'a TrainSet,
    test: &'a TestSet,
    card: ModelCard,
    environment: Environment,
    learner: Learner,
    recorder: Recording,
    progress: Progress,
    live: Option<Live>,
    saved_at: Instant,
}

impl<'a> Drive<'a> {
    fn new(
        checked: &'a Checked,
        context: &'a RunContext<'a>,
        images: &'a Images,
        learner: Learner,
        environment: Environment,
        recorder: Recording,
        progress: Progress,
    ) -> Self {
        Self {
            checked,
            context,
            train: &images.train,
            test: &images.test,
            card: model::card(checked, &images.dataset),
            environment,
            learner,
            recorder,
            progress,
            live: None,
            saved_at: Instant::now(),
        }
    }

    /// Writes the first files of a run. The first checkpoint holds a base model that was loaded, so its file may be
    /// removed afterwards.
    fn begin(&mut self) -> Result<()> {
        self.recorder.write(CONFIG, self.checked.text().as_bytes())?;
        self.recorder.write(ENVIRONMENT, &json(&self.environment)?)?;
        self.show()?;
        self.save()
    }

    /// The end of a run that has begun: its folder and result, or what became of it.
    fn ended(mut self, begun: Result<()>) -> Result<(PathBuf, RunResult)> {
        match begun.and_then(|()| self.go()) {
            Ok(result) => Ok((self.recorder.finish()?, result)),
            Err(error) => {
                self.progress.finish();
                Err(self.recorder.abandon(error))
            }
        }
    }

    fn save(&mut self) -> Result<()> {
        self.recorder.save(|| self.learner.save(), self.checked.text())?;
        self.saved_at = Instant::now();
        Ok(())
    }

    fn go(&mut self) -> Result<RunResult> {
        while let Some(event) = self.advance()? {
            let learned = match &event {
                Event::TaskLearned { task, .. } => Some(*task),
                _ => None,
            };
            let inverted = match event {
                Event::Progress { phase: PhaseKind::Inversion, done, total, .. } => {
                    (done == total).then_some(false)
                }
                Event::Progress { phase: PhaseKind::NewInversion, done, total, .. } => {
                    (done == total).then_some(true)
                }
                _ => None,
            };
            let task = task_of(&event);
            self.tell(event)?;
            if let (Some(new), Some(task)) = (inverted, task) {
                self.picture(task, new)?;
            }
            if let Some(task) = learned {
                self.evaluate(task)?;
            }
            let asked = ranks::any(&*self.context.engine.ranks, self.context.interrupt.is_asked())?;
            if asked || self.saved_at.elapsed() >= self.context.checkpoint_every {
                self.save()?;
            }
            if asked {
                return Err(Kept("interrupted, and saved".to_owned()).into());
            }
        }
        // Of the log on the disk, which `report` computes it of again.
        let result = report(facts(self.checked), &self.recorder.log()?)?;
        self.recorder.write(RESULT, &json(&result)?)?;
        let ranks = &self.context.engine.ranks;
        self.environment.communication = (ranks.count() > 1).then(|| ranks.spent());
        self.environment.finish();
        self.recorder.write(ENVIRONMENT, &json(&self.environment)?)?;
        self.progress.finish();
        Ok(result)
    }

    fn advance(&mut self) -> Result<Option<Event>> {
        let what = self.progress.next();
        let event = self.progress.during(&what, || self.learner.advance(self.train))?;
        agreement::check(&*self.context.engine.ranks, &self.learner, &what)?;
        Ok(event)
    }

    fn evaluate(&mut self, task: usize) -> Result<()> {
        let model = self.learner.model().context("a task was learned without a model")?;
        let what = format!("task {} class means", task + 1);
        let evaluator = self.progress.during(&what, || self.learner.evaluator(self.train))?;
        let evaluation = self.progress.during(&self.progress.next(), || evaluator.evaluate(self.test))?;
        let mut card = self.card.clone();
        card.class_names.truncate(model.classes());
        if task == 0 {
            self.recorder.write(BASE, &file::to_bytes(model.snapshot(), &card)?)?;
        }
        if task + 1 == self.checked.increments().tasks() {
            self.recorder.write(MODEL, &file::to_bytes(evaluator.classifier().snapshot(), &card)?)?;
            if let Some(kept) = self.learner.kept_statistics()? {
                self.recorder.write(STATISTICS, &safetensors::serialize(kept.iter(), None)?)?;
            }
        }
        self.tell(Event::TaskEnd { task, evaluation })
    }
}

fn task_of(event: &Event) -> Option<usize> {
    match event {
        Event::TaskStart { task, .. }
        | Event::Progress { task, .. }
        | Event::TaskLearned { task, .. }
        | Event::TaskEnd { task, .. } => Some(*task),
        Event::RunEnd => None,
    }
}

#[cfg(test)]
mod tests;
