//! `run`: one configuration, run or shown.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cil_engine::ranks::Ranks;

use crate::cli::args::{Checkpoints, Global, Run};
use crate::cli::failure::{Interrupted, sentence};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::commands::naming::default_name;
use crate::config::Checked;
use crate::config::comments::commented;
use crate::drive::{self, RunContext};
use crate::engine::Engine;
use crate::estimate::estimate;
use crate::folder::name::check_name;
use crate::presets::target::{configuration_of, named};
use crate::render::progress::{Progress, note};
use crate::render::table;
use crate::results::result::RunResult;

/// Does what `run` says.
pub(super) fn run(
    arguments: &Run,
    global: &Global,
    ranks: &Arc<dyn Ranks>,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    let target = named(&arguments.target)?;
    let checked = configuration_of(&target, &arguments.set, global.seed, Some(global.data_dir.as_path()))?;
    if let (Some(warning), 0) = (other_normalisation(&checked), ranks.rank()) {
        note(&format!("note: {warning}"));
    }
    if let Some(name) = &arguments.name {
        check_name(name)?;
    }
    let engine = Engine::of_ranks(global, ranks)?;
    if arguments.dry_run {
        return dry_run(&checked, arguments, global, &engine, interrupt, output);
    }
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => default_name(&target, &checked)?,
    };
    let mut context = context(global, &engine, interrupt, &name, arguments.checkpoints);
    context.base_model = arguments.base_model.as_deref();
    context.tensorboard = arguments.tensorboard.as_deref().filter(|_| engine.writes());
    let (folder, result) = drive::run(&checked, &context)?;
    tell(&folder, &result, output)
}

/// The warning about images that are normalised by another data set's numbers.
fn other_normalisation(checked: &Checked) -> Option<String> {
    let config = checked.config();
    let owners = config.normalisation.datasets();
    // ImageNet's constants are used for all photographs.
    let is_other = !owners.is_empty() && !owners.contains(&config.dataset.name()) && owners != ["imagenet"];
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
        let (reported, reason) = match &estimate {
            Some(Ok(it)) => (Some(it), None),
            Some(Err(error)) => (None, Some(sentence(error))),
            None => (None, None),
        };
        return output.value(&serde_json::json!({
            "config": checked.config(), "estimate": reported, "no_estimate": reason,
        }));
    }
    output.text(&commented(checked.text()))?;
    let text = match estimate {
        Some(Ok(it)) => it.text(),
        // Images that are not there yet are no reason to refuse the configuration.
        Some(Err(error)) => format!("no estimate: {}", sentence(&error)),
        None => return Ok(()),
    };
    output.text("\n")?;
    text.lines().try_for_each(|line| output.text(&format!("# {line}\n")))
}

/// The context of a run of that name with these settings; it trains its base classes, and its progress has its name.
pub(crate) fn context<'a>(
    global: &'a Global,
    engine: &'a Engine,
    interrupt: &'a Interrupt,
    name: &'a str,
    checkpoints: Checkpoints,
) -> RunContext<'a> {
    RunContext {
        data_dir: &global.data_dir,
        out: &global.out,
        name,
        label: name,
        engine,
        interrupt,
        silent: global.json || !engine.writes(),
        base_model: None,
        tensorboard: None,
        checkpoint_every: Duration::from_secs(checkpoints.checkpoint_every.into()),
    }
}

/// Shows a result and its folder.
pub(super) fn tell(folder: &Path, result: &RunResult, output: &mut Output<'_>) -> Result<()> {
    if output.json {
        return output.value(result);
    }
    output.text(&table::single(result))?;
    output.text(&format!("run folder: {}\n", folder.display()))
}
