//! `demo`: what the program shows when nothing is asked.
//!
//! It reuses existing runs: finished ones are read, interrupted ones are resumed, and only missing ones are started; so
//! it can be called repeatedly and ends with the same table.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli::args::{Checkpoints, Global};
use crate::cli::failure::{BadInput, sentence};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::commands::naming::default_name;
use crate::commands::run::context;
use crate::config::identity::hash;
use crate::config::{Checked, RunConfig};
use crate::drive;
use crate::drive::RunContext;
use crate::engine::Engine;
use crate::folder::contents::CONFIG;
use crate::folder::writer::{PARTIAL, is_unbegun};
use crate::presets::target::configuration;
use crate::presets::{self, Compared};
use crate::render::progress::note;
use crate::render::table;
use crate::results::recorded::Recorded;
use crate::results::result::RunResult;

/// Runs what is missing of the comparisons, and prints them.
///
/// # Errors
/// If a run fails or is stopped.
pub fn demo(global: &Global, interrupt: &Interrupt, output: &mut Output<'_>) -> Result<()> {
    let engine = Engine::new(global)?;
    let (mut tables, mut folders) = (Vec::new(), Vec::new());
    let count: usize = presets::COMPARED.iter().map(|it| it.methods.len()).sum();
    for compared in &presets::COMPARED {
        let mut results = Vec::new();
        for method in compared.methods {
            let preset = format!("{}-{method}", compared.protocol);
            let checked = configuration(&preset, &[], global.seed)?;
            let name = default_name(&preset, &checked)?;
            let label = format!("[{}/{count}] {method}", folders.len() + 1);
            let context = context(global, &engine, interrupt, &name, Checkpoints::default());
            let (folder, result) = one(&checked, &RunContext { label: &label, ..context })?;
            results.push(((*method).to_owned(), result));
            folders.push(folder);
        }
        tables.push((compared, results));
    }
    if output.json {
        let results: Vec<_> = tables.into_iter().flat_map(|it| it.1).map(|(_, result)| result).collect();
        return output.value(&results);
    }
    output.text("These images are synthetic, drawn by this program. The accuracies say nothing about real photographs.\n")?;
    for (Compared { about, shows, .. }, results) in &tables {
        output.text(&format!("\n{about}:\n\n{}\n{shows}\n", table::comparison(results)))?;
    }
    output.text(&next(&folders, &global.out))
}

/// The run of a configuration: read, resumed, or run.
fn one(checked: &Checked, context: &RunContext<'_>) -> Result<(PathBuf, RunResult)> {
    let whole = context.out.join(context.name);
    let partial = context.out.join(format!("{}.{PARTIAL}", context.name));
    let say = |text: &str| {
        if !context.silent {
            note(&format!("{}: {text}", context.label));
        }
    };
    if is_of(&whole, checked)?
        && let Some(result) = Recorded::load(&whole)?.result
    {
        say(&format!("found in {}", whole.display()));
        return Ok((whole, result));
    }
    if !is_unbegun(&partial) && is_of(&partial, checked)? {
        say(&format!("going on with {}", partial.display()));
        match drive::resume(&partial, checked, context) {
            Err(error) if error.is::<BadInput>() => say(&format!("{}; it is run again", sentence(&error))),
            done => return done,
        }
    }
    let free = free_name(context.out, context.name);
    drive::run(checked, &RunContext { name: &free, ..*context })
}

/// Whether a folder is of this configuration; it need not be there.
fn is_of(folder: &Path, checked: &Checked) -> Result<bool> {
    let there = RunConfig::load(&folder.join(CONFIG), &[]).and_then(RunConfig::check);
    let own = hash(checked)?;
    Ok(there.and_then(|there| hash(&there)).is_ok_and(|hash| hash == own))
}

/// `name`, or the first of `name-2`, `name-3`, ... that no other run has.
fn free_name(out: &Path, name: &str) -> String {
    let taken = |name: &str| {
        let partial = out.join(format!("{name}.{PARTIAL}"));
        out.join(name).exists() || (partial.exists() && !is_unbegun(&partial))
    };
    let mut free = name.to_owned();
    let mut number = 2;
    while taken(&free) {
        free = format!("{name}-{number}");
        number += 1;
    }
    free
}

/// Suggested next commands after the table.
fn next(folders: &[PathBuf], out: &Path) -> String {
    let own = match out == Path::new("runs") {
        true => String::new(),
        false => format!(" --out {}", out.display()),
    };
    let all = folders.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(" ");
    let (preset, seed) = (presets::DEMO, "--seed 2");
    format!(
        "\nEach row is a run folder with its settings, events and models. What next:\n\
         \x20 cil-runner report {all} --html report.html\n\
         \x20     accuracy and forgetting as charts, confusion and generated images: a page for a browser\n\
         \x20 cil-runner {seed}{own}\n\
         \x20     the same comparison with other weights and batches; with both, `report` shows mean and spread\n\
         \x20 cil-runner run {preset}-lucir-e20 --set recipe.exemplars.per-class=5{own}\n\
         \x20     any preset with any key changed; `cil-runner presets` lists them, `run PRESET --dry-run` shows the keys\n\
         \x20 cargo xtask fetch-data cifar100\n\
         \x20     real images, for the presets cifar100-*\n"
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::cli::args::Cli;
    use crate::cli::failure::Kept;

    #[test]
    fn what_is_done_is_read_what_was_stopped_goes_on_and_what_is_another_s_is_left() {
        let out = tempfile::tempdir().unwrap();
        let place = out.path().display().to_string();
        let global = Cli::try_parse_from(["cil-runner", "--json", "--out", &place]).unwrap().global;
        let engine = Engine::new(&global).unwrap();
        let small = |epochs: usize| {
            let changes = [
                "classes=4",
                "increments=[2, 2]",
                "architecture.width=4",
                "procedural.config.classes=4",
                "procedural.config.train-per-class=8",
                "procedural.config.test-per-class=4",
                "recipe.base.training.batch=8",
                &format!("recipe.base.training.epochs={epochs}"),
            ];
            configuration("demo-fine-tune", &changes.map(str::to_owned), None).unwrap()
        };
        let (asked, free) = (Interrupt::default(), Interrupt::default());
        asked.ask();
        let with = |interrupt, epochs| {
            one(&small(epochs), &context(&global, &engine, interrupt, "a", Checkpoints::default()))
        };
        assert!(with(&asked, 2).unwrap_err().is::<Kept>());
        assert!(out.path().join("a.partial").is_dir());
        let (folder, result) = with(&free, 2).unwrap();
        assert_eq!(folder, out.path().join("a"));
        assert_eq!(crate::folder::contents::read_environment(&folder).unwrap().resumes.len(), 1);
        let log = || fs::read(folder.join("events.jsonl")).unwrap();
        let before = log();
        let again = with(&free, 2).unwrap();
        assert_eq!((again, log()), ((folder.clone(), result), before));
        assert_eq!(with(&free, 1).unwrap().0, out.path().join("a-2"), "another configuration");
    }

    #[test]
    fn a_name_that_another_run_has_is_not_taken() {
        let out = tempfile::tempdir().unwrap();
        let name = || free_name(out.path(), "a");
        assert_eq!(name(), "a");
        fs::create_dir(out.path().join("a.partial")).unwrap();
        assert_eq!(name(), "a", "nothing was begun there");
        fs::write(out.path().join("a.partial/000000.checkpoint"), "").unwrap();
        assert_eq!(name(), "a-2");
        fs::create_dir(out.path().join("a-2")).unwrap();
        assert_eq!(name(), "a-3");
    }
}
