//! A run's folder on disk.
//!
//! One decision: the folder carries the suffix `.partial` until the run is whole, and is renamed then; inside it,
//! events are appended and flushed line by line, and every other file is written under a temporary name, synced and
//! renamed. So nothing half-written ever has a final name. It computes no number.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cil_train::event::Event;
use serde::{Deserialize, Serialize};

use crate::failure::bad_input;
use crate::machine;

/// Version of the event log.
pub const FORMAT: u32 = 1;
/// What follows the dot in the name of a folder whose run is not whole.
pub const PARTIAL: &str = "partial";
/// The event log's name within a run folder.
pub const EVENTS: &str = "events.jsonl";

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
    lines: Vec<Line>,
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
        for path in [&last, &partial] {
            if path.symlink_metadata().is_ok() {
                let path = path.display();
                return Err(bad_input(format!(
                    "the output folder {path} exists; remove it, or choose another with --out or --name"
                )));
            }
        }
        fs::create_dir_all(out).with_context(|| format!("cannot create the folder {}", out.display()))?;
        fs::create_dir(&partial)
            .with_context(|| format!("cannot create the folder {}", partial.display()))?;
        let begin = || {
            let path = partial.join(EVENTS);
            let mut events = File::create_new(&path).with_context(|| cannot_write(&path))?;
            write_line(&mut events, &Header { format: FORMAT }).with_context(|| cannot_write(&path))?;
            Ok(events)
        };
        match begin() {
            Ok(events) => Ok(Self { partial, last, events, started: Instant::now(), lines: Vec::new() }),
            Err(error) => {
                remove_best_effort(&partial);
                Err(error)
            }
        }
    }

    /// Stamps an event with the time and appends it to the log.
    pub fn record(&mut self, event: Event) -> Result<&Line> {
        let seconds = self.started.elapsed().as_secs_f64();
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
        Ok(self.last)
    }

    /// Ends a run that failed: what was recorded of a learned task is kept as evidence, anything less is removed.
    pub fn abandon(self, error: anyhow::Error) -> anyhow::Error {
        let learned = |line: &Line| matches!(line.event, Event::TaskEnd { .. });
        if self.lines.iter().any(learned) {
            return error.context(format!("what was recorded is kept in {}", self.partial.display()));
        }
        remove_best_effort(&self.partial);
        error
    }
}

/// Reads an event log. What follows the last end of a line is an event that was not written whole, and is left out.
pub fn load_events(folder: &Path) -> Result<Vec<Line>> {
    let path = folder.join(EVENTS);
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let mut lines = text[..whole].split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let header: Header = serde_json::from_slice(first)
        .with_context(|| format!("{} does not begin with its format", path.display()))?;
    if header.format != FORMAT {
        bail!("{} has format {}, this program reads format {FORMAT}", path.display(), header.format);
    }
    let mut events = Vec::new();
    for (index, line) in lines.enumerate() {
        let at = || format!("line {} of {} is no event", index + 2, path.display());
        events.push(serde_json::from_slice(line).with_context(at)?);
    }
    Ok(events)
}

/// Writes `content` so that `path` holds all of it or what it held before.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().with_context(|| format!("{} is no file", path.display()))?.to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the failure to write is what is reported.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| cannot_write(path))
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
    fn an_event_that_was_not_written_whole_is_left_out_and_a_broken_one_is_told() {
        let out = tempfile::tempdir().unwrap();
        let log =
            "{\"format\":1}\n{\"seconds\":1.0,\"peak_memory_bytes\":null,\"event\":\"run-end\"}\n{\"sec";
        fs::write(out.path().join(EVENTS), log).unwrap();
        assert_eq!(load_events(out.path()).unwrap().len(), 1);
        fs::write(out.path().join(EVENTS), format!("{log}\n")).unwrap();
        let error = load_events(out.path()).unwrap_err().to_string();
        assert!(error.starts_with("line 3 of"), "{error}");
        fs::write(out.path().join(EVENTS), "{\"format\":9}\n").unwrap();
        assert!(load_events(out.path()).unwrap_err().to_string().contains("format 9"));
        fs::write(out.path().join(EVENTS), "").unwrap();
        assert!(load_events(out.path()).unwrap_err().to_string().contains("does not begin with its format"));
    }
}
