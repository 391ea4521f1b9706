//! A configuration as it is written, and how two of them differ.
//!
//! The written file is read again at once and compared, so no run begins with a configuration that `report`, `resume`
//! or a second `run` could not read, or would read as another.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::RunConfig;
use crate::cli::failure::{bad_input, sentence};
use crate::config::overlay;

/// The largest whole number that TOML has.
const LARGEST: u64 = i64::MAX as u64;

/// The configuration as TOML, which holds all of it.
///
/// # Errors
/// Naming the key whose number TOML cannot hold.
pub(super) fn text(config: &RunConfig) -> Result<String> {
    for (key, value) in values(config)? {
        if let Some(number) = value.as_u64().filter(|number| *number > LARGEST) {
            return Err(bad_input(format!("{key} is {number}; use at most {LARGEST}")));
        }
    }
    let text = toml::to_string(config).context("the configuration is not TOML")?;
    let again: RunConfig = overlay::read(overlay::parse_table(&text, "what is written")?, "what is written")
        .map_err(|error| bad_input(format!("the configuration is not read back: {}", sentence(&error))))?;
    match differences(config, &again)?.first() {
        None => Ok(text),
        Some(Difference { key, left, right }) => {
            Err(bad_input(format!("{key} is {left} and is read back as {right}; choose another value")))
        }
    }
}

/// A key in which two configurations differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, such as `recipe.increment.terms.0.weight`.
    pub key: String,
    /// The first value; `nothing` where the key is absent.
    pub left: String,
    /// The second value.
    pub right: String,
}

/// The keys in which two configurations differ, in the order of keys.
///
/// # Errors
/// If a configuration is not JSON.
pub fn differences<T: Serialize>(left: &T, right: &T) -> Result<Vec<Difference>> {
    let (left, right) = (values(left)?, values(right)?);
    let of = |values: &[(String, Value)], key: &str| {
        values.iter().find(|it| it.0 == key).map_or("nothing".to_owned(), |it| it.1.to_string())
    };
    let mut keys: Vec<&String> = left.iter().chain(&right).map(|it| &it.0).collect();
    keys.sort();
    keys.dedup();
    let both = |key: &String| Difference { key: key.clone(), left: of(&left, key), right: of(&right, key) };
    Ok(keys.into_iter().map(both).filter(|it| it.left != it.right).collect())
}

/// The dotted key and the value of all that is no table; a list of tables counts as tables.
fn values(config: &impl Serialize) -> Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    collect(
        String::new(),
        serde_json::to_value(config).context("the configuration is not JSON")?,
        &mut found,
    );
    Ok(found)
}

fn collect(key: String, value: Value, found: &mut Vec<(String, Value)>) {
    let inner = |part: &str| if key.is_empty() { part.to_owned() } else { format!("{key}.{part}") };
    match value {
        Value::Object(table) => {
            table.into_iter().for_each(|(part, value)| collect(inner(&part), value, found));
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let items = items.into_iter().enumerate();
            items.for_each(|(at, value)| collect(inner(&at.to_string()), value, found));
        }
        other => found.push((key, other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::target::configuration;

    #[test]
    fn a_number_that_toml_cannot_hold_is_refused_by_its_key() {
        let message = configuration("demo-lwf", &[], Some(u64::MAX)).unwrap_err().to_string();
        assert_eq!(message, "seed is 18446744073709551615; use at most 9223372036854775807");
        let most = configuration("demo-lwf", &[], Some(LARGEST)).unwrap();
        let again: RunConfig = toml::from_str(most.text()).unwrap();
        assert_eq!(&again, most.config());
        let mut config = most.config().clone();
        config.procedural.as_mut().unwrap().seed = LARGEST + 1;
        let message = config.clone().check().unwrap_err().to_string();
        assert!(message.starts_with("procedural.seed is 9223372036854775808; use at most"), "{message}");
        config.procedural.as_mut().unwrap().seed = 1;
        config.class_order = super::super::OrderSpec::Seeded { seed: u64::MAX };
        let message = config.check().unwrap_err().to_string();
        assert!(message.starts_with("class-order.seed is 18446744073709551615"), "{message}");
    }

    #[test]
    fn differences_have_their_key_and_both_values() {
        let plain = configuration("demo-lwf", &[], None).unwrap();
        let changes = ["seed=2", "increments=[8, 2]", "recipe.increment.terms.0.weight=2"];
        let changes: Vec<String> = changes.iter().map(|it| (*it).to_owned()).collect();
        let changed = configuration("demo-lwf", &changes, None).unwrap();
        let found = differences(plain.config(), changed.config()).unwrap();
        let keys: Vec<&str> = found.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(keys, ["increments", "recipe.increment.terms.0.weight", "seed"]);
        assert_eq!((found[2].left.as_str(), found[2].right.as_str()), ("1", "2"));
        assert!(differences(plain.config(), plain.config()).unwrap().is_empty());
        let more = configuration("demo-frozen-discriminant", &[], None).unwrap();
        let mut without = more.config().clone();
        without.recipe.discriminant = None;
        let found = differences(more.config(), &without).unwrap();
        assert!(found.iter().all(|it| it.right == "nothing" && it.key.starts_with("recipe.discriminant")));
    }
}
