//! `lint`: everything that must be clean before a commit, in one command.
//!
//! All steps run although one fails, so that one run reports everything; the summary names the failures. The steps
//! repair nothing.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{advisories, licences, tidy};

/// A step that cargo runs: its name, arguments, and one environment variable.
type Step = (&'static str, &'static [&'static str], Option<(&'static str, &'static str)>);

const STEPS: [Step; 3] = [
    ("fmt", &["fmt", "--all", "--check"], None),
    ("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], None),
    ("doc", &["doc", "--no-deps", "--workspace"], Some(("RUSTDOCFLAGS", "-D warnings"))),
];

/// A step of our own: its name and what it does.
type Own = (&'static str, fn(&mut dyn Write) -> Result<()>);

const OWN: [Own; 3] = [("licences", licences::run), ("advisories", advisories::run), ("tidy", tidy::run)];

/// Runs all steps and sums them up.
pub fn run(out: &mut dyn Write) -> Result<()> {
    let root = tidy::workspace_root()?;
    let mut results = Vec::new();
    for (name, arguments, variable) in STEPS {
        writeln!(out, "lint: cargo {}", arguments.join(" "))?;
        out.flush()?;
        let started = Instant::now();
        results.push((name, cargo(&root, arguments, variable), started.elapsed()));
    }
    for (name, check) in OWN {
        writeln!(out, "lint: {name}")?;
        let started = Instant::now();
        results.push((name, check(out), started.elapsed()));
    }

    let mut failed = Vec::new();
    for (name, result, elapsed) in &results {
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        writeln!(out, "lint: {name:<10} {verdict:<6} {:.1} s", elapsed.as_secs_f64())?;
        if result.is_err() {
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("lint failed in {}", failed.join(", "));
    }
    Ok(())
}

fn cargo(root: &Path, arguments: &[&str], variable: Option<(&str, &str)>) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root).envs(variable);
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}
