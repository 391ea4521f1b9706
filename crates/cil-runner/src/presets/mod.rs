//! Named experiments.
//!
//! One decision: a preset is a complete configuration with its source and what to expect of it; a name never changes
//! its meaning. Settings that several presets share stand once, in the family's file.

mod cifar10;
mod cifar100;
mod demo;
#[cfg(test)]
mod digests;
mod equal;
mod imagenet;
mod settings;
pub mod target;

use serde::Serialize;

pub use demo::{COMPARED, DEMO};

use crate::cli::failure::{bad_input, nearest};
use crate::config::RunConfig;

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

/// Presets that differ in their method alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// What their names begin with.
    pub name: &'static str,
    /// What they learn.
    pub about: &'static str,
}

/// Families in the order of [`all`].
pub const FAMILIES: [Family; 15] = [
    Family { name: "demo", about: "images drawn by the program, 6 + 2 + 2 classes, ResNet-8; minutes" },
    Family { name: "cifar100-10c", about: "ten classes of CIFAR-100, 6 + 2 + 2, ResNet-14; minutes" },
    Family {
        name: "cifar100-20c",
        about: "twenty classes of CIFAR-100, 10 and then 2 at a time, ResNet-20; an hour",
    },
    Family {
        name: "cifar100-b50-t5",
        about: "published protocol: 50 classes, then 5 tasks of 10, ResNet-32; for a GPU",
    },
    Family {
        name: "cifar100-b50-t10",
        about: "published protocol: 50 classes, then 10 tasks of 5; for a GPU",
    },
    Family {
        name: "cifar100-b50-t25",
        about: "published protocol: 50 classes, then 25 tasks of 2; for a GPU",
    },
    Family {
        name: "cifar100-b50-t50",
        about: "published protocol: 50 classes, then 50 tasks of 1 (PODNet); for a GPU",
    },
    Family { name: "cifar100-t5", about: "five equal tasks of 20 classes, ResNet-32; for a GPU" },
    Family { name: "cifar100-t10", about: "ten equal tasks of 10 classes; for a GPU" },
    Family { name: "cifar100-t20", about: "twenty equal tasks of 5 classes; for a GPU" },
    Family {
        name: "cifar10-t5",
        about: "CIFAR-10 in five equal tasks of 2 classes, ResNet-20; under an hour",
    },
    Family { name: "tiny-b100", about: "Tiny-ImageNet: 100 classes, then t tasks; for a GPU" },
    Family { name: "imagenet100-b50", about: "100 classes of ImageNet: 50, then t tasks; for a GPU" },
    Family { name: "imagenet1000-b500", about: "ImageNet: 500 classes, then t tasks; for a GPU" },
    Family { name: "other", about: "what belongs to no family" },
];

/// The family of a preset: the longest name that its own begins with.
pub fn family_of(preset: &Preset) -> &'static Family {
    let begins = |it: &&Family| preset.name.strip_prefix(it.name).is_some_and(|rest| rest.starts_with('-'));
    FAMILIES.iter().filter(begins).max_by_key(|it| it.name.len()).unwrap_or(&FAMILIES[FAMILIES.len() - 1])
}

/// What `presets` lists of one.
#[derive(Debug, Serialize)]
pub struct Listed<'a> {
    name: &'a str,
    family: &'a str,
    about: &'a str,
    source: &'a str,
    expected: &'a str,
}

impl Preset {
    /// What is listed.
    pub fn listed(&self) -> Listed<'_> {
        let family = family_of(self).name;
        Listed { name: &self.name, family, about: &self.about, source: self.source, expected: &self.expected }
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
        cifar10::presets(),
        imagenet::presets(),
    ]
    .concat()
}

/// The preset of that name, or of its other names.
pub fn find(name: &str) -> anyhow::Result<Preset> {
    let presets = all();
    let called = |name: &str| presets.iter().find(|preset| preset.name == name);
    if let Some(preset) = called(name).or_else(|| other_names(name).iter().find_map(|name| called(name))) {
        return Ok(preset.clone());
    }
    // Half of a name is no slip of the keyboard.
    let of_method: Vec<&str> =
        presets.iter().filter(|it| it.config.method == name).map(|it| it.name.as_str()).collect();
    if let [first, rest @ ..] = &of_method[..] {
        let second = rest.first().map_or(String::new(), |it| format!(" or {it}"));
        return Err(bad_input(format!(
            "{name:?} is a method; name its family, too, such as {first}{second} (`cil-runner presets` lists both)"
        )));
    }
    if presets.iter().any(|it| it.name == format!("{name}-{}", it.config.method)) {
        return Err(bad_input(format!(
            "{name:?} is a family of presets; name one of them (`cil-runner presets` lists families)"
        )));
    }
    // A name that says how many exemplars are kept is never mended into one that says another number.
    let exemplars = |name: &str| ["-e0", "-e20"].into_iter().find(|it| name.contains(it));
    let fits = |it: &&str| match (exemplars(name), exemplars(it)) {
        (Some(asked), Some(there)) => asked == there,
        _ => true,
    };
    let names = presets.iter().map(|preset| preset.name.as_str()).filter(fits);
    Err(bad_input(match nearest(name, names) {
        Some(right) => format!("there is no preset {name:?}; did you mean {right:?}?"),
        None => format!("there is no preset {name:?}; `cil-runner presets` lists them"),
    }))
}

/// What else a preset may be called: 20 exemplars a class are LUCIR's and PODNet's published setting, which families of
/// published protocols leave out of a name and others say, so each may be typed either way.
fn other_names(name: &str) -> Vec<String> {
    let of = |method: &str| {
        let (short, long) = (format!("-{method}"), format!("-{method}-e20"));
        match (name.split_once(&long), name.split_once(&short)) {
            (Some((family, variant)), _) => Some(format!("{family}{short}{variant}")),
            (None, Some((family, variant))) => Some(format!("{family}{long}{variant}")),
            (None, None) => None,
        }
    };
    ["lucir", "podnet"].into_iter().filter_map(of).collect()
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
        for steps in [5, 10, 20] {
            promised.extend(
                ["rdfcil", "lucir-e0-dfgr-dtid"].map(|method| format!("tiny-b100-t{steps}-{method}")),
            );
        }
        promised.extend([5, 10, 25].map(|steps| format!("imagenet100-b50-t{steps}-lucir")));
        promised.extend([5, 10].map(|steps| format!("imagenet1000-b500-t{steps}-lucir")));
        for name in promised {
            assert!(names.contains(&name), "{name} is missing");
        }
        for (typed, meant) in [
            ("cifar100-b50-t5-lucir-e20", "cifar100-b50-t5-lucir"),
            ("cifar100-b50-t25-podnet-e20-dfgr-dtid-replace", "cifar100-b50-t25-podnet-dfgr-dtid-replace"),
            ("cifar100-b50-t10-lucir-e20-dtidkl", "cifar100-b50-t10-lucir-dtidkl"),
            ("cifar100-10c-lucir", "cifar100-10c-lucir-e20"),
            ("cifar100-20c-podnet-dfgr", "cifar100-20c-podnet-e20-dfgr"),
        ] {
            assert_eq!(find(typed).unwrap().name, meant);
        }
        for (wrong, exemplars) in
            [("cifar100-b50-t5-lucir-e20-dfg", "-e0"), ("cifar100-t10-lucir-e20", "-e0")]
        {
            let error = find(wrong).unwrap_err().to_string();
            let suggested = error.split_once("did you mean").map_or("", |it| it.1);
            assert!(!suggested.contains(exemplars), "{error}");
        }
        let error = find("cifar100-10c-lwff").unwrap_err().to_string();
        assert_eq!(error, "there is no preset \"cifar100-10c-lwff\"; did you mean \"cifar100-10c-lwf\"?");
        let told = |name: &str| find(name).unwrap_err().to_string();
        assert!(
            told("lwf").starts_with(
                "\"lwf\" is a method; name its family, too, such as demo-lwf or cifar100-10c-lwf"
            )
        );
        assert!(
            told("cifar100-10c").starts_with("\"cifar100-10c\" is a family of presets; name one of them")
        );
    }
}
