//! `sweep report`: methods over their seeds.
//!
//! It is the report of the run folders that are done ([`crate::results::summary`], [`crate::results::comparison`]),
//! with the names and the plan of the sweep; unfinished runs are counted, never estimated.

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::Meant;
use super::folder::{State, SweepFolder};
use super::job::{Kind, jobs};
use crate::cli::args::SweepReport;
use crate::cli::failure::bad_input;
use crate::cli::output::Output;
use crate::commands::report;
use crate::render::latex;
use crate::results::comparison::{Choice, Comparison};
use crate::results::figure::{ColumnName, Figure, Metric, columns};
use crate::results::recorded::Recorded;
use crate::results::statistics::Spread;
use crate::results::stored::read_result;
use crate::results::summary::{Group, Orders, Planned as PlannedMethod, Summary as Shown};

/// One method within one group.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Split and class order, where the sweep has several; may be empty.
    pub group: String,
    /// The method's name.
    pub method: String,
    /// Runs that the sweep has of it.
    pub planned: usize,
    /// Over the seeds that are done: fractions.
    pub average_incremental_accuracy: Option<Spread>,
    /// After the last task.
    pub last_accuracy: Option<Spread>,
    /// Of the last task's old classes; none with a single task.
    pub old_accuracy: Option<Spread>,
    /// Of the last task's new classes.
    pub new_accuracy: Option<Spread>,
    /// Chaudhry's; none with a single task.
    pub forgetting: Option<Spread>,
    /// Of a run, without a base model that it took.
    pub wall_seconds: Option<Spread>,
    /// This method minus the baseline, paired; none for the baseline itself.
    pub average_difference: Option<Spread>,
    /// This method minus the baseline, paired; none for the baseline itself.
    pub last_difference: Option<Spread>,
}

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Groups times methods, in the order of the file.
    pub rows: Vec<Row>,
    /// The baseline of the comparison.
    pub baseline: Option<String>,
    /// Runs that are done, and runs of the sweep.
    pub done: [usize; 2],
    /// Base models that were trained for several runs, and the seconds that they took in all.
    pub bases: usize,
    /// See `bases`.
    pub base_seconds: f64,
    /// Warnings about runs that are hard to compare.
    pub warnings: Vec<String>,
    /// Run folders that are done, in the order of the plan.
    pub folders: Vec<PathBuf>,
}

/// Shows the report, and writes what was asked for.
///
/// # Errors
/// If a folder cannot be read or a file cannot be written, or no run is done that a file could show.
pub fn report(meant: &Meant, arguments: &SweepReport, output: &mut Output<'_>) -> Result<()> {
    report::check_apart(&arguments.files)?;
    let shown = shown(meant)?;
    if let (Some((flag, path)), true) = (arguments.files.named().first(), shown.runs.is_empty()) {
        return Err(bad_input(format!("{flag} {}: no run of the sweep is done yet", path.display())));
    }
    let baseline = arguments.baseline.as_deref().or(meant.file.baseline.as_deref());
    let choice = arguments.table.choice(baseline);
    let compared = Comparison::new(&shown, &choice)?;
    report::write_files(&shown, &compared, &choice, &arguments.files)?;
    tell(meant, &shown, &compared, output)
}

/// Shows the report as it is without a choice: what `sweep run` ends with.
///
/// # Errors
/// If a folder cannot be read.
pub fn end(meant: &Meant, output: &mut Output<'_>) -> Result<()> {
    let shown = shown(meant)?;
    let choice = Choice { baseline: meant.file.baseline.clone(), ..Choice::default() };
    let compared = Comparison::new(&shown, &choice)?;
    tell(meant, &shown, &compared, output)
}

fn tell(meant: &Meant, shown: &Shown, compared: &Comparison, output: &mut Output<'_>) -> Result<()> {
    let summary = summary(meant, shown)?;
    if output.json {
        return output.value(&summary);
    }
    let table = if stdout().is_terminal() { compared.plain() } else { latex::markdown(compared) };
    output.text(&(table + &summary.notes()))
}

/// The runs that are done, grouped as every report groups them, and called what the sweep calls them.
///
/// # Errors
/// If a folder cannot be read.
pub fn shown(meant: &Meant) -> Result<Shown> {
    let (mut runs, mut names) = (Vec::new(), Vec::new());
    for (planned, folder) in meant.done()? {
        runs.push(Recorded::load(&folder)?);
        names.push(planned);
    }
    let orders = if meant.file.paired { Orders::WithSeeds } else { Orders::Apart };
    let mut shown = match runs.is_empty() {
        true => Shown::none(orders),
        false => Shown::new(runs, orders)?,
    };
    let mut planned: Vec<PlannedMethod> = Vec::new();
    let mut blocks: Vec<&str> = Vec::new();
    for run in &meant.expanded.runs {
        if !blocks.contains(&run.group.as_str()) {
            blocks.push(&run.group);
        }
    }
    for block in blocks {
        for method in &meant.expanded.methods {
            let of = meant.expanded.runs.iter().filter(|it| it.group == block && it.method == *method);
            planned.push(PlannedMethod { block: block.to_owned(), method: method.clone(), runs: of.count() });
        }
    }
    for at in 0..shown.groups.len() {
        let group = &shown.groups[at];
        let Some(run) = group.runs.first().map(|run| names[*run]) else { continue };
        let is_same = |other: &Group| {
            other
                .runs
                .first()
                .is_some_and(|it| (&names[*it].method, &names[*it].group) == (&run.method, &run.group))
        };
        // Runs of one method that may not be averaged stand apart.
        let part = shown.groups[..at].iter().filter(|it| is_same(it)).count();
        let several = shown.groups.iter().filter(|it| is_same(it)).count() > 1;
        let label =
            if several { format!("{} (images {})", run.method, part + 1) } else { run.method.clone() };
        let count =
            planned.iter().find(|it| it.method == run.method && it.block == run.group).map(|it| it.runs);
        let group = &mut shown.groups[at];
        (group.label, group.method) = (label, run.method.clone());
        (group.block, group.planned) = (run.group.clone(), count);
    }
    shown.planned = planned;
    Ok(shown)
}

/// The numbers of what is done, for programs.
///
/// # Errors
/// If a folder cannot be read.
pub fn summary(meant: &Meant, shown: &Shown) -> Result<Summary> {
    let (mut bases, mut base_seconds) = (0, 0.0);
    let found = SweepFolder::found(meant.folder.path())?;
    for (job, _) in jobs(meant).iter().filter(|(job, _)| job.kind == Kind::Base) {
        if let (State::Done(folder), _) = meant.folder.state(&found, job) {
            bases += 1;
            base_seconds += read_result(&folder)?.wall_seconds;
        }
    }
    let baseline = meant.file.baseline.clone();
    let is_partner = |at: &usize| Some(&shown.groups[*at].method) == baseline.as_ref();
    let partners: Vec<usize> = (0..shown.groups.len()).filter(is_partner).collect();
    let rows = shown.planned.iter().flat_map(|planned| {
        let is_it = |group: &&Group| group.block == planned.block && group.method == planned.method;
        let groups: Vec<&Group> = shown.groups.iter().filter(is_it).collect();
        match groups.is_empty() {
            true => vec![row(shown, planned, None, &partners)],
            false => groups.into_iter().map(|group| row(shown, planned, Some(group), &partners)).collect(),
        }
    });
    Ok(Summary {
        rows: rows.collect(),
        baseline,
        done: [shown.runs.len(), meant.expanded.runs.len()],
        bases,
        base_seconds,
        warnings: shown.warnings(),
        folders: shown.runs.iter().map(|run| run.folder.clone()).collect(),
    })
}

fn row(shown: &Shown, planned: &PlannedMethod, group: Option<&Group>, partners: &[usize]) -> Row {
    let figures = group.map_or_else(Vec::new, |group| {
        let names = [
            ColumnName::Last,
            ColumnName::Average,
            ColumnName::Old,
            ColumnName::New,
            ColumnName::Forgetting,
            ColumnName::Seconds,
        ];
        columns(&names, Metric::Accuracy, shown.tasks_of(group))
    });
    let spread = |at: usize| shown.spread(group?, figures.get(at)?);
    let difference = |at: usize| {
        shown.difference(group?, partners, figures.get(at).filter(|it: &&Figure| it.is_compared)?)
    };
    Row {
        group: planned.block.clone(),
        method: group.map_or(&planned.method, |group| &group.label).clone(),
        planned: planned.runs,
        last_accuracy: spread(0),
        average_incremental_accuracy: spread(1),
        old_accuracy: spread(2),
        new_accuracy: spread(3),
        forgetting: spread(4),
        wall_seconds: spread(5),
        last_difference: difference(0),
        average_difference: difference(1),
    }
}

impl Summary {
    fn notes(&self) -> String {
        let mut text = "\nMean ± sample standard deviation over the seeds that are done.".to_owned();
        if self.baseline.is_some() {
            text.push_str(" Differences are of runs with the same seed, split and class order, in points.");
        }
        if self.bases > 0 {
            text.push_str(&format!(
                "\nSeconds of a run leave out its base model, which another run trained: {} of them took {:.0} s in all.",
                self.bases, self.base_seconds
            ));
        }
        let [done, planned] = self.done;
        if done < planned {
            text.push_str(&format!("\n{done} of {planned} runs are done."));
        }
        for warning in &self.warnings {
            text.push_str(&format!("\nWarning: {warning}."));
        }
        text + "\n"
    }
}

#[cfg(test)]
mod tests;
