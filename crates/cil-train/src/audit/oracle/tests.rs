//! Nothing that a run is made of reaches the oracle.

use std::fs;
use std::path::{Path, PathBuf};

/// Files that may name it: itself, the module that it is in, and the command that calls it.
const ALLOWED: [&str; 8] = [
    "cil-train/src/audit.rs",
    "cil-train/src/audit/oracle.rs",
    "cil-train/src/audit/oracle/tests.rs",
    "cil-runner/src/commands/audit.rs",
    "cil-runner/src/commands/audit/oracle.rs",
    "cil-runner/src/cli/args/audit.rs",
    // The help shows an example of the command.
    "cil-runner/src/cli/args.rs",
    // The page names the option by which its numbers are had.
    "cil-runner/src/render/page/missing.rs",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|it| it == "rs") => found.push(path),
            false => {}
        }
    }
}

/// The learner, its phases and the driver of runs have no way to it: no file of theirs names it, so that no run can
/// read an old image by it. That a run reads none in another way is counted in `tests/it/statistics.rs`.
#[test]
fn no_source_of_a_run_names_the_oracle() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for name in fs::read_dir(&crates).unwrap() {
        let source = name.unwrap().path().join("src");
        if source.is_dir() {
            sources(&source, &mut found);
        }
    }
    let mut naming: Vec<String> = found
        .iter()
        .filter(|path| fs::read_to_string(path).unwrap().to_lowercase().contains("oracle"))
        .map(|path| path.strip_prefix(&crates).unwrap().to_string_lossy().replace('\\', "/"))
        .collect();
    naming.sort();
    let mut allowed = ALLOWED.map(str::to_owned);
    allowed.sort();
    assert!(found.len() > 200, "{} files", found.len());
    assert_eq!(naming, allowed, "a file outside the audit names the oracle");
}
