//! Changes to a configuration, and the errors when they do not fit.
//!
//! `--set` works on the TOML value before it is read as a type, so a changed key is checked exactly like one in a file.
//! An error of the deserialiser becomes one sentence here, with the nearest existing key.

use anyhow::Result;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::cli::failure::{bad_input, nearest};

/// Most parts of a key: every part is a table in another.
const DEEPEST: usize = 16;

/// Applies `change`, of the form `dotted.key=value`, to `table`.
///
/// The value is TOML; what is not TOML is a string. Parts of the key lead into tables, which are made where they are
/// missing, and into arrays by position; the part `+` is a new position behind the last. Keys may be written with `-`
/// or `_`. Returned is the key of the table that had to be made, if one was: the configuration had nothing there.
pub fn set(table: &mut Table, change: &str) -> Result<Option<String>> {
    let Some((key, text)) = change.split_once('=') else {
        return Err(bad_input(format!("--set {change}: write key=value")));
    };
    let key = key.trim();
    let parts: Vec<&str> = key.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(bad_input(format!(
            "--set {change}: {key:?} is not a key such as recipe.base.training.epochs"
        )));
    }
    if parts.len() > DEEPEST {
        let error_text = format!("a key has at most {DEEPEST} parts, this one {}", parts.len());
        return Err(bad_input(format!("--set {change}: {error_text}")));
    }
    let mut root = Value::Table(std::mem::take(table));
    let made = missing(&root, &parts).map(|count| parts[..count].join("."));
    let placed = place(&mut root, &parts, parse(text.trim()))
        .map_err(|reason| bad_input(format!("--set {change}: {reason}")));
    if let Value::Table(root) = root {
        *table = root;
    }
    placed.map(|()| made)
}

/// The key that a change sets, as it is spelled in configurations.
pub fn key_of(change: &str) -> String {
    change.split_once('=').map_or(change, |(key, _)| key).trim().replace('_', "-")
}

/// How many parts of a key lead to a table that is missing, in which more would be set.
fn missing(root: &Value, parts: &[&str]) -> Option<usize> {
    let mut at = root;
    for (count, part) in parts.iter().enumerate().take(parts.len() - 1) {
        at = match at {
            Value::Table(table) => match table.get(&spelled(table, part)) {
                Some(inner) => inner,
                None => return Some(count + 1),
            },
            Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    None
}

fn parse(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok();
    let single = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    single.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn place(at: &mut Value, parts: &[&str], value: Value) -> Result<(), String> {
    let Some((part, rest)) = parts.split_first() else {
        *at = value;
        return Ok(());
    };
    match at {
        Value::Table(table) => {
            let key = spelled(table, part);
            let inner = table.entry(key).or_insert_with(|| Value::Table(Table::new()));
            place(inner, rest, value)
        }
        Value::Array(items) => {
            if *part == "+" {
                items.push(Value::Table(Table::new()));
            }
            let length = items.len();
            let part = if *part == "+" { (length - 1).to_string() } else { (*part).to_owned() };
            let wrong = || {
                format!("{part:?} is not a position in a list of {length}; count from 0, or append with +")
            };
            let inner = part.parse().ok().and_then(|index: usize| items.get_mut(index)).ok_or_else(wrong)?;
            place(inner, rest, value)
        }
        other => Err(format!("{part:?} cannot be set in the {} before it", other.type_str())),
    }
}

/// `part` as it is spelled in `table`, if only `-` and `_` differ.
fn spelled(table: &Table, part: &str) -> String {
    let plain = |key: &str| key.replace('-', "_");
    table.keys().find(|key| plain(key) == plain(part)).map_or(part, String::as_str).to_owned()
}

/// The table that `text` holds; an error is one sentence of bad input that names `origin` and the line.
pub fn parse_table(text: &str, origin: &str) -> Result<Table> {
    text.parse::<Table>().map_err(|error| {
        let message = error.to_string();
        let line = message.lines().next().unwrap_or_default().trim_start_matches("TOML parse error ");
        bad_input(format!("{origin} is not TOML: {} {line}", error.message()))
    })
}

/// Reads a type from a table; an error is one sentence of bad input that begins with `origin`.
pub fn read<T: DeserializeOwned>(table: Table, origin: &str) -> Result<T> {
    let whole = table.clone();
    table.try_into().map_err(|error: toml::de::Error| {
        bad_input(format!("{origin}: {}", sentence(error.message(), &place_of(&error), &whole)))
    })
}

/// Where in the table the error is: toml gives it in its last line only.
fn place_of(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let line = text.lines().rev().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
    line.unwrap_or_default().to_owned()
}

fn sentence(message: &str, place: &str, table: &Table) -> String {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (wrong, known) = wrong_and_known(rest);
        // The place of an unknown key may end with the key itself.
        let parent = place.strip_suffix(wrong).map_or(place, |parent| parent.trim_end_matches('.'));
        let full = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        let meant = elsewhere(table, parent, wrong);
        return match meant.or_else(|| nearest(wrong, known.iter().copied()).map(full)) {
            Some(right) => format!("there is no key {}; did you mean {right}?", full(wrong)),
            None => format!("there is no key {}; its table has the keys {}", full(wrong), known.join(", ")),
        };
    }
    let before = if place.is_empty() { String::new() } else { format!("{place}: ") };
    if message == "wanted exactly 1 element, more than 1 element" {
        return format!(
            "{before}it may hold one of its keys alone; set the whole of it, as {place}={{ key = value }}"
        );
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        let name = rest.trim_end_matches('`');
        return match place.is_empty() {
            true => format!("the key {name} is missing"),
            false => format!("the key {place}.{name} is missing"),
        };
    }
    let message = with_words_for_types(&message);
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let (wrong, known) = wrong_and_known(rest);
        return match nearest(wrong, known.iter().copied()) {
            Some(right) => format!("{before}there is no {wrong:?}; did you mean {right:?}?"),
            None => format!("{before}there is no {wrong:?}; it may be {}", known.join(", ")),
        };
    }
    before + &message
}

/// The key that `wrong` is somewhere else: below `parent` first, anywhere if there is but one.
fn elsewhere(table: &Table, parent: &str, wrong: &str) -> Option<String> {
    let plain = |key: &str| key.replace('-', "_");
    // The path of an error does not give positions in lists.
    let unplaced = |key: &str| {
        let parts = parent_of(key).split('.').filter(|part| part.parse::<usize>().is_err());
        parts.collect::<Vec<_>>().join(".")
    };
    let is_it = |key: &&String| {
        key.rsplit('.').next().is_some_and(|last| plain(last) == plain(wrong)) && unplaced(key) != parent
    };
    let all = keys(table);
    let found: Vec<&String> = all.iter().filter(is_it).collect();
    let below = found.iter().filter(|key| parent.is_empty() || key.starts_with(&format!("{parent}.")));
    let nearest = below.min_by_key(|key| key.matches('.').count());
    let only = || Some(&found[0]).filter(|_| found.len() == 1);
    (!found.is_empty()).then(|| nearest.or_else(only)).flatten().map(|key| (*key).clone())
}

/// Every key of a table, dotted, those of lists by position.
fn keys(table: &Table) -> Vec<String> {
    fn below(before: &str, value: &Value, keys: &mut Vec<String>) {
        let mut each = |key: &str, value: &Value| {
            let key = if before.is_empty() { key.to_owned() } else { format!("{before}.{key}") };
            keys.push(key.clone());
            below(&key, value, keys);
        };
        match value {
            Value::Table(table) => table.iter().for_each(|(key, value)| each(key, value)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(at, value)| each(&at.to_string(), value));
            }
            _ => {}
        }
    }
    let mut all = Vec::new();
    below("", &Value::Table(table.clone()), &mut all);
    all
}

/// A dotted key without its last part.
fn parent_of(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// Replaces names of Rust types in the deserialiser's messages by words.
fn with_words_for_types(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let words = match expected {
        "u64" | "usize" | "u32" | "u16" => "a whole number from 0 up",
        "f64" | "f32" => "a number",
        "a sequence" => "a list",
        _ if expected.starts_with("struct ") || expected == "a map" => "a table",
        _ => expected,
    };
    format!("{found}expected {words}")
}

/// Of "wrong`, expected one of `a`, `b`": what was wrong and what would be right.
fn wrong_and_known(rest: &str) -> (&str, Vec<&str>) {
    let mut names = rest.split('`').step_by(2);
    (names.next().unwrap_or_default(), names.filter(|name| !name.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Outer {
        seed: u64,
        name: String,
        inner: Inner,
        list: Vec<Inner>,
        #[serde(default)]
        colour: Colour,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    enum Colour {
        #[default]
        DarkRed,
        Green,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Inner {
        epochs: usize,
        learning_rate: f64,
    }

    const TEXT: &str = "seed = 1\nname = \"a\"\n[inner]\nepochs = 2\nlearning-rate = 0.5\n\
                        [[list]]\nepochs = 3\nlearning-rate = 0.25\n";

    fn changed(changes: &[&str]) -> Result<Outer> {
        let mut table: Table = TEXT.parse().unwrap();
        for change in changes {
            set(&mut table, change)?;
        }
        read(table, "preset x")
    }

    fn error_text(change: &str) -> String {
        changed(&[change]).unwrap_err().to_string()
    }

    #[test]
    fn values_are_toml_and_bare_words_are_strings() {
        let changes = ["seed=7", "name=cifar100", "inner.learning_rate = 1", "list.0.epochs=9"];
        let got = changed(&changes).unwrap();
        assert_eq!((got.seed, got.name.as_str()), (7, "cifar100"));
        assert_eq!((got.inner.learning_rate, got.list[0].epochs), (1.0, 9));
        assert_eq!(changed(&["name='a b'"]).unwrap().name, "a b");
        assert_eq!(changed(&["name=1\nseed=2"]).unwrap().name, "1\nseed=2");
        assert_eq!(changed(&["list=[]"]).unwrap().list, []);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_right_one() {
        assert_eq!(error_text("sead=1"), "preset x: there is no key sead; did you mean seed?");
        assert_eq!(
            error_text("inner.epoch=1"),
            "preset x: there is no key inner.epoch; did you mean inner.epochs?"
        );
        assert_eq!(
            error_text("list.0.learning-rat=1"),
            "preset x: there is no key list.learning-rat; did you mean list.learning-rate?"
        );
        assert_eq!(
            error_text("inner.zzz=1"),
            "preset x: there is no key inner.zzz; its table has the keys epochs, learning-rate"
        );
        // One level too high, one too low, and where there is but one of the name.
        assert_eq!(error_text("epochs=1"), "preset x: there is no key epochs; did you mean inner.epochs?");
        assert_eq!(error_text("inner.seed=1"), "preset x: there is no key inner.seed; did you mean seed?");
        assert_eq!(error_text("iner.epochs=1"), "preset x: there is no key iner; did you mean inner?");
    }

    #[test]
    fn a_table_that_had_to_be_made_is_returned() {
        let made = |change: &str| set(&mut TEXT.parse().unwrap(), change).unwrap();
        assert_eq!(made("inner.epochs=1"), None);
        assert_eq!(made("other=1"), None, "a key is no table");
        assert_eq!(made("list.0.epochs=1"), None);
        assert_eq!(made("other.epochs=1").as_deref(), Some("other"));
        assert_eq!(made("inner.other.more.epochs=1").as_deref(), Some("inner.other"));
        assert_eq!(error_text("inner={ epochs = 1 }"), "preset x: the key inner.learning-rate is missing");
        assert_eq!(error_text("inner=1"), "preset x: inner: invalid type: integer `1`, expected a table");
    }

    #[test]
    fn a_list_grows_by_a_plus() {
        let got = changed(&["list.+={ epochs = 7, learning-rate = 1 }", "list.1.epochs=8"]).unwrap();
        assert_eq!(got.list.iter().map(|it| it.epochs).collect::<Vec<_>>(), [3, 8]);
        let got = changed(&["list.+.epochs=5", "list.1.learning-rate=2"]).unwrap();
        assert_eq!((got.list[1].epochs, got.list[1].learning_rate), (5, 2.0));
        assert!(error_text("inner.+=1").contains("there is no key inner.+"));
    }

    #[test]
    fn a_wrong_type_or_form_is_refused() {
        assert_eq!(
            error_text("seed=abc"),
            "preset x: seed: invalid type: string \"abc\", expected a whole number from 0 up"
        );
        assert_eq!(
            error_text("inner.epochs=1.5"),
            "preset x: inner.epochs: invalid type: floating point `1.5`, expected a whole number from 0 up"
        );
        assert_eq!(
            error_text("colour=dark-rd"),
            "preset x: colour: there is no \"dark-rd\"; did you mean \"dark-red\"?"
        );
        assert_eq!(
            error_text("colour=xyz"),
            "preset x: colour: there is no \"xyz\"; it may be dark-red, green"
        );
        assert_eq!(error_text("seed"), "--set seed: write key=value");
        assert_eq!(
            error_text("a..b=1"),
            "--set a..b=1: \"a..b\" is not a key such as recipe.base.training.epochs"
        );
        assert_eq!(error_text("seed.x=1"), "--set seed.x=1: \"x\" cannot be set in the integer before it");
        assert_eq!(
            error_text("list.1.epochs=1"),
            "--set list.1.epochs=1: \"1\" is not a position in a list of 1; count from 0, or append with +"
        );
        assert_eq!(crate::cli::failure::exit_status(&changed(&["seed=-1"]).unwrap_err()), 2);
    }
}
