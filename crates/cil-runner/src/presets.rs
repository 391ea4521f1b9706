//! Named experiments.
//!
//! One decision: a preset is a complete configuration with its source and what to expect of it; a name never changes
//! its meaning. Settings that several presets share stand once, in the family's file.

mod cifar100;
mod demo;
mod equal;
mod settings;

use serde::Serialize;

pub use demo::{COMPARED, DEMO};

use crate::config::RunConfig;
use crate::failure::{bad_input, nearest};

/// A named experiment.
#[derive(Clone, Debug)]
pub struct Preset {
    /// What is typed.
    pub name: String,
    /// What it is, in a line.
    pub about: String,
    /// Where its settings come from.
    pub source: &'static str,
    /// What to expect, and where that number is from.
    pub expected: String,
    /// The configuration.
    pub config: RunConfig,
}

/// What `presets` lists of one.
#[derive(Debug, Serialize)]
pub struct Listed<'a> {
    name: &'a str,
    about: &'a str,
    source: &'a str,
    expected: &'a str,
}

impl Preset {
    /// What is listed.
    pub fn listed(&self) -> Listed<'_> {
        Listed { name: &self.name, about: &self.about, source: self.source, expected: &self.expected }
    }
}

/// All presets, family by family.
pub fn all() -> Vec<Preset> {
    [
        demo::presets(),
        cifar100::ten(),
        cifar100::twenty(),
        cifar100::published(),
        cifar100::equal(),
        equal::presets(),
    ]
    .concat()
}

/// The preset of that name.
pub fn find(name: &str) -> anyhow::Result<Preset> {
    let presets = all();
    if let Some(preset) = presets.iter().find(|preset| preset.name == name) {
        return Ok(preset.clone());
    }
    let names = presets.iter().map(|preset| preset.name.as_str());
    Err(bad_input(match nearest(name, names) {
        Some(right) => format!("there is no preset {name:?}; did you mean {right:?}?"),
        None => format!("there is no preset {name:?}; `cil-runner presets` lists them"),
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_preset_can_be_run_and_goes_round_through_its_file() {
        let mut names = BTreeSet::new();
        for preset in all() {
            assert!(names.insert(preset.name.clone()), "{} is there twice", preset.name);
            assert_eq!(preset.config.preset.as_deref(), Some(preset.name.as_str()));
            assert!(!preset.source.is_empty() && !preset.expected.is_empty() && !preset.about.is_empty());
            let checked =
                preset.config.clone().check().unwrap_or_else(|error| panic!("{}: {error:#}", preset.name));
            let again: RunConfig = toml::from_str(checked.text()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(again, preset.config);
        }
    }

    #[test]
    fn the_promised_names_are_there() {
        let names: BTreeSet<String> = all().into_iter().map(|preset| preset.name).collect();
        let mut promised: Vec<String> = ["fine-tune", "lwf", "lucir-e0-dfgr-dtidkl", "joint"]
            .map(|method| format!("demo-{method}"))
            .into();
        for steps in [5, 10, 25] {
            for suffix in
                ["", "-e0", "-dfgr", "-dtidkl", "-dfgr-dtidkl", "-e0-dfgr", "-e0-dtidkl", "-e0-dfgr-dtidkl"]
            {
                promised.push(format!("cifar100-b50-t{steps}-lucir{suffix}"));
            }
        }
        for steps in [5, 10, 25, 50] {
            for suffix in ["", "-e0", "-dfgr", "-dtid", "-dfgr-dtid", "-e0-dfgr", "-e0-dtid", "-e0-dfgr-dtid"]
            {
                promised.push(format!("cifar100-b50-t{steps}-podnet{suffix}"));
            }
        }
        for method in ["lucir", "podnet"] {
            for exemplars in ["e0", "e20"] {
                for suffix in ["", "-dfgr", "-dtid", "-dfgr-dtid"] {
                    promised.push(format!("cifar100-20c-{method}-{exemplars}{suffix}"));
                }
            }
        }
        promised.extend(["fine-tune", "lwf", "joint"].map(|method| format!("cifar100-20c-{method}")));
        let families = ["demo", "cifar100-10c", "cifar100-20c", "cifar100-b50-t5", "cifar100-t10"];
        promised.extend(families.map(|family| format!("{family}-lucir-e0-dfgr-dtid-unshared")));
        promised.extend([5, 10, 20].map(|tasks| format!("cifar100-t{tasks}-podnet-e0-dfgr-dtid")));
        let small = [
            "fine-tune",
            "lwf",
            "lucir-e20",
            "lucir-e0",
            "lucir-e0-dfgr",
            "lucir-e0-dtidkl",
            "lucir-e0-dfgr-dtidkl",
            "joint",
        ];
        promised.extend(small.map(|method| format!("cifar100-10c-{method}")));
        let rivals =
            ["icarl", "icarl-softmax", "wa", "bic", "rdfcil", "abd", "deepinversion", "dmc-generated"];
        promised.extend(rivals.map(|method| format!("cifar100-10c-{method}")));
        for tasks in [5, 10, 20] {
            let printed = ["icarl", "wa", "bic", "rdfcil", "abd", "deepinversion"];
            promised.extend(printed.map(|method| format!("cifar100-t{tasks}-{method}")));
        }
        for steps in [5, 10, 25] {
            let printed = ["icarl-softmax", "rdfcil", "abd"];
            promised.extend(printed.map(|method| format!("cifar100-b50-t{steps}-{method}")));
        }
        for name in promised {
            assert!(names.contains(&name), "{name} is missing");
        }
        let error = find("cifar100-10c-lwff").unwrap_err().to_string();
        assert_eq!(error, "there is no preset \"cifar100-10c-lwff\"; did you mean \"cifar100-10c-lwf\"?");
    }
}
