//! The race's protocol: a line asks for a step, the answer is `WALL_MS CPU_MS`.
//!
//! It reads and answers the same lines as `step_server.py`, so that one script drives both. A work is set up when it is
//! first requested, before its clock starts. Where the system does not report processor time, `CPU_MS` is `NaN`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::BufRead;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::measure::timed;
use super::{Model, Ready, Setting, Work, name};
use crate::cli::failure::{Interrupted, bad_input};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;

/// Answers each line of `input`.
///
/// # Errors
/// If a line names no work of the model, or an executor fails.
pub fn serve(
    model: Model,
    setting: &Setting<'_>,
    interrupt: &Interrupt,
    input: impl BufRead,
    output: &mut Output<'_>,
) -> Result<()> {
    let mut ready: BTreeMap<String, Ready> = BTreeMap::new();
    for (at, line) in input.lines().enumerate() {
        let line = line.context("cannot read standard input")?;
        let work = asked(at, line.trim())?;
        let ready = match ready.entry(name(&work)) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(free) => free.insert(Ready::new(work, model, setting)?),
        };
        let time = timed(ready, setting)?;
        output.text(&format!("{:.3} {:.3}\n", time.wall, time.processor.unwrap_or(f64::NAN)))?;
        if output.is_gone() {
            return Ok(());
        }
        if interrupt.is_asked() {
            return Err(Interrupted("interrupted".to_owned()).into());
        }
    }
    Ok(())
}

/// The work that a line asks for.
fn asked(at: usize, line: &str) -> Result<Work> {
    Work::from_str(line, false).map_err(|_| {
        bad_input(format!("line {} of standard input is {line:?}; write train, eval, invert or step", at + 1))
    })
}
