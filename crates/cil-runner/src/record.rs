//! A run's folder on disk.
//!
//! One decision: the folder carries the suffix `.partial` until the run is whole, and is renamed then; inside it,
//! events are appended and flushed line by line, and every other file is written under a temporary name, synced and
//! renamed. So nothing half-written ever has a final name. It computes no number.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cil_train::Diverged;
use cil_train::event::Event;
use serde::{Deserialize, Serialize};

use crate::checkpoint;
use crate::failure::{Kept, bad_input};
use crate::machine;

/// Version of the event log.
pub const FORMAT: u32 = 1;
/// What follows the dot in the name of a folder whose run is not whole.
pub const PARTIAL: &str = "partial";
/// The event log's name within a run folder.
pub const EVENTS: &str = "events.jsonl";
/// What follows the last dot in the name of a file that is being written.
const HALF: &str = "tmp";
/// Who holds the lock on this file writes the folder; the lock ends with its process.
const LOCK: &str = "lock";

/// The first line of an event log.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
}

/// One recorded event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Seconds since the run began.
    pub seconds: f64,
    /// Most memory the process held so far; where it can be told.
    pub peak_memory_bytes: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A run folder that is being written.
pub struct Recorder {
    partial: PathBuf,
    last: PathBuf,
    events: File,
    started: Instant,
    /// Seconds of the run before this process.
    before: f64,
    lines: Vec<Line>,
    _lock: File,
}

impl Recorder {
    /// Makes the folder `out/name.partial`; refuses if it or `out/name` exists.
    pub fn create(out: &Path, name: &str) -> Result<Self> {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        if !plain {
            return Err(bad_input(format!("{name:?} is not a name for a folder")));
        }
        let last = out.join(name);
        let partial = out.join(format!("{name}.{PARTIAL}"));
        if partial.symlink_metadata().is_ok() {
            let path = partial.display();
            return Err(bad_input(format!(
                "the folder {path} of a run that is not whole exists; `cil-runner resume {path}` goes on with it, or \
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
        fs::create_dir(&partial)
            .with_context(|| format!("cannot create the folder {}", partial.display()))?;
        let begin = || {
            let path = partial.join(EVENTS);
            let mut events = File::create_new(&path).with_context(|| cannot_write(&path))?;
            write_line(&mut events, &Header { format: FORMAT }).with_context(|| cannot_write(&path))?;
            Ok((events, lock(&partial)?))
        };
        match begin() {
            Ok((events, lock)) => {
                let (started, lines) = (Instant::now(), Vec::new());
                Ok(Self { partial, last, events, started, before: 0.0, lines, _lock: lock })
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
        let path = partial.join(EVENTS);
        let place = || format!("cannot go on with {}", path.display());
        let mut events = OpenOptions::new().read(true).write(true).open(&path).with_context(place)?;
        let mut text = String::new();
        Read::by_ref(&mut events).take(events_bytes).read_to_string(&mut text).with_context(place)?;
        if text.len() as u64 != events_bytes || !text.ends_with('\n') {
            bail!("{} is shorter than its checkpoint says", path.display());
        }
        let lines = parse(&text, &path)?;
        remove_halves(partial)?;
        events.set_len(events_bytes).with_context(place)?;
        events.seek(SeekFrom::End(0)).with_context(place)?;
        Ok(Self {
            partial: partial.to_owned(),
            last: partial.with_extension(""),
            events,
            started: Instant::now(),
            before: lines.last().map_or(0.0, |line| line.seconds),
            lines,
            _lock: lock,
        })
    }

    /// Bytes of the log, after they reached the disk.
    ///
    /// # Errors
    /// If they do not.
    pub fn synced(&self) -> Result<u64> {
        let context = || cannot_write(&self.partial.join(EVENTS));
        self.events.sync_all().with_context(context)?;
        Ok(self.events.metadata().with_context(context)?.len())
    }

    /// Stamps an event with the time and appends it to the log.
    pub fn record(&mut self, event: Event) -> Result<&Line> {
        let seconds = self.before + self.started.elapsed().as_secs_f64();
        let line = Line { seconds, peak_memory_bytes: machine::peak_memory_bytes(), event };
        write_line(&mut self.events, &line).with_context(|| cannot_write(&self.partial.join(EVENTS)))?;
        self.lines.push(line);
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
    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        write_atomic(&self.partial.join(name), content)
    }

    /// Gives the whole folder its final name, and returns it.
    pub fn finish(self) -> Result<PathBuf> {
        let context = || cannot_write(&self.partial.join(EVENTS));
        self.events.sync_all().with_context(context)?;
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

    /// Ends a run that stopped: what can be gone on with is kept, as is what diverged; a folder without a unit of work is
    /// removed.
    pub fn abandon(self, error: anyhow::Error) -> anyhow::Error {
        let works = |line: &Line| matches!(line.event, Event::Progress { .. });
        if error.is::<Diverged>() {
            let path = self.partial.display();
            return error.context(format!(
                "{path} is kept to be looked at; going on with it would end in the same, so run with other settings \
                 under another --name"
            ));
        }
        if error.is::<Kept>() || self.lines.iter().any(works) {
            return error.context(format!("`cil-runner resume {}` goes on", self.partial.display()));
        }
        remove_best_effort(&self.partial);
        error
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
    let path = folder.join(LOCK);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes files that a process was writing when it ended.
fn remove_halves(folder: &Path) -> Result<()> {
    let place = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(place)? {
        let path = entry.with_context(place)?.path();
        if path.extension().is_some_and(|it| it == HALF) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Reads an event log; a last line that was cut off when its process ended is left out.
pub fn load_events(folder: &Path) -> Result<Vec<Line>> {
    let path = folder.join(EVENTS);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&bytes[..whole]);
    parse(text.with_context(|| format!("{} is no text", path.display()))?, &path)
}

fn parse(text: &str, path: &Path) -> Result<Vec<Line>> {
    let mut lines = text.lines();
    let first = lines.next().with_context(|| format!("{} is empty", path.display()))?;
    let header: Header = serde_json::from_str(first)
        .with_context(|| format!("{} does not begin with its format", path.display()))?;
    if header.format != FORMAT {
        bail!("{} has format {}, this program reads format {FORMAT}", path.display(), header.format);
    }
    let event = |(index, line): (usize, &str)| {
        let at = || format!("line {} of {} is no event", index + 2, path.display());
        serde_json::from_str(line).with_context(at)
    };
    lines.enumerate().map(event).collect()
}

/// Writes `content` so that `path` holds all of it or what it held before.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().with_context(|| format!("{} is no file", path.display()))?.to_owned();
    name.push(".");
    name.push(HALF);
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_folder(path));
    if written.is_err() {
        // Best effort: the failure to write is what is reported.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| cannot_write(path))
}

/// Makes a new name in a folder last through a power cut, where the system lets a folder be synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => {
            let here = folder.as_os_str().is_empty();
            File::open(if here { Path::new(".") } else { folder })?.sync_all()
        }
        _ => Ok(()),
    }
}

fn write_line(file: &mut File, value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.flush()?;
    Ok(())
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

fn remove_best_effort(folder: &Path) {
    // Best effort: the failure that led here is what is reported.
    let _ = fs::remove_dir_all(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(load_events(&folder).unwrap(), lines);
        assert_eq!(fs::read(folder.join("env.json")).unwrap(), b"{}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_exists_is_refused() {
        let out = tempfile::tempdir().unwrap();
        fs::create_dir(out.path().join("a")).unwrap();
        let error = Recorder::create(out.path(), "a").err().unwrap().to_string();
        assert!(error.contains("exists"), "{error}");
        Recorder::create(out.path(), "b").unwrap();
        assert!(Recorder::create(out.path(), "b").is_err(), "another run is under way");
        assert!(Recorder::create(out.path(), "../b").is_err());
        assert!(!out.path().join("a.partial").exists());
    }

    #[test]
    fn a_line_that_is_cut_off_is_left_out_and_nonsense_is_told_with_its_line() {
        let out = tempfile::tempdir().unwrap();
        let line = "{\"seconds\":1.0,\"peak_memory_bytes\":null,\"event\":\"run-end\"}\n";
        fs::write(out.path().join(EVENTS), format!("{{\"format\":1}}\n{line}{{\"sec")).unwrap();
        assert_eq!(load_events(out.path()).unwrap().len(), 1);
        fs::write(out.path().join(EVENTS), format!("{{\"format\":1}}\n{line}{{\"sec\n")).unwrap();
        let error = load_events(out.path()).unwrap_err().to_string();
        assert!(error.starts_with("line 3 of"), "{error}");
        fs::write(out.path().join(EVENTS), "{\"format\":9}\n").unwrap();
        assert!(load_events(out.path()).unwrap_err().to_string().contains("format 9"));
        fs::write(out.path().join(EVENTS), "{\"format\"").unwrap();
        assert!(load_events(out.path()).unwrap_err().to_string().contains("is empty"));
    }

    #[test]
    fn a_log_is_cut_to_its_checkpoint_and_goes_on_in_time() {
        let out = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(out.path(), "a").unwrap();
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
        assert_eq!(load_events(&folder).unwrap(), again.lines());
        assert_eq!(again.finish().unwrap(), out.path().join("a"));
        assert_eq!(fs::read_dir(out.path().join("a")).unwrap().count(), 1);
    }
}
