//! Files of a crate that need each other in a circle.
//!
//! This reads `crate::` paths in the text and does not parse Rust: what `super::` names, or a macro, is not seen. A
//! file and the files of its own folder belong together, so arrows between them are not counted. Test modules are left
//! out.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;

/// Circles that are known, as files of one of them: a new one is refused, and one that is opened leaves the list.
const KNOWN: [(&str, &[&str]); 5] = [
    ("crates/cil-backbone", &["frozen", "network"]),
    (
        "crates/cil-data",
        &["augment", "dataset", "device_images", "normalise", "packed", "procedural", "store"],
    ),
    ("crates/cil-engine", &["executor", "graph", "parameters", "ranks"]),
    ("crates/cil-engine", &["cuda::measures", "measures"]),
    ("crates/cil-engine", &["cuda::rows", "rows"]),
];

/// Modules of a crate, and those that each names.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Finds circles in every crate of `files`, which are names and texts.
pub(super) fn check(files: &[(String, String)]) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Vec<(String, &str)>> = BTreeMap::new();
    for (name, text) in files {
        if let Some((of, module)) = name.strip_suffix(".rs").and_then(|it| it.split_once("/src/")) {
            crates.entry(of).or_default().push((path_of(module), text));
        }
    }
    let mut findings = Vec::new();
    for (of, modules) in &crates {
        for circle in circles(&arrows(modules)) {
            let is_known = KNOWN
                .iter()
                .any(|(known, files)| known == of && circle.iter().all(|it| files.contains(&it.as_str())));
            if !is_known {
                let message = format!("these files need each other in a circle: {}", circle.join(", "));
                findings.push(Finding::error(format!("{of}/src"), message));
            }
        }
    }
    findings
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`; the root is empty.
fn path_of(file: &str) -> String {
    let path = file.strip_suffix("/mod").unwrap_or(file);
    match path {
        "lib" | "main" | "mod" => String::new(),
        _ => path.replace('/', "::"),
    }
}

fn arrows(modules: &[(String, &str)]) -> Arrows {
    let names: BTreeSet<&str> = modules.iter().map(|it| it.0.as_str()).collect();
    let nearest = |path: &str| {
        let mut path = path.trim_end_matches(':');
        while !names.contains(path) {
            path = path.rsplit_once("::").map_or("", |it| it.0);
            if path.is_empty() {
                break;
            }
        }
        path.to_owned()
    };
    let mut arrows = Arrows::new();
    for (name, text) in modules {
        let found = named(text).iter().map(|it| nearest(it)).filter(|it| !are_one(name, it)).collect();
        arrows.insert(name.clone(), found);
    }
    arrows
}

/// Whether one is the other's folder, or the root, which names all.
fn are_one(left: &str, right: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    left.is_empty() || right.is_empty() || within(left, right) || within(right, left)
}

/// Paths behind `crate::`, those in braces spelled out.
fn named(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let code: String =
        code.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for part in code.split("crate::").skip(1) {
        let end =
            part.find(|it: char| !(it.is_alphanumeric() || it == '_' || it == ':')).unwrap_or(part.len());
        let (path, rest) = part.split_at(end);
        match rest.strip_prefix('{').and_then(|it| it.split_once('}')) {
            Some((items, _)) => found.extend(items.split(',').map(|item| {
                let item = item.trim().split(' ').next().unwrap_or_default();
                format!("{path}{}", if item == "self" { "" } else { item })
            })),
            None => found.push(path.to_owned()),
        }
    }
    found
}

/// Sets of more than one module that reach each other, each sorted.
fn circles(arrows: &Arrows) -> Vec<Vec<String>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        arrows.keys().map(|name| (name.as_str(), reached(arrows, name))).collect();
    let mut circles = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, reached) in &reach {
        let mutual = reached.iter().filter(|it| reach.get(*it).is_some_and(|back| back.contains(name)));
        let circle: Vec<String> = mutual.map(|it| (*it).to_owned()).collect();
        if circle.len() > 1 && seen.insert(circle.clone()) {
            circles.push(circle);
        }
    }
    circles
}

/// Modules that can be reached from one, itself only if on a circle.
fn reached<'a>(arrows: &'a Arrows, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = arrows.get(from).into_iter().flatten().map(String::as_str).collect();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(arrows.get(next).into_iter().flatten().map(String::as_str));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Vec<String> {
        let named = |(name, text): &(&str, &str)| (format!("crates/x/src/{name}"), (*text).to_owned());
        let files: Vec<(String, String)> = files.iter().map(named).collect();
        check(&files).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_circle_of_files_is_found_and_named() {
        let found = of(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::{self, B};"),
            ("b/mod.rs", "fn b() -> crate::c::d::D {}"),
            ("c/mod.rs", "mod d;"),
            ("c/d.rs", "use crate::a::A;"),
        ]);
        assert_eq!(found, ["error: crates/x/src: these files need each other in a circle: a, b, c::d"]);
    }

    #[test]
    fn what_is_no_circle_is_let_through() {
        let found = of(&[
            ("a.rs", "use crate::b::B; // not crate::c"),
            ("b.rs", "use crate::b::inner::C;\n#[cfg(test)]\nmod tests { use crate::a::A; }"),
            ("b/inner.rs", "use crate::b::B;"),
            ("c.rs", "use crate::a::A; use crate::root;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
