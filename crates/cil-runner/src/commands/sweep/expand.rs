//! From a sweep's file to its runs.
//!
//! A run is a checked configuration with its hash; which base model it could share follows from the configuration too.
//! It reads no run folder.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::file::{Entry, SweepFile, check_baseline};
use crate::cli::failure::bad_input;
use crate::config::identity::{base_hash, base_of, hash};
use crate::config::{Checked, OrderSpec, RunConfig};
use crate::presets;

/// One run of a sweep.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The name of its method.
    pub method: String,
    /// Its group of comparison: its split and class order, where there are several.
    pub group: String,
    /// Name of its folder: method, group, seed and hash.
    pub name: String,
    /// Names its configuration.
    pub hash: String,
    /// Names the model of its base classes.
    pub base: String,
    /// The configuration that is run.
    pub checked: Checked,
}

/// The runs of a sweep, and the runs that train what some of them share.
#[derive(Clone, Debug)]
pub struct Expanded {
    /// Every combination, methods first.
    pub runs: Vec<Planned>,
    /// The run of the base classes alone, by the name of the base model.
    pub bases: BTreeMap<String, Checked>,
    /// Names of the methods in order.
    pub methods: Vec<String>,
}

/// All runs of a file at `path`; `kernels` names what runs the networks.
///
/// # Errors
/// Naming the file, the method and the key.
pub fn expand(file: &SweepFile, path: &Path, kernels: &str) -> Result<Expanded> {
    let place = || path.display().to_string();
    let mut expanded = Expanded { runs: Vec::new(), bases: BTreeMap::new(), methods: Vec::new() };
    let mut names = BTreeMap::new();
    let of_grid = |entry| points(file, entry).into_iter().map(move |point| (entry, point));
    for (entry, point) in file.method.iter().flat_map(of_grid) {
        let config = configuration(entry, file, &point, path).with_context(place)?;
        let method = config.method.clone();
        if expanded.methods.contains(&method) {
            let message = format!("two methods are called {method:?}; give one another name");
            return Err(bad_input(message)).with_context(place);
        }
        for (config, group) in variants(&config, file) {
            let at = || format!("{}: method {method}", path.display());
            let planned = planned(config, &method, group).with_context(at)?;
            if let Some(other) = names.insert(planned.hash.clone(), planned.name.clone()) {
                let message = format!("it is the very run that {other} is; change a key, or leave one out");
                return Err(bad_input(message)).with_context(at);
            }
            expanded.runs.push(planned);
        }
        expanded.methods.push(method);
    }
    for run in &mut expanded.runs {
        let base = base_of(&run.checked)?;
        run.base = base_hash(&base, kernels)?;
        expanded.bases.entry(run.base.clone()).or_insert(base);
    }
    check_baseline(file.baseline.as_deref(), &expanded.methods).with_context(place)?;
    Ok(expanded)
}

/// A point of a method's grid: what it adds to the method's name, and the changes that make it.
struct Point {
    name: String,
    changes: Vec<String>,
}

/// Every value of each key of the grid with every value of the others; one point without changes where there is no
/// grid.
fn points(file: &SweepFile, entry: &Entry) -> Vec<Point> {
    let keys: Vec<(&String, &Vec<toml::Value>)> = file.grid.iter().chain(&entry.grid).collect();
    // A key is shown by its last part, or in full where two have the same ending.
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let short = |key: &str| match keys.iter().filter(|(other, _)| last(other) == last(key)).count() {
        1 => last(key),
        _ => key.replace('.', "-"),
    };
    let mut points = vec![Point { name: String::new(), changes: Vec::new() }];
    for (key, values) in &keys {
        let with = |point: &Point, value: &toml::Value| Point {
            name: format!("{}-{}-{}", point.name, short(key), folder_name(value)),
            changes: point.changes.iter().cloned().chain([format!("{key}={value}")]).collect(),
        };
        points = points
            .iter()
            .flat_map(|point| values.iter().map(|value| with(point, value)).collect::<Vec<_>>())
            .collect();
    }
    points
}

/// A value as a part of a folder's name.
fn folder_name(value: &toml::Value) -> String {
    let text = value.to_string();
    let letter = |it: char| if it.is_ascii_alphanumeric() || "-_.+".contains(it) { it } else { '-' };
    let name: String = text.chars().map(letter).collect();
    name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// A method's configuration with the changes to all, to it, and of a point of its grid.
fn configuration(entry: &Entry, file: &SweepFile, point: &Point, path: &Path) -> Result<RunConfig> {
    let changes: Vec<String> = file.set.iter().chain(&entry.set).chain(&point.changes).cloned().collect();
    let mut config = match (&entry.preset, &entry.config) {
        (Some(preset), _) => presets::find(preset)?.config.with_changes(&changes, preset)?,
        (None, Some(config)) => {
            RunConfig::load(&path.parent().unwrap_or(Path::new("")).join(config), &changes)?
        }
        (None, None) => return Err(bad_input("a method needs either preset or config")),
    };
    if let Some(name) = &entry.name {
        config.method = name.clone();
    }
    config.method.push_str(&point.name);
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_.+".contains(it);
    if config.method.is_empty() || config.method.starts_with('.') || !config.method.chars().all(plain) {
        return Err(bad_input(format!(
            "name {:?} names folders; use letters, digits and any of -_.+",
            config.method
        )));
    }
    Ok(config)
}

/// The configuration with each split, class order and seed, and the names of split and order.
fn variants(config: &RunConfig, file: &SweepFile) -> Vec<(RunConfig, String)> {
    let optional = |count: usize| (0..count).map(Some).chain((count == 0).then_some(None));
    let mut variants = Vec::new();
    for split in optional(file.splits.len()) {
        for order in optional(file.orders.len()) {
            for (number, seed) in file.seeds.iter().enumerate() {
                if file.paired && order != Some(number) {
                    continue;
                }
                let (mut config, mut group) = (RunConfig { seed: *seed, ..config.clone() }, Vec::new());
                if let Some(at) = split {
                    config.increments.clone_from(&file.splits[at]);
                    // More than can be counted is more than any data set has, and reported as such.
                    config.classes = config.increments.iter().fold(0, |sum, size| sum.saturating_add(*size));
                    group.push(split_name(&config.increments));
                }
                if let Some(at) = order {
                    config.class_order = file.orders[at].clone();
                    if !file.paired {
                        group.push(order_name(&file.orders[at], at));
                    }
                }
                variants.push((config, group.join("-")));
            }
        }
    }
    variants
}

fn planned(config: RunConfig, method: &str, group: String) -> Result<Planned> {
    let checked = config.counted(None)?.check()?;
    let hash = hash(&checked)?;
    let between = if group.is_empty() { String::new() } else { format!("-{group}") };
    let name = format!("{method}{between}-s{}-{hash}", checked.config().seed);
    Ok(Planned { method: method.to_owned(), group, name, hash, base: String::new(), checked })
}

/// Such as `50+10x5`.
fn split_name(increments: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for (at, size) in increments.iter().enumerate() {
        match parts.last_mut() {
            // The base stands alone.
            Some((last, count)) if at > 1 && last == size => *count += 1,
            _ => parts.push((*size, 1)),
        }
    }
    let part = |(size, count): &(usize, usize)| match count {
        1 => size.to_string(),
        _ => format!("{count}x{size}"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join("+")
}

fn order_name(order: &OrderSpec, at: usize) -> String {
    match order {
        OrderSpec::Published(name) => name.clone(),
        OrderSpec::Seeded { seed } => format!("o{seed}"),
        OrderSpec::Labels(_) => format!("order{at}"),
    }
}

#[cfg(test)]
mod tests;
