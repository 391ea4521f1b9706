//! Which crate may depend on which, and that each takes the workspace's lints.
//!
//! The direction of dependencies is one table, here; a crate that is not in it is an error. Dependencies for tests and
//! builds obey the same table.

use super::Finding;

/// A crate, and every workspace crate that it may depend on.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("cil", &["cil-backbone", "cil-data", "cil-engine", "cil-train", "dfgr", "dtid"]),
    ("cil-backbone", &["cil-engine", "cil-random"]),
    ("cil-data", &["cil-random"]),
    ("cil-engine", &["cil-random"]),
    ("cil-random", &[]),
    ("cil-runner", &["cil-backbone", "cil-data", "cil-engine", "cil-random", "cil-train", "dfgr", "dtid"]),
    (
        "cil-tests",
        &["cil-backbone", "cil-data", "cil-engine", "cil-random", "cil-runner", "cil-train", "dfgr", "dtid"],
    ),
    ("cil-train", &["cil-backbone", "cil-data", "cil-engine", "cil-random", "dfgr", "dtid"]),
    ("dfgr", &["cil-backbone", "cil-engine", "cil-random"]),
    ("dtid", &["cil-backbone", "cil-engine"]),
    ("xtask", &[]),
];
const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Checks the direction of a member's dependencies.
pub(super) fn check(place: &str, manifest: &toml::Table) -> Vec<Finding> {
    let Some(name) = manifest.get("package").and_then(|package| package.get("name")?.as_str()) else {
        return vec![Finding::error(place, "the package has no name")];
    };
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
        let message = format!("{name} is not in the table of xtask/src/tidy/dependencies.rs");
        return vec![Finding::error(place, message)];
    };
    let mut findings = Vec::new();
    for used in dependencies(manifest) {
        if name == "xtask" && used.starts_with("candle") {
            findings.push(Finding::error(place, format!("xtask depends on {used}, it may not use candle")));
        }
        // A crate may name itself to test with another of its features.
        let is_member = used != name && ALLOWED.iter().any(|(known, _)| *known == used);
        if is_member && !allowed.contains(&used.as_str()) {
            let may = if allowed.is_empty() { "no workspace crate".to_owned() } else { allowed.join(", ") };
            findings.push(Finding::error(place, format!("{name} depends on {used}, it may depend on {may}")));
        }
    }
    findings
}

/// Checks that a member takes the workspace's lints.
pub(super) fn check_lints(place: &str, manifest: &toml::Table) -> Option<Finding> {
    let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")?.as_bool());
    (inherits != Some(true)).then(|| Finding::error(place, "`[lints] workspace = true` is missing"))
}

/// Package names of all dependencies, those of single targets included.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let tables = targets.into_iter().flat_map(|targets| targets.values()).filter_map(toml::Value::as_table);
    let mut names = Vec::new();
    for table in tables.chain([manifest]) {
        for section in SECTIONS {
            let Some(section) = table.get(section).and_then(toml::Value::as_table) else { continue };
            for (key, value) in section {
                let package = value.get("package").and_then(toml::Value::as_str);
                names.push(package.unwrap_or(key).to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        check("x", &text.parse().unwrap()).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn right_directions_pass() {
        let dfgr = "[package]\nname = \"dfgr\"\n[dependencies]\ncil-backbone.workspace = true\ncandle-core = \"1\"\n";
        assert!(messages(dfgr).is_empty());
    }

    #[test]
    fn wrong_directions_are_found_in_every_section() {
        let text = "[package]\nname = \"cil-backbone\"\n[dev-dependencies]\ndfgr = { path = \"../dfgr\" }\n\
                    [target.'cfg(unix)'.dependencies]\ndata = { package = \"cil-data\", path = \"../cil-data\" }\n";
        let mut found = messages(text);
        found.sort();
        assert_eq!(
            found,
            [
                "cil-backbone depends on cil-data, it may depend on cil-engine, cil-random",
                "cil-backbone depends on dfgr, it may depend on cil-engine, cil-random",
            ]
        );
        let xtask = "[package]\nname = \"xtask\"\n[dependencies]\ncandle-core.workspace = true\n";
        assert_eq!(messages(xtask), ["xtask depends on candle-core, it may not use candle"]);
        let unknown = "[package]\nname = \"cil-new\"\n";
        assert_eq!(messages(unknown), ["cil-new is not in the table of xtask/src/tidy/dependencies.rs"]);
    }

    #[test]
    fn lints_must_be_inherited() {
        assert!(check_lints("x", &"[lints]\nworkspace = true".parse().unwrap()).is_none());
        assert!(check_lints("x", &"[lints]\nworkspace = false".parse().unwrap()).is_some());
        assert!(check_lints("x", &"[package]\nname = \"a\"".parse().unwrap()).is_some());
    }
}
