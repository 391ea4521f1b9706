//! `audit.json` in a run's folder: what an audit of the finished run found.
//!
//! The file is written by `audit`, long after the run; its digest joins the others in `SHA256SUMS`, and nothing else of
//! the folder changes. A folder of before there were digests gets the file alone.

use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cil_data::split::Increments;
use cil_train::audit::findings::{Accuracy, Findings, Task};
use serde::{Deserialize, Serialize};

use crate::folder::contents::{FINDINGS, json};
use crate::folder::files::write_atomic;
use crate::folder::sums::{SUMS, Sums};

/// Version of the file.
const FORMAT: u32 = 1;

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    format: u32,
    #[serde(flatten)]
    findings: Findings,
}

impl Found {
    /// These findings, as they are kept.
    pub fn new(findings: Findings) -> Self {
        Self { format: FORMAT, findings }
    }

    /// Writes them into a finished run's folder, in place of those of an earlier audit.
    ///
    /// # Errors
    /// Naming the file, if it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let content = json(self)?;
        match Sums::load(folder)? {
            Some(mut sums) => sums.write_file(folder, FINDINGS, &content),
            None => write_atomic(&folder.join(FINDINGS), &content),
        }
    }
}

/// What an audit found of the run in a folder, whose files were compared with their digests; `None` if it was not
/// audited.
///
/// # Errors
/// Naming the file, if it is not an audit's of a run of these tasks.
pub fn read(folder: &Path, increments: &Increments) -> Result<Option<Findings>> {
    let path = folder.join(FINDINGS);
    let place = path.display();
    let content = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("cannot read {place}"))?,
    };
    // Else an audit ended between both files, or somebody put it there.
    if Sums::load(folder)?.is_some_and(|sums| sums.is_of(FINDINGS, &content).is_none()) {
        bail!("{SUMS} has no digest of {place}; remove it, and audit the run again");
    }
    let again = "remove it, and audit the run again";
    let found: Found = match serde_json::from_slice(&content) {
        Ok(found) => found,
        Err(error) => bail!("{place} is not what an audit writes ({error}); {again}"),
    };
    match refused(&found, increments) {
        Some(why) => bail!("{place} {why}; {again}"),
        None => Ok(Some(found.findings)),
    }
}

/// Why findings are not of a run of these tasks.
fn refused(found: &Found, increments: &Increments) -> Option<String> {
    let Found { format, findings } = found;
    if *format != FORMAT {
        return Some(format!("has the format {format}, this program reads {FORMAT}"));
    }
    let classes: Vec<usize> = findings.tasks.iter().map(|task| task.classes).collect();
    if classes != increments.sizes() {
        return Some(format!("is of tasks of {classes:?} classes, the run of {:?}", increments.sizes()));
    }
    let is_share = |it: &Accuracy| (0.0..=1.0).contains(&it.all) && (0.0..=1.0).contains(&it.own_task);
    let is_distance = |it: &f64| it.is_finite() && *it >= 0.0;
    let is_sound = |task: &Task| {
        let always = [task.run, task.true_statistics, task.probe];
        let mixed = [task.true_means, task.true_covariance];
        always.iter().chain(mixed.iter().flatten()).all(is_share) && task.mean_drift.iter().all(is_distance)
    };
    let mut tasks = findings.tasks.iter().chain([&findings.all]);
    let sound = tasks.all(is_sound) && findings.covariance_drift.iter().all(is_distance);
    (!sound).then(|| "has an accuracy that is no share, or a distance below 0".to_owned())
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
