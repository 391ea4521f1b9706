//! `tidy`: the rules of the house that no compiler checks.
//!
//! A rule is a function from text to findings, so each is tested on text; only this file walks the tree. Tidy repairs
//! nothing.

mod circles;
mod dependencies;
mod presets;
mod text;

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Folders that hold no source: build outputs, run folders, and version control.
const SKIPPED: [&str; 3] = ["target", "runs", ".git"];
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// One breach of a rule.
#[derive(Debug, PartialEq)]
struct Finding {
    place: String,
    message: String,
    /// Whether `tidy` fails because of it.
    is_error: bool,
}

impl Finding {
    fn error(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into(), is_error: true }
    }

    fn warning(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into(), is_error: false }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_error { "error" } else { "warning" };
        write!(formatter, "{kind}: {}: {}", self.place, self.message)
    }
}

/// Checks the workspace that the current folder is in.
pub fn run(out: &mut dyn Write) -> Result<()> {
    let findings = check(&workspace_root()?)?;
    for finding in &findings {
        writeln!(out, "{finding}")?;
    }
    let errors = findings.iter().filter(|finding| finding.is_error).count();
    writeln!(out, "tidy: {errors} errors, {} warnings", findings.len() - errors)?;
    if errors > 0 {
        bail!("tidy found {errors} errors");
    }
    Ok(())
}

/// The nearest folder upwards whose `Cargo.toml` has a `[workspace]`.
pub(crate) fn workspace_root() -> Result<PathBuf> {
    let current = std::env::current_dir().context("cannot tell the current folder")?;
    for folder in current.ancestors() {
        let Ok(text) = fs::read_to_string(folder.join("Cargo.toml")) else { continue };
        if text.parse::<toml::Table>().is_ok_and(|manifest| manifest.contains_key("workspace")) {
            return Ok(folder.to_owned());
        }
    }
    bail!("{} is in no cargo workspace", current.display())
}

fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut files = Vec::new();
    walk(root, Path::new(""), &mut files)?;
    files.sort();
    let mut findings = Vec::new();
    let mut preset_files = Vec::new();
    for (name, text) in &files {
        if name.ends_with(".rs") {
            findings.extend(text::rust_file(name, text));
        }
        findings.extend(text::any_file(name, text));
        if presets::is_preset_file(name) {
            preset_files.push((name.as_str(), text.as_str()));
        }
    }
    findings.extend(presets::check(&preset_files));
    findings.extend(circles::check(&files));
    for member in members(root)? {
        let place = if member.is_empty() { "Cargo.toml".to_owned() } else { format!("{member}/Cargo.toml") };
        let text = fs::read_to_string(root.join(&place)).with_context(|| format!("cannot read {place}"))?;
        let manifest: toml::Table = text.parse().with_context(|| format!("{place} is not TOML"))?;
        findings.extend(dependencies::check(&place, &manifest));
        findings.extend(dependencies::check_lints(&place, &manifest));
    }
    Ok(findings)
}

/// The workspace's members, `folder/*` spelled out, sorted.
fn members(root: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join("Cargo.toml")).context("cannot read Cargo.toml")?;
    let manifest: toml::Table = text.parse().context("Cargo.toml is not TOML")?;
    let patterns = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("members"))
        .and_then(toml::Value::as_array)
        .context("Cargo.toml lists no workspace members")?;
    let mut members = Vec::new();
    for pattern in patterns.iter().filter_map(toml::Value::as_str) {
        let Some(parent) = pattern.strip_suffix("/*") else {
            members.push(pattern.to_owned());
            continue;
        };
        for entry in fs::read_dir(root.join(parent)).with_context(|| format!("cannot read {parent}"))? {
            let entry = entry.with_context(|| format!("cannot read {parent}"))?;
            if entry.path().join("Cargo.toml").is_file() {
                members.push(format!("{parent}/{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    members.sort();
    Ok(members)
}

/// Collects the text files below `root`, their names written with `/`.
fn walk(root: &Path, relative: &Path, files: &mut Vec<(String, String)>) -> Result<()> {
    let folder = root.join(relative);
    let place = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(&folder).with_context(place)? {
        let entry = entry.with_context(place)?;
        let kind = entry.file_type().with_context(place)?;
        let file_name = entry.file_name();
        let path = relative.join(&file_name);
        if kind.is_dir() {
            let skipped = SKIPPED.iter().any(|name| file_name == *name) || relative == Path::new("datasets");
            if !skipped {
                walk(root, &path, files)?;
            }
        } else if kind.is_file() && entry.metadata().with_context(place)?.len() <= MAX_TEXT_BYTES {
            // What is not UTF-8 is no text.
            if let Ok(text) = fs::read_to_string(entry.path()) {
                files.push((path.to_string_lossy().replace('\\', "/"), text));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_walked_and_its_breaches_are_found() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\n");
        write(
            "crates/cil-data/Cargo.toml",
            "[package]\nname = \"cil-data\"\n[dependencies]\ndfgr.workspace = true\n",
        );
        write("crates/cil-data/src/lib.rs", "fn main() {} \n");
        write("target/generated.rs", "no header \n");
        write("datasets/cifar100/note.txt", "trailing \n");
        let mut messages: Vec<String> = check(root.path()).unwrap().iter().map(Finding::to_string).collect();
        messages.sort();
        assert_eq!(
            messages,
            [
                "error: crates/cil-data/Cargo.toml: `[lints] workspace = true` is missing",
                "error: crates/cil-data/Cargo.toml: cil-data depends on dfgr, it may depend on cil-random",
                "error: crates/cil-data/src/lib.rs: the file does not begin with `//!` module documentation",
                "error: crates/cil-data/src/lib.rs:1: trailing white space",
            ]
        );
    }
}
