//! The files of a run folder that are JSON.
//!
//! One decision: names of files stand here, and a file that is not what a run writes is told by its name.

use std::path::Path;

use anyhow::{Context, Result};

use crate::config::{Checked, Difference, RunConfig, differences};
use crate::environment::Environment;
use crate::failure::bad_input;
use crate::integrity;
use crate::overlay;
use crate::record::sums::Sums;
use crate::record::write_atomic;
use crate::report::RunResult;

/// Name of the file with the model of the base classes.
pub const BASE: &str = "base.safetensors";
/// Name of the file with the last model.
pub const MODEL: &str = "model.safetensors";
/// Name of the file with the numbers.
pub const RESULT: &str = "result.json";
/// Name of the file with every setting.
pub const CONFIG: &str = "config.toml";
/// Name of the file with what it ran on.
pub const ENVIRONMENT: &str = "env.json";
/// What is said of a folder whose process was killed before the first checkpoint.
pub const UNBEGUN: &str = "nothing of this run was begun: its process ended while the folder was made; `cil-runner run` \
                           under the same name takes it over";

/// Writes a run's result into its folder, where it is another than what is there.
///
/// # Errors
/// Naming the file, if it cannot be written.
pub fn write_result(folder: &Path, result: &RunResult) -> Result<()> {
    let (path, content) = (folder.join(RESULT), json(result)?);
    if std::fs::read(&path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    match Sums::load(folder)? {
        Some(mut sums) => sums.write_file(folder, RESULT, &content),
        None => write_atomic(&path, &content),
    }
}

/// The result in a run's folder.
///
/// # Errors
/// Naming the file, if it cannot be read or is not what the run wrote.
pub fn read_result(folder: &Path) -> Result<RunResult> {
    let path = folder.join(RESULT);
    let bytes = read(&path)?;
    integrity::hold_file(&path, &bytes)?;
    from_json(&path, &bytes)
}

/// What a run's folder says it ran on.
///
/// # Errors
/// Naming the file, if it cannot be read.
pub fn read_environment(folder: &Path) -> Result<Environment> {
    let path = folder.join(ENVIRONMENT);
    from_json(&path, &read(&path)?)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn from_json<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).with_context(|| format!("{} is not what a run writes", path.display()))
}

/// Refuses to go on with a configuration that is not the one that the run began with: the record would claim it for
/// epochs that ran with another.
pub(super) fn same_configuration(partial: &Path, checked: &Checked, begun: &str) -> Result<()> {
    let begun: RunConfig = overlay::read(overlay::parse_table(begun, "the checkpoint")?, "the checkpoint")?;
    let found = differences(checked.config(), &begun)?;
    let Some(Difference { key, left, right }) = found.first() else { return Ok(()) };
    let more = match found.len() {
        1 => String::new(),
        count => format!(", and so differ {} other keys", count - 1),
    };
    Err(bad_input(format!(
        "{}: {key} is {left}, and the run began with {right}{more}; put back what it began with, or begin another run \
         with `cil-runner run`",
        partial.join(CONFIG).display()
    )))
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}
