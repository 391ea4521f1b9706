//! A sweep's folder, and the state of its runs.
//!
//! The state of a run is read from its folder alone. It is done if a finished folder holds its configuration, under any
//! name; it is running while a process holds the lock of its log, which the run's own process inherits, so a run whose
//! sweep was killed is still recognised; it diverged if its folder says so, and is not run again then; it failed if its
//! log ends with a failure.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::job::{Job, Kind};
use crate::cli::failure::exit_status_means_interrupted;
use crate::config::RunConfig;
use crate::config::identity::hash;
use crate::folder::writer::{PARTIAL, diverged};

/// How long a lock is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Begins the lines that a sweep writes into a run's log.
const MARK: &str = "sweep: ";

/// The folder of a sweep.
#[derive(Clone, Debug)]
pub struct SweepFolder(PathBuf);

/// Where one run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its folder is whole; here it is.
    Done(PathBuf),
    /// A process is at it.
    Going,
    /// It was begun, and nobody is at it.
    Interrupted,
    /// Why it failed.
    Failed(String),
    /// How it diverged: once more would end in the same.
    Diverged(String),
    /// It was not begun.
    Waiting,
}

/// Run folders by the hash of the configuration that they hold.
#[derive(Clone, Debug, Default)]
pub struct Found {
    whole: BTreeMap<String, PathBuf>,
    partial: BTreeMap<String, PathBuf>,
}

impl SweepFolder {
    /// The folder `out/name`, which need not exist.
    pub fn new(out: &Path, name: &str) -> Self {
        Self(out.join(name))
    }

    /// Where runs are.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the runs are that train base models.
    pub fn bases(&self) -> PathBuf {
        self.0.join("bases")
    }

    /// The log of the run of this name.
    pub fn log(&self, name: &str) -> PathBuf {
        self.0.join("logs").join(format!("{name}.log"))
    }

    /// The configuration that the run of this name is given.
    pub fn config(&self, name: &str) -> PathBuf {
        self.0.join("configs").join(format!("{name}.toml"))
    }

    /// Makes the folder and locks it for this process, as long as the file lives.
    ///
    /// # Errors
    /// If another process holds it.
    pub fn lock(&self) -> Result<File> {
        self.locked(File::try_lock)
    }

    /// Makes the folder and takes part in it, as long as the file lives: beside other tasks, but not beside a process
    /// that runs the whole sweep.
    ///
    /// # Errors
    /// If a process runs the whole sweep.
    pub fn share(&self) -> Result<File> {
        self.locked(File::try_lock_shared)
    }

    fn locked(&self, try_lock: impl Fn(&File) -> Result<(), TryLockError>) -> Result<File> {
        for folder in ["bases", "logs", "configs"] {
            let path = self.0.join(folder);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create the folder {}", path.display()))?;
        }
        let path = self.0.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let start = Instant::now();
        loop {
            match try_lock(&file) {
                Ok(()) => return Ok(file),
                // A child that a killed sweep was just starting holds the lock until it is this program.
                Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => thread::sleep(PATIENCE / 20),
                Err(TryLockError::WouldBlock) => bail!(
                    "another process runs the sweep in {}; wait for it, or choose another folder with --out",
                    self.0.display()
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
    }

    /// The log of a run, opened to be appended to and locked; `None` while a process is at the run.
    ///
    /// # Errors
    /// If the file cannot be opened or locked.
    pub fn open_log(&self, name: &str) -> Result<Option<File>> {
        let path = self.log(name);
        let place = || format!("cannot write {}", path.display());
        let file = OpenOptions::new().create(true).append(true).open(&path).with_context(place)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(place),
        }
    }

    /// Writes a line of the sweep's own into a run's log.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn mark(mut log: &File, line: &str) -> Result<()> {
        writeln!(log, "{MARK}{line}").context("cannot write a log")
    }

    /// All run folders of the sweep, or those of its base models.
    ///
    /// # Errors
    /// If the folder is there and cannot be read.
    pub fn found(place: &Path) -> Result<Found> {
        let mut found = Found::default();
        if !place.exists() {
            return Ok(found);
        }
        for entry in fs::read_dir(place).with_context(|| format!("cannot read {}", place.display()))? {
            let path = entry?.path();
            // Other folders, and run folders of other versions, are skipped.
            let Ok(checked) = RunConfig::load(&path.join("config.toml"), &[]).and_then(RunConfig::check)
            else {
                continue;
            };
            let is_partial = path.extension().is_some_and(|it| it == PARTIAL);
            let folders = if is_partial { &mut found.partial } else { &mut found.whole };
            folders.insert(hash(&checked)?, path);
        }
        Ok(found)
    }

    /// Where a job stands, and what an earlier process left of it.
    ///
    /// A base model's folder is recognised by its name, which has more information than its configuration; see
    /// [`crate::config::identity::base_hash`].
    pub fn state(&self, found: &Found, job: &Job) -> (State, Option<PathBuf>) {
        let existing = |path: PathBuf| Some(path).filter(|path| path.exists());
        let (by_hash, partial) = match job.kind {
            Kind::Base => (None, None),
            Kind::Run => (found.whole.get(&job.hash).cloned(), found.partial.get(&job.hash).cloned()),
        };
        let by_name = || existing(job.whole()).filter(|_| job.kind == Kind::Base);
        if let Some(whole) = by_hash.or_else(by_name) {
            return (State::Done(whole), None);
        }
        // A process may be killed before it wrote the configuration; then only the name is known.
        let left = partial.or_else(|| existing(job.partial()));
        if self.is_going(&job.name) {
            return (State::Going, left);
        }
        if let Some(reason) = left.as_deref().and_then(diverged) {
            return (State::Diverged(reason), left);
        }
        let state = match failure(&fs::read_to_string(self.log(&job.name)).unwrap_or_default()) {
            Some(reason) => State::Failed(reason),
            None if left.is_some() => State::Interrupted,
            None => State::Waiting,
        };
        (state, left)
    }

    fn is_going(&self, name: &str) -> bool {
        let Ok(log) = File::open(self.log(name)) else { return false };
        matches!(log.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

/// The reason in a log that ends with a failure.
fn failure(log: &str) -> Option<String> {
    let mut lines = log.lines().rev().filter(|line| !line.trim().is_empty());
    let ended = lines.next()?.strip_prefix(MARK)?.strip_prefix("ended, ")?;
    let status = ended.strip_prefix("exit status: ").and_then(|it| it.parse::<i32>().ok());
    if status.is_some_and(|it| it == 0 || exit_status_means_interrupted(it)) {
        return None;
    }
    let last = lines.next().filter(|line| !line.starts_with(MARK));
    Some(match (status, last) {
        (Some(_), Some(line)) => line.strip_prefix("error: ").unwrap_or(line).to_owned(),
        _ => ended.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_failed_run_is_read_from_its_log() {
        let of = |lines: &[&str]| failure(&lines.join("\n"));
        let begun = "sweep: begun";
        assert_eq!(of(&[begun, "a: b", "error: no", "sweep: ended, exit status: 1"]).as_deref(), Some("no"));
        assert_eq!(
            of(&[begun, "a: b", "sweep: ended, signal: 9 (SIGKILL)"]).as_deref(),
            Some("signal: 9 (SIGKILL)")
        );
        assert_eq!(of(&[begun, "sweep: ended, exit status: 101"]).as_deref(), Some("exit status: 101"));
        assert_eq!(of(&[begun, "error: interrupted", "sweep: ended, exit status: 75"]), None);
        assert_eq!(of(&[begun, "sweep: ended, exit status: 0"]), None);
        assert_eq!(of(&["error: no", "sweep: ended, exit status: 1", begun]), None, "tried again and killed");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_folder_and_a_log_have_one_holder() {
        let place = tempfile::tempdir().unwrap();
        let folder = SweepFolder::new(place.path(), "a");
        let lock = folder.lock().unwrap();
        assert!(folder.lock().unwrap_err().to_string().starts_with("another process runs the sweep"));
        drop(lock);
        folder.lock().unwrap();
        let job = Job {
            kind: Kind::Run,
            name: "run".to_owned(),
            hash: "0".to_owned(),
            place: folder.path().to_owned(),
            text: String::new(),
            base: None,
        };
        let state = || folder.state(&Found::default(), &job).0;
        assert_eq!(state(), State::Waiting);
        let log = folder.open_log("run").unwrap().unwrap();
        assert!(folder.open_log("run").unwrap().is_none());
        assert_eq!(state(), State::Going);
        // A child that inherits the file keeps the lock.
        let inherited = log.try_clone().unwrap();
        drop(log);
        assert_eq!(state(), State::Going);
        drop(inherited);
        assert!(folder.open_log("run").unwrap().is_some());
    }
}
