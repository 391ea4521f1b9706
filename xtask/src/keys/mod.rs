//! `keys`: every key of a configuration, from the doc comments of the types that it is read into.
//!
//! The types are read as text, so this crate still depends on no other; what a key means is said once, at its field,
//! and `docs/configuration.md` and the list that `cil-runner run --dry-run` prints from are written from there. A test
//! and `tidy` see that both are what the types say.

mod types;
mod write;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use types::{Field, Form, Item};

/// The type of a whole configuration.
const ROOT: &str = "RunConfig";
/// The files to write.
pub const FILES: [&str; 2] = ["docs/configuration.md", "crates/cil-runner/src/config/keys.tsv"];
/// Crates whose types a configuration is made of.
const CRATES: [&str; 7] =
    ["cil-runner", "cil-train", "cil-data", "cil-backbone", "cil-engine", "dfgr", "dtid"];

/// Writes both files of the workspace that the current folder is in.
///
/// # Errors
/// If a source cannot be read, or a file cannot be written.
pub fn run(out: &mut dyn Write) -> Result<()> {
    let root = crate::tidy::workspace_root()?;
    for (name, text) in FILES.iter().zip(texts(&root)?) {
        fs::write(root.join(name), text).with_context(|| format!("cannot write {name}"))?;
        writeln!(out, "wrote {name}")?;
    }
    Ok(())
}

/// The texts of the files, in the order of [`FILES`].
///
/// # Errors
/// If a source cannot be read.
pub fn texts(root: &Path) -> Result<[String; 2]> {
    let mut all = BTreeMap::new();
    for name in CRATES {
        for path in sources(&root.join("crates").join(name).join("src"))? {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let items = types::read(&text).with_context(|| format!("{} is not Rust", path.display()))?;
            for item in items {
                all.entry(item.name.clone()).or_insert(item);
            }
        }
    }
    spell_out(&mut all);
    let used = reachable(&all);
    Ok([write::document(&used), write::list(&used)])
}

/// Source files below a folder, sorted.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Gives a variant whose keys are those of another type, beside a tag, the keys and the description of that type.
fn spell_out(all: &mut BTreeMap<String, Item>) {
    let tables: BTreeMap<String, (String, Vec<Field>)> = all
        .values()
        .filter_map(|item| match &item.form {
            Form::Table(fields) => Some((item.name.clone(), (item.about.clone(), fields.clone()))),
            Form::Choice { .. } => None,
        })
        .collect();
    for item in all.values_mut() {
        let Form::Choice { tag: Some(_), variants, .. } = &mut item.form else { continue };
        for variant in variants.iter_mut().filter(|it| it.is_plain) {
            let table = variant.fields.first().and_then(|field| tables.get(&field.of));
            if let Some((about, fields)) = table {
                (variant.about, variant.fields, variant.is_plain) = (about.clone(), fields.clone(), false);
            }
        }
    }
}

/// The types that a configuration holds, the whole one first, each where it is first met.
fn reachable(all: &BTreeMap<String, Item>) -> Vec<&Item> {
    let (mut used, mut waiting): (Vec<&Item>, Vec<&str>) = (Vec::new(), vec![ROOT]);
    while let Some(name) = waiting.pop() {
        let Some(item) = all.get(name) else { continue };
        if used.iter().any(|it| it.name == item.name) {
            continue;
        }
        used.push(item);
        // The last is taken first.
        waiting.extend(item.fields().map(|field| field.of.as_str()).collect::<Vec<_>>().into_iter().rev());
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_this_tree_are_what_its_types_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (name, text) in FILES.iter().zip(texts(&root).unwrap()) {
            let there = fs::read_to_string(root.join(name)).unwrap_or_default();
            assert!(there == text, "{name} is old; `cargo xtask keys` writes it anew");
        }
    }

    #[test]
    fn a_list_of_terms_has_the_keys_of_their_settings() {
        let source = "
            list::terms! {
                /// A part.
                #[derive(Serialize)]
                #[serde(tag = \"kind\", rename_all = \"kebab-case\")]
                pub enum RunConfig { MyTerm(my_term::MyTerm), }
            }
            /// Mine.
            #[derive(Serialize)]
            #[serde(rename_all = \"kebab-case\")]
            pub struct MyTerm { /// Its weight.
                pub the_weight: f64 }";
        let mut items: BTreeMap<String, Item> =
            types::read(source).unwrap().into_iter().map(|it| (it.name.clone(), it)).collect();
        spell_out(&mut items);
        let list = write::list(&reachable(&items));
        let expected = "RunConfig{my-term}\tkind\t-\tMine.\nRunConfig{my-term}\tthe-weight\t-\tIts weight.\n";
        assert!(list.ends_with(expected), "{list}");
    }

    #[test]
    fn keys_have_the_words_of_their_fields() {
        let source = "
            /// Everything.
            #[derive(Deserialize)]
            #[serde(rename_all = \"kebab-case\")]
            pub struct RunConfig {
                /// Seed of all.
                ///
                /// More.
                pub my_seed: u64,
                /// How.
                pub how: Option<How>,
                /// Parts, `a` | `b`.
                pub parts: Vec<Part>,
            }
            /// Ways.
            #[derive(Deserialize)]
            #[serde(rename_all = \"kebab-case\")]
            pub enum How { /// Fast.
                VeryFast, /// Slow.
                Slow }
            /// One part.
            #[derive(Deserialize)]
            #[serde(tag = \"kind\", rename_all = \"kebab-case\", rename_all_fields = \"kebab-case\")]
            pub enum Part { /// First.
                TheFirst { /// Its weight.
                    the_weight: f64 } }";
        let items: BTreeMap<String, Item> =
            types::read(source).unwrap().into_iter().map(|it| (it.name.clone(), it)).collect();
        let used = reachable(&items);
        let list = write::list(&used);
        assert!(list.contains("RunConfig\tmy-seed\t-\tSeed of all.\n"), "{list}");
        assert!(
            list.contains("RunConfig\thow\tHow\tHow.\n") && list.contains("RunConfig\tparts\tPart\t"),
            "{list}"
        );
        assert!(list.contains("Part{the-first}\tthe-weight\t-\tIts weight.\n"), "{list}");
        assert!(list.contains("Part{the-first}\tkind\t-\tFirst.\n"), "{list}");
        let document = write::document(&used);
        assert!(document.contains("| `my-seed` | whole number | Seed of all. More. |"), "{document}");
        assert!(
            document.contains(
                "| `how` | `\"very-fast\"` or `\"slow\"`; may be left out | How. `\"very-fast\"`: Fast."
            ),
            "{document}"
        );
        assert!(document.contains("Parts, `a` \\| `b`."), "{document}");
    }
}
