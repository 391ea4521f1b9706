//! `result.json` in a run's folder.

use std::path::Path;

use anyhow::Result;

use crate::folder::contents::{RESULT, from_json, json, read};
use crate::folder::files::write_atomic;
use crate::folder::integrity;
use crate::folder::sums::Sums;
use crate::results::result::RunResult;

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
