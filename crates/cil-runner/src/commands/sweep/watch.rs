//! The progress of a sweep.
//!
//! The progress of a child is read from its event log; the time left is computed from the paces of all runs of the
//! sweep, finished ones included, divided by the number of runs at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ProgressBar;

use super::Meant;
use super::folder::{State, SweepFolder};
use super::job::{Job, Kind, jobs};
use crate::cli::args::Global;
use crate::config::sizes::Sizes;
use crate::estimate::forecast::{Forecast, Pace, seconds};
use crate::estimate::workload::{Activity, items};
use crate::folder::follow::Follower;
use crate::render::progress::{PARTS, bar, duration, note};

/// Time between two reads of the logs.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two lines where nothing else is printed.
const QUIET: Duration = Duration::from_secs(60);

/// How a child ended.
#[derive(Clone, Copy, Debug)]
pub enum Ended {
    /// Its folder is whole.
    Done,
    /// It was stopped.
    Stopped,
    /// With this status.
    Failed(ExitStatus),
}

/// Follows the jobs of a sweep.
pub struct Watch {
    jobs: Vec<Followed>,
    at_a_time: usize,
    looked: Instant,
    announced: Instant,
    view: View,
}

enum View {
    Silent,
    Bar(ProgressBar),
    Lines,
}

/// One job and its log.
struct Followed {
    job: Job,
    forecast: Forecast,
    events: Follower,
    going: bool,
    done: bool,
}

impl Watch {
    /// Of all jobs; reads what the runs that are done took.
    ///
    /// # Errors
    /// If the data set is not there, or a log cannot be read.
    pub fn new(meant: &Meant, global: &Global, at_a_time: usize) -> Result<Self> {
        let found = SweepFolder::found(meant.folder.path())?;
        let mut followed = Vec::new();
        for (job, checked) in jobs(meant) {
            let sizes = Sizes::of_outline(checked.config(), &global.data_dir)?;
            let mut one = Followed {
                forecast: Forecast::new(items(checked, &sizes, job.base.is_some())?),
                events: Follower::default(),
                going: false,
                done: false,
                job,
            };
            if let (State::Done(whole), _) = meant.folder.state(&found, &one.job) {
                one.read(&whole)?;
                one.done = true;
            }
            followed.push(one);
        }
        let bar = || bar("sweep", "{prefix} [{bar:24}] {percent:>3}% {elapsed} {wide_msg}");
        let view = if global.json { View::Silent } else { bar().map_or(View::Lines, View::Bar) };
        let now = Instant::now();
        Ok(Self { jobs: followed, at_a_time, looked: now, announced: now, view })
    }

    /// Tells that a job was begun.
    pub fn begun(&mut self, at: usize, threads: usize, again: bool) {
        self.jobs[at].going = true;
        let begun = if again { "goes on" } else { "begins" };
        let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        self.tell(&format!("{} {begun}, {threads}", self.jobs[at].title()));
    }

    /// Tells how a job ended.
    ///
    /// # Errors
    /// If the job's log cannot be read.
    pub fn ended(&mut self, at: usize, ended: Ended, took: f64) -> Result<()> {
        let followed = &mut self.jobs[at];
        followed.going = false;
        if let Ended::Done = ended {
            let whole = followed.job.whole();
            followed.read(&whole)?;
            followed.done = true;
        }
        let title = followed.title();
        let took = duration(Duration::from_secs_f64(took));
        let how = match ended {
            Ended::Done => format!("done in {took}"),
            Ended::Stopped => format!("stopped after {took}"),
            Ended::Failed(status) => format!("failed after {took}, {status}"),
        };
        let rest = self.rest();
        self.tell(&format!("{title} {how}; {rest}"));
        Ok(())
    }

    /// Looks into the logs of what goes, if it is time.
    ///
    /// # Errors
    /// If a log cannot be read.
    pub fn look(&mut self) -> Result<()> {
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        for followed in self.jobs.iter_mut().filter(|it| it.going) {
            let partial = followed.job.partial();
            followed.read(&partial)?;
        }
        let rest = self.rest();
        if let View::Bar(bar) = &self.view {
            bar.set_position((self.share() * PARTS as f64) as u64);
            bar.set_message(rest);
        } else if self.announced.elapsed() >= QUIET {
            self.tell(&rest);
        }
        Ok(())
    }

    /// Clears the bar.
    pub fn finish(&self) {
        if let View::Bar(bar) = &self.view {
            bar.finish_and_clear();
        }
    }

    fn tell(&mut self, line: &str) {
        self.announced = Instant::now();
        match &self.view {
            View::Silent => {}
            View::Bar(bar) => bar.println(line),
            View::Lines => note(&format!("sweep: {line}")),
        }
    }

    /// The numbers of finished, running and waiting runs, in words.
    fn rest(&self) -> String {
        let runs = || self.jobs.iter().filter(|it| it.job.kind == Kind::Run);
        let mut words = format!("{} of {} runs done", runs().filter(|it| it.done).count(), runs().count());
        for followed in self.jobs.iter().filter(|it| it.going) {
            let (done, all) = followed.forecast.work();
            words.push_str(&format!(", {} {:.0} %", followed.title(), 100.0 * done / all.max(1.0)));
        }
        if let Some(left) = self.seconds_left().filter(|left| *left >= 1.0) {
            words.push_str(&format!(", about {} left", duration(Duration::from_secs_f64(left))));
        }
        words
    }

    /// Share of the whole work that is done, in operations.
    fn share(&self) -> f64 {
        let sums = self.jobs.iter().map(|it| it.forecast.work());
        let (done, all) = sums.fold((0.0, 0.0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        if all > 0.0 { done / all } else { 0.0 }
    }

    /// Seconds until all is done, if runs take the paces that they took so far.
    fn seconds_left(&self) -> Option<f64> {
        let mut paces: BTreeMap<Activity, Pace> = BTreeMap::new();
        for (activity, pace) in self.jobs.iter().flat_map(|it| it.forecast.paces()) {
            let sum = paces.entry(activity).or_default();
            sum.work += pace.work;
            sum.seconds += pace.seconds;
        }
        let left = self.jobs.iter().filter(|it| !it.done).flat_map(|it| it.forecast.left());
        let missing = self.jobs.iter().filter(|it| !it.done).count().max(1);
        Some(seconds(left, &paces)? / self.at_a_time.min(missing) as f64)
    }
}

impl Followed {
    fn title(&self) -> String {
        match self.job.kind {
            Kind::Base => format!("base {}", self.job.name),
            Kind::Run => self.job.name.clone(),
        }
    }

    /// Takes note of the events that are new in the log of a folder.
    fn read(&mut self, folder: &Path) -> Result<()> {
        for (line, took) in self.events.read(folder)? {
            self.forecast.note(&line.event, took);
        }
        Ok(())
    }
}
