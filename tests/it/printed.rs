//! Every command that the program or its documents print can be typed.

use std::fs;
use std::path::Path;

use cil_backbone::{Architecture, file};
use cil_runner::cli::args::Cli;
use clap::error::ErrorKind;

use crate::{Place, small_run};

/// Words of commands that have a help of their own.
const HELPS: [&[&str]; 13] = [
    &["--help"],
    &["run", "--help"],
    &["resume", "--help"],
    &["audit", "--help"],
    &["bench", "--help"],
    &["sweep", "--help"],
    &["sweep", "plan", "--help"],
    &["sweep", "run", "--help"],
    &["sweep", "status", "--help"],
    &["sweep", "report", "--help"],
    &["presets", "--help"],
    &["show", "--help"],
    &["report", "--help"],
];

/// The text of every document.
fn documents() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut paths = vec!["README.md".into(), "CONTRIBUTING.md".into(), "datasets/README.md".into()];
    let docs = fs::read_dir(root.join("docs")).expect("documents").map(|it| it.expect("an entry").path());
    paths.extend(docs.filter(|path| path.extension().is_some_and(|it| it == "md")));
    paths.iter().map(|path| fs::read_to_string(root.join(path)).expect("a document") + "\n").collect()
}

/// The commands in a text: what stands behind `cil-runner` in lines of shell, and between backticks.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let mut found = Vec::new();
    for line in joined.lines() {
        let mut parts: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        if parts.is_empty() {
            parts = line.split(['|', ';']).flat_map(|it| it.split("&&")).collect();
        }
        for part in parts {
            let part = part.trim().trim_start_matches("do ");
            let rest = part
                .strip_prefix("cargo run -p cil-runner -- ")
                .or_else(|| part.strip_prefix("cargo run --release -p cil-runner -- "))
                .or_else(|| part.strip_prefix("cil-runner "));
            // Behind two spaces or a mark is what it does.
            let command = rest
                .map(|it| it.split(" #").next().unwrap_or(it).split("  ").next().unwrap_or(it))
                .map(|it| it.split(" > ").next().unwrap_or(it));
            found.extend(command.map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned));
        }
    }
    found
}

/// The words of a command as a shell gives them on.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in command.chars() {
        match (letter, quote) {
            (it, Some(open)) if it == open => quote = None,
            ('\'' | '"', None) => quote = Some(letter),
            (' ', None) => words.extend(Some(std::mem::take(&mut word)).filter(|it| !it.is_empty())),
            _ => word.push(letter),
        }
    }
    words.extend(Some(word).filter(|it| !it.is_empty()));
    words
}

/// Unquoted letters that zsh refuses or expands where they stand in a word.
fn is_plain(command: &str) -> bool {
    let mut parts = command.split('\'').step_by(2);
    parts.all(|part| !part.contains(['[', '{', '(']) || part.contains("--set='"))
}

#[test]
fn every_command_that_is_printed_can_be_typed() {
    let place = Place::new();
    let network = file::untrained(&Architecture::lucir(8).into(), [3, 32, 32]).expect("a model file");
    fs::write(place.path().join("my-net.safetensors"), network).expect("a file");
    let mut all = commands(&documents());
    assert!(all.len() > 20, "documents have commands: {all:?}");
    let before = all.len();
    for help in HELPS {
        let output = place.program(help).env("COLUMNS", "120").output().expect("the program runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        all.extend(commands(&text));
    }
    assert!(all.len() > before + 20, "so has the help");
    let sources = [
        "presets/mod.rs",
        "presets/target.rs",
        "folder/writer.rs",
        "folder/contents.rs",
        "commands/run.rs",
        "commands/demo.rs",
        "commands/resume.rs",
        "commands/presets.rs",
        "commands/show.rs",
        "drive.rs",
        "drive/tell.rs",
    ];
    let source = |name: &&str| {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name)).expect("a source")
    };
    all.extend(sources.iter().flat_map(|name| commands(&source(name))).map(|it| filled(&it)));
    all.sort();
    all.dedup();
    for command in &all {
        tried(&place, command);
    }
}

/// A command of a source, with a path where it is filled in.
fn filled(command: &str) -> String {
    let mut parts = command.split('{');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str("runs/a");
        text.push_str(part.split_once('}').map_or("", |(_, rest)| rest));
    }
    text
}

/// Reads the command, and does what takes no time of it.
fn tried(place: &Place, command: &str) {
    assert!(is_plain(command), "{command}: quote it, or zsh refuses it");
    // A document's variables and places stand for values.
    let typed =
        command.replace("$seed", "1").replace("$method", "lwf").replace("...", "").replace(['<', '>'], "");
    let words = words(&typed);
    let line = std::iter::once("cil-runner").chain(words.iter().map(String::as_str));
    match Cli::read(line) {
        Ok(_) => {}
        Err(error) if !error.use_stderr() => return,
        // A command's name in a sentence, not something to type.
        Err(error) if words.len() == 1 && error.kind() == ErrorKind::MissingRequiredArgument => return,
        Err(error) => panic!("cil-runner {command}: {error}"),
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // The second and third words name what is run; a path or a placeholder stands for something that is not here.
    let is_place =
        |it: &&str| it.chars().any(char::is_uppercase) || it.contains('/') || it.ends_with(".toml");
    let is_example = words.iter().skip(1).take(2).filter(|it| !it.starts_with('-')).any(is_place);
    // Photographs of the reader's are not here.
    let names_a_folder = words.iter().any(|it| it.contains("folder ="));
    if words[0] == "run" && !is_example && !names_a_folder {
        let dry = words.iter().copied().filter(|it| *it != "--dry-run").chain(["--dry-run", "--no-estimate"]);
        place.ok(&dry.collect::<Vec<_>>());
    }
    if ["presets", "protocols", "methods", "show"].contains(&words[0]) && !is_example {
        place.ok(&words);
    }
}

#[test]
fn the_examples_of_runs_reports_and_sweeps_are_done() {
    let place = Place::new();
    place.ok(&small_run("demo-lwf", &["seed=1"]));
    place.ok(&small_run("demo-joint", &["seed=1"]));
    place.ok(&["run", "runs/demo-lwf-s1/config.toml", "--out", "again"]);
    place.ok(&["resume", "runs/demo-lwf-s1"]);
    let text = documents();
    let file = text
        .split("# compare.toml\n")
        .nth(1)
        .and_then(|it| it.split("```").next())
        .expect("README shows a sweep");
    fs::write(place.path().join("compare.toml"), file).expect("a file");
    let plan = place.ok(&["sweep", "plan", "compare.toml", "--no-estimate"]);
    assert!(plan.contains("6 runs in runs/compare"), "{plan}");
    place.ok(&["sweep", "status", "compare.toml"]);
    // The file that the help shows, with the methods that it names.
    let help = place.ok(&["sweep", "--help"]);
    let shown = help
        .split("A file:\n")
        .nth(1)
        .and_then(|it| it.split("\n\n").next())
        .expect("the help shows a sweep");
    fs::write(
        place.path().join("lucir.toml"),
        place.ok(&["run", "demo-lucir-e0", "--dry-run", "--no-estimate"]),
    )
    .expect("a file");
    fs::write(place.path().join("shown.toml"), shown).expect("a file");
    let plan = place.ok(&["sweep", "plan", "shown.toml", "--no-estimate"]);
    assert!(plan.contains("36 runs in runs/shown"), "{plan}");

    // `report runs/*` with a sweep, a page and a base model's folder among them.
    fs::create_dir_all(place.path().join("runs/compare/logs")).expect("a folder");
    fs::write(place.path().join("runs/report.html"), "x").expect("a file");
    let named: Vec<String> = place.list("runs").iter().map(|name| format!("runs/{name}")).collect();
    let mut arguments = vec!["report"];
    arguments.extend(named.iter().map(String::as_str));
    let output = place.output(&arguments);
    let (shown, message) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && shown.contains("\nlwf ") && shown.contains("\njoint "), "{message}");
    assert!(message.contains("left out: runs/compare is not a run folder"), "{message}");
    assert!(message.contains("left out: runs/report.html is a file"), "{message}");
}

/// What docs/new-method.md quotes of the sources is there, but for how far it is indented. (Its worked example is
/// compiled and run by the documentation tests of `cil`.)
#[test]
fn what_a_document_quotes_of_the_sources_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = fs::read_to_string(root.join("docs/new-method.md")).expect("a document");
    let mut quoted = 0;
    let mut parts = text.split("```rust,ignore\n");
    let mut before = parts.next().expect("a beginning");
    for part in parts {
        let (block, after) = part.split_once("```").expect("an end");
        let path = before.rsplit('`').find(|it| it.starts_with("crates/") && it.ends_with(".rs"));
        let path = path.unwrap_or_else(|| panic!("no file is named before\n{block}"));
        let plain =
            |text: &str| text.lines().map(|line| format!("{}\n", line.trim_start())).collect::<String>();
        let source = plain(&fs::read_to_string(root.join(path)).expect("a source"));
        assert!(source.contains(&plain(block)), "{path} does not hold\n{block}");
        (before, quoted) = (after, quoted + 1);
    }
    assert_eq!(quoted, 4);
}
