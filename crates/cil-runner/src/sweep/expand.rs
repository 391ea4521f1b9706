//! From a sweep's file to its runs.
//!
//! One decision: a run is a checked configuration with its hash; which base model it could share follows from the
//! configuration too. It looks at no run folder.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::file::{Entry, SweepFile, check_baseline};
use super::identity::{base_hash, base_of, hash};
use crate::config::{Checked, OrderSpec, RunConfig};
use crate::failure::bad_input;
use crate::presets;

/// One run of a sweep.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What its method is called.
    pub method: String,
    /// What it is compared within: its split and class order, where there are several.
    pub group: String,
    /// Name of its folder: method, group, seed and hash.
    pub name: String,
    /// Names its configuration.
    pub hash: String,
    /// Names the model of its base classes.
    pub base: String,
    /// What is run.
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
    for entry in &file.method {
        let config = configuration(entry, file, path).with_context(place)?;
        let method = config.method.clone();
        if expanded.methods.contains(&method) {
            let told = format!("two methods are called {method:?}; give one another name");
            return Err(bad_input(told)).with_context(place);
        }
        for (config, group) in variants(&config, file) {
            let at = || format!("{}: method {method}", path.display());
            let planned = planned(config, &method, group).with_context(at)?;
            if let Some(other) = names.insert(planned.hash.clone(), planned.name.clone()) {
                let told = format!("it is the very run that {other} is; change a key, or leave one out");
                return Err(bad_input(told)).with_context(at);
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

/// A method's configuration with the changes to all and to it.
fn configuration(entry: &Entry, file: &SweepFile, path: &Path) -> Result<RunConfig> {
    let changes: Vec<String> = file.set.iter().chain(&entry.set).cloned().collect();
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
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_.+".contains(it);
    if config.method.is_empty() || config.method.starts_with('.') || !config.method.chars().all(plain) {
        return Err(bad_input(format!(
            "name {:?} names folders; letters, digits and any of -_.+ are right",
            config.method
        )));
    }
    Ok(config)
}

/// The configuration with each split, class order and seed, and what tells split and order apart.
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
                    // More than can be counted is more than any data set has, and told as such.
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
