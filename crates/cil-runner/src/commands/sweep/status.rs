//! `sweep status`: where each run stands.
//!
//! Each row is read from its folder and its log; nothing is cached.

use anyhow::Result;
use serde::Serialize;

use super::Meant;
use super::folder::{State, SweepFolder};
use super::job::{Job, Kind, base_of, jobs, numbered};
use crate::cli::output::Output;
use crate::render::table::layout;
use crate::results::stored::read_result;

/// Where one run stands.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its number for `sweep task`.
    pub index: usize,
    /// Name of the run folder.
    pub name: String,
    /// Names the configuration.
    pub hash: String,
    /// Whether it trains a base model that runs share.
    pub is_base: bool,
    /// The base model that it takes, if another run trains it.
    pub base: Option<String>,
    /// The number of the job that trains it.
    pub base_index: Option<usize>,
    /// `done`, `going`, `interrupted`, `failed`, `diverged` (and not tried again) or `waiting`.
    pub state: &'static str,
    /// Why it failed.
    pub reason: Option<String>,
    /// Of a run that is done.
    pub average_incremental_accuracy: Option<f64>,
    /// Of a run that is done.
    pub last_accuracy: Option<f64>,
    /// Of a run that is done; without the time of a base model that it took.
    pub wall_seconds: Option<f64>,
}

/// Every job of a sweep, bases first.
///
/// # Errors
/// If a folder cannot be read, or a whole run has no result.
pub fn rows(meant: &Meant) -> Result<Vec<Row>> {
    let found = SweepFolder::found(meant.folder.path())?;
    let order: Vec<Job> = numbered(meant).into_iter().map(|(job, _)| job).collect();
    let row = |(job, _): (Job, _)| {
        let index = order.iter().position(|it| *it == job).unwrap_or(0);
        let base_index = base_of(&order, &job);
        let state = meant.folder.state(&found, &job).0;
        let result = match &state {
            State::Done(folder) => Some(read_result(folder)?),
            _ => None,
        };
        let base = job.base.as_ref().and_then(|path| path.parent()?.file_name());
        Ok(Row {
            index,
            base_index,
            is_base: job.kind == Kind::Base,
            base: base.map(|name| name.to_string_lossy().into_owned()),
            name: job.name,
            hash: job.hash,
            average_incremental_accuracy: result.as_ref().map(|it| it.average_incremental_accuracy),
            last_accuracy: result.as_ref().map(|it| it.last_accuracy),
            wall_seconds: result.as_ref().map(|it| it.wall_seconds),
            state: match &state {
                State::Done(_) => "done",
                State::Going => "going",
                State::Interrupted => "interrupted",
                State::Failed(_) => "failed",
                State::Diverged(_) => "diverged",
                State::Waiting => "waiting",
            },
            reason: match state {
                State::Failed(reason) | State::Diverged(reason) => Some(reason),
                _ => None,
            },
        })
    };
    jobs(meant).into_iter().map(row).collect()
}

/// Shows where each run stands.
///
/// # Errors
/// If a folder cannot be read.
pub fn status(meant: &Meant, output: &mut Output<'_>) -> Result<()> {
    let rows = rows(meant)?;
    if output.json {
        return output.value(&rows);
    }
    let header = ["run", "state", "average, %", "last, %", "seconds", "reason"];
    let mut cells = vec![header.map(str::to_owned).to_vec()];
    let percent = |it: Option<f64>| it.map_or(String::new(), |it| format!("{:.1}", 100.0 * it));
    for row in &rows {
        cells.push(vec![
            if row.is_base { format!("base {}", row.name) } else { row.name.clone() },
            row.state.to_owned(),
            percent(row.average_incremental_accuracy.filter(|_| !row.is_base)),
            percent(row.last_accuracy),
            row.wall_seconds.map_or(String::new(), |it| format!("{it:.0}")),
            row.reason.clone().unwrap_or_default(),
        ]);
    }
    let counts = |bases: bool| {
        let of = |state: &str| rows.iter().filter(|it| it.is_base == bases && it.state == state).count();
        let states = ["done", "going", "interrupted", "failed", "diverged", "waiting"];
        states.iter().map(|state| format!("{} {state}", of(state))).collect::<Vec<_>>().join(", ")
    };
    let bases = match rows.iter().any(|it| it.is_base) {
        true => format!("base models: {}\n", counts(true)),
        false => String::new(),
    };
    output.text(&format!("{}{bases}runs: {}\n", layout(&cells), counts(false)))
}
