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
pub(crate) mod tests {
    use cil_train::audit::findings::Probe;

    use super::*;
    use crate::folder::integrity;
    use crate::render::page::tests::write;
    use crate::results::recorded::Recorded;

    /// Findings of a run of two tasks of two classes.
    pub(crate) fn findings() -> Findings {
        let of = |all, own_task| Accuracy { all, own_task };
        let task = |run: f64| Task {
            classes: 2,
            run: of(run, 0.9),
            true_means: Some(of(run + 0.1, 0.91)),
            true_covariance: Some(of(run + 0.05, 0.92)),
            true_statistics: of(run + 0.15, 0.93),
            probe: of(run + 0.2, 0.94),
            mean_drift: Some(0.25),
        };
        let (tasks, probe) = (vec![task(0.6), task(0.4)], Probe { steps: 5, unsettled: 0 });
        Findings { all: Task { classes: 4, ..task(0.5) }, tasks, covariance_drift: Some(0.125), probe }
    }

    #[test]
    fn findings_are_kept_beside_their_digest_and_nothing_else_changes() {
        let place = tempfile::tempdir().unwrap();
        let folder = write(place.path(), "demo-lwf", 1, 5, 10);
        let found = || Recorded::load(&folder).unwrap().found;
        assert_eq!(found(), None);
        // A folder without digests keeps none.
        Found::new(findings()).write(&folder).unwrap();
        assert_eq!(found(), Some(findings()));
        assert!(!folder.join(SUMS).exists());
        // One with digests has one more, and one alone after a second audit.
        std::fs::remove_file(folder.join(FINDINGS)).unwrap();
        let mut sums = Sums::default();
        sums.set("env.json", &std::fs::read(folder.join("env.json")).unwrap());
        sums.write(&folder).unwrap();
        let before = std::fs::read_to_string(folder.join(SUMS)).unwrap();
        for _ in 0..2 {
            Found::new(findings()).write(&folder).unwrap();
            let lines = std::fs::read_to_string(folder.join(SUMS)).unwrap();
            assert!(lines.ends_with(&before) && lines.lines().count() == 2, "{lines}");
            assert_eq!(read(&folder, &Increments::new(vec![2, 2], 4).unwrap()).unwrap(), Some(findings()));
        }
        // What was changed, or was not written by an audit, is refused in a sentence.
        std::fs::write(folder.join(FINDINGS), "{}").unwrap();
        let content = std::fs::read(folder.join(FINDINGS)).unwrap();
        let message = integrity::hold_file(&folder.join(FINDINGS), &content).unwrap_err().to_string();
        let expected =
            "is not what the audit wrote: SHA256SUMS beside it has another digest; remove it, and audit";
        assert!(message.contains(expected), "{message}");
        std::fs::write(folder.join(SUMS), before).unwrap();
        let message = read(&folder, &Increments::new(vec![2, 2], 4).unwrap()).unwrap_err().to_string();
        assert!(message.contains("has no digest of") && message.contains("audit the run again"), "{message}");
    }

    #[test]
    fn findings_of_another_run_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let folder = write(place.path(), "demo-lwf", 1, 5, 10);
        let message = |found: &Found| {
            found.write(&folder).unwrap();
            Recorded::load(&folder).unwrap_err().to_string()
        };
        let mut of = findings();
        of.tasks[0].classes = 3;
        let text = message(&Found::new(of));
        assert!(text.contains("is of tasks of [3, 2] classes, the run of [2, 2]; remove it"), "{text}");
        let text = message(&Found { format: 2, findings: findings() });
        assert!(text.contains("has the format 2, this program reads 1"), "{text}");
        let mut of = findings();
        of.all.probe.all = 1.5;
        assert!(message(&Found::new(of)).contains("no share"));
        let mut of = findings();
        of.covariance_drift = Some(-0.5);
        assert!(message(&Found::new(of)).contains("a distance below 0"));
        for text in ["", "{\"format\": 1}", "[1, 2"] {
            std::fs::write(folder.join(FINDINGS), text).unwrap();
            let error = Recorded::load(&folder).unwrap_err();
            let message = crate::cli::failure::sentence(&error);
            assert!(message.contains("audit the run again") && message.contains("audit.json"), "{message}");
        }
    }
}
