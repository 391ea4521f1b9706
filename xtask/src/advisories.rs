//! Known vulnerabilities of dependencies, from the RustSec database, by `cargo deny`.
//!
//! The step needs the program `cargo-deny` and an internet connection. Without one of them it prints that it was
//! skipped and why; a vulnerability, or any other failure of `cargo deny`, is an error.

use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tidy;

/// Messages of `cargo deny` that say that the database, or the index of yanked crates, could not be fetched.
const UNREACHABLE: [&str; 2] = ["failed to fetch advisory database", "failed to fetch crates.io index"];

/// The message of cargo where `cargo-deny` is not installed.
const NOT_INSTALLED: &str = "no such command";

/// Checks the workspace's dependencies for advisories.
///
/// # Errors
/// If there is one, or cargo cannot be started.
pub fn run(out: &mut dyn Write) -> Result<()> {
    let root = tidy::workspace_root()?;
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(["deny", "--locked", "check", "advisories"])
        .current_dir(root)
        .output()
        .context("cannot start cargo")?;
    let messages = String::from_utf8_lossy(&output.stderr);
    match verdict(output.status.success(), &messages) {
        Verdict::Clean => writeln!(out, "advisories: none")?,
        Verdict::Skipped(why) => writeln!(out, "advisories: SKIPPED, {why}")?,
        Verdict::Failed => {
            writeln!(out, "{}", messages.trim())?;
            bail!("cargo deny check advisories ended with {}", output.status);
        }
    }
    Ok(())
}

/// The outcome of `cargo deny`.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Clean,
    /// With the reason.
    Skipped(&'static str),
    Failed,
}

fn verdict(success: bool, messages: &str) -> Verdict {
    if success {
        return Verdict::Clean;
    }
    if messages.contains(NOT_INSTALLED) {
        return Verdict::Skipped("cargo-deny is not installed; run `cargo install cargo-deny --locked`");
    }
    match UNREACHABLE.iter().any(|message| messages.contains(message)) {
        true => Verdict::Skipped("the advisory database cannot be fetched"),
        false => Verdict::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_program_or_database_is_skipped() {
        assert_eq!(verdict(true, "advisories ok"), Verdict::Clean);
        let missing =
            "error: no such command: `deny`\n\nhelp: view all installed commands with `cargo --list`";
        assert!(matches!(verdict(false, missing), Verdict::Skipped(why) if why.contains("cargo install")));
        let offline =
            "2026-11-27 [ERROR] failed to fetch advisory database\n\nCaused by:\n  an IO error occurred";
        assert!(matches!(verdict(false, offline), Verdict::Skipped(why) if why.contains("fetched")));
        let found = "error[vulnerability]: a title\n = ID: RUSTSEC-2020-0001\nadvisories FAILED";
        assert_eq!(verdict(false, found), Verdict::Failed);
        assert_eq!(verdict(false, "[ERROR] failed to load advisory database"), Verdict::Failed, "damaged");
        assert_eq!(verdict(false, ""), Verdict::Failed);
    }
}
