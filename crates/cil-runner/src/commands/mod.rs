//! The commands.
//!
//! A command turns arguments into checked configurations, runs them and prints; nothing is computed here.

pub mod audit;
pub mod bench;
pub mod demo;
mod evaluate;
mod export;
mod extend;
mod generate;
mod inspect;
mod model_page;
pub mod naming;
mod predict;
pub mod presets;
mod push;
pub mod report;
mod resume;
pub mod run;
pub mod show;
pub mod sweep;
mod train;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use cil_engine::ranks::Ranks;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::args::models::Command as OnModels;
use crate::cli::args::{Cli, Command, Global};
use crate::cli::failure::{bad_input, nearest};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;

/// Does what the command line says, with the processes `ranks` where it shares its work.
///
/// # Errors
/// If the command line or the configuration is wrong, or the work fails or is stopped.
pub fn execute(
    cli: Cli,
    ranks: &Arc<dyn Ranks>,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    if cli.global.lifeline {
        interrupt.ask_at_end_of(std::io::stdin());
    }
    match cli.command.unwrap_or(Command::Demo) {
        Command::Demo => demo::demo(&cli.global, interrupt, output),
        Command::Run(arguments) => run::run(&arguments, &cli.global, ranks, interrupt, output),
        Command::Resume(arguments) => resume::resume(&arguments, &cli.global, ranks, interrupt, output),
        Command::Audit(arguments) => audit::audit(&arguments, &cli.global, output),
        Command::Bench(arguments) => bench::bench(&arguments, &cli.global, interrupt, output),
        Command::Sweep(arguments) => sweep::sweep(&arguments, &cli.global, interrupt, output),
        Command::Models(command) => on_models(&command, &cli.global, interrupt, output),
        Command::Protocols => show::protocols(output),
        Command::Methods => show::methods(output),
        Command::Show(arguments) => show::show(&arguments, output),
        Command::Presets(arguments) => presets::list(&arguments, output),
        Command::Man { of } => manual(of.as_deref(), output),
        Command::Completions { shell } => completions(shell, output),
        Command::Report(arguments) => report::show(&arguments, output),
    }
}

/// Prints what a shell reads to complete this program's words.
fn completions(shell: Shell, output: &mut Output<'_>) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cil-runner", &mut text);
    output.text(&String::from_utf8_lossy(&text))
}

/// Prints a manual page in the form that `man` reads.
fn manual(of: Option<&str>, output: &mut Output<'_>) -> Result<()> {
    let mut command = Cli::shown();
    command.build();
    if let Some(name) = of {
        let found = command.get_subcommands().find(|it| it.get_name() == name).cloned();
        let names = command.get_subcommands().map(clap::Command::get_name);
        command = found.ok_or_else(|| {
            bad_input(match nearest(name, names) {
                Some(right) => format!("man {name}: there is no such command; did you mean {right}?"),
                None => format!("man {name}: there is no such command; `cil-runner --help` lists them"),
            })
        })?;
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
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
        OnModels::Push(arguments) => push::push(arguments, global, output),
    }
}

/// What the model of a command is, in an error.
const READ: &str = "the model which is read, and its file is never changed";

/// Refuses a place where `option` cannot write a file, or where a file lies that the command reads or writes; `others`:
/// these files, by what they are.
fn check_out(option: &str, out: &Path, others: &[(&str, &Path)]) -> Result<()> {
    let place = out.display();
    if out.is_dir() {
        return Err(bad_input(format!("{option} {place}: it is a folder; name a file in it")));
    }
    let parent = out.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(bad_input(format!(
            "{option} {place}: there is no folder {}; make it first",
            parent.display()
        )));
    }
    for (what, other) in others {
        if real_path(out).is_some_and(|it| real_path(other) == Some(it)) {
            return Err(bad_input(format!("{option} {place}: that is {what}; name another file")));
        }
    }
    Ok(())
}

/// Where a file lies or will lie, with all links followed.
fn real_path(file: &Path) -> Option<PathBuf> {
    let parent = file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    file.canonicalize()
        .or_else(|_| Ok::<_, io::Error>(parent.canonicalize()?.join(file.file_name().unwrap_or_default())))
        .ok()
}

/// Bytes of what is attached to a model.
fn attached_bytes(model: &cil_backbone::Model) -> usize {
    model.attached.iter().map(|(_, it)| it.elem_count() * it.dtype().size_in_bytes()).sum()
}
