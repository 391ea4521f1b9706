//! A configuration with what each key means beside it.
//!
//! The words are those of the types' doc comments, in a list that `cargo xtask keys` writes; a comment never changes
//! what is read.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// Type, key, type of its value, meaning.
const KEYS: &str = include_str!("keys.tsv");
/// The type of a whole configuration.
const ROOT: &str = "RunConfig";
/// Where a comment begins, at least; and how long a line may become.
const COLUMNS: (usize, usize) = (40, 160);

/// By type and key: the type that the key leads to, and what it means.
type Known = BTreeMap<(&'static str, &'static str), (&'static str, &'static str)>;

fn known() -> Known {
    let line = |line: &'static str| {
        let mut parts = line.split('\t');
        Some(((parts.next()?, parts.next()?), (parts.next()?, parts.next()?)))
    };
    KEYS.lines().filter(|it| !it.starts_with('#')).filter_map(line).collect()
}

/// `text`, a whole configuration as TOML, with a comment behind each key that is known.
pub fn commented(text: &str) -> String {
    let (known, whole) = (known(), text.parse::<Table>().unwrap_or_default());
    let (mut table, mut met) = (String::new(), BTreeMap::<String, usize>::new());
    let mut commented = String::new();
    for line in text.lines() {
        let heading = line.strip_prefix("[[").and_then(|it| it.strip_suffix("]]"));
        let plain = line.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let about = if let Some(list) = heading {
            let at = met.entry(list.to_owned()).or_default();
            table = format!("{list}.{at}");
            *at += 1;
            None
        } else if let Some(name) = plain {
            // A table within an entry of a list is one of the entry that was met last.
            table = met
                .iter()
                .filter_map(|(list, count)| Some((list, name.strip_prefix(&format!("{list}."))?, count - 1)))
                .max_by_key(|(list, ..)| list.len())
                .map_or(name.to_owned(), |(list, rest, at)| format!("{list}.{at}.{rest}"));
            meaning(&known, &whole, &table)
        } else {
            let key = line.split_once(" = ").map(|(key, _)| key.trim_matches('"'));
            key.and_then(|key| {
                let path = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
                meaning(&known, &whole, &path)
            })
        };
        match about {
            Some(about) => {
                let room = COLUMNS.1.saturating_sub(line.chars().count().max(COLUMNS.0)).max(COLUMNS.0);
                commented.push_str(&format!("{line:<width$} # {}", cut(about, room), width = COLUMNS.0));
            }
            None => commented.push_str(line),
        }
        commented.push('\n');
    }
    commented
}

/// The comment for a dotted key of `whole`; entries of lists by position.
fn meaning(known: &Known, whole: &Table, path: &str) -> Option<&'static str> {
    let (mut of, mut at) = (ROOT.to_owned(), whole.get(path.split('.').next()?)?);
    let parts: Vec<&str> = path.split('.').collect();
    let mut about = None;
    for (depth, part) in parts.iter().enumerate() {
        if depth > 0 {
            at = match at {
                Value::Table(table) => table.get(*part)?,
                Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        if part.parse::<usize>().is_err() {
            let (_, (leads, sentence)) =
                known.iter().find(|((table, key), _)| *table == of && key == part)?;
            about = Some(*sentence);
            // A choice by its own name leads on by that name.
            let inner = format!("{of}.{part}");
            of = if *leads == "-" { inner } else { (*leads).to_owned() };
        }
        if let Some(kind) = at.get("kind").and_then(Value::as_str) {
            let variant = format!("{of}{{{kind}}}");
            if known.keys().any(|(table, _)| *table == variant) {
                of = variant;
            }
        }
    }
    about.filter(|it| !it.is_empty())
}

/// At most that many letters, cut between words.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    for word in text.split(' ') {
        if kept.chars().count() + word.chars().count() + 2 > room {
            break;
        }
        kept.push_str(word);
        kept.push(' ');
    }
    format!("{}…", kept.trim_end_matches([' ', ',', ';', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunConfig;
    use crate::presets;

    #[test]
    fn comments_change_nothing_and_every_key_of_every_preset_has_one() {
        let mut missing = std::collections::BTreeSet::new();
        for preset in presets::all() {
            let text = preset.config.clone().check().unwrap().text().to_owned();
            let with = commented(&text);
            let again: RunConfig =
                toml::from_str(&with).unwrap_or_else(|error| panic!("{}: {error}", preset.name));
            assert_eq!(again, preset.config, "{}", preset.name);
            let plain = with.lines().filter(|line| line.contains(" = ") && !line.contains(" # "));
            missing.extend(plain.map(|line| format!("{}: {line}", preset.name)).take(3));
        }
        assert!(missing.is_empty(), "keys without a word: {:?}", missing.iter().take(10).collect::<Vec<_>>());
    }

    #[test]
    fn a_comment_is_that_of_its_own_key() {
        let text =
            presets::find("demo-lucir-e0-dfgr-dtid").unwrap().config.check().unwrap().text().to_owned();
        let with = commented(&text);
        let line = |key: &str| {
            with.lines().find(|it| it.starts_with(key)).unwrap_or_else(|| panic!("{key}: {with}"))
        };
        assert!(
            line("seed = ").contains("# Seed of weights, batches, augmentation and noise."),
            "{}",
            line("seed")
        );
        assert!(line("adaptive = ").contains("Whether the weight is multiplied"), "{}", line("adaptive"));
        assert!(line("[recipe.replay.inversion]").contains(" # "), "{}", line("[recipe.replay.inversion]"));
    }
}
