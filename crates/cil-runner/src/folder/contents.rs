//! The files of a run folder that are JSON.
//!
//! It holds the names of files, and an error about an unexpected file gives its name.

use std::path::Path;

use anyhow::{Context, Result};

use crate::folder::environment::Environment;

/// Name of the file with the model of the base classes.
pub const BASE: &str = "base.safetensors";
/// Name of the file with the last model.
pub const MODEL: &str = "model.safetensors";
/// Name of the file with the statistics that are kept of all classes, of a run that carries some.
pub const STATISTICS: &str = "statistics.safetensors";
/// Name of the file with the numbers.
pub const RESULT: &str = "result.json";
/// Name of the file with what an audit of the finished run found; a run itself does not write it.
pub const FINDINGS: &str = "audit.json";
/// Name of the file with every setting.
pub const CONFIG: &str = "config.toml";
/// Name of the file with what it ran on.
pub const ENVIRONMENT: &str = "env.json";
/// The message for a folder whose process was killed before the first checkpoint.
pub const UNBEGUN: &str = "nothing of this run was begun: its process ended while the folder was made; `cil-runner run` \
                           under the same name takes it over";

/// The environment that a run's folder records.
///
/// # Errors
/// Naming the file, if it cannot be read.
pub fn read_environment(folder: &Path) -> Result<Environment> {
    let path = folder.join(ENVIRONMENT);
    from_json(&path, &read(&path)?)
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

pub(crate) fn from_json<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).with_context(|| format!("{} is not what a run writes", path.display()))
}

pub(crate) fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}
