//! Drives the program as a user would.

mod bad_input;
mod bench;
mod cluster;
mod embedded;
mod exports;
mod files;
#[cfg(feature = "hub")]
mod hub;
mod integrity;
mod live;
mod model_mistakes;
mod models;
mod printed;
mod progress;
mod reports;
mod resume;
mod runs;
mod sweep;
mod trackers;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Changes that make any demo preset a matter of a second.
pub(crate) const SMALL: [&str; 13] = [
    "classes=4",
    "increments=[2, 2]",
    "architecture.width=4",
    "procedural.config.classes=4",
    "procedural.config.train-per-class=20",
    "procedural.config.test-per-class=10",
    "recipe.base.training.epochs=2",
    "recipe.base.training.batch=16",
    "recipe.base.training.learning-rate=0.05",
    "recipe.increment.training.epochs=1",
    "recipe.increment.training.batch=16",
    "recipe.increment.training.learning-rate=0.05",
    "seed=3",
];

/// Changes that a recipe with both schemes needs beside [`SMALL`].
pub(crate) const SMALL_REPLAY: [&str; 5] = [
    "recipe.new-teacher.training.epochs=1",
    "recipe.replay.inversion.iterations=20",
    "recipe.replay.inversion.batch=16",
    "recipe.replay.inversion.generator.channels=8",
    "recipe.replay.batch=16",
];

/// A folder of its own for each test.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder for the test"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The program in this folder.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cil-runner"));
        command.current_dir(self.path()).args(arguments);
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.program(arguments).output().expect("the program runs")
    }

    /// What the program prints; it must succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The last line of standard error; the program must end with `status`.
    pub(crate) fn message(&self, status: i32, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        text.lines().last().unwrap_or_default().to_owned()
    }

    /// Names of everything below a folder of this place, sorted; empty if there is none.
    pub(crate) fn list(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path().join(folder)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// `run PRESET` with small settings and `more` changes, under the name PRESET-sSEED.
pub(crate) fn small_run<'a>(preset: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let seed = more.iter().rev().find_map(|change| change.strip_prefix("seed=")).unwrap_or("3");
    // A changed preset has no such name by itself; a later --name counts.
    let name = String::leak(format!("{preset}-s{seed}"));
    let mut arguments = vec!["run", preset, "--name", name];
    let replay: &[&str] = if preset.contains("dfgr") { &SMALL_REPLAY } else { &[] };
    for change in SMALL.iter().chain(replay).chain(more) {
        arguments.extend(["--set", change]);
    }
    arguments
}

/// The Python that tests take: `CIL_TEST_PYTHON`, or `python3`; `None`, and a line that says so, where it cannot do
/// `what`.
#[expect(clippy::print_stderr, reason = "a test says where it skips")]
pub(crate) fn python(what: &str) -> Option<String> {
    let python = std::env::var("CIL_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let tried = Command::new(&python).args(["-c", what]).output();
    let can = tried.is_ok_and(|it| it.status.success());
    if !can {
        eprintln!("skipped: {python} cannot `{what}`; name a Python with CIL_TEST_PYTHON");
    }
    can.then_some(python)
}

pub(crate) fn json(path: PathBuf) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}
