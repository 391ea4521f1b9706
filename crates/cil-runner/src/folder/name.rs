//! Names of run folders.
//!
//! A name is plain text without a meaning of its own: no path, no hidden file, none of the endings that mark unfinished
//! folders and files.

use std::path::Path;

use anyhow::Result;

use super::writer::PARTIAL;
use crate::cli::failure::bad_input;

/// Refuses what is not a name for a run folder.
///
/// # Errors
/// Naming it.
pub fn check_name(name: &str) -> Result<()> {
    let is_plain = !name.is_empty()
        && !name.starts_with('.')
        && name.trim() == name
        && !name.chars().any(|it| matches!(it, '/' | '\\') || it.is_control());
    if !is_plain {
        return Err(bad_input(format!(
            "{name:?} is not a name for a folder; give a plain one, such as demo-lwf-s1"
        )));
    }
    // Names with these endings mean unfinished runs, or files that are being written.
    let ending = Path::new(name).extension().and_then(|it| it.to_str()).unwrap_or_default();
    if [PARTIAL, "tmp"].iter().any(|it| ending.eq_ignore_ascii_case(it)) {
        return Err(bad_input(format!(
            "{name:?} is not a name for a run: .{ending} is what the folder of an unfinished one ends with; use another name"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for name in [
            "",
            ".",
            "..",
            ".a",
            "a/b",
            "a\\b",
            "a\0",
            "a\n",
            " a",
            "a.partial",
            "a.PARTIAL",
            "a.b.partial",
            "a.tmp",
        ] {
            let message = check_name(name).unwrap_err().to_string();
            assert!(message.contains(&format!("{name:?} is not a name")), "{message}");
        }
        for name in ["a", "a-s1", "partial", "a.partial-s1", "lucir 2", "été", "a.toml"] {
            check_name(name).unwrap();
        }
    }
}
