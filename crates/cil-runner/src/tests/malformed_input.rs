//! Files that a user can hand in, damaged in every way that was thought of.
//!
//! Any file is read or refused in a sentence; none causes a panic, and no number in it causes work or memory beyond
//! what was asked for. The parsers' own tests pin the sentences.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use cil_data::normalise::Normalisation;
use proptest::prelude::*;
use toml::{Table, Value};

use crate::cli::failure::exit_status;
use crate::commands::sweep::expand::expand;
use crate::commands::sweep::file::SweepFile;
use crate::config::overlay;
use crate::config::sizes::Sizes;
use crate::config::{Checked, RunConfig};
use crate::estimate::workload::items;
use crate::folder::log::{EVENTS, Line, load_events};
use crate::presets;
use crate::render::export::{tables, tensorboard};
use crate::render::latex;
use crate::render::page::{self, page};
use crate::render::pictures::{ClassDrawn, Drawn, grid};
use crate::results::recorded::Recorded;
use crate::results::result::report;
use crate::results::summary::{Orders, Summary};
use crate::setup::facts;

/// Presets that together have every table and kind of term.
const PRESETS: [&str; 9] = [
    "demo-fine-tune",
    "demo-lucir-e20",
    "demo-lucir-e0-dfgr-dtid-unshared",
    "demo-frozen-fecam",
    "cifar100-b50-t5-lucir",
    "demo-lucir-e20-dfgr",
    "cifar100-t10-abd",
    "cifar100-t10-rehearsal",
    "imagenet100-b50-t5-lucir",
];

/// Values that no key but a few can take, as TOML.
const EXTREMES: [&str; 18] = [
    "0",
    "-1",
    "1",
    "4294967296",
    "1000000000000",
    "9223372036854775807",
    "0.0",
    "-0.5",
    "1e308",
    "1e30",
    "1e-300",
    "-1e30",
    "1000001",
    "inf",
    "nan",
    "\"\"",
    "[]",
    "[9223372036854775807, 9223372036854775807]",
];

fn preset(name: &str) -> RunConfig {
    presets::find(name).unwrap().config
}

/// Reads a configuration as it is read from a file.
fn read(text: &str) -> anyhow::Result<Checked> {
    overlay::read::<RunConfig>(overlay::parse_table(text, "a.toml")?, "a.toml")?.check()
}

/// Everything that is computed from a configuration before training; none of it may depend on the values' size.
fn use_of(checked: &Checked) {
    facts(checked);
    let classes = checked.config().classes;
    let sizes = Sizes { image: [3, 32, 32], train: vec![500; classes], test: vec![100; classes] };
    for item in items(checked, &sizes, false).unwrap() {
        assert!(item.total().is_finite() && item.total() < 1e30, "{item:?}");
    }
    assert_eq!(read(checked.text()).unwrap().config(), checked.config(), "a configuration is not read back");
}

/// The dotted keys of all values that hold no table, and of the lists.
fn keys(prefix: &str, value: &Value, found: &mut Vec<String>) {
    let inner = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| keys(&inner(key), value, found)),
        Value::Array(items) => {
            found.push(prefix.to_owned());
            items.iter().enumerate().for_each(|(at, value)| keys(&inner(&at.to_string()), value, found));
        }
        _ => found.push(prefix.to_owned()),
    }
}

#[test]
fn extreme_values_of_any_key_are_refused_or_do_no_harm() {
    let mut count = 0;
    for name in PRESETS {
        let config = preset(name);
        let table = Table::try_from(&config).unwrap();
        let mut found = Vec::new();
        keys("", &Value::Table(table), &mut found);
        for (key, value) in found.iter().flat_map(|key| EXTREMES.map(|value| (key, value))) {
            count += 1;
            let change = format!("{key}={value}");
            match config.with_changes(std::slice::from_ref(&change), name).and_then(RunConfig::check) {
                Ok(checked) => use_of(&checked),
                Err(error) => assert_eq!(exit_status(&error), 2, "{change}: {error:#}"),
            }
        }
    }
    assert!(count > 1000, "{count} changes are too few to have reached every key");
}

/// Keys whose values multiply a loss, a gradient, a step or a pixel.
const FACTORS: [&str; 13] = [
    "weight",
    "temperature",
    "margin",
    "rate",
    "decay",
    "gamma",
    "shrinkage",
    "minimum",
    "limit",
    "mean",
    "deviation",
    "inversion.weights",
    "form.",
];

#[test]
fn a_factor_that_no_loss_survives_is_refused_before_anything_is_learned() {
    let mut count = 0;
    for name in PRESETS.into_iter().chain(["demo-lucir-e0-dfgr-dtidkl", "demo-rdfcil", "demo-abd"]) {
        let config = preset(name);
        let mut found = Vec::new();
        keys("", &Value::Table(Table::try_from(&config).unwrap()), &mut found);
        let is_factor = |key: &&String| {
            FACTORS.iter().any(|part| key.contains(part))
                // A number in the place of a list is a wrong type, which is reported for the table.
                && !["kind", "milestones", "match-scale"].iter().any(|part| key.contains(part))
        };
        for key in found.iter().filter(is_factor) {
            for value in ["1e30", "-1e30", "nan", "inf"] {
                let change = format!("{key}={value}");
                let error =
                    config.with_changes(std::slice::from_ref(&change), name).and_then(RunConfig::check);
                let error = error.map(|_| ()).expect_err(&change).to_string();
                let name = key.rsplit('.').find(|part| part.parse::<usize>().is_err());
                assert!(error.contains(name.unwrap()), "{change}: {error}");
                count += 1;
            }
        }
    }
    assert!(count > 200, "{count} changes are too few to have reached every factor");
}

#[test]
fn values_that_would_fill_the_memory_are_refused() {
    let config = preset("demo-lucir-e0-dfgr-dtid-unshared");
    for key in [
        "recipe.base.training.epochs",
        "recipe.increment.training.batch",
        "recipe.replay.batch",
        "recipe.replay.inversion.batch",
        "recipe.replay.inversion.iterations",
        "recipe.replay.inversion.generator.latent",
        "recipe.replay.inversion.generator.channels",
        "recipe.new-replay.images-per-class",
        "recipe.new-replay.inversion.iterations",
    ] {
        let error = config.with_changes(&[format!("{key}=1000000000000")], "it").and_then(RunConfig::check);
        let error = error.expect_err(key).to_string();
        assert!(error.contains(key) && error.contains("is 1000000000000; use "), "{error}");
    }
}

#[test]
fn a_key_of_many_parts_is_refused() {
    let deep = vec!["a"; 1_000_000].join(".");
    let error = overlay::set(&mut Table::new(), &format!("{deep}=1")).unwrap_err().to_string();
    assert!(error.ends_with("a key has at most 16 parts, this one 1000000"));
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let value = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        assert!(read(&format!("seed = {value}")).is_err());
        assert!(preset("demo-lwf").with_changes(&[format!("seed={value}")], "it").is_err());
    }
}

/// Bytes with a part of them replaced.
fn spliced(bytes: &[u8], at: prop::sample::Index, removed: usize, put: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = at.index(bytes.len());
    let end = (at + removed).min(bytes.len());
    bytes.splice(at..end, put.iter().copied());
    bytes
}

/// A whole log of two tasks.
fn log() -> String {
    let evaluation = |classes: usize| {
        serde_json::json!({
            "classifier": { "rows": vec![vec![1; classes]; classes] }, "top5": vec![1; classes],
            "task_aware": vec![1; classes], "nearest_mean": null, "nearest_mean_source": "none",
        })
    };
    let mut lines = vec![serde_json::json!({ "format": 1 })];
    let mut push = |event: &str, more: serde_json::Value| {
        let mut line =
            serde_json::json!({ "seconds": lines.len(), "peak_memory_bytes": 4096, "event": event });
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        lines.push(line);
    };
    for (task, seen) in [(0, 6), (1, 8), (2, 10)] {
        push("task-start", serde_json::json!({ "task": task, "new_classes": 2, "classes_seen": seen }));
        for _ in 0..2 {
            let losses = serde_json::json!({ "cross-entropy": 0.5 });
            push(
                "progress",
                serde_json::json!({
                    "task": task, "phase": "student", "done": 1, "total": 1, "learning_rate": 0.1, "images": 7,
                    "losses": losses,
                }),
            );
        }
        push("task-learned", serde_json::json!({ "task": task, "stored_bytes": 3 }));
        push("task-end", serde_json::json!({ "task": task, "evaluation": evaluation(seen) }));
    }
    push("run-end", serde_json::json!({}));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Reads a log and computes what can be computed of it.
fn reported(bytes: &[u8]) -> Option<Vec<Line>> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(EVENTS), bytes).unwrap();
    let lines = load_events(folder.path()).ok()?.lines;
    let checked = preset("demo-lwf").check().unwrap();
    // An error is as good as a result.
    drop(report(facts(&checked), &lines));
    Some(lines)
}

#[test]
fn numbers_in_a_log_may_be_as_large_as_they_like() {
    let log = log();
    let checked = preset("demo-lwf").check().unwrap();
    assert!(report(facts(&checked), &reported(log.as_bytes()).unwrap()).is_ok(), "the log itself is right");
    let largest = u64::MAX.to_string();
    for (from, to) in [
        ("\"images\":7", format!("\"images\":{largest}")),
        ("\"stored_bytes\":3", format!("\"stored_bytes\":{largest}")),
        ("\"task\":1", format!("\"task\":{largest}")),
        ("\"done\":1", format!("\"done\":{largest}")),
        ("[1,1,", format!("[{},{},", u32::MAX, u32::MAX)),
        ("\"seconds\":1,", "\"seconds\":1e308,".to_owned()),
        ("\"seconds\":1,", "\"seconds\":-1e308,".to_owned()),
    ] {
        let changed = log.replace(from, &to);
        assert_ne!(changed, log, "{from}");
        reported(changed.as_bytes());
    }
    for deep in ["[", "{\"a\":"] {
        reported(format!("{{\"format\":1}}\n{}\n", deep.repeat(100_000)).as_bytes());
    }
}

/// Files of a run folder that a report reads.
const FILES: [&str; 5] = ["config.toml", "env.json", EVENTS, "generated-1.json", "generated-1.png"];

/// A whole run of two tasks with a picture of two old classes.
fn run_folder(place: &Path) -> PathBuf {
    let folder = page::tests::write(place, "demo-lwf", 1, 5, 10);
    let images = Tensor::zeros((1, 3, 4, 4), DType::F32, &Device::Cpu).unwrap();
    let plain = Normalisation { mean: [0.0; 3], deviation: [1.0; 3] };
    fs::write(folder.join("generated-1.png"), grid(&images, &[vec![0], vec![0]], &plain).unwrap()).unwrap();
    let class = ClassDrawn { drawn: 1, confidence: Some(0.5) };
    let drawn = Drawn { format: 1, classes: vec![class.clone(), class] };
    fs::write(folder.join("generated-1.json"), serde_json::to_string(&drawn).unwrap()).unwrap();
    folder
}

/// Everything that is shown of a run folder.
fn shown(folder: &Path) -> anyhow::Result<()> {
    let summary = Summary::new(vec![Recorded::load(folder)?], Orders::Apart)?;
    let table = crate::results::comparison::Comparison::new(&summary, &Default::default())?;
    drop((latex::markdown(&table), latex::latex(&table), tensorboard::event_file(&summary.runs[0], 0.0)));
    tables::csv(&summary)?;
    crate::render::figures::all(&summary, crate::results::figure::Metric::Accuracy)?;
    page(&summary, &table, "now").map(drop)
}

#[test]
fn a_missing_or_empty_file_of_a_run_is_named() {
    let place = tempfile::tempdir().unwrap();
    let folder = run_folder(place.path());
    shown(&folder).unwrap();
    for file in FILES {
        let path = folder.join(file);
        let kept = fs::read(&path).unwrap();
        fs::write(&path, "").unwrap();
        let error = format!("{:#}", shown(&folder).expect_err(file));
        let name = if file.ends_with("png") { "generated-1.png" } else { file };
        assert!(error.contains(name), "{file}: {error}");
        fs::remove_file(&path).unwrap();
        match shown(&folder) {
            Ok(()) => assert!(file.starts_with("generated"), "{file} is not needed"),
            Err(error) => assert!(format!("{error:#}").contains(file), "{file}: {error:#}"),
        }
        fs::write(&path, kept).unwrap();
    }
}

#[test]
fn a_picture_that_says_it_is_huge_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = run_folder(place.path());
    let path = folder.join("generated-1.png");
    let mut png = fs::read(&path).unwrap();
    // The width stands behind the signature and the name of the first chunk; the chunk's checksum is behind it.
    png[16..20].copy_from_slice(&0x4000_0000u32.to_be_bytes());
    let mut checksum = flate2::Crc::new();
    checksum.update(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    fs::write(&path, png).unwrap();
    let error = format!("{:#}", shown(&folder).unwrap_err());
    assert!(error.contains("generated-1.png is not a picture of a run"), "{error}");
    assert!(error.contains("limit"), "{error}");
}

proptest! {
    #[test]
    fn any_splice_of_a_run_folder_is_shown_or_refused(
        file in 0..FILES.len(), at in any::<prop::sample::Index>(), removed in 0usize..40,
        put in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let place = tempfile::tempdir().unwrap();
        let folder = run_folder(place.path());
        let path = folder.join(FILES[file]);
        fs::write(&path, spliced(&fs::read(&path).unwrap(), at, removed, &put)).unwrap();
        // An error is as good as a page.
        drop(shown(&folder));
    }

    #[test]
    fn any_text_is_a_configuration_or_refused(text in "[a-z0-9.=\\[\\]{}\"'#,_\\-\n \\\\]{0,200}") {
        if let Err(error) = read(&text) {
            prop_assert_eq!(exit_status(&error), 2);
        }
    }

    #[test]
    fn any_splice_of_a_configuration_is_one_or_refused(
        which in 0..PRESETS.len(), at in any::<prop::sample::Index>(), removed in 0usize..30,
        put in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let checked = preset(PRESETS[which]).check().unwrap();
        let bytes = spliced(checked.text().as_bytes(), at, removed, &put);
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        if let Ok(checked) = read(&text) {
            use_of(&checked);
        }
    }

    #[test]
    fn any_change_is_applied_or_refused(key in "[a-z0-9.\\-]{0,30}", value in ".{0,30}") {
        let config = preset("demo-lwf");
        drop(config.with_changes(&[format!("{key}={value}")], "demo-lwf").and_then(RunConfig::check));
    }

    #[test]
    fn any_splice_of_a_log_is_one_or_refused(
        at in any::<prop::sample::Index>(), removed in 0usize..60, put in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        reported(&spliced(log().as_bytes(), at, removed, &put));
    }

    #[test]
    fn any_sweep_is_planned_or_refused(
        at in any::<prop::sample::Index>(), removed in 0usize..20, put in "[0-9\\[\\],\"=a-z\n]{0,20}",
        split in prop::collection::vec(any::<u64>(), 0..4),
    ) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.toml");
        let split: Vec<u64> = split.iter().map(|size| size >> 1).collect();
        let text = format!("seeds = [1, 2]\nsplits = [{split:?}]\n[[method]]\npreset = \"demo-lwf\"\n");
        for bytes in [text.clone().into_bytes(), spliced(text.as_bytes(), at, removed, put.as_bytes())] {
            fs::write(&path, bytes).unwrap();
            if let Ok(file) = SweepFile::load(&path) {
                drop(expand(&file, &path, "portable"));
            }
        }
    }
}
