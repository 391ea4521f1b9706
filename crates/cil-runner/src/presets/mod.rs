//! Named experiments.
//!
//! A preset is a protocol ([`protocol`]) and a method ([`method`]): a complete configuration with its source and what
//! to expect of it. Invariant: a name never changes its meaning. Settings that several presets share stand once, in the
//! protocol's file; accuracies stand in `numbers.toml`.

mod cifar10;
mod cifar100;
mod demo;
#[cfg(test)]
mod digests;
mod imagenet;
pub mod method;
pub mod numbers;
pub mod protocol;
mod settings;
pub mod target;

use anyhow::Result;
use cil_train::methods::heads::Head;
use serde::Serialize;

pub use demo::{COMPARED, Compared, DEMO};

use crate::cli::failure::{bad_input, nearest};
use crate::config::RunConfig;
use method::MethodName;
use protocol::Protocol;

/// A named experiment.
#[derive(Clone, Debug)]
pub struct Preset {
    /// The name on the command line.
    pub name: String,
    /// The protocol's name.
    pub protocol: String,
    /// The method.
    pub method: MethodName,
    /// Its description, in a line.
    pub about: String,
    /// Where its settings come from.
    pub source: &'static str,
    /// The expected accuracy, and its source.
    pub expected: String,
    /// The configuration.
    pub config: RunConfig,
}

/// The entry of a preset in the list of `presets`.
#[derive(Debug, Serialize)]
pub struct Listed<'a> {
    name: &'a str,
    protocol: &'a str,
    method: String,
    about: &'a str,
    source: &'a str,
    expected: &'a str,
    numbers: Vec<&'static numbers::Number>,
}

impl Preset {
    /// Its entry in the list.
    pub fn listed(&self) -> Listed<'_> {
        Listed {
            name: &self.name,
            protocol: &self.protocol,
            method: self.method.to_string(),
            about: &self.about,
            source: self.source,
            expected: &self.expected,
            numbers: numbers::of(&self.protocol, &self.method),
        }
    }
}

/// All protocols, the smallest first.
pub fn protocols() -> Vec<Protocol> {
    let mut protocols = vec![demo::protocol(), demo::cold(), cifar100::ten(), cifar100::twenty()];
    protocols.extend(cifar100::published());
    protocols.extend(cifar100::strong());
    protocols.extend(cifar100::equal());
    protocols.push(cifar10::protocol());
    protocols.extend(imagenet::protocols());
    protocols
}

/// All presets that are listed, protocol by protocol.
pub fn all() -> Vec<Preset> {
    protocols().iter().flat_map(Protocol::presets).collect()
}

/// The preset of that name: a protocol's and a method's, joined.
///
/// # Errors
/// If there is no such protocol or method, or they do not go together.
pub fn find(name: &str) -> Result<Preset> {
    let protocols = protocols();
    if protocols.iter().any(|it| it.name == name) {
        return Err(bad_input(format!(
            "{name} is a protocol; name a method too, as in `cil-runner run {name} lucir`, or one that `cil-runner \
             methods` \
             lists"
        )));
    }
    // Half of a name is no slip of the keyboard.
    if name.parse::<MethodName>().is_ok() {
        return Err(bad_input(format!(
            "{name:?} is a method; name its protocol too, as in `cil-runner run demo {name}`"
        )));
    }
    let rest =
        |it: &Protocol| Some(name.strip_prefix(it.name.as_str())?.strip_prefix(['-', '+', ' '])?.to_owned());
    let found = protocols.iter().filter_map(|it| Some((it, rest(it)?)));
    let Some((protocol, method)) = found.max_by_key(|(it, _)| it.name.len()) else {
        let names = all();
        return Err(bad_input(match nearest(name, names.iter().map(|it| it.name.as_str())) {
            Some(right) => format!("there is no preset {name:?}; did you mean {right:?}?"),
            None => format!(
                "there is no preset {name:?}; `cil-runner protocols` and `cil-runner methods` list them"
            ),
        }));
    };
    let exemplars =
        |name: &str| name.split(['-', '+']).find(|it| *it == "e0" || *it == "e20").map(str::to_owned);
    method.parse().and_then(|method| protocol.preset(&method)).map_err(|error| {
        // A name that says how many exemplars are kept is never mended into one that says another number.
        let listed: Vec<String> = protocol.presets().into_iter().map(|it| it.name).collect();
        let fits = |it: &&str| match (exemplars(name), exemplars(it)) {
            (Some(asked), Some(there)) => asked == there,
            _ => true,
        };
        match nearest(name, listed.iter().map(String::as_str).filter(fits)) {
            Some(right) if error.to_string().contains("there is no") => {
                bad_input(format!("there is no preset {name:?}; did you mean {right:?}?"))
            }
            _ => error,
        }
    })
}

/// The name of the preset of a protocol and a method, as `run PROTOCOL METHOD` has them.
///
/// # Errors
/// If there is no such protocol or method, or they do not go together.
pub fn joined(
    protocol: &str,
    method: &str,
    exemplars: Option<usize>,
    head: Option<&'static Head>,
) -> Result<String> {
    let protocols = protocols();
    let Some(found) = protocols.iter().find(|it| it.name == protocol) else {
        return Err(bad_input(match nearest(protocol, protocols.iter().map(|it| it.name.as_str())) {
            Some(right) => format!("there is no protocol {protocol:?}; did you mean {right:?}?"),
            None => format!("there is no protocol {protocol:?}; `cil-runner protocols` lists them"),
        }));
    };
    Ok(found.preset(&MethodName::with_options(method, exemplars, head)?)?.name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_preset_can_be_run_and_goes_round_through_its_file() {
        let mut names = BTreeSet::new();
        for preset in all() {
            assert!(names.insert(preset.name.clone()), "{} is named twice", preset.name);
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
            [("cifar100-b50-t5-lucir-e20-dfg", "-e0"), ("cifar100-t10-lucir-e20-dfgrr", "-e0")]
        {
            let error = find(wrong).unwrap_err().to_string();
            let suggested = error.split_once("did you mean").map_or("", |it| it.1);
            assert!(!suggested.contains(exemplars), "{error}");
        }
        let error = find("cifar100-10c-lwff").unwrap_err().to_string();
        assert_eq!(error, "there is no preset \"cifar100-10c-lwff\"; did you mean \"cifar100-10c-lwf\"?");
        let message = |name: &str| find(name).unwrap_err().to_string();
        assert_eq!(
            message("lwf"),
            "\"lwf\" is a method; name its protocol too, as in `cil-runner run demo lwf`"
        );
    }

    #[test]
    fn a_preset_is_a_protocol_and_a_method() {
        for preset in all() {
            assert_eq!(find(&format!("{} {}", preset.protocol, preset.method)).unwrap().name, preset.name);
            assert_eq!(preset.method.to_string(), preset.config.method);
            let word = preset.method.to_string().replace('-', "+").replace("fine+tune", "fine-tune");
            if word.parse::<MethodName>().is_ok() {
                assert_eq!(joined(&preset.protocol, &word, None, None).unwrap(), preset.name);
            }
        }
        let name =
            joined("cifar100-b50-t5", "lucir+dfgr+dtid", Some(20), Head::of_part("statistics")).unwrap();
        assert_eq!(name, "cifar100-b50-t5-lucir-dfgr-dtid-discriminant");
        assert_eq!(find(&name).unwrap().config.method, "lucir-e20-dfgr-dtid-discriminant");
        let message =
            |protocol: &str, method: &str| joined(protocol, method, None, None).unwrap_err().to_string();
        assert!(
            message("cifar100-b50-t5", "wa")
                .starts_with("cifar100-b50-t5 has no settings for wa; use one of demo, ")
        );
        assert_eq!(
            message("cifar100-b50-t6", "wa"),
            "there is no protocol \"cifar100-b50-t6\"; did you mean \"cifar100-b50-t5\"?"
        );
        assert!(find("cifar100-10c").unwrap_err().to_string().contains("name a method too"));
    }

    #[test]
    fn what_the_grammar_lets_through_can_be_run() {
        let demo = demo::protocol();
        let (mut made, mut refused) = (0, 0);
        for base in cil_train::methods::ALL.iter().map(|it| it.word) {
            for parts in [
                "",
                "-e0",
                "-e1",
                "-dfgr",
                "-dtid",
                "-dtidkl",
                "-dfgr-dtid",
                "-e0-dfgr-dtidkl",
                "-e0-dfgr-dtid",
            ] {
                for more in ["", "-replace", "-unshared"] {
                    for head in
                        ["", "-discriminant", "-stages", "-ridge", "-fecam", "-fecamshared", "-fetril"]
                    {
                        let name = format!("{base}{parts}{more}{head}");
                        let Ok(method) = name.parse::<MethodName>() else {
                            refused += 1;
                            continue;
                        };
                        let preset = demo.preset(&method).unwrap();
                        preset.config.check().unwrap_or_else(|error| panic!("{name}: {error:#}"));
                        made += 1;
                    }
                }
            }
        }
        assert!(made > 120 && refused > 500, "{made} made, {refused} refused");
    }
}
