//! What the commands do.
//!
//! One decision: a command turns arguments into checked configurations, runs them and prints; nothing is computed here.

mod evaluate;
mod export;
mod extend;
mod extend_page;
mod generate;
mod inspect;
mod predict;
mod train;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use cil_data::normalise::Normalisation;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::models::Command as OnModels;
use crate::args::{Checkpoints, Cli, Command, Global, Resume, Run};
use crate::audit::audit;
use crate::bench::bench;
use crate::config::comments::commented;
use crate::config::{Checked, RunConfig};
use crate::demo::demo;
use crate::engine::Engine;
use crate::estimate::estimate;
use crate::failure::{Interrupted, bad_input, sentence};
use crate::integrity;
use crate::interrupt::Interrupt;
use crate::listing;
use crate::naming::{default_name, is_file};
use crate::output::Output;
use crate::overlay;
use crate::presets;
use crate::progress::{Progress, note};
use crate::record::{PARTIAL, clear, is_unbegun};
use crate::report::RunResult;
use crate::run::{self, Surroundings};
use crate::show::show;
use crate::sweep::sweep;
use crate::table;

/// Does what the command line says.
pub fn execute(cli: Cli, interrupt: &Interrupt, output: &mut Output<'_>) -> Result<()> {
    if cli.global.lifeline {
        interrupt.ask_at_end_of(std::io::stdin());
    }
    match cli.command.unwrap_or(Command::Demo) {
        Command::Demo => demo(&cli.global, interrupt, output),
        Command::Run(arguments) => run_one(&arguments, &cli.global, interrupt, output),
        Command::Resume(arguments) => resume(&arguments, &cli.global, interrupt, output),
        Command::Audit(arguments) => audit(&arguments, &cli.global, output),
        Command::Bench(arguments) => bench(&arguments, &cli.global, interrupt, output),
        Command::Sweep(arguments) => sweep(&arguments, &cli.global, interrupt, output),
        Command::Models(command) => on_models(&command, &cli.global, interrupt, output),
        Command::Presets(arguments) => listing::list(&arguments, output),
        Command::Completions { shell } => completions(shell, output),
        Command::Report(arguments) => show(&arguments, output),
    }
}

/// The configuration of a preset's name or a file, changed as the arguments say.
pub fn configuration(target: &str, changes: &[String], seed: Option<u64>) -> Result<Checked> {
    configuration_of(target, changes, seed, None)
}

/// [`configuration`], where data sets lie in `data_dir`: a data set of any name may be one of them.
pub fn configuration_of(
    target: &str,
    changes: &[String],
    seed: Option<u64>,
    data_dir: Option<&Path>,
) -> Result<Checked> {
    let mut config = match is_file(target) {
        true => RunConfig::load(Path::new(target), changes)?,
        false => presets::find(target)?.config.with_changes(changes, target)?,
    };
    if let Some(seed) = seed {
        if let Some(change) = changes.iter().find(|change| overlay::key_of(change) == "seed") {
            return Err(bad_input(format!(
                "--seed {seed} and --set {change} both set the seed; leave one out"
            )));
        }
        config.seed = seed;
    }
    config = config.counted(data_dir)?;
    if is_file(target) { checked(config, Path::new(target)) } else { config.check() }
}

/// A configuration from a file, checked; every complaint names the file.
fn checked(config: RunConfig, path: &Path) -> Result<Checked> {
    config.check().map_err(|error| bad_input(format!("{}: {}", path.display(), sentence(&error))))
}

fn run_one(arguments: &Run, global: &Global, interrupt: &Interrupt, output: &mut Output<'_>) -> Result<()> {
    let checked =
        configuration_of(&arguments.target, &arguments.set, global.seed, Some(global.data_dir.as_path()))?;
    if let Some(told) = other_normalisation(&checked) {
        note(&format!("note: {told}"));
    }
    let engine = Engine::new(global)?;
    if arguments.dry_run {
        return dry_run(&checked, arguments, global, &engine, interrupt, output);
    }
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => default_name(&arguments.target, &checked)?,
    };
    let mut around = around(global, &engine, interrupt, &name, arguments.checkpoints);
    around.base_model = arguments.base_model.as_deref();
    around.tensorboard = arguments.tensorboard.as_deref();
    let (folder, result) = run::run(&checked, &around)?;
    tell(&folder, &result, output)
}

/// What a reader should know of images that are normalised by another data set's numbers.
fn other_normalisation(checked: &Checked) -> Option<String> {
    let config = checked.config();
    let of_cifar100 = [Normalisation::cifar100_lucir(), Normalisation::cifar100_podnet()];
    let is_other = match config.dataset.name() {
        "cifar100" => config.normalisation == Normalisation::cifar10(),
        _ => of_cifar100.contains(&config.normalisation),
    };
    is_other.then(|| {
        let name = config.dataset.name();
        let right = match name {
            "cifar10" => "; the presets cifar10-* have its own".to_owned(),
            _ => "; set normalisation.mean and normalisation.deviation to its own".to_owned(),
        };
        format!("images of {name} are normalised by numbers of another data set{right}")
    })
}

/// Prints the configuration, and what it would take: as comments, so that the whole is a configuration's file.
fn dry_run(
    checked: &Checked,
    arguments: &Run,
    global: &Global,
    engine: &Engine,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    let progress = match global.json {
        true => Progress::silent(),
        false => Progress::on_standard_error("estimate"),
    };
    let taken = arguments.base_model.is_some();
    let estimate = match arguments.no_estimate {
        true => None,
        false => Some(estimate(checked, &global.data_dir, engine, taken, interrupt, &progress)),
    };
    if estimate.as_ref().is_some_and(|it| it.as_ref().is_err_and(anyhow::Error::is::<Interrupted>)) {
        return estimate.transpose().map(|_| ());
    }
    if output.json {
        let (told, reason) = match &estimate {
            Some(Ok(it)) => (Some(it), None),
            Some(Err(error)) => (None, Some(sentence(error))),
            None => (None, None),
        };
        return output.value(&serde_json::json!({
            "config": checked.config(), "estimate": told, "no_estimate": reason,
        }));
    }
    output.text(&commented(checked.text()))?;
    let told = match estimate {
        Some(Ok(it)) => it.text(),
        // Images that are not there yet are no reason to refuse the configuration.
        Some(Err(error)) => format!("no estimate: {}", sentence(&error)),
        None => return Ok(()),
    };
    output.text("\n")?;
    told.lines().try_for_each(|line| output.text(&format!("# {line}\n")))
}

/// What a run of that name is told by these settings; it trains its base classes, and its progress has its name.
pub(crate) fn around<'a>(
    global: &'a Global,
    engine: &'a Engine,
    interrupt: &'a Interrupt,
    name: &'a str,
    checkpoints: Checkpoints,
) -> Surroundings<'a> {
    Surroundings {
        data_dir: &global.data_dir,
        out: &global.out,
        name,
        label: name,
        engine,
        interrupt,
        silent: global.json,
        base_model: None,
        tensorboard: None,
        checkpoint_every: Duration::from_secs(checkpoints.checkpoint_every.into()),
    }
}

fn resume(arguments: &Resume, global: &Global, interrupt: &Interrupt, output: &mut Output<'_>) -> Result<()> {
    let run = &arguments.run;
    let is_partial = run.extension().is_some_and(|it| it == PARTIAL);
    let whole = if is_partial { run.with_extension("") } else { run.clone() };
    let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let partial = whole.with_file_name(format!("{name}.{PARTIAL}"));
    if partial.is_dir() && is_unbegun(&partial) {
        return Err(bad_input(format!("{}: {}", partial.display(), run::UNBEGUN)));
    }
    let (folder, result) = if partial.is_dir() {
        let path = partial.join(run::CONFIG);
        let checked = checked(RunConfig::load(&path, &[])?, &path)?;
        let engine = Engine::new(global)?;
        let mut around = around(global, &engine, interrupt, &name, arguments.checkpoints);
        around.tensorboard = arguments.tensorboard.as_deref();
        run::resume(&partial, &checked, &around)?
    } else if whole.is_dir() {
        integrity::hold(&whole)?;
        let result = run::read_result(&whole)?;
        clear(&whole)?;
        if !output.json {
            output.text(&format!("{} is already finished\n", whole.display()))?;
        }
        (whole, result)
    } else {
        let (whole, partial) = (whole.display(), partial.display());
        return Err(bad_input(format!("there is no run folder {partial}, and no {whole}")));
    };
    tell(&folder, &result, output)
}

fn tell(folder: &Path, result: &RunResult, output: &mut Output<'_>) -> Result<()> {
    if output.json {
        return output.value(result);
    }
    output.text(&table::single(result))?;
    output.text(&format!("run folder: {}\n", folder.display()))
}

/// Prints what a shell reads to complete this program's words.
fn completions(shell: Shell, output: &mut Output<'_>) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cil-runner", &mut text);
    output.text(&String::from_utf8_lossy(&text))
}

/// Does what a command on a model file says.
fn on_models(
    command: &OnModels,
    global: &Global,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    match command {
        OnModels::Train(arguments) => train::train(arguments, global, interrupt, output),
        OnModels::Extend(arguments) => extend::extend(arguments, global, interrupt, output),
        OnModels::Evaluate(arguments) => evaluate::evaluate(arguments, global, output),
        OnModels::Predict(arguments) => predict::predict(arguments, global, output),
        OnModels::Generate(arguments) => generate::generate(arguments, global, interrupt, output),
        OnModels::Inspect(arguments) => inspect::inspect(arguments, global, output),
        OnModels::Export(arguments) => export::export(arguments, global, output),
    }
}

/// Refuses a place where no model file can be written, or where the model that is read lies.
fn check_out(out: &Path, model: Option<&Path>) -> Result<()> {
    let place = out.display();
    if out.is_dir() {
        return Err(bad_input(format!(
            "--out {place}: it is a folder; name a file, such as {place}/model.safetensors"
        )));
    }
    let parent = out.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(bad_input(format!(
            "--out {place}: there is no folder {}; make it first",
            parent.display()
        )));
    }
    let same = |model: &Path| match (model.canonicalize(), out.canonicalize()) {
        (Ok(model), Ok(out)) => model == out,
        _ => false,
    };
    if model.is_some_and(same) {
        return Err(bad_input(format!(
            "--out {place}: that is the model which is read, and its file is never changed; name another file"
        )));
    }
    Ok(())
}

/// Bytes of what is attached to a model.
fn attached_bytes(model: &cil_backbone::Model) -> usize {
    model.attached.iter().map(|(_, it)| it.elem_count() * it.dtype().size_in_bytes()).sum()
}
