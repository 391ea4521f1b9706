//! Several runs beside each other, grouped over seeds.
//!
//! One decision: runs whose settings differ in nothing but the seed are one group; a mean is over its whole runs, each
//! seed once, since a seed that ran twice tells nothing new.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use toml::Table;

use crate::failure::bad_input;
use crate::figure::{Figure, summary};
use crate::recorded::Recorded;
use crate::statistics::Spread;

/// Keys that make no other method of a run: what is drawn, and where the settings came from.
const NOT_SETTINGS: [&str; 2] = ["seed", "preset"];

/// What a class order is to a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orders {
    /// A setting: runs of another order are another method.
    Apart,
    /// A part of the draw: each seed has an order of its own, and means are over both (sweeps with `paired = true`).
    WithSeeds,
}

/// Settings by their dotted keys.
pub type Settings = BTreeMap<String, String>;

/// Runs of the same settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The method's name, and what tells it from other groups of the method.
    pub label: String,
    /// All its runs, as positions in [`Summary::runs`].
    pub runs: Vec<usize>,
    /// Those that means are taken over: whole, and each seed once.
    pub counted: Vec<usize>,
    /// What its runs have in common.
    pub settings: Settings,
}

/// Runs and what they have in common.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The runs, in the order they were named.
    pub runs: Vec<Recorded>,
    /// Their `result.json`; null where no task was evaluated yet.
    pub results: Vec<Value>,
    /// The runs by settings, in the order of their first runs.
    pub groups: Vec<Group>,
    /// What class orders are to it.
    pub orders: Orders,
}

impl Summary {
    /// Reads these run folders.
    ///
    /// # Errors
    /// If there is none, one is named twice, or one cannot be read.
    pub fn load(folders: &[PathBuf], orders: Orders) -> Result<Self> {
        let mut seen = BTreeSet::new();
        for folder in folders {
            let twice = folder.canonicalize().is_ok_and(|path| !seen.insert(path));
            if twice {
                return Err(bad_input(format!("the run folder {} is named twice", folder.display())));
            }
        }
        Self::new(folders.iter().map(|folder| Recorded::load(folder)).collect::<Result<_>>()?, orders)
    }

    /// Groups runs.
    ///
    /// # Errors
    /// If there is none.
    pub fn new(mut runs: Vec<Recorded>, orders: Orders) -> Result<Self> {
        if runs.is_empty() {
            return Err(bad_input("a report needs at least one run folder"));
        }
        name_apart(&mut runs);
        let results = runs.iter().map(|run| serde_json::to_value(&run.result));
        let results = results.collect::<Result<_, _>>().context("a result is no JSON")?;
        let settings: Vec<Settings> =
            runs.iter().map(|run| settings(run.checked.text(), orders)).collect::<Result<_>>()?;
        let facts = runs.iter().zip(&settings).map(|(run, settings)| Member {
            method: run.checked.config().method.clone(),
            seed: run.checked.config().seed,
            finished: run.finished,
            settings,
        });
        let groups = group(&facts.collect::<Vec<_>>());
        Ok(Self { runs, results, groups, orders })
    }

    /// Most tasks that any run has.
    pub fn tasks(&self) -> usize {
        self.runs.iter().map(|run| run.checked.increments().tasks()).max().unwrap_or(0)
    }

    /// Figures that sum up a group's runs.
    pub fn figures(&self, group: &Group) -> Vec<Figure> {
        summary(group.runs.first().map_or(0, |run| self.runs[*run].tasks().1))
    }

    /// A figure of a run, if the run has it.
    pub fn figure(&self, run: usize, figure: &Figure) -> Option<f64> {
        figure.of(self.results.get(run)?)
    }

    /// A figure's mean and spread over a group; `None` unless every counted run has it.
    pub fn spread(&self, group: &Group, figure: &Figure) -> Option<Spread> {
        let values: Option<Vec<f64>> = group.counted.iter().map(|run| self.figure(*run, figure)).collect();
        Spread::of(&values?)
    }

    /// Keys in which groups differ.
    pub fn differing(&self) -> Vec<&str> {
        differing(self.groups.iter().map(|group| &group.settings))
    }

    /// Groups with their means, and runs, as JSON.
    pub fn json(&self) -> Value {
        let group = |group: &Group| {
            let figures = self.figures(group).into_iter().filter_map(|figure| {
                Some((figure.at.clone(), serde_json::to_value(self.spread(group, &figure)?).ok()?))
            });
            let names =
                |runs: &[usize]| runs.iter().map(|run| self.runs[*run].name.clone()).collect::<Vec<_>>();
            json!({
                "method": group.label, "runs": names(&group.runs), "counted": names(&group.counted),
                "figures": figures.collect::<serde_json::Map<_, _>>(),
            })
        };
        let run = |(run, result): (&Recorded, &Value)| json!({ "name": run.name, "finished": run.finished, "result": result });
        json!({
            "groups": self.groups.iter().map(group).collect::<Vec<_>>(),
            "runs": self.runs.iter().zip(&self.results).map(run).collect::<Vec<_>>(),
        })
    }
}

/// Gives runs of one name in several folders names of their own: `name`, `name-2`, ...
fn name_apart(runs: &mut [Recorded]) {
    let mut taken = BTreeSet::new();
    for run in runs {
        let plain = run.name.clone();
        let mut number = 2;
        while !taken.insert(run.name.clone()) {
            run.name = format!("{plain}-{number}");
            number += 1;
        }
    }
}

/// What grouping needs to know of a run.
struct Member<'a> {
    method: String,
    seed: u64,
    finished: bool,
    settings: &'a Settings,
}

fn group(members: &[Member<'_>]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (run, member) in members.iter().enumerate() {
        let at = groups.iter().position(|group| group.settings == *member.settings);
        let at = at.unwrap_or_else(|| {
            let (label, settings) = (member.method.clone(), member.settings.clone());
            groups.push(Group { label, runs: Vec::new(), counted: Vec::new(), settings });
            groups.len() - 1
        });
        let group = &mut groups[at];
        group.runs.push(run);
        let again = group.counted.iter().any(|other| members[*other].seed == member.seed);
        if member.finished && !again {
            group.counted.push(run);
        }
    }
    label(&mut groups);
    groups
}

/// Tells groups of one method apart: by the one or two keys in which they differ, else by a number.
fn label(groups: &mut [Group]) {
    let methods: BTreeSet<String> = groups.iter().map(|group| group.label.clone()).collect();
    for method in methods {
        let same: Vec<usize> = (0..groups.len()).filter(|at| groups[*at].label == method).collect();
        if same.len() < 2 {
            continue;
        }
        let keys = differing(same.iter().map(|at| &groups[*at].settings));
        let keys: Vec<String> = keys.into_iter().map(str::to_owned).collect();
        for (number, at) in same.iter().enumerate() {
            let value = |key: &String| {
                format!("{key} = {}", groups[*at].settings.get(key).map_or("unset", String::as_str))
            };
            let told = match keys.len() {
                1 | 2 => keys.iter().map(value).collect::<Vec<_>>().join(", "),
                _ => format!("settings {}", number + 1),
            };
            groups[*at].label = format!("{method} ({told})");
        }
    }
}

/// Keys whose values are not the same everywhere.
fn differing<'a>(settings: impl Iterator<Item = &'a Settings>) -> Vec<&'a str> {
    let settings: Vec<&Settings> = settings.collect();
    let keys: BTreeSet<&str> = settings.iter().flat_map(|it| it.keys()).map(String::as_str).collect();
    let differs = |key: &&str| settings.iter().any(|it| it.get(*key) != settings[0].get(*key));
    keys.into_iter().filter(differs).collect()
}

/// A configuration's keys and values, without what is drawn.
fn settings(text: &str, orders: Orders) -> Result<Settings> {
    let mut table: Table = text.parse().context("a configuration is not TOML")?;
    for key in NOT_SETTINGS {
        table.remove(key);
    }
    if orders == Orders::WithSeeds {
        table.remove("class-order");
    }
    let mut flat = Settings::new();
    for (key, value) in table {
        flatten(key, &value, &mut flat);
    }
    Ok(flat)
}

fn flatten(key: String, value: &toml::Value, flat: &mut Settings) {
    match value {
        toml::Value::Table(table) if !table.is_empty() => {
            table.iter().for_each(|(inner, value)| flatten(format!("{key}.{inner}"), value, flat));
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            items.iter().enumerate().for_each(|(at, value)| flatten(format!("{key}.{at}"), value, flat));
        }
        plain => {
            flat.insert(key, plain.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member<'a>(method: &str, seed: u64, finished: bool, settings: &'a Settings) -> Member<'a> {
        Member { method: method.to_owned(), seed, finished, settings }
    }

    #[test]
    fn runs_that_differ_in_the_seed_alone_are_one_group() {
        let text = |seed: u64, rate: f64| {
            format!("seed = {seed}\npreset = \"p{seed}\"\n[a]\nrate = {rate}\nlist = [1, 2]\n[[b]]\nc = 1\n")
        };
        let of = |seed, rate| settings(&text(seed, rate), Orders::Apart).unwrap();
        let (one, two) = (of(1, 0.1), of(2, 0.1));
        assert_eq!(one, two);
        assert_eq!(one["a.list"], "[1, 2]");
        assert_eq!(one["b.0.c"], "1");
        let other = of(1, 0.2);
        let groups = group(&[
            member("lwf", 1, true, &one),
            member("lwf", 1, true, &other),
            member("lwf", 2, true, &two),
            member("lwf", 2, true, &two),
            member("lwf", 3, false, &one),
        ]);
        let told: Vec<_> =
            groups.iter().map(|it| (it.label.as_str(), &it.runs[..], &it.counted[..])).collect();
        assert_eq!(
            told,
            [
                ("lwf (a.rate = 0.1)", &[0, 2, 3, 4][..], &[0, 2][..]),
                ("lwf (a.rate = 0.2)", &[1][..], &[1][..])
            ]
        );
    }

    #[test]
    fn an_order_that_comes_with_its_seed_makes_no_other_method() {
        let of = |order: &str, orders| settings(&format!("x = 1\nclass-order = {order}\n"), orders).unwrap();
        let (named, drawn) = ("\"abd_0\"", "{ seed = 3 }");
        assert_ne!(of(named, Orders::Apart), of(drawn, Orders::Apart));
        let (one, two) = (of(named, Orders::WithSeeds), of(drawn, Orders::WithSeeds));
        let groups = group(&[member("lwf", 1, true, &one), member("lwf", 2, true, &two)]);
        assert_eq!((groups.len(), &groups[0].label[..], &groups[0].counted[..]), (1, "lwf", &[0, 1][..]));
    }

    #[test]
    fn groups_that_differ_much_are_numbered_and_single_ones_keep_their_name() {
        let text = |value: u64| format!("x = {value}\ny = {value}\nz = {value}\n");
        let of = |value| settings(&text(value), Orders::Apart).unwrap();
        let (one, two) = (of(1), of(2));
        let groups = group(&[
            member("lwf", 1, true, &one),
            member("lwf", 1, true, &two),
            member("joint", 1, true, &of(3)),
        ]);
        let labels: Vec<&str> = groups.iter().map(|it| it.label.as_str()).collect();
        assert_eq!(labels, ["lwf (settings 1)", "lwf (settings 2)", "joint"]);
    }
}
