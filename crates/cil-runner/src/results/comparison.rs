//! Methods beside each other: the table that every report shows, on the terminal, on the page and in files.
//!
//! A cell is a figure's mean and spread over a group's counted runs, or the mean of differences to the baseline's runs
//! of the same seed; output formats differ only in how they write a cell. The best value of a column is among methods
//! that learned the same classes from the same images, training on all images at once (`joint`) left out.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::cli::failure::{bad_input, nearest};
use crate::results::figure::{self, Better, ColumnName, Figure, Metric, Unit};
use crate::results::statistics::Spread;
use crate::results::summary::{Group, Summary};

/// The choice of columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Columns in order.
    pub columns: Vec<ColumnName>,
    /// The accuracy that is shown.
    pub metric: Metric,
    /// The method that others are compared with, seed by seed.
    pub baseline: Option<String>,
    /// Whether the best value of each column stands out.
    pub bold: bool,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            columns: figure::DEFAULT_COLUMNS.to_vec(),
            metric: Metric::Accuracy,
            baseline: None,
            bold: true,
        }
    }
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As it is headed, without its unit.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// Whether it is a difference to the baseline.
    pub is_difference: bool,
}

/// One method.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Split and class order, where a sweep has several; may be empty.
    pub block: String,
    /// The method.
    pub method: String,
    /// Runs that are counted.
    pub seeds: usize,
    /// Runs that a sweep has of it.
    pub planned: Option<usize>,
    /// One for each column.
    pub cells: Vec<Option<Spread>>,
    /// Whether the cell is the best of its column.
    pub best: Vec<bool>,
}

/// The table.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Columns behind the method and its seeds.
    pub columns: Vec<Column>,
    /// Methods.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// The table of these runs.
    ///
    /// # Errors
    /// If there is no such baseline.
    pub fn new(summary: &Summary, choice: &Choice) -> Result<Self> {
        let baseline = choice.baseline.as_deref().map(|name| baseline(summary, name)).transpose()?;
        let shown = figure::columns(&choice.columns, choice.metric, summary.tasks());
        let compared: Vec<&Figure> = shown.iter().filter(|it| it.is_compared).collect();
        let plain =
            shown.iter().map(|it| Column { name: it.name.clone(), unit: it.unit, is_difference: false });
        let mut columns: Vec<Column> = plain.collect();
        if let Some((name, _)) = &baseline {
            let minus = |it: &&Figure| Column {
                name: format!("{} minus {name}", it.name),
                unit: it.unit,
                is_difference: true,
            };
            columns.extend(compared.iter().map(minus));
        }
        let row = |group: &Group| {
            let figures = figure::columns(&choice.columns, choice.metric, summary.tasks_of(group));
            let mut cells: Vec<Option<Spread>> = shown
                .iter()
                .map(|it| it.same_in(&figures).and_then(|it| summary.spread(group, it)))
                .collect();
            if let Some((_, partners)) = &baseline {
                let own = |it: &&Figure| summary.difference(group, partners, it.same_in(&figures)?);
                cells.extend(compared.iter().map(own));
            }
            Row {
                block: group.block.clone(),
                method: group.label.clone(),
                seeds: group.counted.len(),
                planned: group.planned,
                best: vec![false; cells.len()],
                cells,
            }
        };
        let mut rows: Vec<Row> = summary.groups.iter().map(row).collect();
        if choice.bold {
            mark(summary, &shown, &mut rows);
        }
        place_planned(summary, columns.len(), &mut rows);
        Ok(Self { columns, rows })
    }

    /// Whether methods stand in several blocks.
    pub fn has_blocks(&self) -> bool {
        self.rows.iter().any(|row| !row.block.is_empty())
    }

    /// How a column is headed, its unit included.
    pub fn heading(column: &Column) -> String {
        match (column.is_difference, column.unit) {
            (true, Unit::Percent) => format!("{}, points", column.name),
            (_, unit) => match unit.suffix() {
                Some(suffix) if !column.name.ends_with(suffix) => format!("{}, {suffix}", column.name),
                _ => column.name.clone(),
            },
        }
    }

    /// A cell as text, `plus` between mean and deviation; `None` where there is no value.
    pub fn text(column: &Column, cell: Option<Spread>, plus: &str) -> Option<String> {
        let spread = cell?;
        let mean = column.unit.text(spread.mean);
        let sign = if column.is_difference && spread.mean >= 0.0 { "+" } else { "" };
        let deviation = spread.deviation.map(|it| format!("{plus}{}", column.unit.text(it)));
        Some(format!("{sign}{mean}{}", deviation.unwrap_or_default()))
    }

    /// The number of runs behind a row, such as `3` or `2 of 3`.
    pub fn seeds(row: &Row) -> String {
        match row.planned {
            Some(planned) if planned != row.seeds => format!("{} of {planned}", row.seeds),
            _ => row.seeds.to_string(),
        }
    }

    /// The table for a terminal.
    pub fn plain(&self) -> String {
        let mut header = vec!["method".to_owned(), "seeds".to_owned()];
        header.extend(self.columns.iter().map(Self::heading));
        let mut rows = vec![header];
        for row in self.rows.iter().filter(|row| row.seeds > 0 || row.planned.is_some()) {
            let between = if row.block.is_empty() { "" } else { "  " };
            let mut cells = vec![format!("{}{between}{}", row.block, row.method), Self::seeds(row)];
            let cell = |(column, cell): (&Column, &Option<Spread>)| {
                Self::text(column, *cell, " ± ").unwrap_or_else(|| "-".to_owned())
            };
            cells.extend(self.columns.iter().zip(&row.cells).map(cell));
            rows.push(cells);
        }
        crate::render::table::layout(&rows)
    }
}

/// The groups of the baseline, and what it is called.
fn baseline(summary: &Summary, name: &str) -> Result<(String, Vec<usize>)> {
    let is_it = |group: &Group| group.label == name || group.method == name;
    let found: Vec<usize> = (0..summary.groups.len()).filter(|at| is_it(&summary.groups[*at])).collect();
    // A sweep's baseline may have no run yet.
    if !found.is_empty() || summary.planned.iter().any(|it| it.method == name) {
        return Ok((name.to_owned(), found));
    }
    let labels: BTreeSet<&str> = summary.groups.iter().map(|it| it.label.as_str()).collect();
    Err(bad_input(match nearest(name, labels.iter().copied()) {
        Some(right) => format!("--baseline {name}: there is no such method; did you mean {right:?}?"),
        None => {
            let all = labels.into_iter().collect::<Vec<_>>().join(", ");
            format!("--baseline {name}: there is no such method; the methods are {all}")
        }
    }))
}

/// Marks the best cell of each column among groups that can be compared.
fn mark(summary: &Summary, figures: &[Figure], rows: &mut [Row]) {
    let like: Vec<Option<String>> = summary
        .groups
        .iter()
        .map(|group| (!summary.is_joint(group) && !group.counted.is_empty()).then(|| summary.task_of(group)))
        .collect();
    for (column, figure) in figures.iter().enumerate() {
        let Some(better) = figure.better else { continue };
        for at in 0..rows.len() {
            let (Some(task), Some(own)) = (&like[at], rows[at].cells[column]) else { continue };
            let others = (0..rows.len()).filter(|other| like[*other].as_ref() == Some(task));
            let others: Vec<f64> = others.filter_map(|other| Some(rows[other].cells[column]?.mean)).collect();
            let best = match better {
                Better::Higher => others.iter().copied().fold(f64::MIN, f64::max),
                Better::Lower => others.iter().copied().fold(f64::MAX, f64::min),
            };
            // Values that are printed alike are marked alike.
            rows[at].best[column] = others.len() > 1 && figure.unit.text(own.mean) == figure.unit.text(best);
        }
    }
}

/// Adds rows for what a sweep has and nothing was done of, in the order of the sweep.
fn place_planned(summary: &Summary, columns: usize, rows: &mut Vec<Row>) {
    if summary.planned.is_empty() {
        return;
    }
    let mut placed = Vec::new();
    for planned in &summary.planned {
        let is_it = |row: &Row| row.block == planned.block && row.method.starts_with(&planned.method);
        let is_exact = |row: &Row| row.block == planned.block && row.method == planned.method;
        let own: Vec<Row> = match rows.iter().any(is_exact) {
            true => rows.iter().filter(|row| is_exact(row)).cloned().collect(),
            false => rows
                .iter()
                .filter(|row| is_it(row) && row.method[planned.method.len()..].starts_with(" ("))
                .cloned()
                .collect(),
        };
        if own.is_empty() {
            placed.push(Row {
                block: planned.block.clone(),
                method: planned.method.clone(),
                seeds: 0,
                planned: Some(planned.runs),
                cells: vec![None; columns],
                best: vec![false; columns],
            });
        }
        placed.extend(own);
    }
    *rows = placed;
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::render::latex;
    use crate::render::page::tests::write;
    use crate::results::summary::Orders;

    fn runs(place: &Path) -> Summary {
        let folders =
            [("lwf", 1, 5), ("lwf", 2, 7), ("fine-tune", 1, 6), ("fine-tune", 2, 6), ("joint", 1, 9)]
                .map(|(method, seed, right)| write(place, &format!("demo-{method}"), seed, right, 10));
        Summary::load(&folders, Orders::Apart).unwrap()
    }

    #[test]
    fn columns_and_metric_are_chosen_the_best_is_bold_and_joint_is_no_rival() {
        let place = tempfile::tempdir().unwrap();
        let summary = runs(place.path());
        let table = |columns: &[ColumnName], metric, bold| {
            let choice = Choice { columns: columns.to_vec(), metric, baseline: None, bold };
            latex::markdown(&Comparison::new(&summary, &choice).unwrap())
        };
        let text = table(&[ColumnName::Forgetting, ColumnName::Last], Metric::Accuracy, true);
        let head = "| method | seeds | forgetting, % | last accuracy, % |\n|---|---:|---:|---:|\n";
        // Both means are 60.0: what is shown alike is marked alike, and the upper bound is not.
        let rows = "| lwf | 2 | **30.0 ± 14.1** | **60.0 ± 14.1** |\n| fine-tune | 2 | **30.0 ± 0.0** | **60.0 ± 0.0** |\n\
                    | joint | 1 | 0.0 | 90.0 |\n";
        assert_eq!(text, format!("{head}{rows}"));
        assert!(!table(&[ColumnName::Last], Metric::Accuracy, false).contains("**"));
        let text = table(&[ColumnName::Tasks, ColumnName::Average], Metric::TaskAware, true);
        assert!(
            text.contains("task 1, task-aware accuracy, %")
                && text.contains("| joint | 1 | 100.0 | 100.0 | 100.0 |"),
            "{text}"
        );
        let text = table(&[ColumnName::Kept, ColumnName::Last], Metric::NearestMean, true);
        assert!(text.contains("| joint | 1 | 3.0 MiB | – |"), "{text}");
        let choice = Choice { columns: vec![ColumnName::Last], ..Choice::default() };
        let latex = latex::latex(&Comparison::new(&summary, &choice).unwrap());
        assert!(latex.contains("lwf & 2 & $\\mathbf{60.0 \\pm 14.1}$ \\\\"), "{latex}");
        assert!(latex.contains("last accuracy, \\% \\\\"), "{latex}");
    }

    #[test]
    fn differences_are_of_the_same_seed_and_carry_their_own_spread() {
        let place = tempfile::tempdir().unwrap();
        let summary = runs(place.path());
        let of = |baseline: &str| {
            let baseline = Some(baseline.to_owned());
            Comparison::new(
                &summary,
                &Choice { columns: vec![ColumnName::Last], baseline, ..Choice::default() },
            )
        };
        let table = of("fine-tune").unwrap();
        let cell = |row: usize| Comparison::text(&table.columns[1], table.rows[row].cells[1], " ± ");
        // 0.5 - 0.6 and 0.7 - 0.6.
        assert_eq!(cell(0).as_deref(), Some("+0.0 ± 14.1"));
        assert_eq!(cell(1), None, "a method is not compared with itself");
        assert_eq!(cell(2).as_deref(), Some("+30.0"), "one seed is done of both");
        assert!(table.plain().contains("last accuracy minus fine-tune, points"), "{}", table.plain());
        let message = of("fine-tun").unwrap_err().to_string();
        assert_eq!(message, "--baseline fine-tun: there is no such method; did you mean \"fine-tune\"?");
    }
}
