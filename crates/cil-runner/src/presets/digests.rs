//! The digests of all resolved configurations, compared with a committed file: a preset's name never changes its
//! meaning.

use std::fmt::Write as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::all;
use crate::folder::environment::hexadecimal;

/// One line for each preset: its name and the SHA-256 of its configuration as TOML.
const COMMITTED: &str = include_str!("digests.txt");

#[test]
fn every_preset_resolves_to_the_configuration_it_always_had() {
    let mut found = String::new();
    for preset in all() {
        let checked = preset.config.check().unwrap_or_else(|error| panic!("{}: {error:#}", preset.name));
        let digest = hexadecimal(&Sha256::digest(checked.text()));
        writeln!(found, "{} {digest}", preset.name).unwrap();
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/presets/digests.txt"), &found)
            .unwrap();
        return;
    }
    let committed: Vec<&str> = COMMITTED.lines().collect();
    assert!(committed.len() >= 289, "{} lines", committed.len());
    let lost: Vec<&&str> = committed.iter().filter(|line| !found.lines().any(|it| it == **line)).collect();
    assert!(lost.is_empty(), "these presets are gone or mean something else: {lost:#?}");
    let new: Vec<&str> = found.lines().filter(|line| !committed.contains(line)).collect();
    assert!(new.is_empty(), "run this test with UPDATE_EXPECT=1 to add these new presets: {new:#?}");
}
