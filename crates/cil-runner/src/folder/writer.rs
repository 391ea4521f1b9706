//! A run's folder on disk.
//!
//! The folder has the suffix `.partial` until the run is finished, and is renamed then; inside it, events are appended
//! and flushed line by line, and every other file is written under a temporary name, synced and renamed. So nothing
//! half-written ever has a final name, and damage is detected: of lines by their checks, of files by their digests
//! ([`sums`](super::sums)). It computes no number.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cil_train::Diverged;
use cil_train::event::Event;

use crate::cli::failure::{Kept, bad_input, sentence};
use crate::engine::machine;
use crate::folder::checkpoint;
use crate::folder::clock::Stopwatch;
use crate::folder::files::{cannot_write, is_half, remove_best_effort, remove_halves, write_atomic};
use crate::folder::log::{self, EVENTS, Line};
use crate::folder::name::check_name;
use crate::folder::sums::{SUMS, Sums};

/// The ending of the folder of an unfinished run.
pub const PARTIAL: &str = "partial";
/// A run that diverged leaves its error here: resuming or repeating it would diverge again.
const DIVERGED: &str = "diverged.txt";
/// Who holds the lock on this file writes the folder; the lock ends with its process.
const LOCK: &str = "lock";
/// The files of a run folder before its first checkpoint.
const BEGINNING: [&str; 5] = [LOCK, EVENTS, SUMS, "config.toml", "env.json"];

/// A run folder that is being written.
pub struct Recorder {
    partial: PathBuf,
    last: PathBuf,
    events: log::Writer,
    stopwatch: Stopwatch,
    /// Seconds of the run before this process.
    before: f64,
    lines: Vec<Line>,
    /// `None` in a folder of before there were any.
    sums: Option<Sums>,
    _lock: File,
}

impl Recorder {
    /// Makes the folder `out/name.partial`; refuses if it or `out/name` exists. A folder in which nothing was begun,
    /// since its process was killed while it was made, is taken over.
    ///
    /// # Errors
    /// Naming the folder that exists, is another process's or cannot be made.
    pub fn create(out: &Path, name: &str) -> Result<Self> {
        check_name(name)?;
        let last = out.join(name);
        let partial = out.join(format!("{name}.{PARTIAL}"));
        let exists = partial.symlink_metadata().is_ok();
        if exists && !is_unbegun(&partial) {
            let path = partial.display();
            return Err(bad_input(format!(
                "the folder {path} of a run that is not whole exists; `cil-runner resume {path}` resumes it, or \
                 remove it, or choose another with --out or --name"
            )));
        }
        if last.symlink_metadata().is_ok() {
            let path = last.display();
            return Err(bad_input(format!(
                "the output folder {path} exists; remove it, or choose another with --out or --name"
            )));
        }
        fs::create_dir_all(out).with_context(|| format!("cannot create the folder {}", out.display()))?;
        if !exists {
            fs::create_dir(&partial)
                .with_context(|| format!("cannot create the folder {}", partial.display()))?;
        }
        // Before anything is written or removed: two processes may have come here at once.
        let lock = lock(&partial)?;
        match clear_beginning(&partial).and_then(|()| log::Writer::create(&partial.join(EVENTS))) {
            Ok(events) => {
                let (stopwatch, lines, sums) = (Stopwatch::start(), Vec::new(), Some(Sums::default()));
                Ok(Self { partial, last, events, stopwatch, before: 0.0, lines, sums, _lock: lock })
            }
            Err(error) => {
                remove_best_effort(&partial);
                Err(error)
            }
        }
    }

    /// Takes up the folder `partial` that another process left, with the first `events_bytes` of its log; what the log
    /// has beyond is cut off. `lock`: of that folder, by [`lock`].
    ///
    /// # Errors
    /// If the log cannot be read, is shorter, or holds something else.
    pub fn reopen(partial: &Path, lock: File, events_bytes: u64) -> Result<Self> {
        let log = log::beginning(partial, events_bytes)?;
        let path = partial.join(EVENTS);
        let place = || format!("cannot resume {}", path.display());
        let mut file = OpenOptions::new().write(true).open(&path).with_context(place)?;
        let mut sums = Sums::load(partial)?;
        remove_halves(partial)?;
        file.set_len(events_bytes).with_context(place)?;
        file.seek(SeekFrom::End(0)).with_context(place)?;
        if let Some(sums) = &mut sums {
            // There if the run was about to end: the log grows again.
            sums.remove(EVENTS);
            sums.write(partial)?;
        }
        Ok(Self {
            partial: partial.to_owned(),
            last: partial.with_extension(""),
            stopwatch: Stopwatch::start(),
            before: log.lines.last().map_or(0.0, |line| line.seconds),
            events: log::Writer::go_on(file, log.last),
            lines: log.lines,
            sums,
            _lock: lock,
        })
    }

    /// Bytes of the log, after they reached the disk.
    ///
    /// # Errors
    /// If they do not.
    pub fn synced(&self) -> Result<u64> {
        let context = || cannot_write(&self.partial.join(EVENTS));
        self.events.file.sync_all().with_context(context)?;
        Ok(self.events.file.metadata().with_context(context)?.len())
    }

    /// Stamps an event with the time and appends it to the log.
    pub fn record(&mut self, event: Event) -> Result<&Line> {
        let seconds = self.before + self.stopwatch.worked().as_secs_f64();
        let line = Line { seconds, peak_memory_bytes: machine::peak_memory_bytes(), event };
        self.events.write(&line).with_context(|| cannot_write(&self.partial.join(EVENTS)))?;
        // Reads back what a reader of the log would get, so that an error appears now and not later.
        self.lines.push(serde_json::from_str(&serde_json::to_string(&line)?)?);
        Ok(&self.lines[self.lines.len() - 1])
    }

    /// Everything recorded so far.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Where the folder is now.
    pub fn folder(&self) -> &Path {
        &self.partial
    }

    /// Writes a file of the folder.
    ///
    /// # Errors
    /// Naming the file that cannot be written.
    pub fn write(&mut self, name: &str, content: &[u8]) -> Result<()> {
        match &mut self.sums {
            Some(sums) => sums.write_file(&self.partial, name, content),
            None => write_atomic(&self.partial.join(name), content),
        }
    }

    /// Gives the whole folder its final name, and returns it.
    pub fn finish(mut self) -> Result<PathBuf> {
        let events = self.partial.join(EVENTS);
        self.events.file.sync_all().with_context(|| cannot_write(&events))?;
        if let Some(sums) = &mut self.sums {
            let log = fs::read(&events).with_context(|| format!("cannot read {}", events.display()))?;
            sums.set(EVENTS, &log);
            sums.write(&self.partial)?;
        }
        if self.last.symlink_metadata().is_ok() {
            bail!(
                "{} appeared while the run was going; it is kept as {}",
                self.last.display(),
                self.partial.display()
            );
        }
        fs::rename(&self.partial, &self.last).with_context(|| {
            format!("cannot rename {} to {}", self.partial.display(), self.last.display())
        })?;
        clear(&self.last)?;
        Ok(self.last)
    }

    /// Ends a run that stopped: a run that can be resumed is kept, and so is one that diverged; a folder without a unit
    /// of work is removed.
    pub fn abandon(mut self, error: anyhow::Error) -> anyhow::Error {
        let works = |line: &Line| matches!(line.event, Event::Progress { .. });
        if error.is::<Diverged>() {
            let reason = kept_diverged(&self.partial);
            if let Err(unwritten) = self.write(DIVERGED, format!("{}\n", sentence(&error)).as_bytes()) {
                return error.context(sentence(&unwritten)).context(reason);
            }
            return error.context(reason);
        }
        if error.is::<Kept>() || self.lines.iter().any(works) {
            return error.context(format!("resume it with `cil-runner resume {}`", self.partial.display()));
        }
        remove_best_effort(&self.partial);
        error
    }
}

/// The message for the folder of a run that diverged.
fn kept_diverged(partial: &Path) -> String {
    format!(
        "{} is kept for inspection; resuming it would diverge again, so run with other settings under another --name",
        partial.display()
    )
}

/// How the run in the folder `partial` diverged, in a sentence; `None` if it did not.
pub fn diverged(partial: &Path) -> Option<String> {
    let text = fs::read_to_string(partial.join(DIVERGED)).ok()?;
    Some(text.lines().next().unwrap_or_default().to_owned())
}

/// Refuses to resume a run that diverged.
///
/// # Errors
/// Naming the folder, with the error of the divergence.
pub fn refuse_diverged(partial: &Path) -> Result<()> {
    match diverged(partial) {
        Some(reason) => Err(bad_input(format!("{}: {reason}", kept_diverged(partial)))),
        None => Ok(()),
    }
}

/// Whether nothing was begun in the folder `partial`: its process was killed before the first checkpoint, which is
/// written before any work. One with files that no run writes is somebody's own.
pub fn is_unbegun(partial: &Path) -> bool {
    let Ok(entries) = fs::read_dir(partial) else { return false };
    let is_beginning = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            is_half(&entry.path()) || BEGINNING.iter().any(|name| entry.file_name() == *name)
        })
    };
    let work = b"\"progress\"";
    let has_work =
        || fs::read(partial.join(EVENTS)).is_ok_and(|it| it.windows(work.len()).any(|it| it == work));
    entries.into_iter().all(is_beginning) && !has_work()
}

/// Removes what a process wrote that was killed before it began, but the lock.
fn clear_beginning(partial: &Path) -> Result<()> {
    remove_halves(partial)?;
    for name in BEGINNING.iter().filter(|name| **name != LOCK) {
        remove_file(&partial.join(name))?;
    }
    Ok(())
}

/// Removes a file that need not be there.
///
/// # Errors
/// Naming the file, if it cannot be removed.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The lock on a run folder, which one process has at a time.
///
/// # Errors
/// Naming the folder, if another process has it or there is none to be had.
pub fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.with_context(|| cannot_write(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(bad_input(format!("another process works on {}; wait for its end", folder.display())))
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Removes from a whole run's folder what only a run that goes needs.
///
/// # Errors
/// Naming the file that cannot be removed.
pub fn clear(folder: &Path) -> Result<()> {
    checkpoint::remove(folder)?;
    remove_halves(folder)?;
    remove_file(&folder.join(LOCK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::log::load_events;

    #[test]
    fn what_is_recorded_is_read_back() {
        let out = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(out.path(), "a-s1").unwrap();
        recorder.record(Event::TaskStart { task: 0, new_classes: 6, classes_seen: 6 }).unwrap();
        recorder.record(Event::RunEnd).unwrap();
        recorder.write("env.json", b"{}").unwrap();
        let lines = recorder.lines().to_vec();
        assert!(out.path().join("a-s1.partial").is_dir());
        let folder = recorder.finish().unwrap();
        assert_eq!(folder, out.path().join("a-s1"));
        assert_eq!(load_events(&folder).unwrap().lines, lines);
        assert_eq!(fs::read(folder.join("env.json")).unwrap(), b"{}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_exists_is_refused() {
        let out = tempfile::tempdir().unwrap();
        fs::create_dir(out.path().join("a")).unwrap();
        let error = Recorder::create(out.path(), "a").err().unwrap().to_string();
        assert!(error.contains("exists"), "{error}");
        let under_way = Recorder::create(out.path(), "b").unwrap();
        assert!(Recorder::create(out.path(), "b").is_err(), "another run is under way");
        drop(under_way);
        assert!(Recorder::create(out.path(), "../b").is_err());
        assert!(!out.path().join("a.partial").exists());
    }

    #[test]
    fn what_was_not_begun_is_taken_over_and_what_was_is_kept() {
        let out = tempfile::tempdir().unwrap();
        let partial = out.path().join("a.partial");
        let left: [&[(&str, &str)]; 5] = [
            &[],
            &[("lock", "")],
            &[("lock", ""), ("events.jsonl", "{\"form")],
            &[("lock", ""), ("events.jsonl", "{\"format\":1}\n"), ("config.toml.tmp", "a = ")],
            &[("config.toml", "a = 1"), ("env.json", "{"), ("SHA256SUMS", "0"), ("env.json.tmp", "")],
        ];
        for files in left {
            fs::create_dir(&partial).unwrap();
            files.iter().for_each(|(name, text)| fs::write(partial.join(name), text).unwrap());
            let recorder = Recorder::create(out.path(), "a").unwrap();
            let mut names: Vec<_> = fs::read_dir(&partial)
                .unwrap()
                .map(|it| it.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            assert_eq!(names, ["events.jsonl", "lock"], "{files:?}");
            assert!(is_unbegun(&partial));
            let message = Recorder::create(out.path(), "a").err().unwrap().to_string();
            assert!(message.contains("another process works on"), "{message}");
            drop(recorder);
            fs::remove_dir_all(&partial).unwrap();
        }
        for (name, text) in [("000000.checkpoint", ""), ("mine.txt", "precious"), ("base.safetensors", "")] {
            fs::create_dir(&partial).unwrap();
            fs::write(partial.join(name), text).unwrap();
            assert!(!is_unbegun(&partial));
            assert!(Recorder::create(out.path(), "a").err().unwrap().to_string().contains("exists"));
            assert!(partial.join(name).exists());
            fs::remove_dir_all(&partial).unwrap();
        }
    }

    #[test]
    fn a_log_is_cut_to_its_checkpoint_and_goes_on_in_time() {
        let out = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(out.path(), "a").unwrap();
        recorder.write("env.json", b"{}").unwrap();
        recorder.record(Event::TaskStart { task: 0, new_classes: 6, classes_seen: 6 }).unwrap();
        let (bytes, folder) = (recorder.synced().unwrap(), recorder.folder().to_owned());
        recorder.record(Event::RunEnd).unwrap();
        let seconds = recorder.lines()[0].seconds;
        assert!(lock(&folder).unwrap_err().to_string().contains("another process works on"));
        drop(recorder);
        assert!(Recorder::reopen(&folder, lock(&folder).unwrap(), 9999).is_err());
        let mut again = Recorder::reopen(&folder, lock(&folder).unwrap(), bytes).unwrap();
        assert_eq!(again.lines().len(), 1);
        assert!(again.record(Event::RunEnd).unwrap().seconds >= seconds);
        assert_eq!(load_events(&folder).unwrap().lines, again.lines());
        assert_eq!(again.finish().unwrap(), out.path().join("a"));
        let sums = Sums::load(&out.path().join("a")).unwrap().unwrap();
        assert_eq!(sums.names().collect::<Vec<_>>(), ["env.json", "events.jsonl"]);
        assert_eq!(fs::read_dir(out.path().join("a")).unwrap().count(), 3);
    }
}
