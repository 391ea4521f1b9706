//! `sweep report`: methods over their seeds.
//!
//! One decision: numbers come from the results of whole run folders; a method is compared with the baseline run by run,
//! where split, class order and seed are the same. What is not done is counted, never guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::Meant;
use super::expand::Planned;
use super::folder::{State, SweepFolder};
use super::job::{Kind, jobs};
use crate::failure::bad_input;
use crate::output::Output;
use crate::report::RunResult;
use crate::run::{read_environment, read_result};
use crate::show;
use crate::statistics::Spread;
use crate::summary::{Orders, Summary as Shown};

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
    /// What others are compared with.
    pub baseline: Option<String>,
    /// Runs that are done, and runs of the sweep.
    pub done: [usize; 2],
    /// Base models that were trained for several runs, and the seconds that they took in all.
    pub bases: usize,
    /// See `bases`.
    pub base_seconds: f64,
    /// What makes runs hard to compare, in sentences.
    pub warnings: Vec<String>,
    /// Run folders that are done, in the order of the plan.
    pub folders: Vec<PathBuf>,
}

/// Shows the report, and writes it as a page if that is asked for.
///
/// # Errors
/// If a folder cannot be read or the page cannot be written, or no run is done that a page could show.
pub fn report(meant: &Meant, html: Option<&Path>, output: &mut Output<'_>) -> Result<()> {
    let summary = summary(meant)?;
    if let Some(html) = html {
        if summary.folders.is_empty() {
            return Err(bad_input(format!("--html {}: no run of the sweep is done yet", html.display())));
        }
        let orders = if meant.file.paired { Orders::WithSeeds } else { Orders::Apart };
        show::write_page(&Shown::load(&summary.folders, orders)?, html)?;
    }
    if output.json {
        return output.value(&summary);
    }
    output.text(&summary.markdown())
}

/// Reads the results of what is done.
///
/// # Errors
/// If a folder cannot be read.
pub fn summary(meant: &Meant) -> Result<Summary> {
    let done = meant.done()?;
    let mut results = Vec::new();
    for (run, folder) in &done {
        results.push((*run, read_result(folder)?));
    }
    let mut groups: Vec<&str> = Vec::new();
    for run in &meant.expanded.runs {
        if !groups.contains(&run.group.as_str()) {
            groups.push(&run.group);
        }
    }
    let baseline = meant.file.baseline.clone();
    let mut rows = Vec::new();
    for group in groups {
        for method in &meant.expanded.methods {
            let is_here = |run: &Planned| run.group == group && run.method == *method;
            let planned = meant.expanded.runs.iter().filter(|run| is_here(run)).count();
            let here: Vec<_> =
                results.iter().filter(|(run, _)| is_here(run)).map(|it| (it.0, &it.1)).collect();
            rows.push(row(group, method, planned, &here, &results, baseline.as_deref()));
        }
    }
    let (mut bases, mut base_seconds) = (0, 0.0);
    let found = SweepFolder::found(meant.folder.path())?;
    for (job, _) in jobs(meant).iter().filter(|(job, _)| job.kind == Kind::Base) {
        if let (State::Done(folder), _) = meant.folder.state(&found, job) {
            bases += 1;
            base_seconds += read_result(&folder)?.wall_seconds;
        }
    }
    Ok(Summary {
        rows,
        baseline,
        done: [done.len(), meant.expanded.runs.len()],
        bases,
        base_seconds,
        warnings: warnings(&done)?,
        folders: done.into_iter().map(|(_, folder)| folder).collect(),
    })
}

fn row(
    group: &str,
    method: &str,
    planned: usize,
    here: &[(&Planned, &RunResult)],
    all: &[(&Planned, RunResult)],
    baseline: Option<&str>,
) -> Row {
    let of = |number: &dyn Fn(&RunResult) -> Option<f64>| {
        Spread::of(&here.iter().filter_map(|(_, result)| number(result)).collect::<Vec<_>>())
    };
    let difference = |number: &dyn Fn(&RunResult) -> f64| {
        let pairs = here.iter().filter_map(|(run, result)| {
            let is_partner = |other: &Planned| {
                Some(other.method.as_str()) == baseline
                    && other.group == run.group
                    && other.checked.config().seed == run.checked.config().seed
            };
            let (_, partner) = all.iter().find(|(other, _)| is_partner(other))?;
            Some(number(result) - number(partner))
        });
        if baseline == Some(method) { None } else { Spread::of(&pairs.collect::<Vec<_>>()) }
    };
    Row {
        group: group.to_owned(),
        method: method.to_owned(),
        planned,
        average_incremental_accuracy: of(&|it| Some(it.average_incremental_accuracy)),
        last_accuracy: of(&|it| Some(it.last_accuracy)),
        old_accuracy: of(&|it| it.tasks.last()?.old_accuracy),
        new_accuracy: of(&|it| Some(it.tasks.last()?.new_accuracy)),
        forgetting: of(&|it| it.forgetting),
        wall_seconds: of(&|it| Some(it.wall_seconds)),
        average_difference: difference(&|it| it.average_incremental_accuracy),
        last_difference: difference(&|it| it.last_accuracy),
    }
}

/// What differs between runs that should differ in their configuration alone.
fn warnings(done: &[(&Planned, PathBuf)]) -> Result<Vec<String>> {
    let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (_, folder) in done {
        let it = read_environment(folder)?;
        let facts = [
            ("code versions", it.code_version),
            ("kernels", it.kernels),
            ("training images", it.train_digest),
        ];
        for (fact, value) in facts {
            values.entry(fact).or_default().insert(value);
        }
    }
    let told = values.into_iter().filter(|(_, values)| values.len() > 1);
    let told = told.map(|(fact, values)| {
        format!(
            "these runs were made with several {fact}: {}",
            values.into_iter().collect::<Vec<_>>().join(", ")
        )
    });
    Ok(told.collect())
}

impl Summary {
    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut header = vec!["method", "runs", "average incremental, %", "last, %", "old, %", "new, %"];
        header.extend(["forgetting, %", "seconds"]);
        let (average, last);
        if let Some(baseline) = &self.baseline {
            average = format!("average minus {baseline}");
            last = format!("last minus {baseline}");
            header.extend([average.as_str(), last.as_str()]);
        }
        let grouped = self.rows.iter().any(|row| !row.group.is_empty());
        if grouped {
            header.insert(0, "split and order");
        }
        let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&header) + &line(&vec!["---"; header.len()]);
        for row in &self.rows {
            let count = row.last_accuracy.map_or(0, |it| it.count);
            let mut cells = Vec::new();
            if grouped {
                cells.push(row.group.clone());
            }
            cells.push(row.method.clone());
            cells.push(if count == row.planned {
                count.to_string()
            } else {
                format!("{count} of {}", row.planned)
            });
            let numbers = [row.average_incremental_accuracy, row.last_accuracy, row.old_accuracy];
            let numbers = numbers.into_iter().chain([row.new_accuracy, row.forgetting]);
            cells.extend(numbers.map(|it| Spread::percent(it, false)));
            cells.push(row.wall_seconds.map_or("-".to_owned(), |it| format!("{:.0}", it.mean)));
            if self.baseline.is_some() {
                cells.push(Spread::percent(row.average_difference, true));
                cells.push(Spread::percent(row.last_difference, true));
            }
            text.push_str(&line(&cells.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        text + &self.notes()
    }

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
