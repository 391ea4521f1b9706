//! Default names of run folders.
//!
//! An unchanged preset gives its own name, a configuration file the file's, and changes by `--set` add a hash, as in a
//! sweep. So no result lies under the name of another run.

use std::path::Path;

use anyhow::Result;

use crate::config::identity::hash;
use crate::config::{Checked, RunConfig};
use crate::folder::contents::CONFIG;
use crate::folder::log::EVENTS;
use crate::folder::writer::PARTIAL;
use crate::presets;
use crate::presets::target::is_file;

/// The name of the run of `checked`, which was made of `target` by changes.
///
/// # Errors
/// If the target cannot be read any more.
pub fn default_name(target: &str, checked: &Checked) -> Result<String> {
    let path = Path::new(target);
    let mut original = match is_file(target) {
        true => RunConfig::load(path, &[])?,
        false => presets::find(target)?.config,
    };
    let seed = checked.config().seed;
    let name = match (is_file(target), run_of(path)) {
        // As the run whose configuration it is, with its seed.
        (true, Some(run)) => run,
        (is_file, _) => {
            original.seed = seed;
            let stem = path.file_stem().filter(|_| is_file).map(|it| it.to_string_lossy().into_owned());
            // A name with a `+` or a space is written as the preset's own.
            let preset = || original.preset.clone().filter(|_| target.contains(['+', ' ']));
            format!("{}-s{seed}", stem.or_else(preset).unwrap_or_else(|| target.to_owned()))
        }
    };
    let own = hash(checked)?;
    // A configuration that cannot run without the changes counts as another one, too.
    let is_same = original.check().and_then(|original| hash(&original)).is_ok_and(|it| it == own);
    Ok(if is_same { name } else { format!("{name}-{own}") })
}

/// The run whose configuration lies at `path`.
fn run_of(path: &Path) -> Option<String> {
    if path.file_name()? != CONFIG {
        return None;
    }
    let folder = path.canonicalize().ok()?.parent()?.to_owned();
    if !folder.join(EVENTS).exists() {
        return None;
    }
    let name = folder.file_name()?.to_str()?.to_owned();
    Some(name.strip_suffix(&format!(".{PARTIAL}")).map_or(name.clone(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::presets::target::configuration;

    fn name(target: &str, changes: &[&str], seed: Option<u64>) -> String {
        let changes: Vec<String> = changes.iter().map(|it| (*it).to_owned()).collect();
        default_name(target, &configuration(target, &changes, seed).unwrap()).unwrap()
    }

    #[test]
    fn a_preset_has_its_name_and_a_changed_one_its_hash_beside() {
        assert_eq!(name("demo-lwf", &[], None), "demo-lwf-s1");
        assert_eq!(name("demo lwf+dfgr", &[], None), "demo-lwf-dfgr-s1");
        assert_eq!(name("demo-lwf", &[], Some(4)), "demo-lwf-s4");
        assert_eq!(name("demo-lwf", &["seed=4"], None), "demo-lwf-s4");
        assert_eq!(name("demo-lwf", &["classes=10"], None), "demo-lwf-s1", "it is what it was");
        let epochs =
            |count: usize| name("demo-lwf", &[&format!("recipe.base.training.epochs={count}")], Some(2));
        assert!(epochs(2).starts_with("demo-lwf-s2-") && epochs(2) != epochs(3), "{}", epochs(2));
    }

    #[test]
    fn a_file_has_its_stem_and_the_configuration_of_a_run_the_run_s_name() {
        let place = tempfile::tempdir().unwrap();
        let text = configuration("demo-lwf", &[], None).unwrap().text().to_owned();
        let at = |name: &str| place.path().join(name).display().to_string();
        fs::write(at("my.l2.toml"), text.replace("method = \"lwf\"", "method = \"my-l2\"")).unwrap();
        assert_eq!(name(&at("my.l2.toml"), &[], Some(3)), "my.l2-s3");
        assert!(name(&at("my.l2.toml"), &["increments=[8, 2]"], None).starts_with("my.l2-s1-"));
        fs::write(at("config.toml"), &text).unwrap();
        assert_eq!(name(&at("config.toml"), &[], None), "config-s1");
        for folder in ["slower-s1", "stopped-s1.partial"] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(&format!("{folder}/{EVENTS}")), "").unwrap();
            fs::write(at(&format!("{folder}/config.toml")), &text).unwrap();
        }
        assert_eq!(name(&at("slower-s1/config.toml"), &[], None), "slower-s1");
        assert_eq!(name(&at("stopped-s1.partial/config.toml"), &[], None), "stopped-s1");
        assert!(name(&at("slower-s1/config.toml"), &[], Some(2)).starts_with("slower-s1-"));
    }
}
