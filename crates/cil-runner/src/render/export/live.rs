//! TensorBoard's event files while a run goes.
//!
//! After each event the file is the one that `report --tensorboard` would write of the log so far. So both may write to
//! one file in any order, and the points that a resumed run repeats replace the earlier ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::tensorboard;
use crate::cli::failure::bad_input;
use crate::folder::log::Line;
use crate::results::result::{self, Facts};

/// Follows one run.
#[derive(Debug)]
pub struct Live {
    folder: PathBuf,
    facts: Facts,
    start: f64,
}

impl Live {
    /// Into the folder `place/name`, which is made; `started` is when the run began.
    ///
    /// # Errors
    /// Naming the flag and the folder, if it cannot be made.
    pub fn begin(place: &Path, name: &str, facts: Facts, started: Option<SystemTime>) -> Result<Self> {
        let folder = place.join(name);
        fs::create_dir_all(&folder)
            .map_err(|error| bad_input(format!("--tensorboard {}: {error}", place.display())))?;
        let since = started.unwrap_or_else(SystemTime::now).duration_since(UNIX_EPOCH);
        Ok(Self { folder, facts, start: since.map_or(0.0, |it| it.as_secs_f64()) })
    }

    /// Writes what is new in `lines`, which are all that the run recorded.
    ///
    /// # Errors
    /// Naming the file that cannot be written.
    pub fn follow(&self, lines: &[Line]) -> Result<()> {
        let result = result::so_far(self.facts.clone(), lines)?;
        tensorboard::write(&self.folder, |begun| {
            Ok(tensorboard::events(lines, result.as_ref(), begun.unwrap_or(self.start)))
        })
    }
}
