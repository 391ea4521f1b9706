//! `sweep task`: one job of a sweep, for a scheduler that assigns numbers.
//!
//! Invariant: a task may be started any number of times, on any machine that sees the sweep's folder. A job that is
//! done is left alone, one that another process works on is waited for, and one that was cut off is resumed. A run
//! whose base model is missing trains that model first, so a scheduler need not know which job needs which. One that
//! diverged is not done again unless that is asked for.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use super::Meant;
use super::child::{Child, Settings};
use super::execute::{begin_anew, common};
use super::folder::{State, SweepFolder};
use super::job::{Job, base_of, numbered};
use crate::cli::args::{Doing, Global};
use crate::cli::failure::{Kept, bad_input, exit_status_means_interrupted};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::folder::writer::diverged;

/// Time between two checks of a child or a lock.
const PAUSE: Duration = Duration::from_millis(50);
/// Time between two checks of a job that another process works on.
const LONG_PAUSE: Duration = Duration::from_secs(2);

/// The outcome of a task.
#[derive(Clone, Debug, Serialize)]
struct Done<'a> {
    index: usize,
    name: &'a str,
    folder: String,
    /// Whether it was done before this process came.
    was_done: bool,
}

/// The number of the job that `--index` or the variable that `--index-from` names.
///
/// # Errors
/// If there is neither, both, or no number in the variable.
pub fn index(number: Option<usize>, variable: Option<&str>) -> Result<usize> {
    match (number, variable) {
        (Some(number), _) => Ok(number),
        (None, Some(name)) => {
            let value = std::env::var(name)
                .map_err(|_| bad_input(format!("--index-from {name}: set this environment variable")))?;
            value.parse().map_err(|_| {
                bad_input(format!("--index-from {name}: its value {value:?} is not a number from 0"))
            })
        }
        (None, None) => Err(bad_input("name the job: --index N, or --index-from VARIABLE")),
    }
}

/// Does job `index` of a sweep, numbered as `sweep plan` numbers them, and its base model before it.
///
/// # Errors
/// If there is no such job, the job fails or has diverged, or the task is interrupted, which keeps what was done.
pub fn task(
    meant: &Meant,
    index: usize,
    doing: &Doing,
    global: &Global,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    let jobs: Vec<Job> = numbered(meant).into_iter().map(|(job, _)| job).collect();
    let Some(job) = jobs.get(index) else {
        return Err(bad_input(format!("--index {index}: the sweep has jobs 0 to {}", jobs.len() - 1)));
    };
    let _shared = meant.folder.share()?;
    let threads = match global.threads {
        Some(threads) => usize::from(threads),
        None => thread::available_parallelism()?.get(),
    };
    let (common, tensorboard) = (common(global, meant.kernels), doing.tensorboard.clone());
    let settings = Settings { common, tensorboard, threads, jobs: 1 };
    let work = Task { folder: &meant.folder, settings, retry_diverged: doing.retry_failed, interrupt };
    if let Some(base) = base_of(&jobs, job) {
        work.finish(&jobs[base])?;
    }
    let was_done = work.finish(job)?;
    let folder = work.whole(job)?.map_or_else(String::new, |path| path.display().to_string());
    if output.json {
        return output.value(&Done { index, name: &job.name, folder, was_done });
    }
    let how = if was_done { "was done already" } else { "is done" };
    output.text(&format!("job {index}, {}, {how}: {folder}\n", job.name))
}

struct Task<'a> {
    folder: &'a SweepFolder,
    settings: Settings,
    retry_diverged: bool,
    interrupt: &'a Interrupt,
}

impl Task<'_> {
    /// The folder of a job that is done.
    fn whole(&self, job: &Job) -> Result<Option<std::path::PathBuf>> {
        match self.folder.state(&SweepFolder::found(&job.place)?, job).0 {
            State::Done(path) => Ok(Some(path)),
            _ => Ok(None),
        }
    }

    /// Does a job, or waits until the process that works on it is done; whether nothing was left to do.
    fn finish(&self, job: &Job) -> Result<bool> {
        loop {
            if self.whole(job)?.is_some() {
                return Ok(true);
            }
            if self.interrupt.is_asked() {
                return Err(stopped(job));
            }
            let Some(log) = self.folder.open_log(&job.name)? else {
                thread::sleep(LONG_PAUSE);
                continue;
            };
            // The lock may have become free because the job was just finished elsewhere.
            let (state, left) = self.folder.state(&SweepFolder::found(&job.place)?, job);
            if let State::Done(_) = state {
                return Ok(true);
            }
            // Of the folder itself: the state is that this process is at it, since it holds the lock.
            if let Some(reason) = left.as_deref().and_then(diverged).filter(|_| !self.retry_diverged) {
                bail!(
                    "{} diverged and is not tried again, since the same settings would diverge again: {reason}; \
                     change them, \
                     or use --retry-failed",
                    job.name
                );
            }
            let left = begin_anew(left, self.retry_diverged)?;
            let mut child = Child::start(job, left.as_deref(), self.folder, log, &self.settings, 0)?;
            let status = loop {
                if let Some(status) = child.ended()? {
                    break status;
                }
                if self.interrupt.is_asked() {
                    child.ask_to_stop();
                }
                thread::sleep(PAUSE);
            };
            return match () {
                () if status.success() && self.whole(job)?.is_some() => Ok(false),
                () if status.code().is_some_and(exit_status_means_interrupted) => Err(stopped(job)),
                () => bail!("{} ended, {status}; see {}", job.name, self.folder.log(&job.name).display()),
            };
        }
    }
}

fn stopped(job: &Job) -> anyhow::Error {
    Kept(format!("{} was interrupted and is saved; the same command resumes it", job.name)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_from_the_argument_or_from_a_variable() {
        assert_eq!(index(Some(3), None).unwrap(), 3);
        assert_eq!(
            index(None, None).unwrap_err().to_string(),
            "name the job: --index N, or --index-from VARIABLE"
        );
        let unset = index(None, Some("CIL_TEST_NO_SUCH_VARIABLE")).unwrap_err().to_string();
        assert_eq!(unset, "--index-from CIL_TEST_NO_SUCH_VARIABLE: set this environment variable");
        let wrong = index(None, Some("PATH")).unwrap_err().to_string();
        assert!(
            wrong.starts_with("--index-from PATH: its value ") && wrong.ends_with("is not a number from 0")
        );
    }
}
