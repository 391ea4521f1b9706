//! Identity of runs and of base models.
//!
//! The identity of a run is its checked configuration without its names (`preset`, `method`, the file that a network is
//! from) and with the class order spelled out, keys in sorted order, so that neither the order of keys nor a comment
//! counts. The model of the base classes is that of a run of one task; see [`base_of`].

use anyhow::{Context, Result};
use cil_data::dataset::Evaluate;
use cil_data::exemplars::Budget;
use sha2::{Digest as _, Sha256};

use crate::config::{Checked, OrderSpec, RunConfig};
use crate::folder::environment::hexadecimal;

/// Bytes of a digest that are shown: enough for a sweep of any size.
const SHOWN: usize = 6;

/// Twelve hexadecimal digits that name a configuration.
///
/// # Errors
/// If the configuration is not JSON.
pub fn hash(checked: &Checked) -> Result<String> {
    digest(checked, "")
}

/// Twelve hexadecimal digits that name a base model: the configuration of the run that trains it (see [`base_of`]) and
/// what ran its networks, since the last bits differ between instruction paths.
///
/// # Errors
/// If the configuration is not JSON.
pub fn base_hash(base: &Checked, kernels: &str) -> Result<String> {
    digest(base, kernels)
}

fn digest(checked: &Checked, more: &str) -> Result<String> {
    let mut value = serde_json::to_value(checked.config()).context("the configuration is not JSON")?;
    let table = value.as_object_mut().context("the configuration is no table")?;
    table.remove("preset");
    table.remove("method");
    if let Some(network) = table.get_mut("architecture").and_then(|it| it.as_object_mut()) {
        network.remove("file");
    }
    table.insert("class-order".to_owned(), serde_json::json!(checked.order().labels()));
    // As the key was spelled when the first sweeps were made: their runs are still theirs.
    let value = value.to_string().replace("\"label-width\":", "\"label_width\":");
    let digest = Sha256::digest(format!("{value}{more}"));
    Ok(hexadecimal(&digest[..SHOWN]))
}

/// The run that learns the base classes of `checked` and nothing else: everything that the model of the base classes
/// depends on, and nothing that it does not. Two runs with equal ones have the same base model, bit for bit.
///
/// # Errors
/// Never, if `checked` was checked.
pub fn base_of(checked: &Checked) -> Result<Checked> {
    let config = checked.config().clone();
    let classes = checked.increments().seen(0);
    let mut recipe = config.recipe;
    // A bias correction holds images out from the beginning, as many as the exemplars leave.
    if recipe.bias_correction.is_none() {
        recipe.exemplars = Budget::PerClass(0);
    }
    (recipe.joint, recipe.restart) = (false, false);
    (recipe.random_exemplars, recipe.oversample) = (false, false);
    (recipe.freeze_old_head, recipe.imprint) = (false, false);
    recipe.increment = recipe.base.clone();
    (recipe.replay, recipe.new_teacher, recipe.balance) = (None, None, None);
    (recipe.new_replay, recipe.discriminant, recipe.logistic) = (None, None, None);
    recipe.adversarial = None;
    // A clipped head is clipped in the base too; what is only scaled is not.
    recipe.align = recipe.align.filter(|align| align.positive);
    let base = RunConfig {
        preset: None,
        method: "base".to_owned(),
        classes,
        class_order: OrderSpec::Labels(checked.order().labels()[..classes].to_vec()),
        increments: vec![classes],
        evaluate_on: if config.validation_per_class > 0 { Evaluate::Validation } else { Evaluate::Test },
        recipe,
        ..config
    };
    base.check().context("the base classes alone")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::target::configuration;

    fn of(preset: &str, changes: &[&str]) -> Checked {
        let changes: Vec<String> = changes.iter().map(|it| (*it).to_owned()).collect();
        configuration(preset, &changes, None).unwrap()
    }

    #[test]
    fn a_presets_hash_is_what_it_was() {
        // A change of this number makes every sweep that was begun do its runs again.
        assert_eq!(hash(&of("demo-lwf", &[])).unwrap(), "26aaad5e38e4");
        assert_eq!(hash(&of("demo-lucir-e0-dfgr-dtid-unshared", &[])).unwrap(), "56a69d8bac87");
    }

    #[test]
    fn a_key_counts_and_the_form_of_the_file_does_not() {
        let (checked, plain) = (of("demo-lwf", &[]), hash(&of("demo-lwf", &[])).unwrap());
        for change in
            ["seed=2", "recipe.increment.training.epochs=9", "increments=[8, 2]", "procedural.seed=2"]
        {
            assert_ne!(hash(&of("demo-lwf", &[change])).unwrap(), plain, "{change}");
        }
        assert_eq!(hash(&of("demo-lwf", &["method=other"])).unwrap(), plain);
        let labels = format!("class-order={:?}", checked.order().labels());
        assert_eq!(hash(&of("demo-lwf", &[&labels])).unwrap(), plain);
        // The same keys in another order, and comments.
        let (keys, tables) = checked.text().split_at(checked.text().find("\n[").unwrap());
        let mut lines: Vec<&str> = keys.lines().collect();
        lines.reverse();
        let text = format!("# a comment\n{} # another\n{tables}", lines.join("\n"));
        let again: RunConfig = toml::from_str(&text).unwrap();
        assert_eq!(hash(&again.check().unwrap()).unwrap(), plain);
    }

    #[test]
    fn every_preset_has_a_base() {
        for preset in crate::presets::all() {
            let base = base_of(&preset.config.check().unwrap());
            assert!(base.is_ok(), "{}: {base:?}", preset.name);
        }
    }

    #[test]
    fn a_base_is_shared_by_what_differs_later_alone() {
        let base = |preset: &str, changes: &[&str]| {
            base_hash(&base_of(&of(preset, changes)).unwrap(), "portable").unwrap()
        };
        let plain = base("demo-lucir-e0", &[]);
        for method in [
            "lucir-e20",
            "lucir-e0-dfgr-dtidkl",
            "lucir-e0-dfgr-dtid",
            "lucir-e0-dfgr-dtid-unshared",
            "frozen-discriminant",
        ] {
            assert_eq!(base(&format!("demo-{method}"), &[]), plain);
        }
        assert_eq!(base("demo-lucir-e0", &["increments=[6, 4]"]), plain);
        assert_eq!(base("demo-lwf", &[]), base("demo-joint", &[]));
        assert_eq!(base("demo-lwf", &[]), base("demo-lwf-apr-dtidkl-stages", &[]));
        assert_ne!(base("demo-lwf", &[]), plain, "another head");
        for change in ["seed=2", "increments=[5, 5]", "class-order={ seed = 2 }", "validation-per-class=9"] {
            assert_ne!(base("demo-lucir-e0", &[change]), plain, "{change}");
        }
        let checked = base_of(&of("demo-lwf", &[])).unwrap();
        assert_ne!(base_hash(&checked, "avx2").unwrap(), base_hash(&checked, "portable").unwrap());
    }
}
