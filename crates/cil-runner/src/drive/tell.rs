//! The outputs of a run in progress: events, TensorBoard's files, pictures of generated images.

use anyhow::{Context, Result};
use cil_random::Draw;
use cil_train::event::Event;

use super::Drive;
use crate::cli::failure::sentence;
use crate::folder::contents::json;
use crate::render::export::live::Live;
use crate::render::pictures;
use crate::setup::facts;

impl Drive<'_> {
    /// Begins to write TensorBoard's files, where that was asked for: with what was recorded before, if anything was.
    pub(super) fn show(&mut self) -> Result<()> {
        let Some(place) = self.context.tensorboard else { return Ok(()) };
        let live = Live::begin(place, self.context.name, facts(self.checked), self.environment.started())?;
        live.follow(self.recorder.lines())?;
        self.live = Some(live);
        Ok(())
    }

    pub(super) fn tell(&mut self, event: Event) -> Result<()> {
        let line = self.recorder.record(event)?;
        self.progress.show(line);
        // A disk that is full, or a folder that was removed, is no reason to lose a run.
        if let Some(Err(error)) = self.live.as_ref().map(|live| live.follow(self.recorder.lines())) {
            self.progress.say(&format!(
                "{}; the run continues without it, and `cil-runner report {} --tensorboard DIR` writes it again",
                sentence(&error),
                self.recorder.folder().display()
            ));
            self.live = None;
        }
        Ok(())
    }

    /// Generated images beside each other, a row for each class that their teacher sees in them: the old one, or the
    /// new.
    pub(super) fn picture(&mut self, task: usize, new: bool) -> Result<()> {
        let replay = if new { self.learner.new_replay() } else { self.learner.replay() };
        let replay = replay.context("an inversion left no generator")?;
        let purpose = if new { "new picture" } else { "picture" };
        let draw = Draw { task, ..Draw::new(self.checked.config().seed, purpose) };
        let images = replay.sample(pictures::PICTURED.0, draw)?;
        let labels = images.labels.to_vec()?;
        let rows = pictures::by_class(&labels, replay.teacher().classes(), pictures::PICTURED.1);
        let png = pictures::grid(&images.images, &rows, &self.checked.config().normalisation)?;
        let name = picture_name(task, new);
        self.recorder.write(&format!("{name}.png"), &png)?;
        let drawn = pictures::Drawn::new(&images.view.logits, &labels)?;
        self.recorder.write(&format!("{name}.json"), &json(&drawn)?)
    }
}

/// Name of a task's picture, and of what is said of it, without the ending; `new` is of new classes.
pub fn picture_name(task: usize, new: bool) -> String {
    if new { format!("generated-new-{task}") } else { format!("generated-{task}") }
}
