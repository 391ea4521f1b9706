//! The training of `train` and `extend`: its state lies in a folder beside the model file until that is written.
//!
//! A stopped command saves its state, a killed one has that of at most a minute before; the same command resumes from
//! it to the same bits. The folder records its settings, and other settings are refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cil_backbone::{Backbone, Frozen};
use cil_data::store::TrainSet;
use cil_train::Diverged;
use cil_train::event::Event;
use cil_train::learner::{Learner, Plan};
use cil_train::recipe::Recipe;
use serde::{Deserialize, Serialize};

use crate::cli::failure::{Kept, bad_input};
use crate::cli::interrupt::Interrupt;
use crate::config::{Difference, differences};
use crate::engine::{Engine, machine};
use crate::folder::checkpoint::{self, Checkpoint};
use crate::folder::files::write_atomic;
use crate::folder::log::{self, EVENTS, Line};
use crate::folder::writer::{clear, lock, remove_file};
use crate::render::progress::Progress;

/// The ending of the folder's name after the model file's.
const ENDING: &str = "unfinished";
/// Time between two checkpoints.
const EVERY: Duration = Duration::from_secs(60);

/// All that the bits of a training depend on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Commit of the program.
    pub code_version: String,
    /// Name of the kernels, such as `avx2`.
    pub kernels: String,
    /// Seed of weights, batches, augmentation and noise.
    pub seed: u64,
    /// The network.
    #[serde(rename = "architecture")]
    pub backbone: Backbone,
    /// Height and width that images are brought to.
    pub image_side: usize,
    /// SHA-256 over labels and pixels of the new images and, if there are any, of the exemplars.
    pub images: Vec<String>,
    /// SHA-256 of the model file that is extended; none of a first model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The recipe of the training.
    pub recipe: Recipe,
}

impl Settings {
    /// Those of this program, of which a command fills in the rest.
    pub fn new(plan: &Plan, image_side: usize, engine: &Engine) -> Self {
        let code_version = env!("CIL_CODE_VERSION").to_owned();
        let (images, model) = (Vec::new(), None);
        let kernels = engine.kernels.to_owned();
        let Plan { recipe, seed, backbone, .. } = plan.clone();
        Self { code_version, kernels, seed, backbone, image_side, images, model, recipe }
    }
}

/// A training that came to its end.
pub struct Ended {
    /// The learner.
    pub learner: Learner,
    /// Its events, those of a stopped command before it included.
    pub lines: Vec<Line>,
}

/// One training.
pub struct Attempt<'a> {
    /// Where the state lies.
    folder: PathBuf,
    settings: &'a Settings,
    plan: &'a Plan,
    train: &'a TrainSet,
}

impl<'a> Attempt<'a> {
    /// Of the model file `out`.
    pub fn new(out: &Path, settings: &'a Settings, plan: &'a Plan, train: &'a TrainSet) -> Self {
        let mut folder = out.as_os_str().to_owned();
        folder.push(format!(".{ENDING}"));
        Self { folder: folder.into(), settings, plan, train }
    }

    /// Advances a learner to its end: that of an earlier command by the same settings, if one was stopped, else
    /// `begun`'s.
    ///
    /// # Errors
    /// If what was left is of other settings, a unit fails, or the user stops it: then the state is saved.
    pub fn run(
        &self,
        begun: impl FnOnce() -> Result<Learner>,
        progress: &mut Progress,
        interrupt: &Interrupt,
    ) -> Result<Ended> {
        let Ended { mut learner, mut lines } = match self.left(progress)? {
            Some(left) => left,
            None => Ended { learner: begun()?, lines: Vec::new() },
        };
        let before = lines.last().map_or(0.0, |line| line.seconds);
        let (started, mut saved) = (Instant::now(), Instant::now());
        loop {
            let asked = interrupt.is_asked();
            if asked || saved.elapsed() >= EVERY {
                self.save(&learner, &lines)?;
                saved = Instant::now();
            }
            if asked {
                progress.finish();
                let folder = self.folder.display();
                return Err(
                    Kept(format!("interrupted, and saved in {folder}; the same command resumes it")).into()
                );
            }
            let left = learner.units();
            let what = format!("the next of {left} steps that are left");
            let advanced = progress.during(&what, || learner.advance(self.train));
            if advanced.as_ref().is_err_and(|error| error.is::<Diverged>()) {
                // The same command would diverge again, and another one shall not be refused.
                self.remove()?;
            }
            let Some(event) = advanced? else { return Ok(Ended { learner, lines }) };
            let seconds = before + started.elapsed().as_secs_f64();
            let line = Line { seconds, peak_memory_bytes: machine::peak_memory_bytes(), event };
            let is_end = matches!(line.event, Event::RunEnd);
            progress.show(&line);
            lines.push(line);
            if is_end {
                return Ok(Ended { learner, lines });
            }
        }
    }

    /// Removes the state: the model is written.
    ///
    /// # Errors
    /// Naming the folder, if it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        if !checkpoint::exists(&self.folder) {
            return Ok(());
        }
        // What else somebody put there stays, and is named by the error.
        clear(&self.folder)?;
        remove_file(&self.folder.join(EVENTS))?;
        fs::remove_dir(&self.folder).with_context(|| format!("cannot remove {}", self.folder.display()))
    }

    fn save(&self, learner: &Learner, lines: &[Line]) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        // Not held while nothing is written: whoever resumes does what this command would do.
        let _lock = lock(&self.folder)?;
        let config = serde_json::to_string(self.settings).context("the settings are not JSON")?;
        // Written first: the log may have more than the newest checkpoint knows of, never less.
        let events = log::text(lines)?;
        write_atomic(&self.folder.join(EVENTS), &events)?;
        let events_bytes = events.len() as u64;
        checkpoint::write(&self.folder, &Checkpoint { saved: learner.save()?, events_bytes, config })
    }

    /// The learner that a stopped command left, if one did, and its events.
    fn left(&self, progress: &Progress) -> Result<Option<Ended>> {
        let place = self.folder.display();
        if !self.folder.is_dir() || !checkpoint::exists(&self.folder) {
            return Ok(None);
        }
        let begin_anew = format!("remove {place} to start over");
        let (found, wrong) = checkpoint::newest(&self.folder, &self.plan.device)
            .map_err(|error| bad_input(format!("{error:#}; {begin_anew}")))?;
        wrong
            .iter()
            .for_each(|message| progress.say(&format!("{message}; the checkpoint before it is used")));
        let begun: Settings = serde_json::from_str(&found.config)
            .map_err(|_| bad_input(format!("{place} is of another version of this program; {begin_anew}")))?;
        if let Some(Difference { key, left, right }) = differences(self.settings, &begun)?.first() {
            return Err(bad_input(format!(
                "{place}: the training that was stopped has {key} {right}, this command {left}; use the first value, or \
                 {begin_anew}"
            )));
        }
        let learner = Learner::restore(self.plan.clone(), &found.saved, self.train)
            .with_context(|| format!("the checkpoint in {place} is not of this training; {begin_anew}"))?;
        let lines = log::beginning(&self.folder, found.events_bytes)
            .map_err(|error| bad_input(format!("{error:#}; {begin_anew}")))?
            .lines;
        progress.say(&format!("resumed from {place}"));
        Ok(Some(Ended { learner, lines }))
    }
}

/// The two networks that a learner ends with: the one that was trained, and the one that answers.
///
/// # Errors
/// If it learned nothing.
pub fn learned(learner: &Learner) -> Result<(Frozen, Frozen)> {
    let trained = learner.model().context("nothing was learned")?.clone();
    let Some(classifier) = learner.classifier()? else { bail!("nothing was learned") };
    Ok((trained, classifier))
}
