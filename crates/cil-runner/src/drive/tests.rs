//! A run by several ranks, which are threads here: one folder, one way, and any of them may be asked to stop.

use std::fs;
use std::path::{Path, PathBuf};

use cil_backbone::{Backbone, file};
use cil_engine::ranks::on_threads;
use cil_engine::{GraphBuilder, Op, Shape};
use clap::Parser;

use super::*;
use crate::cli::args::Cli;
use crate::cli::failure::{Kept, exit_status};
use crate::config::RunConfig;
use crate::presets::target::configuration;

/// A data-free run of seconds.
fn checked(changes: &[&str]) -> Checked {
    let small = [
        "classes=4",
        "increments=[2, 2]",
        "architecture.width=4",
        "procedural.config.classes=4",
        "procedural.config.train-per-class=10",
        "procedural.config.test-per-class=5",
        "recipe.base.training.epochs=2",
        "recipe.base.training.batch=9",
        "recipe.increment.training.epochs=1",
        "recipe.increment.training.batch=9",
        "recipe.new-teacher.training.epochs=1",
        "recipe.replay.inversion.iterations=5",
        "recipe.replay.inversion.batch=9",
        "recipe.replay.inversion.generator.channels=8",
        "recipe.replay.batch=9",
    ];
    let changes: Vec<String> = small.iter().chain(changes).map(|it| (*it).to_owned()).collect();
    configuration("demo-lucir-e0-dfgr-dtidkl", &changes, None).expect("a configuration")
}

type Ended = Result<(PathBuf, RunResult)>;

/// The run `name` in `out` by `count` ranks, begun or resumed; `asked`: the rank that is asked to stop.
fn by(count: usize, out: &Path, name: &str, begin: bool, asked: Option<usize>) -> Vec<Ended> {
    by_of(&checked(&[]), count, out, name, begin, asked)
}

/// [`by`] with that configuration.
fn by_of(
    checked: &Checked,
    count: usize,
    out: &Path,
    name: &str,
    begin: bool,
    asked: Option<usize>,
) -> Vec<Ended> {
    on_threads(count, |ranks| {
        let global = Cli::try_parse_from(["cil-runner", "--device", "cpu"]).expect("a command line").global;
        let (engine, interrupt) = (Engine::of_ranks(&global, &ranks)?, Interrupt::default());
        if asked == Some(ranks.rank()) {
            interrupt.ask();
        }
        let context = RunContext {
            data_dir: Path::new("none"),
            out,
            name,
            label: name,
            engine: &engine,
            interrupt: &interrupt,
            silent: true,
            base_model: None,
            tensorboard: None,
            checkpoint_every: Duration::from_secs(3600),
        };
        match begin {
            true => run(checked, &context),
            false => resume(&out.join(format!("{name}.partial")), checked, &context),
        }
    })
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|it| it.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn ranks_write_one_folder_and_stop_and_go_on_together() {
    let out = tempfile::tempdir().expect("a folder");
    let out = out.path();
    let model = |name: &str| fs::read(out.join(name).join(MODEL)).expect("a model");
    for (count, name) in [(1, "alone"), (3, "three")] {
        for ended in by(count, out, name, true, None) {
            assert_eq!(ended.expect("a run").0, out.join(name));
        }
    }
    assert_eq!(names(out), ["alone", "three"]);
    assert_eq!(names(&out.join("alone")), names(&out.join("three")));
    integrity::hold(&out.join("three")).expect("a whole folder");
    let environment = |name: &str| read_environment(&out.join(name)).expect("a record");
    assert_eq!((environment("alone").ranks, environment("three").ranks), (None, Some(3)));
    // The last rank alone is asked; all stop after the unit they are in, and rank 0 has saved.
    for (count, name) in [(3, "again"), (2, "other")] {
        for ended in by(3, out, name, true, Some(2)) {
            let error = ended.expect_err("it was asked to stop");
            assert!(error.is::<Kept>() && exit_status(&error) == 75, "{error:#}");
        }
        assert_eq!(names(out).iter().filter(|it| it.starts_with(name)).count(), 1);
        for ended in by(count, out, name, false, None) {
            ended.expect("the rest of a run");
        }
    }
    assert_eq!(model("again"), model("three"), "as many ranks go on to the same bits");
    assert_eq!(environment("other").resumes[0].ranks, Some(2));
    assert_eq!(names(out), ["again", "alone", "other", "three"]);
}

/// A network that is no ResNet.
fn two_convolutions() -> Backbone {
    let mut net = GraphBuilder::new(Shape::Map { channels: 3, height: 32, width: 32 });
    let mut x = net.input();
    for stage in ["stage1", "stage2"] {
        let op = Op::Conv2d { out_channels: 6, kernel: 3, stride: 2, padding: 1, bias: false };
        x = net.add(&format!("{stage}.conv"), op, &[x]).expect("a node");
        let norm = Op::BatchNorm { affine: true, epsilon: 1e-5 };
        x = net.add(&format!("{stage}.norm"), norm, &[x]).expect("a node");
        net.tap(stage, x);
        x = net.add(&format!("{stage}.relu"), Op::Relu, &[x]).expect("a node");
    }
    let pool = net.add("pool", Op::GlobalAvgPool, &[x]).expect("a node");
    net.tap("pooled", pool);
    Backbone::own("two-convolutions", net.build().expect("a graph")).expect("a backbone")
}

#[test]
fn the_network_of_a_file_is_trained_and_resumed_without_the_file() {
    let out = tempfile::tempdir().expect("a folder");
    let file = out.path().join("net.safetensors");
    fs::write(&file, file::untrained(&two_convolutions(), [3, 32, 32]).expect("a file")).expect("a file");
    let change = format!("architecture={{ file = {:?} }}", file.display().to_string());
    let checked = checked(&[&change]);
    let out = out.path().join("runs");
    fs::remove_file(file).expect("the file is removed");
    let ran = |begin, name, asked| by_of(&checked, 1, &out, name, begin, asked).pop().expect("a rank");
    ran(true, "straight", None).expect("a run");
    ran(true, "stopped", Some(0)).expect_err("it was asked to stop");
    let recorded = RunConfig::load(&out.join("stopped.partial/config.toml"), &[]).expect("a configuration");
    let recorded = recorded.check().expect("a checked one");
    by_of(&recorded, 1, &out, "stopped", false, None).pop().expect("a rank").expect("the rest of a run");
    let model = |name: &str| fs::read(out.join(name).join(MODEL)).expect("a model");
    assert_eq!(model("straight"), model("stopped"));
    let (snapshot, _) = file::from_bytes(&model("straight"), &candle_core::Device::Cpu).expect("a model");
    assert_eq!(snapshot.backbone, two_convolutions());
}

#[test]
fn ranks_that_cannot_work_together_are_refused_before_anything_is_written() {
    let out = tempfile::tempdir().expect("a folder");
    let of = |lines: [&'static [&'static str]; 2], changes: [&'static [&'static str]; 2]| {
        let message = on_threads(2, |ranks| {
            let line = [&["cil-runner"], lines[ranks.rank()]].concat();
            let global = Cli::try_parse_from(line).expect("a command line").global;
            let interrupt = Interrupt::default();
            let ended = Engine::of_ranks(&global, &ranks).and_then(|engine| {
                let context = RunContext {
                    data_dir: Path::new("none"),
                    out: out.path(),
                    name: "a",
                    label: "a",
                    engine: &engine,
                    interrupt: &interrupt,
                    silent: true,
                    base_model: None,
                    tensorboard: None,
                    checkpoint_every: Duration::from_secs(3600),
                };
                run(&checked(changes[ranks.rank()]), &context)
            });
            let error = ended.expect_err("it is refused");
            (exit_status(&error), error.to_string())
        });
        assert!(message.iter().all(|it| *it == message[0]) && message[0].0 == 2, "{message:?}");
        message[0].1.clone()
    };
    let message = of([&["--device", "cuda:1"], &["--device", "cuda:1"]], [&[], &[]]);
    assert!(message.contains("names one GPU, and each of 2 processes needs its own"), "{message}");
    let message = of([&["--device", "cpu"], &["--device", "cuda"]], [&[], &[]]);
    assert!(message.starts_with("rank 1 has --device cuda, and rank 0 has cpu"), "{message}");
    if cfg!(not(feature = "cuda")) {
        let message = of([&["--device", "cuda"], &["--device", "cuda"]], [&[], &[]]);
        assert!(message.ends_with("use --device cpu"), "{message}");
    }
    let message = of([&["--kernels", "reference"], &["--kernels", "reference"]], [&[], &[]]);
    assert!(message.contains("shares no batch"), "{message}");
    let message = of([&["--device", "cpu"], &["--device", "cpu", "--kernels", "portable"]], [&[], &[]]);
    assert!(message.starts_with("rank 1 has the kernels portable, and rank 0 has"), "{message}");
    let message = of([&["--device", "cpu"], &["--device", "cpu"]], [&[], &["seed=9"]]);
    assert!(message.contains("rank 1 has a configuration of digest"), "{message}");
    assert!(names(out.path()).is_empty());
}

#[test]
fn a_rank_that_holds_other_values_is_named() {
    let checked = checked(&[]);
    let message = on_threads(3, |ranks| {
        let global = Cli::try_parse_from(["cil-runner", "--device", "cpu"]).expect("a command line").global;
        let engine = Engine::new(&global).expect("an engine");
        let dataset = load(&checked, Path::new("none")).expect("images");
        let (train, _) = split(&checked, &dataset).expect("images");
        let mut learner = Learner::new(plan(&checked, &engine)).expect("a learner");
        agreement::check(&*ranks, &learner, "nothing").expect("they are alike");
        if ranks.rank() > 0 {
            learner.advance(&train).expect("the beginning of a task");
        }
        agreement::check(&*ranks, &learner, "task 1 student epoch 1").map_err(|error| error.to_string())
    });
    let of = |it: &std::result::Result<(), String>| {
        it.as_ref().is_err_and(|it| {
            it.starts_with("after task 1 student epoch 1 rank 1 computed other values than rank 0")
        })
    };
    assert!(message.iter().all(of), "{message:?}");
}
