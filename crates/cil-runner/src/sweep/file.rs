//! A sweep's file.
//!
//! One decision: it says which configurations are meant and nothing of how they are run; every complaint names the file
//! and the key. Changes are written as `--set` takes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::config::OrderSpec;
use crate::failure::{bad_input, nearest};
use crate::overlay;

/// The whole file: methods times splits times class orders times seeds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SweepFile {
    /// Seeds of every method.
    pub seeds: Vec<u64>,
    /// Class orders; the method's own where there are none.
    #[serde(default)]
    pub orders: Vec<OrderSpec>,
    /// Whether the first seed goes with the first order, the second with the second, and so on, and tables are over both;
    /// else every seed goes with every order, and each order has a table.
    #[serde(default)]
    pub paired: bool,
    /// Classes of each task, the base first; the method's own where there are none.
    #[serde(default)]
    pub splits: Vec<Vec<usize>>,
    /// Changes to every method, `key=value`.
    #[serde(default)]
    pub set: Vec<String>,
    /// Name of the method that others are compared with, seed by seed.
    #[serde(default)]
    pub baseline: Option<String>,
    /// What is compared.
    pub method: Vec<Entry>,
}

/// One method of a sweep: a preset or a file, and changes to it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// What it is called in tables; what its configuration is called otherwise.
    #[serde(default)]
    pub name: Option<String>,
    /// A preset's name.
    #[serde(default)]
    pub preset: Option<String>,
    /// A configuration's file, seen from the sweep's file.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// Changes to this method, after those to all.
    #[serde(default)]
    pub set: Vec<String>,
}

impl SweepFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Naming the file, the key and what would be right.
    pub fn load(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| bad_input(format!("cannot read {place}: {error}")))?;
        let table = overlay::parse_table(&text, &place)?;
        let file: Self = overlay::read(table, &place)?;
        file.check().map_err(|error| bad_input(format!("{place}: {error}")))?;
        Ok(file)
    }

    fn check(&self) -> Result<()> {
        if self.seeds.is_empty() {
            return Err(bad_input("seeds is empty; a sweep needs at least one, such as [1, 2, 3]"));
        }
        if self.method.is_empty() {
            return Err(bad_input("there is no [[method]]; a sweep needs at least one"));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.seeds.iter().find(|seed| !seen.insert(**seed)) {
            return Err(bad_input(format!("seeds holds {twice} twice; once is right")));
        }
        if self.paired && self.seeds.len() != self.orders.len() {
            return Err(bad_input(format!(
                "paired is true with {} seeds and {} orders; it needs as many of both",
                self.seeds.len(),
                self.orders.len()
            )));
        }
        for (at, entry) in self.method.iter().enumerate() {
            if entry.preset.is_some() == entry.config.is_some() {
                return Err(bad_input(format!("method.{at} needs either preset or config, and not both")));
            }
        }
        Ok(())
    }
}

/// Refuses a baseline that is no method's name.
pub(super) fn check_baseline(baseline: Option<&str>, names: &[String]) -> Result<()> {
    let Some(wrong) = baseline.filter(|it| !names.iter().any(|name| name == it)) else { return Ok(()) };
    Err(bad_input(match nearest(wrong, names.iter().map(String::as_str)) {
        Some(right) => format!("baseline: there is no method {wrong:?}; did you mean {right:?}?"),
        None => format!("baseline: there is no method {wrong:?}; the methods are {}", names.join(", ")),
    }))
}

/// The name of the sweep's folder: the file's without its ending.
pub(super) fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().context("the sweep's file has no name")?;
    Ok(stem.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.toml");
        std::fs::write(&path, text).unwrap();
        let error = SweepFile::load(&path).unwrap_err();
        assert_eq!(crate::failure::exit_status(&error), 2);
        let told = crate::failure::sentence(&error);
        told.split_once("a.toml").unwrap().1.trim_start_matches(": ").to_owned()
    }

    #[test]
    fn what_is_wrong_is_told_in_a_sentence() {
        let method = "[[method]]\npreset = \"demo-lwf\"\n";
        assert_eq!(
            told(&format!("seeds = []\n{method}")),
            "seeds is empty; a sweep needs at least one, such as [1, 2, 3]"
        );
        assert_eq!(told(&format!("seeds = [4, 4]\n{method}")), "seeds holds 4 twice; once is right");
        assert_eq!(
            told(&format!("seed = [1]\nseeds = [1]\n{method}")),
            "there is no key seed; did you mean seeds?"
        );
        assert_eq!(
            told(&format!("seeds = [1, 2]\norders = [{{ seed = 1 }}]\npaired = true\n{method}")),
            "paired is true with 2 seeds and 1 orders; it needs as many of both"
        );
        assert_eq!(told(method), "the key seeds is missing");
        assert_eq!(told("seeds = [1]\nmethod = []\n"), "there is no [[method]]; a sweep needs at least one");
        assert_eq!(
            told("seeds = [1]\n[[method]]\nname = \"a\"\n"),
            "method.0 needs either preset or config, and not both"
        );
        assert!(told(&format!("{method}prest = 1\nseeds = [1]")).contains("did you mean method.preset?"));
        assert!(told("seeds = = 1").contains("is not TOML"));
        let names = ["lwf".to_owned(), "joint".to_owned()];
        let error = check_baseline(Some("lwff"), &names).unwrap_err().to_string();
        assert_eq!(error, "baseline: there is no method \"lwff\"; did you mean \"lwf\"?");
        check_baseline(Some("joint"), &names).unwrap();
    }
}
