//! From what was named to the runs that are meant.
//!
//! An argument may be a run folder, a folder of run folders (a sweep's, or `runs` itself) or anything else that a
//! shell's `*` expands to; entries that are not runs are left out with the reason, and only a missing path, or no run
//! at all, is an error. It reads what [`Recorded`] reads and writes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cli::failure::{bad_input, sentence};
use crate::folder::contents::CONFIG;
use crate::folder::log::EVENTS;
use crate::results::recorded::Recorded;

/// The runs that were meant, and what else was named.
#[derive(Debug)]
pub struct Gathered {
    /// In the order they were named; those of a folder by name.
    pub runs: Vec<Recorded>,
    /// Entries that are not runs, each with the reason.
    pub left_out: Vec<String>,
}

/// Reads the runs that `paths` name.
///
/// # Errors
/// If a path is not there, a run is named twice, or none of them is a run.
pub fn gather(paths: &[PathBuf]) -> Result<Gathered> {
    let (mut folders, mut left_out) = (Vec::new(), Vec::new());
    for path in paths {
        match Kind::of(path)? {
            Kind::Run => folders.push(path.clone()),
            Kind::Runs(inner) => folders.extend(inner),
            Kind::Missing => {
                // The sentence of what is not there, or is not whole.
                Recorded::load(path)?;
            }
            Kind::Other(why) => left_out.push(format!("{} {why}", path.display())),
        }
    }
    let mut seen = BTreeSet::new();
    for folder in &folders {
        if folder.canonicalize().is_ok_and(|path| !seen.insert(path)) {
            return Err(bad_input(format!("the run folder {} is named twice", folder.display())));
        }
    }
    let (mut runs, mut first) = (Vec::new(), None);
    for folder in &folders {
        match Recorded::load(folder) {
            Ok(run) => runs.push(run),
            Err(error) => {
                left_out.push(format!("{} cannot be read: {}", folder.display(), sentence(&error)));
                first = first.or(Some(error));
            }
        }
    }
    match (runs.is_empty(), first) {
        (false, _) => Ok(Gathered { runs, left_out }),
        (true, Some(error)) => Err(error),
        (true, None) => Err(bad_input(match &left_out[..] {
            [] => "a report needs at least one run folder".to_owned(),
            _ => left_out.join("; "),
        })),
    }
}

/// The kind of a path in a report's arguments.
enum Kind {
    Run,
    /// A folder that holds run folders.
    Runs(Vec<PathBuf>),
    /// Nothing is there.
    Missing,
    /// Why it is left out.
    Other(String),
}

impl Kind {
    fn of(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::Missing);
        }
        if !path.is_dir() {
            return Ok(Self::Other("is a file, not a run folder".to_owned()));
        }
        if is_run(path) {
            return Ok(Self::Run);
        }
        let mut inner = Vec::new();
        for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
            let entry = entry?.path();
            if is_run(&entry) {
                inner.push(entry);
            }
        }
        inner.sort();
        Ok(match inner.is_empty() {
            true => Self::Other(format!("is not a run folder: it has neither {CONFIG} nor runs")),
            false => Self::Runs(inner),
        })
    }
}

/// Whether a run was begun here.
fn is_run(path: &Path) -> bool {
    path.join(CONFIG).is_file() || path.join(EVENTS).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::page::tests::write;

    #[test]
    fn runs_are_taken_and_other_paths_are_listed() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let one = write(place.path(), "demo-lwf", 1, 5, 10);
        let sweep = at("compare");
        for folder in ["bases", "logs", "configs"] {
            fs::create_dir_all(sweep.join(folder)).unwrap();
        }
        write(&sweep, "demo-lwf", 2, 5, 10);
        write(&sweep, "demo-joint", 1, 5, 4);
        write(&sweep.join("bases"), "demo-fine-tune", 1, 5, 10);
        fs::write(at("report.html"), "x").unwrap();
        fs::create_dir(at("empty")).unwrap();
        let broken = write(place.path(), "demo-lwf", 9, 5, 10);
        fs::write(broken.join(CONFIG), "seed = = 1").unwrap();
        let all = [one.clone(), sweep.clone(), at("report.html"), at("empty"), broken.clone()];
        let it = gather(&all).unwrap();
        let names: Vec<&str> = it.runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names, ["demo-lwf-s1", "demo-joint-s1", "demo-lwf-s2"]);
        let left_out = it.left_out.join("\n");
        assert!(
            left_out.contains("report.html is a file") && left_out.contains("empty is not a run folder"),
            "{left_out}"
        );
        assert!(
            left_out.contains("demo-lwf-s9 cannot be read: ") && left_out.contains("is not TOML"),
            "{left_out}"
        );

        let error = |paths: &[PathBuf]| gather(paths).unwrap_err().to_string();
        assert!(error(&[one.clone(), at("none")]).contains("there is no such folder"));
        assert!(error(&[one.clone(), one]).contains("is named twice"));
        assert!(error(&[at("empty"), at("report.html")]).contains("report.html is a file"));
        assert!(error(&[broken]).contains("is not TOML"));
        assert!(error(&[at("compare").join("demo-lwf-s2"), sweep]).contains("is named twice"));
    }
}
