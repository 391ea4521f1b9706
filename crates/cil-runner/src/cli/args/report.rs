//! The arguments of `report`, some of which `sweep report` shares.
//!
//! Each form of a report goes to a file of its own, and every form shows the same columns.

use std::path::PathBuf;

use clap::Args;

use crate::results::comparison::Choice;
use crate::results::figure::{ColumnName, DEFAULT_COLUMNS, Metric};

pub(super) const AFTER_HELP: &str = "\
Examples:
  cil-runner report runs/demo-lwf-s1
  cil-runner report runs/demo-lwf-s1 runs/demo-lwf-s2 runs/demo-joint-s1 --html report.html
  cil-runner report runs/demo-lwf-s1.partial --html now.html    a run in progress, up to its last event
  cil-runner report runs/* --csv numbers.csv --tensorboard logs && tensorboard --logdir logs
  cil-runner report runs/compare --baseline lwf --latex table.tex --figures figures
  cil-runner report runs/* --columns last,average,tasks --metric nearest-mean --markdown table.md
  cil-runner report runs --verify                               check all run folders below for damage

A folder of run folders means its runs; entries that are not runs are skipped and named. Runs on the same images whose
settings differ only in the seed are one group. Its mean and sample standard deviation are over its finished runs, each
seed once. Runs with different class orders are different groups, as in the report of a sweep.

The best value of a column is bold, among methods that learned the same classes from the same images; `joint`, which
trains on all images, is left out. A difference to the baseline is the mean over seeds of a run minus the baseline's run
of the same seed, with its standard deviation.

The page is one file and loads no other. Figures are self-contained SVG files, and PNG files drawn from them, four pixels
for each unit of the SVG. The CSV file has a row for each number.";

/// Arguments of `report`.
#[derive(Args, Debug)]
pub struct Report {
    /// Run folders, finished or in progress (NAME.partial), or folders of them
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// Only check that no file was changed since its run: events, models, settings, pictures
    #[arg(long, conflicts_with_all = ["html", "csv", "latex", "markdown", "figures", "tensorboard", "baseline"])]
    pub verify: bool,
    /// The method that others are compared with, seed by seed
    #[arg(long, value_name = "METHOD")]
    pub baseline: Option<String>,
    /// The content of the table.
    #[command(flatten)]
    pub table: Table,
    /// The files to write.
    #[command(flatten)]
    pub files: Files,
}

/// The content of a report's table.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Table")]
pub struct Table {
    /// Columns of the table, separated by commas
    #[arg(long, value_name = "COLUMNS", value_enum, value_delimiter = ',', default_values_t = DEFAULT_COLUMNS)]
    pub columns: Vec<ColumnName>,
    /// Which accuracy the table shows
    #[arg(long, value_name = "METRIC", value_enum, default_value_t = Metric::Accuracy)]
    pub metric: Metric,
    /// Do not set the best values in bold
    #[arg(long)]
    pub no_bold: bool,
}

impl Table {
    /// The choice with this baseline.
    pub fn choice(&self, baseline: Option<&str>) -> Choice {
        Choice {
            columns: self.columns.clone(),
            metric: self.metric,
            baseline: baseline.map(str::to_owned),
            bold: !self.no_bold,
        }
    }
}

/// Files that a report is written to.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Files")]
pub struct Files {
    /// Write a page with tables, charts and pictures
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,
    /// Write every number as one tidy table, the accuracy on each class included
    #[arg(long, value_name = "FILE.csv")]
    pub csv: Option<PathBuf>,
    /// Write the table as LaTeX
    #[arg(long, value_name = "FILE.tex")]
    pub latex: Option<PathBuf>,
    /// Write the table as Markdown
    #[arg(long, value_name = "FILE.md")]
    pub markdown: Option<PathBuf>,
    /// Write charts and confusion matrices for a paper, each as SVG and as PNG
    #[arg(long, value_name = "DIR")]
    pub figures: Option<PathBuf>,
    /// Write losses and accuracies as event files of TensorBoard, a folder for each run
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
}

impl Files {
    /// The files that were named, by the option that named them.
    pub fn named(&self) -> Vec<(&'static str, &PathBuf)> {
        let all = [
            ("--html", &self.html),
            ("--csv", &self.csv),
            ("--latex", &self.latex),
            ("--markdown", &self.markdown),
            ("--figures", &self.figures),
            ("--tensorboard", &self.tensorboard),
        ];
        all.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?))).collect()
    }
}
