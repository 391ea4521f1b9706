//! Licences and origins of everything that is depended on, by the rules of `deny.toml`.
//!
//! This reads `cargo metadata`, so it takes seconds and needs no program beside cargo and no connection.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};

use crate::tidy;

/// `deny.toml`, as far as it is read here.
#[derive(Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// The output of `cargo metadata`, as far as it is read here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Checks the workspace's dependencies, of all features and of every system in `deny.toml`.
///
/// # Errors
/// If one breaks a rule, or cargo cannot list them.
pub fn run(out: &mut dyn Write) -> Result<()> {
    let root = tidy::workspace_root()?;
    let place = root.join("deny.toml");
    let text = std::fs::read_to_string(&place).with_context(|| format!("cannot read {}", place.display()))?;
    let rules: Rules = toml::from_str(&text).context("deny.toml is not what `cargo deny` reads")?;
    let mut packages = Vec::new();
    for target in &rules.graph.targets {
        packages.extend(depended_on(&root, target)?);
    }
    packages.sort_by(|left: &Package, right| left.id.cmp(&right.id));
    packages.dedup_by(|left, right| left.id == right.id);
    let found: Vec<String> = packages.iter().filter_map(|it| breach(it, &rules)).collect();
    for finding in &found {
        writeln!(out, "error: {finding}")?;
    }
    writeln!(out, "licences: {} crates, {} errors", packages.len(), found.len())?;
    if !found.is_empty() {
        bail!("{} crates break the rules of deny.toml", found.len());
    }
    Ok(())
}

/// The packages for a system, with all features.
fn depended_on(root: &Path, target: &str) -> Result<Vec<Package>> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--all-features",
            "--filter-platform",
            target,
        ])
        .current_dir(root)
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cargo metadata is not what was expected")?;
    let of = |id: &str| metadata.packages.iter().find(|it| it.id == id).cloned();
    Ok(metadata.resolve.nodes.iter().filter_map(|node| of(&node.id)).collect())
}

/// The rule that a package breaks, if it breaks one; the workspace's own have no source.
fn breach(package: &Package, rules: &Rules) -> Option<String> {
    let Package { name, version, license, source, .. } = package;
    let registry = source.as_ref()?.trim_start_matches("registry+");
    if !rules.sources.allow_registry.iter().any(|it| it == registry) {
        return Some(format!(
            "{name} {version} comes from {registry}; take it from a registry that deny.toml names"
        ));
    }
    if rules.bans.deny.iter().any(|it| it.name == *name) {
        return Some(format!("{name} {version} is banned by deny.toml; leave it out"));
    }
    let Some(license) = license else {
        return Some(format!("{name} {version} names no licence; leave it out"));
    };
    let exceptions = rules.licenses.exceptions.iter().filter(|it| it.name == *name).flat_map(|it| &it.allow);
    let allowed: Vec<LicenseReq> =
        rules.licenses.allow.iter().chain(exceptions).filter_map(|it| requirement(it)).collect();
    match Expression::parse_mode(license, ParseMode::LAX) {
        Ok(expression) if expression.evaluate(|it| allowed.contains(it)) => None,
        Ok(_) => Some(format!(
            "{name} {version} is under {license}, which deny.toml does not allow; leave it out, or add an exception with \
             its reason"
        )),
        Err(error) => {
            Some(format!("{name} {version}: its licence {license:?} cannot be read: {}", error.reason))
        }
    }
}

/// One licence of `deny.toml`, such as `Apache-2.0 WITH LLVM-exception`.
fn requirement(text: &str) -> Option<LicenseReq> {
    let expression = Expression::parse(text).ok()?;
    expression.requirements().next().map(|it| it.req.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = include_str!("../../deny.toml");

    /// Stands for the registry that the rules allow.
    const INDEX: Option<&str> = Some("index");

    fn of(name: &str, license: Option<&str>, source: Option<&str>) -> Option<String> {
        let mut rules: Rules = toml::from_str(RULES).unwrap();
        rules.sources.allow_registry.push("index".to_owned());
        let package = Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            source: source.map(str::to_owned),
        };
        breach(&package, &rules)
    }

    #[test]
    fn every_licence_of_the_file_is_read() {
        let rules: Rules = toml::from_str(RULES).unwrap();
        let all =
            rules.licenses.allow.iter().chain(rules.licenses.exceptions.iter().flat_map(|it| &it.allow));
        for licence in all {
            assert!(requirement(licence).is_some(), "{licence}");
        }
    }

    #[test]
    fn a_dependency_that_breaks_a_rule_is_named() {
        for licence in
            ["MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR GPL-2.0) AND ISC", "Apache-2.0 WITH LLVM-exception"]
        {
            assert_eq!(of("a", Some(licence), INDEX), None, "{licence}");
        }
        assert_eq!(of("webpki-roots", Some("CDLA-Permissive-2.0"), INDEX), None, "an exception");
        assert_eq!(of("ours", None, None), None, "of the workspace");
        for (name, licence, source) in [
            ("a", Some("GPL-3.0"), INDEX),
            ("a", Some("MIT AND GPL-3.0"), INDEX),
            ("a", Some("CDLA-Permissive-2.0"), INDEX),
            ("a", Some("no licence"), INDEX),
            ("a", None, INDEX),
            ("openssl-sys", Some("MIT"), INDEX),
            ("a", Some("MIT"), Some("git+https://example.org/a")),
        ] {
            assert!(of(name, licence, source).is_some(), "{name} {licence:?} {source:?}");
        }
    }
}
