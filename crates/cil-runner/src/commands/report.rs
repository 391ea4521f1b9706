//! `report`: the results of run folders, on the terminal and in files.
//!
//! Every output comes from one [`Summary`], so a number is the same on the terminal, on the page and in every export.
//! The `result.json` of a finished run is computed from its events and written again; a run in progress is left alone.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};

use crate::cli::args::{Files, Report};
use crate::cli::failure::{bad_input, sentence};
use crate::cli::output::Output;
use crate::folder::environment;
use crate::folder::files::export;
use crate::folder::integrity;
use crate::folder::log::EVENTS;
use crate::render::export::{tables, tensorboard};
use crate::render::figures;
use crate::render::latex;
use crate::render::page::page;
use crate::render::progress::note;
use crate::render::table;
use crate::results::comparison::{Choice, Comparison};
use crate::results::gather::gather;
use crate::results::images;
use crate::results::recorded::Recorded;
use crate::results::stored;
use crate::results::summary::{Orders, Summary};

/// Does what the arguments say.
///
/// # Errors
/// If a folder cannot be read, or a file cannot be written.
pub fn show(arguments: &Report, output: &mut Output<'_>) -> Result<()> {
    if arguments.verify {
        return integrity::report(&arguments.runs, output);
    }
    check_apart(&arguments.files)?;
    let gathered = gather(&arguments.runs)?;
    gathered.left_out.iter().for_each(|path_and_why| note(&format!("left out: {path_and_why}")));
    let summary = Summary::new(gathered.runs, Orders::Apart)?;
    for run in summary.runs.iter().filter(|run| run.finished) {
        if let Some(result) = &run.result {
            // A run of somebody else, or on a disk that is only read, is shown all the same.
            if let Err(error) = stored::write_result(&run.folder, result) {
                note(&format!("{}; the result is shown and not kept", sentence(&error)));
            }
        }
    }
    for run in summary.runs.iter().filter(|run| !run.verified) {
        note(&format!("{}: unverified, it was written before digests were kept", run.folder.display()));
    }
    let choice = arguments.table.choice(arguments.baseline.as_deref());
    let compared = Comparison::new(&summary, &choice)?;
    write_files(&summary, &compared, &choice, &arguments.files)?;
    match (&summary.runs[..], output.json) {
        ([Recorded { finished: true, result: Some(result), .. }], true) => output.value(result),
        (_, true) => output.value(&summary.json()),
        (_, false) => output.text(&text(&summary, &compared)),
    }
}

/// Refuses to write two forms to one place.
///
/// # Errors
/// Naming both options.
pub fn check_apart(files: &Files) -> Result<()> {
    let named = files.named();
    let place = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for (at, (flag, path)) in named.iter().enumerate() {
        if let Some((other, _)) = named[..at].iter().find(|it| place(it.1) == place(path)) {
            let path = path.display();
            return Err(bad_input(format!(
                "{other} and {flag} both name {path}; give each a place of its own"
            )));
        }
    }
    Ok(())
}

/// Writes the requested files, and prints their names.
///
/// # Errors
/// If a picture is broken, or a file cannot be written.
pub fn write_files(summary: &Summary, compared: &Comparison, choice: &Choice, files: &Files) -> Result<()> {
    for (flag, path) in files.named() {
        let more = match flag {
            "--html" => {
                write(flag, path, page(summary, compared, &environment::now())?.as_bytes())?;
                " (open it in a browser)".to_owned()
            }
            "--csv" => {
                write(flag, path, tables::csv(summary)?.as_bytes())?;
                String::new()
            }
            "--latex" => {
                write(flag, path, latex::latex(compared).as_bytes())?;
                String::new()
            }
            "--markdown" => {
                write(flag, path, latex::markdown(compared).as_bytes())?;
                String::new()
            }
            "--figures" => {
                let all = figures::all(summary, choice.metric)?;
                folder(flag, path)?;
                for figure in &all {
                    write(flag, &path.join(format!("{}.svg", figure.name)), figure.svg.as_bytes())?;
                    write(flag, &path.join(format!("{}.png", figure.name)), &figure.png()?)?;
                }
                format!(" ({} figures, each as SVG and PNG)", all.len())
            }
            _ => {
                write_events(summary, path)?;
                format!(" (`tensorboard --logdir {}` shows it)", path.display())
            }
        };
        note(&format!("wrote {}{more}", path.display()));
    }
    Ok(())
}

fn folder(flag: &str, path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| bad_input(format!("{flag} {}: {error}", path.display())))
}

fn write(flag: &str, path: &Path, content: &[u8]) -> Result<()> {
    if path.is_dir() {
        return Err(bad_input(format!("{flag} {}: it is a folder; name a file in it", path.display())));
    }
    export(path, content)
}

/// An event file for each run, below a folder of its name.
fn write_events(summary: &Summary, place: &Path) -> Result<()> {
    for run in &summary.runs {
        let place = place.join(&run.name);
        folder("--tensorboard", &place)?;
        tensorboard::write(&place, |begun| {
            Ok(tensorboard::event_file(run, begun.map_or_else(|| begin(run), Ok)?))
        })?;
    }
    Ok(())
}

/// When a run began, in seconds since 1970: as it recorded, else its log was last written at its last event.
fn begin(run: &Recorded) -> Result<f64> {
    if let Some(started) = run.environment.started() {
        return Ok(started.duration_since(UNIX_EPOCH).map_or(0.0, |it| it.as_secs_f64()));
    }
    let path = run.folder.join(EVENTS);
    let written = fs::metadata(&path).and_then(|it| it.modified());
    let written = written.with_context(|| format!("cannot read {}", path.display()))?;
    let end = written.duration_since(UNIX_EPOCH).map_or(0.0, |it| it.as_secs_f64());
    Ok(end - run.lines.last().map_or(0.0, |line| line.seconds))
}

fn text(summary: &Summary, compared: &Comparison) -> String {
    let mut text = match &summary.runs[..] {
        [run] => run.result.as_ref().map_or_else(String::new, table::single) + &made(run),
        _ => several(summary, compared),
    };
    images::sentences(summary).iter().for_each(|sentence| text.push_str(&format!("{sentence}\n")));
    for run in summary.runs.iter().filter(|run| !run.finished) {
        let (done, all) = run.tasks();
        text.push_str(&format!("{} is not finished: {done} of {all} tasks were evaluated\n", run.name));
    }
    text
}

/// When, where and by which command a run was made, as far as it was recorded.
fn made(run: &Recorded) -> String {
    let Some(made) = &run.environment.made else { return String::new() };
    let host = made.host.as_ref().map_or(String::new(), |host| format!(" on {host}"));
    format!("made {}{host} by `{}`\n", made.started, made.command_line())
}

/// Each run where a method has several, then the methods.
fn several(summary: &Summary, compared: &Comparison) -> String {
    let mut text = String::new();
    let finished = summary.groups.iter().all(|group| group.counted.len() == group.runs.len());
    if !finished || summary.groups.iter().any(|group| group.runs.len() > 1) {
        let results = summary.runs.iter().filter_map(|run| Some((run.name.clone(), run.result.clone()?)));
        text.push_str(&table::comparison(&results.collect::<Vec<_>>()));
        text.push('\n');
    }
    if compared.rows.iter().any(|row| row.seeds > 0) {
        text.push_str(&compared.plain());
        text.push_str(SPREAD);
    }
    for warning in summary.warnings() {
        text.push_str(&format!("Warning: {warning}.\n"));
    }
    text
}

/// The caption of a table with several seeds.
const SPREAD: &str = "mean ± sample standard deviation over the seeds of whole runs\n";
