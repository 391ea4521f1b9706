//! `sweep`: many runs from one file.
//!
//! A sweep is a plan (a pure function of its file) and a folder of runs; missing runs are executed by processes of this
//! program, and everything shown is read from run folders. There is no other record.

pub mod child;
pub mod execute;
pub mod expand;
pub mod file;
pub mod folder;
pub mod job;
pub mod plan;
pub mod script;
pub mod status;
pub mod summary;
pub mod task;
pub mod watch;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli::args::{Global, Sweep};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::engine;
use expand::{Expanded, Planned, expand};
use file::SweepFile;
use folder::{State, SweepFolder};
use job::Kind;

/// A sweep that was read: what is meant, and where it goes.
pub struct Meant {
    /// Its file.
    pub file: SweepFile,
    /// Its runs.
    pub expanded: Expanded,
    /// Its folder.
    pub folder: SweepFolder,
    /// The implementation that runs the networks.
    pub kernels: &'static str,
}

impl Meant {
    /// Reads a sweep's file.
    ///
    /// # Errors
    /// Naming the file, the key and what would be right.
    pub fn load(path: &Path, global: &Global) -> Result<Self> {
        let file = SweepFile::load(path)?;
        let kernels = engine::kernels_name(global)?;
        let expanded = expand(&file, path, kernels)?;
        let folder = SweepFolder::new(&global.out, &file::stem(path)?);
        Ok(Self { file, expanded, folder, kernels })
    }

    /// Whether the model of a run's base classes is trained apart: where several runs of the sweep need it.
    pub fn shares_base(&self, run: &Planned) -> bool {
        self.expanded.runs.iter().filter(|it| it.base == run.base).count() > 1
    }

    /// Folders of the runs that are done, in the order of the plan.
    ///
    /// # Errors
    /// If the sweep's folder cannot be read.
    pub fn done(&self) -> Result<Vec<(&Planned, PathBuf)>> {
        let found = SweepFolder::found(self.folder.path())?;
        let mut done = Vec::new();
        let jobs = job::jobs(self);
        for run in &self.expanded.runs {
            let own = jobs.iter().find(|(job, _)| job.kind == Kind::Run && job.name == run.name);
            if let Some((State::Done(path), _)) = own.map(|(job, _)| self.folder.state(&found, job)) {
                done.push((run, path));
            }
        }
        Ok(done)
    }
}

/// Does what the arguments say.
///
/// # Errors
/// If the file is wrong, or a run failed or was interrupted.
pub fn sweep(
    arguments: &Sweep,
    global: &Global,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    match arguments {
        Sweep::Plan { file, no_estimate } => {
            plan::plan(&Meant::load(file, global)?, !no_estimate, global, interrupt, output)
        }
        Sweep::Run { file, jobs, doing } => {
            let (meant, jobs) = (Meant::load(file, global)?, usize::from(*jobs));
            execute::execute(&meant, jobs, doing, global, interrupt, output)
        }
        Sweep::Task { file, index, index_from, doing } => {
            let index = task::index(*index, index_from.as_deref())?;
            task::task(&Meant::load(file, global)?, index, doing, global, interrupt, output)
        }
        Sweep::Script { file, scheduler, resources } => {
            script::script(&Meant::load(file, global)?, file, *scheduler, resources, global, output)
        }
        Sweep::Status { file } => status::status(&Meant::load(file, global)?, output),
        Sweep::Report(arguments) => {
            summary::report(&Meant::load(&arguments.file, global)?, arguments, output)
        }
    }
}
