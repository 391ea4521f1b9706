//! `report`: what run folders tell, on the terminal and in files.
//!
//! One decision: everything shown is of one [`Summary`], so a number is the same on the terminal, on the page and in every
//! export. A whole run's `result.json` is computed from its events and written again; a run that still goes is left alone.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};

use crate::args::Report;
use crate::export::{tables, tensorboard};
use crate::failure::{bad_input, sentence};
use crate::figure;
use crate::integrity;
use crate::output::Output;
use crate::page::page;
use crate::progress::note;
use crate::record::{EVENTS, export};
use crate::recorded::Recorded;
use crate::run;
use crate::summary::{Orders, Summary};
use crate::table;

/// Does what the arguments say.
///
/// # Errors
/// If a folder cannot be read, or a file cannot be written.
pub fn show(arguments: &Report, output: &mut Output<'_>) -> Result<()> {
    if arguments.verify {
        return integrity::report(&arguments.runs, output);
    }
    let summary = Summary::load(&arguments.runs, Orders::Apart)?;
    for run in summary.runs.iter().filter(|run| run.finished) {
        if let Some(result) = &run.result {
            // A run of somebody else, or on a disk that is only read, is shown all the same.
            if let Err(error) = run::write_result(&run.folder, result) {
                note(&format!("{}; the result is shown and not kept", sentence(&error)));
            }
        }
    }
    for run in summary.runs.iter().filter(|run| !run.verified) {
        note(&format!("{}: unverified, it was written before digests were kept", run.folder.display()));
    }
    if let Some(path) = &arguments.html {
        write_page(&summary, path)?;
    }
    if let Some(path) = &arguments.csv {
        write("--csv", path, tables::csv(&summary)?.as_bytes())?;
    }
    if let Some(folder) = &arguments.tensorboard {
        write_events(&summary, folder)?;
    }
    match (&summary.runs[..], output.json) {
        ([Recorded { finished: true, result: Some(result), .. }], true) => output.value(result),
        (_, true) => output.value(&summary.json()),
        (_, false) => output.text(&text(&summary)),
    }
}

/// Writes the page of these runs.
///
/// # Errors
/// If a picture is broken, or the file cannot be written.
pub fn write_page(summary: &Summary, path: &Path) -> Result<()> {
    write("--html", path, page(summary)?.as_bytes())
}

fn write(flag: &str, path: &Path, content: &[u8]) -> Result<()> {
    if path.is_dir() {
        return Err(bad_input(format!("{flag} {}: it is a folder, a file is to be written", path.display())));
    }
    export(path, content)
}

/// An event file for each run, below a folder of its name.
fn write_events(summary: &Summary, folder: &Path) -> Result<()> {
    for run in &summary.runs {
        let place = folder.join(&run.name);
        fs::create_dir_all(&place)
            .map_err(|error| bad_input(format!("--tensorboard {}: {error}", place.display())))?;
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

fn text(summary: &Summary) -> String {
    let mut text = match &summary.runs[..] {
        [run] => run.result.as_ref().map_or_else(String::new, table::single) + &made(run),
        _ => several(summary),
    };
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

/// Each run, then each group with several seeds.
fn several(summary: &Summary) -> String {
    let results = summary.runs.iter().filter_map(|run| Some((run.name.clone(), run.result.clone()?)));
    let mut text = table::comparison(&results.collect::<Vec<_>>());
    let figures = figure::summary(summary.tasks());
    let mut rows = vec![vec!["mean ± deviation, %".to_owned(), "seeds".to_owned()]];
    rows[0].extend(figures.iter().map(|figure| figure.name.clone()));
    for group in summary.groups.iter().filter(|group| !group.counted.is_empty()) {
        let cell = |figure: &figure::Figure| {
            summary.spread(group, figure).map_or_else(|| "-".to_owned(), |it| figure::text(&it, figure.unit))
        };
        let mut row = vec![group.label.clone(), group.counted.len().to_string()];
        row.extend(summary.figures(group).iter().map(cell));
        rows.push(row);
    }
    text.push('\n');
    text.push_str(&table::layout(&rows));
    text
}
