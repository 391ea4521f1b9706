//! What there is to do in a sweep.
//!
//! One decision: a run and the run that trains a base model are both a configuration that gets a folder; only where it
//! goes and what tells that it is done differ.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Meant;
use crate::config::Checked;
use crate::record::PARTIAL;
use crate::run;

/// What a job makes.
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
    /// What it makes.
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

/// All jobs of a sweep with what they run: bases that are shared, then runs, in the order of the plan.
pub fn jobs(meant: &Meant) -> Vec<(Job, &Checked)> {
    let (mut bases, mut runs, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for run in &meant.expanded.runs {
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
            bases.push((job, checked));
        }
        let job = Job {
            kind: Kind::Run,
            name: run.name.clone(),
            hash: run.hash.clone(),
            place: meant.folder.path().to_owned(),
            text: run.checked.text().to_owned(),
            base: shared.then(|| meant.folder.bases().join(&run.base).join(run::BASE)),
        };
        runs.push((job, &run.checked));
    }
    bases.extend(runs);
    bases
}
