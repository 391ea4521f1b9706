//! From what is typed to a checked configuration: a preset's name or a file, with changes.

use std::path::Path;

use anyhow::Result;

use crate::cli::args::Target;
use crate::cli::failure::{bad_input, sentence};
use crate::config::overlay;
use crate::config::{Checked, RunConfig};
use crate::presets;

/// The configuration of a preset's name or a file, changed as the arguments say.
pub fn configuration(target: &str, changes: &[String], seed: Option<u64>) -> Result<Checked> {
    configuration_of(target, changes, seed, None)
}

/// [`configuration`], where data sets lie in `data_dir`: a data set of any name may be one of them.
pub fn configuration_of(
    target: &str,
    changes: &[String],
    seed: Option<u64>,
    data_dir: Option<&Path>,
) -> Result<Checked> {
    let mut config = match is_file(target) {
        true => RunConfig::load(Path::new(target), changes)?,
        false => presets::find(target)?.config.with_changes(changes, target)?,
    };
    if let Some(seed) = seed {
        if let Some(change) = changes.iter().find(|change| overlay::key_of(change) == "seed") {
            return Err(bad_input(format!(
                "--seed {seed} and --set {change} both set the seed; leave one out"
            )));
        }
        config.seed = seed;
    }
    config = config.counted(data_dir)?;
    if is_file(target) { checked(config, Path::new(target)) } else { config.check() }
}

/// A configuration from a file, checked; every complaint names the file.
pub(crate) fn checked(config: RunConfig, path: &Path) -> Result<Checked> {
    config.check().map_err(|error| bad_input(format!("{}: {}", path.display(), sentence(&error))))
}

/// Whether a target names a file and no preset.
pub fn is_file(target: &str) -> bool {
    Path::new(target).extension().is_some_and(|extension| extension == "toml")
}

/// The preset or file that arguments name: of a protocol and a method, the preset that both are.
///
/// # Errors
/// If a method stands beside a file, or protocol and method do not go together.
pub fn named(arguments: &Target) -> Result<String> {
    let Target { target, method, exemplars, head } = arguments;
    match method {
        None => Ok(target.clone()),
        Some(method) if is_file(target) => Err(bad_input(format!(
            "{target} {method}: a file has its method already; leave {method} out, or name a protocol in place of the file"
        ))),
        Some(method) => presets::joined(target, method, *exemplars, *head),
    }
}
