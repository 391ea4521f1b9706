//! Driving a learner for one command.
//!
//! One decision: this is what a run's loop is without a run folder; events are shown as they come, and an interrupt
//! ends the command with nothing written.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use cil_data::store::TrainSet;
use cil_train::event::Event;
use cil_train::learner::Learner;

use crate::cli::failure::Interrupted;
use crate::cli::interrupt::Interrupt;
use crate::engine::machine;
use crate::folder::log::Line;
use crate::render::progress::Progress;

/// Advances a learner to its end.
///
/// # Errors
/// If a unit fails, or the user stops it.
pub fn drive(
    learner: &mut Learner,
    train: &TrainSet,
    progress: &mut Progress,
    interrupt: &Interrupt,
) -> Result<()> {
    let started = Instant::now();
    loop {
        if interrupt.is_asked() {
            progress.finish();
            return Err(Interrupted("interrupted; no file was written".to_owned()).into());
        }
        let left = learner.units();
        let what = format!("the next of {left} steps that are left");
        let Some(event) = progress.during(&what, || learner.advance(train))? else { return Ok(()) };
        let (seconds, peak_memory_bytes) = (started.elapsed().as_secs_f64(), machine::peak_memory_bytes());
        let is_end = matches!(event, Event::RunEnd);
        progress.show(&Line { seconds, peak_memory_bytes, event });
        if is_end {
            return Ok(());
        }
    }
}

/// The two networks that a learner ends with: the one that was trained, and the one that answers.
///
/// # Errors
/// If it learned nothing.
pub fn learned(learner: &Learner) -> Result<(cil_backbone::Frozen, cil_backbone::Frozen)> {
    let trained = learner.model().context("nothing was learned")?.clone();
    let Some(classifier) = learner.classifier()? else { bail!("nothing was learned") };
    Ok((trained, classifier))
}
