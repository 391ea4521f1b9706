//! Several runs beside each other, grouped over seeds.
//!
//! Which runs may be averaged is decided here, for every report: runs whose settings differ in nothing but the seed and
//! whose images are the same are one group, and a mean is over its whole runs, each seed once, since a seed that ran
//! twice tells nothing new. Runs of several versions or kernels are averaged, with a warning.

mod label;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use toml::Table;

use crate::cli::failure::bad_input;
use crate::results::figure::{Figure, summary};
use crate::results::recorded::Recorded;
use crate::results::statistics::Spread;

/// Keys that make no other method of a run: what is drawn, and where the settings came from.
const NOT_SETTINGS: [&str; 2] = ["seed", "preset"];

/// Names of the images' digests in a group's settings, beside the keys of the configuration.
const IMAGES: [&str; 2] = ["images.training", "images.evaluation"];

/// First parts of the keys that say what is learned, and from what.
const TASK: [&str; 8] = [
    "dataset",
    "classes",
    "class-order",
    "increments",
    "validation-per-class",
    "evaluate-on",
    "procedural",
    "images",
];

/// The role of class orders in a comparison.
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
    /// The method's name, and the difference to other groups of the method.
    pub label: String,
    /// The method's name.
    pub method: String,
    /// Split and class order, where a sweep has several.
    pub block: String,
    /// Runs that a sweep has of it.
    pub planned: Option<usize>,
    /// All its runs, as positions in [`Summary::runs`].
    pub runs: Vec<usize>,
    /// Those that means are taken over: whole, and each seed once.
    pub counted: Vec<usize>,
    /// The settings that its runs share.
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
    /// The role of class orders.
    pub orders: Orders,
    /// The runs of a sweep, in its order; empty for runs that were named one by one.
    pub planned: Vec<Planned>,
}

/// A method of a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Split and class order, where there are several.
    pub block: String,
    /// Its name in the sweep.
    pub method: String,
    /// Its runs.
    pub runs: usize,
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

    /// Of no run at all: what a sweep has before its first is done.
    pub fn none(orders: Orders) -> Self {
        let (runs, results, groups, planned) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { runs, results, groups, orders, planned }
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
        let settings: Vec<Settings> = runs
            .iter()
            .map(|run| Ok(with_images(settings(run.checked.text(), orders)?, run)))
            .collect::<Result<_>>()?;
        let facts = runs.iter().zip(&settings).map(|(run, settings)| Member {
            method: run.checked.config().method.clone(),
            seed: run.checked.config().seed,
            finished: run.finished,
            settings,
        });
        let groups = group(&facts.collect::<Vec<_>>());
        Ok(Self { runs, results, groups, orders, planned: Vec::new() })
    }

    /// Tasks that a group's runs have.
    pub fn tasks_of(&self, group: &Group) -> usize {
        group.runs.first().map_or(0, |run| self.runs[*run].tasks().1)
    }

    /// Whether a group trains on all images in every task.
    pub fn is_joint(&self, group: &Group) -> bool {
        group.runs.first().is_some_and(|run| self.runs[*run].checked.config().recipe.joint)
    }

    /// Whole runs that trained on all images in every task, of what `run` learned: the same images, tasks and class
    /// order, with the same seed.
    pub fn joint_runs_of(&self, run: usize) -> Vec<usize> {
        let group = |run: usize| self.groups.iter().find(|group| group.runs.contains(&run));
        let facts = |run: usize| {
            let checked = &self.runs[run].checked;
            Some((checked.config().seed, checked.order().labels(), self.task_of(group(run)?)))
        };
        let is_it = |other: &usize| {
            let recorded = &self.runs[*other];
            recorded.finished && recorded.checked.config().recipe.joint && facts(*other) == facts(run)
        };
        (0..self.runs.len()).filter(is_it).collect()
    }

    /// Names what a group's runs learn, and from which images: methods of one are compared.
    pub fn task_of(&self, group: &Group) -> String {
        let is_task = |key: &&String| TASK.contains(&key.split('.').next().unwrap_or_default());
        group
            .settings
            .iter()
            .filter(|(key, _)| is_task(key))
            .map(|(key, value)| format!("{key}={value};"))
            .collect()
    }

    /// A group's runs minus the runs of `partners` (positions of groups) that learned the same with the same seed.
    pub fn difference(&self, group: &Group, partners: &[usize], figure: &Figure) -> Option<Spread> {
        let partners: Vec<&Group> = partners.iter().map(|at| &self.groups[*at]).collect();
        if partners.contains(&group) {
            return None;
        }
        let (task, seed) = (self.task_of(group), |run: usize| self.runs[run].checked.config().seed);
        let same = partners.into_iter().filter(|it| it.block == group.block && self.task_of(it) == task);
        let same: Vec<usize> = same.flat_map(|it| it.counted.iter().copied()).collect();
        let pairs = group.counted.iter().filter_map(|run| {
            let partner = same.iter().find(|it| seed(**it) == seed(*run))?;
            Some(self.figure(*run, figure)? - self.figure(*partner, figure)?)
        });
        Spread::of(&pairs.collect::<Vec<_>>())
    }

    /// Warnings about runs that are hard to compare: versions and kernels that differ where images and settings do not
    /// forbid a mean.
    pub fn warnings(&self) -> Vec<String> {
        type Fact = fn(&Recorded) -> &str;
        let facts: [(&str, Fact); 3] = [
            ("code versions", |run| &run.environment.code_version),
            ("versions of candle", |run| &run.environment.candle_version),
            ("kernels", |run| &run.environment.kernels),
        ];
        let mut warnings = Vec::new();
        for (fact, of) in facts {
            let values: BTreeSet<&str> = self.runs.iter().map(of).collect();
            if values.len() > 1 {
                let values = values.into_iter().collect::<Vec<_>>().join(", ");
                warnings.push(format!("these runs were made with several {fact}: {values}"));
            }
        }
        let mut images: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for group in &self.groups {
            let (of, task) = split_images(&group.settings);
            images.entry(task).or_default().insert(of);
        }
        if images.values().any(|it| it.len() > 1) {
            warnings.push(
                "runs whose settings name the same images had different ones; they are not averaged"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// The images' digests in settings, and the rest of the settings of the task.
fn split_images(settings: &Settings) -> (String, String) {
    let (mut images, mut task) = (String::new(), String::new());
    for (key, value) in settings {
        match IMAGES.contains(&key.as_str()) {
            true => images.push_str(value),
            false if TASK.contains(&key.split('.').next().unwrap_or_default()) => {
                task.push_str(&format!("{key}={value};"));
            }
            false => {}
        }
    }
    (images, task)
}

impl Summary {
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

/// The properties of a run that determine its group.
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
            let (method, runs, counted) = (label.clone(), Vec::new(), Vec::new());
            groups.push(Group {
                label,
                method,
                block: String::new(),
                planned: None,
                runs,
                counted,
                settings,
            });
            groups.len() - 1
        });
        let group = &mut groups[at];
        group.runs.push(run);
        let again = group.counted.iter().any(|other| members[*other].seed == member.seed);
        if member.finished && !again {
            group.counted.push(run);
        }
    }
    label::label(&mut groups);
    groups
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

/// The settings of a run, and its images by the beginnings of their digests.
fn with_images(mut settings: Settings, run: &Recorded) -> Settings {
    let (train, test) = (&run.environment.train_digest, &run.environment.test_digest);
    for (key, digest) in IMAGES.iter().zip([train, test]) {
        settings.insert((*key).to_owned(), digest.chars().take(12).collect());
    }
    settings
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
mod tests;
