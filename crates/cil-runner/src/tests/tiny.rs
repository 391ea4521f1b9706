//! Every method of the demo on classes and tasks from one up.
//!
//! Every configuration runs to its end or is refused before anything is trained, with a count and a key; no method
//! fails in the middle of a run because it has too few images or classes.

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use toml::{Table, Value};

use crate::cli::args::Cli;
use crate::cli::failure::{exit_status, sentence};
use crate::cli::interrupt::Interrupt;
use crate::config::{Checked, RunConfig};
use crate::drive::{RunContext, run};
use crate::engine::Engine;
use crate::presets;

/// Training images of a class, and classes of each task.
const SIZES: [(usize, &[usize]); 7] =
    [(1, &[1]), (1, &[1, 1]), (2, &[1, 1, 1]), (1, &[2, 1]), (2, &[1, 2]), (1, &[2, 2]), (3, &[2, 2, 1])];

/// Settings that are made small where a configuration has them.
const SMALL: [(&str, &str); 18] = [
    ("architecture.width", "2"),
    ("recipe.base.training.epochs", "1"),
    ("recipe.base.training.batch", "4"),
    ("recipe.increment.training.epochs", "1"),
    ("recipe.increment.training.batch", "4"),
    ("recipe.new-teacher.training.epochs", "1"),
    ("recipe.new-teacher.training.batch", "4"),
    ("recipe.balance.training.epochs", "1"),
    ("recipe.balance.training.batch", "4"),
    ("recipe.bias-correction.training.epochs", "1"),
    ("recipe.bias-correction.training.batch", "4"),
    ("recipe.replay.batch", "4"),
    ("recipe.replay.inversion.iterations", "2"),
    ("recipe.replay.inversion.batch", "4"),
    ("recipe.replay.inversion.generator.channels", "2"),
    ("recipe.new-replay.inversion.iterations", "2"),
    ("recipe.new-replay.inversion.batch", "4"),
    ("recipe.new-replay.images-per-class", "4"),
];

fn has(table: &Table, key: &str) -> bool {
    let (mut parts, mut at) = (key.split('.'), table);
    let last = parts.next_back().unwrap();
    parts.all(|part| match at.get(part) {
        Some(Value::Table(inner)) => {
            at = inner;
            true
        }
        _ => false,
    }) && at.contains_key(last)
}

/// A demo preset made small.
fn tiny(preset: &RunConfig, images: usize, increments: &[usize]) -> anyhow::Result<Checked> {
    let table = Table::try_from(preset).unwrap();
    let classes: usize = increments.iter().sum();
    let mut changes = vec![
        format!("classes={classes}"),
        format!("increments={increments:?}"),
        format!("procedural.config.classes={classes}"),
        format!("procedural.config.train-per-class={images}"),
        "procedural.config.test-per-class=1".to_owned(),
    ];
    changes.extend(SMALL.iter().filter(|it| has(&table, it.0)).map(|(key, value)| format!("{key}={value}")));
    preset.with_changes(&changes, "it").and_then(RunConfig::check)
}

#[test]
fn every_method_runs_on_classes_and_tasks_from_one_up_or_is_refused_before_training() {
    let out = tempfile::tempdir().unwrap();
    let global = Cli::try_parse_from(["cil-runner"]).unwrap().global;
    let (engine, interrupt) = (Engine::new(&global).unwrap(), Interrupt::default());
    let (mut wrong, mut refused, mut ran) = (Vec::new(), Vec::new(), 0);
    for preset in presets::all().into_iter().filter(|it| it.name.starts_with("demo-")) {
        for (images, increments) in SIZES {
            let name = format!("{}-{images}-{increments:?}", preset.name);
            let checked = match tiny(&preset.config, images, increments) {
                Ok(checked) => checked,
                Err(error) => {
                    assert_eq!(exit_status(&error), 2, "{name}: {error:#}");
                    refused.push(format!("{name}: {}", sentence(&error)));
                    continue;
                }
            };
            let context = RunContext {
                tensorboard: None,
                data_dir: Path::new("none"),
                out: out.path(),
                name: &name,
                label: &name,
                engine: &engine,
                interrupt: &interrupt,
                silent: true,
                base_model: None,
                checkpoint_every: Duration::from_secs(3600),
            };
            match run(&checked, &context) {
                Ok(_) => ran += 1,
                Err(error) => wrong.push(format!("{name}: {}", sentence(&error))),
            }
        }
    }
    assert!(wrong.is_empty(), "{} began and failed:\n{}", wrong.len(), wrong.join("\n"));
    for message in &refused {
        let named = [
            "recipe.bias-correction.held-out",
            "recipe.increment.terms",
            "recipe.new-replay",
            "recipe.discriminant",
        ];
        assert!(named.iter().any(|key| message.contains(key)) && message.contains("task "), "{message}");
    }
    assert!(ran > 200, "{ran} ran, and refused were:\n{}", refused.join("\n"));
}
