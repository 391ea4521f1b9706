//! A sweep's file.
//!
//! It says which configurations are to be run and not how; every error names the file and the key. Changes are written
//! as `--set` takes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cli::failure::{bad_input, nearest};
use crate::config::OrderSpec;
use crate::config::overlay;

/// The whole file: methods times splits times class orders times seeds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SweepFile {
    /// Seeds of every method.
    pub seeds: Vec<u64>,
    /// Class orders; the method's own where there are none.
    #[serde(default)]
    pub orders: Vec<OrderSpec>,
    /// Whether the first seed goes with the first order, the second with the second, and so on, and tables are over
    /// both; else every seed goes with every order, and each order has a table.
    #[serde(default)]
    pub paired: bool,
    /// Classes of each task, the base first; the method's own where there are none.
    #[serde(default)]
    pub splits: Vec<Vec<usize>>,
    /// Changes to every method, `key=value`.
    #[serde(default)]
    pub set: Vec<String>,
    /// Values of keys that every method is run with, each with each: `{ "key" = [value, value] }`.
    #[serde(default)]
    pub grid: Grid,
    /// Name of the method that others are compared with, seed by seed.
    #[serde(default)]
    pub baseline: Option<String>,
    /// The methods that are compared.
    pub method: Vec<Entry>,
}

/// One method of a sweep: a preset or a file, and changes to it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// Its name in tables; if absent, the configuration's.
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
    /// Values of keys that this method is run with, beside those of all.
    #[serde(default)]
    pub grid: Grid,
}

/// Keys with the values that each is to have.
pub type Grid = BTreeMap<String, Vec<toml::Value>>;

/// The changes of a file, with the places where they stand in it.
#[derive(Deserialize)]
struct Lists {
    #[serde(default)]
    set: Vec<toml::Spanned<String>>,
    #[serde(default)]
    method: Vec<MethodLists>,
}

/// See [`Lists`].
#[derive(Deserialize)]
struct MethodLists {
    #[serde(default)]
    set: Vec<toml::Spanned<String>>,
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
        file.check_changes(&text).map_err(|message| bad_input(format!("{place}: {message}")))?;
        Ok(file)
    }

    /// Refuses changes of what the sweep itself decides, and two of one key in a list, of which one would be lost.
    fn check_changes(&self, text: &str) -> Result<(), String> {
        let Ok(lists) = toml::from_str::<Lists>(text) else { return Ok(()) };
        let names = std::iter::once(false).chain(self.method.iter().map(|entry| entry.name.is_some()));
        let all = std::iter::once(&lists.set).chain(lists.method.iter().map(|entry| &entry.set));
        for (changes, named) in all.zip(names) {
            let mut seen = BTreeSet::new();
            for change in changes {
                let line = text[..change.span().start.min(text.len())].matches('\n').count() + 1;
                let (change, key) = (change.get_ref(), overlay::key_of(change.get_ref()));
                if let Some(why) = self.decides(&key, named) {
                    return Err(format!("line {line}: set has {change:?}, and {why}; take it out of set"));
                }
                if !seen.insert(key.clone()) {
                    return Err(format!(
                        "line {line}: {change:?} is the second change of {key} in this list; keep one"
                    ));
                }
            }
        }
        for (at, entry) in self.method.iter().enumerate() {
            let changed: BTreeSet<String> =
                self.set.iter().chain(&entry.set).map(|it| overlay::key_of(it)).collect();
            for (key, values) in self.grid.iter().chain(&entry.grid) {
                let key = overlay::key_of(key);
                let place = format!("grid of method.{at}: {key}");
                if let Some(why) = self.decides(&key, entry.name.is_some()) {
                    return Err(format!("{place}: {why}; take it out of grid"));
                }
                if values.is_empty() {
                    return Err(format!("{place} has no value; list those that it is to have"));
                }
                if changed.contains(&key) {
                    return Err(format!("{place} is changed by set too; keep one"));
                }
                if self.grid.contains_key(&key) && entry.grid.contains_key(&key) && self.grid != entry.grid {
                    return Err(format!("{place} is in the grid of all methods too; keep one"));
                }
            }
        }
        Ok(())
    }

    /// The key of the sweep that decides this one, if there is one; `named`: of a method that the sweep names.
    fn decides(&self, key: &str, named: bool) -> Option<&'static str> {
        let within = |of: &str| key == of || key.strip_prefix(of).is_some_and(|rest| rest.starts_with('.'));
        match () {
            () if within("seed") => Some("the seeds of a sweep are those of its key seeds"),
            () if within("class-order") && !self.orders.is_empty() => {
                Some("the class orders of this sweep are those of its key orders")
            }
            () if (within("increments") || within("classes")) && !self.splits.is_empty() => {
                Some("the classes of each task are those of its key splits")
            }
            () if within("method") && named => Some("this method has a name already, of its key name"),
            () => None,
        }
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
            return Err(bad_input(format!("seeds holds {twice} twice; name it once")));
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

    fn message(text: &str) -> String {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.toml");
        std::fs::write(&path, text).unwrap();
        let error = SweepFile::load(&path).unwrap_err();
        assert_eq!(crate::cli::failure::exit_status(&error), 2);
        let message = crate::cli::failure::sentence(&error);
        message.split_once("a.toml").unwrap().1.trim_start_matches(": ").to_owned()
    }

    #[test]
    fn a_mistake_is_refused_in_a_sentence() {
        let method = "[[method]]\npreset = \"demo-lwf\"\n";
        assert_eq!(
            message(&format!("seeds = []\n{method}")),
            "seeds is empty; a sweep needs at least one, such as [1, 2, 3]"
        );
        assert_eq!(message(&format!("seeds = [4, 4]\n{method}")), "seeds holds 4 twice; name it once");
        assert_eq!(
            message(&format!("seed = [1]\nseeds = [1]\n{method}")),
            "there is no key seed; did you mean seeds?"
        );
        assert_eq!(
            message(&format!("seeds = [1, 2]\norders = [{{ seed = 1 }}]\npaired = true\n{method}")),
            "paired is true with 2 seeds and 1 orders; it needs as many of both"
        );
        assert_eq!(message(method), "the key seeds is missing");
        assert_eq!(
            message("seeds = [1]\nmethod = []\n"),
            "there is no [[method]]; a sweep needs at least one"
        );
        assert_eq!(
            message("seeds = [1]\n[[method]]\nname = \"a\"\n"),
            "method.0 needs either preset or config, and not both"
        );
        assert!(message(&format!("{method}prest = 1\nseeds = [1]")).contains("did you mean method.preset?"));
        assert!(message("seeds = = 1").contains("is not TOML"));
        // Changes of keys that the sweep itself decides would be lost.
        let head = "seeds = [1]\norders = [{ seed = 1 }]\nsplits = [[6, 4]]\n";
        assert_eq!(
            message(&format!("{head}set = [\n  \"seed=5\"]\n{method}")),
            "line 5: set has \"seed=5\", and the seeds of a sweep are those of its key seeds; take it out of set"
        );
        for change in
            ["class_order = { seed = 3 }", "class-order.seed=3", "increments=[6, 4]", "classes=9", "seed=2"]
        {
            let wrong = message(&format!("{head}{method}name = \"a\"\nset = [\"{change}\"]\n"));
            assert!(
                wrong.starts_with("line 7: set has") && wrong.ends_with("; take it out of set"),
                "{wrong}"
            );
        }
        let wrong = message(&format!("seeds = [1]\n{method}name = \"a\"\nset = [\"method=b\"]\n"));
        assert!(wrong.contains("has a name already"), "{wrong}");
        let wrong = message(&format!("seeds = [1]\nset = [\"a.b_c=1\", \"a.b-c=2\"]\n{method}"));
        let grid = |text: &str| message(&format!("seeds = [1]\n{method}grid = {text}\n"));
        assert!(grid("{ \"seed\" = [1, 2] }").contains("the seeds of a sweep are those of its key seeds"));
        assert!(grid("{ \"a.b\" = [] }").contains("grid of method.0: a.b has no value"));
        assert!(grid("{ \"a.b\" = [1] }\nset = [\"a.b=2\"]").contains("is changed by set too"));
        assert_eq!(wrong, "line 2: \"a.b-c=2\" is the second change of a.b-c in this list; keep one");
        let names = ["lwf".to_owned(), "joint".to_owned()];
        let error = check_baseline(Some("lwff"), &names).unwrap_err().to_string();
        assert_eq!(error, "baseline: there is no method \"lwff\"; did you mean \"lwf\"?");
        check_baseline(Some("joint"), &names).unwrap();
    }
}
