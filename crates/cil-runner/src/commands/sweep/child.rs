//! One run of a sweep as a process of its own.
//!
//! A child is this very program with arguments that anybody could type. It inherits the lock of its log, and it stops
//! as if it were interrupted when the pipe from the sweep closes (`--lifeline`): so one mechanism ends it when the
//! sweep is asked to stop, fails or is killed, and a signal for the sweep alone cannot reach it twice.

use std::ffi::OsString;
use std::fs::{self, File};
#[cfg(unix)]
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::folder::SweepFolder;
use super::job::{Job, Kind};
use crate::engine::ranks::LAUNCHER_VARIABLES;
use crate::folder::checkpoint;
use crate::folder::files::write_atomic;

/// The settings of all children of a sweep.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Arguments that every command takes: data, device, kernels.
    pub common: Vec<OsString>,
    /// Where event files of TensorBoard go while runs go.
    pub tensorboard: Option<PathBuf>,
    /// Threads of all children together.
    pub threads: usize,
    /// Children at a time.
    pub jobs: usize,
}

impl Settings {
    /// Threads of the child in that place: all are divided, the first places take what is left over.
    pub fn threads_of(&self, slot: usize) -> usize {
        let (each, over) = (self.threads / self.jobs, self.threads % self.jobs);
        (each + usize::from(slot < over)).max(1)
    }
}

/// A child that goes.
pub struct Child {
    process: process::Child,
    lifeline: Option<ChildStdin>,
    log: File,
    started: Instant,
}

impl Child {
    /// Begins a run, or resumes what an earlier one left. `log`: locked by [`SweepFolder::open_log`].
    ///
    /// # Errors
    /// If the configuration cannot be written, or the process cannot be started.
    pub fn start(
        job: &Job,
        left: Option<&Path>,
        folder: &SweepFolder,
        log: File,
        settings: &Settings,
        slot: usize,
    ) -> Result<Self> {
        let config = folder.config(&job.name);
        write_atomic(&config, job.text.as_bytes())?;
        let program = std::env::current_exe().context("the path of this program's own file is unknown")?;
        let output = || log.try_clone().context("cannot share a log");
        let mut command = Command::new(program);
        command.args(arguments(job, left, &config)?).args(&settings.common);
        if let Some(place) = &settings.tensorboard {
            let place = if job.kind == Kind::Base { place.join("bases") } else { place.clone() };
            command.arg("--tensorboard").arg(place);
        }
        command.arg("--threads").arg(settings.threads_of(slot).to_string()).arg("--lifeline");
        // A run of a task that an MPI started is one process's own.
        LAUNCHER_VARIABLES.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.stdin(Stdio::piped()).stdout(output()?).stderr(output()?);
        // A group of its own: Ctrl-C is for the sweep, which closes the pipe.
        #[cfg(unix)]
        command.process_group(0);
        SweepFolder::mark(&log, "begun")?;
        let mut process = command.spawn().context("cannot start a run")?;
        let lifeline = process.stdin.take();
        Ok(Self { process, lifeline, log, started: Instant::now() })
    }

    /// How it ended, if it did; the log says so too then.
    ///
    /// # Errors
    /// If the system does not report it.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.process.try_wait().context("cannot wait for a run")?;
        if let Some(status) = status {
            SweepFolder::mark(&self.log, &format!("ended, {status}"))?;
        }
        Ok(status)
    }

    /// Asks it to save and stop.
    pub fn ask_to_stop(&mut self) {
        self.lifeline = None;
    }

    /// Seconds since it was started.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// The command for a run: it resumes what an earlier process left of it, or starts over where that was too little.
fn arguments(job: &Job, left: Option<&Path>, config: &Path) -> Result<Vec<OsString>> {
    if let Some(left) = left {
        if checkpoint::exists(left) {
            return Ok(vec!["resume".into(), left.into()]);
        }
        fs::remove_dir_all(left).with_context(|| format!("cannot remove {}", left.display()))?;
    }
    let mut arguments: Vec<OsString> = vec!["run".into(), config.into()];
    arguments.extend(["--name".into(), job.name.clone().into()]);
    arguments.extend(["--out".into(), job.place.clone().into()]);
    if let Some(base) = &job.base {
        arguments.extend(["--base-model".into(), base.into()]);
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_divided() {
        let of = |threads, jobs| {
            let settings = Settings { common: Vec::new(), tensorboard: None, threads, jobs };
            (0..jobs).map(|slot| settings.threads_of(slot)).collect::<Vec<_>>()
        };
        assert_eq!(of(8, 3), [3, 3, 2]);
        assert_eq!(of(2, 2), [1, 1]);
        assert_eq!(of(2, 3), [1, 1, 1]);
        assert_eq!(of(7, 1), [7]);
    }
}
