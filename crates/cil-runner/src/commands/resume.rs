//! `resume`: a run that was stopped, killed or cut off.

use std::sync::Arc;

use anyhow::Result;
use cil_engine::ranks::Ranks;

use crate::cli::args::{Global, Resume};
use crate::cli::failure::bad_input;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::commands::run::{context, tell};
use crate::config::RunConfig;
use crate::drive;
use crate::engine::Engine;
use crate::folder::contents::{CONFIG, UNBEGUN};
use crate::folder::integrity;
use crate::folder::writer::{PARTIAL, clear, is_unbegun};
use crate::presets::target::checked;
use crate::results::stored::read_result;

/// Does what `resume` says.
pub(super) fn resume(
    arguments: &Resume,
    global: &Global,
    ranks: &Arc<dyn Ranks>,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    let run = &arguments.run;
    let is_partial = run.extension().is_some_and(|it| it == PARTIAL);
    let whole = if is_partial { run.with_extension("") } else { run.clone() };
    let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let partial = whole.with_file_name(format!("{name}.{PARTIAL}"));
    if partial.is_dir() && is_unbegun(&partial) {
        return Err(bad_input(format!("{}: {}", partial.display(), UNBEGUN)));
    }
    let (folder, result) = if partial.is_dir() {
        let path = partial.join(CONFIG);
        let checked = checked(RunConfig::load(&path, &[])?, &path)?;
        let engine = Engine::of_ranks(global, ranks)?;
        let mut context = context(global, &engine, interrupt, &name, arguments.checkpoints);
        context.tensorboard = arguments.tensorboard.as_deref().filter(|_| engine.writes());
        drive::resume(&partial, &checked, &context)?
    } else if whole.is_dir() {
        integrity::hold(&whole)?;
        let result = read_result(&whole)?;
        if ranks.rank() == 0 {
            clear(&whole)?;
        }
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
