//! Who writes a run's folder.
//!
//! Every rank of a run takes the same path, and rank 0 alone writes; the others keep what they need for it in memory
//! and touch no file.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cil_train::event::Event;

use crate::folder::checkpoint::{self, Checkpoint};
use crate::folder::log::{Line, load_events};
use crate::folder::writer::Recorder;

/// Where what happens is recorded.
pub(super) enum Recording {
    /// In the folder of the run, by this process.
    Here(Recorder),
    /// By rank 0.
    Elsewhere {
        /// The folder's last name.
        folder: PathBuf,
        /// Everything that happened.
        lines: Vec<Line>,
    },
}

impl Recording {
    /// Of a rank that writes nothing, in a run that has come so far.
    pub(super) fn elsewhere(folder: &Path, lines: Vec<Line>) -> Self {
        Self::Elsewhere { folder: folder.to_owned(), lines }
    }

    /// Appends an event.
    pub(super) fn record(&mut self, event: Event) -> Result<&Line> {
        match self {
            Self::Here(recorder) => recorder.record(event),
            Self::Elsewhere { lines, .. } => {
                lines.push(Line { seconds: 0.0, peak_memory_bytes: None, event });
                Ok(&lines[lines.len() - 1])
            }
        }
    }

    /// Writes a file of the folder.
    pub(super) fn write(&mut self, name: &str, content: &[u8]) -> Result<()> {
        match self {
            Self::Here(recorder) => recorder.write(name, content),
            Self::Elsewhere { .. } => Ok(()),
        }
    }

    /// Writes a checkpoint of the state that `saved` returns, if this process writes.
    pub(super) fn save(
        &self,
        saved: impl FnOnce() -> Result<cil_train::learner::Saved>,
        config: &str,
    ) -> Result<()> {
        let Self::Here(recorder) = self else { return Ok(()) };
        let (saved, events_bytes) = (saved()?, recorder.synced()?);
        checkpoint::write(recorder.folder(), &Checkpoint { saved, events_bytes, config: config.to_owned() })
    }

    /// Everything that happened, as it stands in the log on the disk where there is one.
    pub(super) fn log(&self) -> Result<Vec<Line>> {
        match self {
            Self::Here(recorder) => Ok(load_events(recorder.folder())?.lines),
            Self::Elsewhere { lines, .. } => Ok(lines.clone()),
        }
    }

    /// Everything that happened so far.
    pub(super) fn lines(&self) -> &[Line] {
        match self {
            Self::Here(recorder) => recorder.lines(),
            Self::Elsewhere { lines, .. } => lines,
        }
    }

    /// Where the folder is now.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Here(recorder) => recorder.folder(),
            Self::Elsewhere { folder, .. } => folder,
        }
    }

    /// The folder under its last name.
    pub(super) fn finish(self) -> Result<PathBuf> {
        match self {
            Self::Here(recorder) => recorder.finish(),
            Self::Elsewhere { folder, .. } => Ok(folder),
        }
    }

    /// Ends a run that stopped.
    pub(super) fn abandon(self, error: anyhow::Error) -> anyhow::Error {
        match self {
            Self::Here(recorder) => recorder.abandon(error),
            Self::Elsewhere { .. } => error,
        }
    }
}
