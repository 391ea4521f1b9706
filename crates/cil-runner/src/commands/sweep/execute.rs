//! `sweep run`: does what is missing.
//!
//! One loop starts children while a slot is free and watches those that run; a run waits for its base model, and for a
//! child of an earlier sweep that still works on it. A run that fails stops no other and is tried again the next time;
//! one that diverged is not, unless `--retry-failed` asks for it, since the same settings diverge again.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Meant;
use super::child::{Child, Settings};
use super::folder::{State, SweepFolder};
use super::job::{Job, Kind, jobs};
use super::summary;
use super::watch::{Ended, Watch};
use crate::cli::args::{Doing, Global};
use crate::cli::failure::{Kept, exit_status_means_interrupted};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::folder::writer::diverged;

/// Time between two checks of the children.
const PAUSE: Duration = Duration::from_millis(50);

/// Where a job of this sweep stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Missing,
    Going,
    Done,
    Failed,
    Diverged,
    Stopped,
}

/// All that is done in one go.
struct Execution<'a> {
    folder: &'a SweepFolder,
    settings: Settings,
    retry_diverged: bool,
    jobs: Vec<(Job, Stand)>,
    places: Vec<Option<(usize, Child)>>,
    watch: Watch,
}

/// Does what is missing of a sweep, `at_a_time` runs at once, and shows the report of what is done.
///
/// # Errors
/// If a run failed, or the sweep was interrupted, or another process is at it.
pub fn execute(
    meant: &Meant,
    at_a_time: usize,
    doing: &Doing,
    global: &Global,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    // Held to the end.
    let _lock = meant.folder.lock()?;
    let threads = match global.threads {
        Some(threads) => usize::from(threads),
        None => thread::available_parallelism()?.get(),
    };
    let found = SweepFolder::found(meant.folder.path())?;
    let stand = |(job, _): (Job, _)| {
        let stand = match meant.folder.state(&found, &job).0 {
            State::Done(_) => Stand::Done,
            State::Diverged(_) if !doing.retry_failed => Stand::Diverged,
            _ => Stand::Missing,
        };
        (job, stand)
    };
    let mut execution = Execution {
        folder: &meant.folder,
        retry_diverged: doing.retry_failed,
        jobs: jobs(meant).into_iter().map(stand).collect(),
        places: (0..at_a_time).map(|_| None).collect(),
        watch: Watch::new(meant, global, at_a_time)?,
        settings: Settings {
            common: common(global, meant.kernels),
            tensorboard: doing.tensorboard.clone(),
            threads,
            jobs: at_a_time,
        },
    };
    let went = execution.all(interrupt);
    execution.watch.finish();
    went?;
    execution.report(meant, interrupt, output)
}

/// Arguments of the sweep that are its children's, too.
pub(super) fn common(global: &Global, kernels: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["--data-dir".into(), global.data_dir.clone().into()];
    arguments.extend(["--kernels".into(), kernels.into()]);
    arguments.extend(["--device".into(), global.device.to_string().into()]);
    if global.no_cuda_graphs {
        arguments.push("--no-cuda-graphs".into());
    }
    arguments
}

impl Execution<'_> {
    /// Until all is done that can be, or the user stops it.
    fn all(&mut self, interrupt: &Interrupt) -> Result<()> {
        loop {
            for at in 0..self.places.len() {
                self.look_after(at)?;
            }
            let stopping = interrupt.is_asked();
            for at in 0..self.places.len() {
                match &mut self.places[at] {
                    Some((_, child)) if stopping => child.ask_to_stop(),
                    None if !stopping => self.fill(at)?,
                    _ => {}
                }
            }
            let going = self.places.iter().any(Option::is_some);
            if !going && (stopping || self.next().is_none()) {
                return Ok(());
            }
            self.watch.look()?;
            thread::sleep(PAUSE);
        }
    }

    /// Takes note if the child in a place has ended.
    fn look_after(&mut self, at: usize) -> Result<()> {
        let Some((index, child)) = &mut self.places[at] else { return Ok(()) };
        let Some(status) = child.ended()? else { return Ok(()) };
        let (job, stand) = &mut self.jobs[*index];
        *stand = match () {
            () if status.success() && job.whole().exists() => Stand::Done,
            () if was_stopped(status) => Stand::Stopped,
            () if diverged(&job.partial()).is_some() => Stand::Diverged,
            () => Stand::Failed,
        };
        let ended = match stand {
            Stand::Done => Ended::Done,
            Stand::Stopped => Ended::Stopped,
            _ => Ended::Failed(status),
        };
        self.watch.ended(*index, ended, child.seconds())?;
        self.places[at] = None;
        Ok(())
    }

    /// Starts the next job in a free place, if there is one that nobody is at.
    fn fill(&mut self, at: usize) -> Result<()> {
        let Some(index) = self.next() else { return Ok(()) };
        let job = &self.jobs[index].0;
        // A child that a killed sweep left is still saving; its turn comes when it has ended.
        let Some(log) = self.folder.open_log(&job.name)? else { return Ok(()) };
        // That child may have ended well.
        let (state, left) = self.folder.state(&SweepFolder::found(&job.place)?, job);
        if let State::Done(_) = state {
            self.jobs[index].1 = Stand::Done;
            return Ok(());
        }
        let left = begin_anew(left, self.retry_diverged)?;
        let child = Child::start(job, left.as_deref(), self.folder, log, &self.settings, at)?;
        self.jobs[index].1 = Stand::Going;
        self.watch.begun(index, self.settings.threads_of(at), left.is_some());
        self.places[at] = Some((index, child));
        Ok(())
    }

    /// The first job that is missing and whose base model is there, or the base that it needs.
    fn next(&self) -> Option<usize> {
        let is_missing = |at: &usize| self.jobs[*at].1 == Stand::Missing;
        let runs = (0..self.jobs.len()).filter(|at| self.jobs[*at].0.kind == Kind::Run).filter(is_missing);
        for at in runs {
            match self.base_of(at) {
                None => return Some(at),
                Some(base) if self.jobs[base].1 == Stand::Done => return Some(at),
                Some(base) if is_missing(&base) => return Some(base),
                Some(_) => {}
            }
        }
        None
    }

    /// The job that makes a job's base model.
    fn base_of(&self, at: usize) -> Option<usize> {
        let base = self.jobs[at].0.base.as_ref()?;
        self.jobs.iter().position(|(job, _)| job.kind == Kind::Base && base.starts_with(job.whole()))
    }

    /// How it went, as an error where not all is done.
    fn report(&self, meant: &Meant, interrupt: &Interrupt, output: &mut Output<'_>) -> Result<()> {
        let runs = || self.jobs.iter().filter(|(job, _)| job.kind == Kind::Run);
        let count = |stand| runs().filter(|it| it.1 == stand).count();
        let stopped = self.jobs.iter().any(|it| it.1 == Stand::Stopped);
        let (done, missing) = (count(Stand::Done), count(Stand::Missing));
        let diverged = self.jobs.iter().filter(|it| it.1 == Stand::Diverged).count();
        let failed = count(Stand::Failed) + count(Stand::Diverged);
        let (all, folder) = (runs().count(), meant.folder.path().display());
        if interrupt.is_asked() || stopped {
            let message = format!(
                "interrupted; {done} of {all} runs are done, run the same command again to continue in \
                         {folder}"
            );
            return Err(Kept(message).into());
        }
        if done > 0 {
            summary::end(meant, output)?;
        }
        let for_good = match diverged {
            0 => String::new(),
            _ => format!(
                "; {diverged} diverged and will not be tried again, since the same settings would diverge again: \
                 change \
                 them, or use --retry-failed"
            ),
        };
        match (failed, missing) {
            (0, 0) => Ok(()),
            (_, 0) => bail!("{failed} of {all} runs failed; their logs are in {folder}/logs{for_good}"),
            _ => bail!(
                "{failed} of {all} runs failed, and {missing} wait for a base model that failed; the logs are in \
                 {folder}/logs{for_good}"
            ),
        }
    }
}

/// The folder that an earlier process left, or nothing where it diverged and is to be run again: then its folder is
/// removed.
pub(super) fn begin_anew(left: Option<PathBuf>, retry_diverged: bool) -> Result<Option<PathBuf>> {
    match left {
        Some(left) if retry_diverged && diverged(&left).is_some() => {
            fs::remove_dir_all(&left).with_context(|| format!("cannot remove {}", left.display()))?;
            Ok(None)
        }
        left => Ok(left),
    }
}

fn was_stopped(status: ExitStatus) -> bool {
    status.code().is_some_and(exit_status_means_interrupted)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn what_computes_is_the_childrens_too() {
        let flags = |line: &[&str]| {
            let cli = Cli::try_parse_from(["cil-runner"].iter().chain(line)).unwrap();
            common(&cli.global, "tf32").join(" ".as_ref()).into_string().unwrap()
        };
        assert_eq!(flags(&[]), "--data-dir datasets --kernels tf32 --device auto");
        let other = flags(&["--device", "cuda:1", "--data-dir", "there", "--no-cuda-graphs"]);
        assert_eq!(other, "--data-dir there --kernels tf32 --device cuda:1 --no-cuda-graphs");
    }
}
