//! The jobs of a sweep.
//!
//! A run and the run that trains a base model are both a configuration with a folder; only the place of the folder and
//! the sign that it is done differ.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Meant;
use crate::config::Checked;
use crate::folder::contents;
use crate::folder::writer::PARTIAL;

/// The result of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model of base classes, for several runs.
    Base,
    /// A run of the plan.
    Run,
}

/// One run folder that a sweep makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its result.
    pub kind: Kind,
    /// Name of the folder, and of its log.
    pub name: String,
    /// Names the configuration; of a base, its model.
    pub hash: String,
    /// Where the folder goes.
    pub place: PathBuf,
    /// The configuration.
    pub text: String,
    /// The model of the base classes, if another job trains it.
    pub base: Option<PathBuf>,
}

impl Job {
    /// The folder while the run goes.
    pub fn partial(&self) -> PathBuf {
        self.place.join(format!("{}.{PARTIAL}", self.name))
    }

    /// The folder when it is whole.
    pub fn whole(&self) -> PathBuf {
        self.place.join(&self.name)
    }
}

/// All jobs of a sweep with what they run: all methods of the first seed, then of the next, so that a sweep that is cut
/// short compares like with like; a base that is shared stands before the first run that needs it.
pub fn jobs(meant: &Meant) -> Vec<(Job, &Checked)> {
    let (mut jobs, mut seen) = (Vec::new(), BTreeSet::new());
    let mut runs: Vec<_> = meant.expanded.runs.iter().collect();
    let place = |seed: u64| meant.file.seeds.iter().position(|it| *it == seed);
    runs.sort_by_key(|run| place(run.checked.config().seed));
    for run in runs {
        let shared = meant.shares_base(run);
        if shared && seen.insert(&run.base) {
            let checked = &meant.expanded.bases[&run.base];
            let job = Job {
                kind: Kind::Base,
                name: run.base.clone(),
                hash: run.base.clone(),
                place: meant.folder.bases(),
                text: checked.text().to_owned(),
                base: None,
            };
            jobs.push((job, checked));
        }
        let job = Job {
            kind: Kind::Run,
            name: run.name.clone(),
            hash: run.hash.clone(),
            place: meant.folder.path().to_owned(),
            text: run.checked.text().to_owned(),
            base: shared.then(|| meant.folder.bases().join(&run.base).join(contents::BASE)),
        };
        jobs.push((job, &run.checked));
    }
    jobs
}

/// All jobs in the order of their numbers: base models first, then the runs. Numbers are a function of the sweep's
/// file.
pub fn numbered(meant: &Meant) -> Vec<(Job, &Checked)> {
    let mut all = jobs(meant);
    all.sort_by_key(|(job, _)| job.kind == Kind::Run);
    all
}

/// The place among `jobs` of the one that trains a job's base model.
pub fn base_of(jobs: &[Job], job: &Job) -> Option<usize> {
    let base = job.base.as_ref()?;
    jobs.iter().position(|it| it.kind == Kind::Base && base.starts_with(it.whole()))
}
