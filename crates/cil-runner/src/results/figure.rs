//! Figures: numbers of a result, by their place in it.
//!
//! A figure is named by its place in `result.json` (a JSON pointer), so every output looks it up there, and so can a
//! reader or a test. A `*` in a place stands for every entry of a list, and the figure for their mean.

use clap::ValueEnum;
use serde_json::Value;

use crate::results::statistics::Spread;

/// In what a figure is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A fraction, in percent.
    Percent,
    /// Seconds.
    Seconds,
    /// Bytes, in MiB.
    Mebibytes,
    /// Bytes, in the unit that fits.
    Bytes,
    /// Images per second.
    Rate,
}

impl Unit {
    /// The number alone, as it is shown.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{:.1}", value * 100.0),
            Self::Seconds => format!("{value:.1}"),
            Self::Mebibytes => format!("{:.1}", value / f64::from(1 << 20)),
            Self::Bytes => match value {
                it if it < 1024.0 => format!("{it:.0} B"),
                it if it < f64::from(1 << 20) => format!("{:.1} KiB", it / 1024.0),
                it => format!("{:.1} MiB", it / f64::from(1 << 20)),
            },
            Self::Rate => format!("{value:.0}"),
        }
    }

    /// Its name where figures are marked with it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Percent => "percent",
            Self::Seconds => "seconds",
            Self::Mebibytes => "mebibytes",
            Self::Bytes => "bytes",
            Self::Rate => "images-per-second",
        }
    }
}

/// The unit in a column's heading.
impl Unit {
    /// `None` where every cell has it.
    pub fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Percent => Some("%"),
            Self::Seconds => Some("seconds"),
            Self::Mebibytes => Some("MiB"),
            Self::Rate => Some("images/s"),
            Self::Bytes => None,
        }
    }
}

/// Which values of a figure are the good ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Large ones.
    Higher,
    /// Small ones.
    Lower,
}

/// The columns that a table can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColumnName {
    /// Accuracy after the last task, over all classes.
    Last,
    /// Mean accuracy over all tasks, the first included.
    Average,
    /// After the last task, on the classes of earlier tasks.
    Old,
    /// After the last task, on its own classes.
    New,
    /// Chaudhry's forgetting.
    Forgetting,
    /// Accuracy after each task, a column each.
    Tasks,
    /// Seconds of a run.
    Seconds,
    /// Peak memory.
    Memory,
    /// Bytes kept between tasks.
    Kept,
}

/// The default columns of tables and figures.
pub const DEFAULT_COLUMNS: [ColumnName; 6] = [
    ColumnName::Last,
    ColumnName::Average,
    ColumnName::Old,
    ColumnName::New,
    ColumnName::Forgetting,
    ColumnName::Seconds,
];

/// The accuracy in the columns last, average and tasks, and in charts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    /// Of the run's classifier, all classes seen competing.
    Accuracy,
    /// Of the nearest class mean.
    NearestMean,
    /// Of the trained head, where a discriminant is the classifier.
    TrainedHead,
    /// When only the classes of an image's own task compete.
    TaskAware,
    /// The true class is among the five likeliest.
    Top5,
}

impl Metric {
    /// The key in a task of `result.json`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::NearestMean => "accuracy_nme",
            Self::TrainedHead => "accuracy_trained_head",
            Self::TaskAware => "task_aware_accuracy",
            Self::Top5 => "top5",
        }
    }

    /// As axes and columns are headed.
    pub fn title(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::NearestMean => "accuracy by nearest mean",
            Self::TrainedHead => "accuracy of the trained head",
            Self::TaskAware => "task-aware accuracy",
            Self::Top5 => "top-5 accuracy",
        }
    }
}

/// One figure: what it is called and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// As a column is headed.
    pub name: String,
    /// JSON pointer into `result.json`.
    pub at: String,
    /// In what it is shown.
    pub unit: Unit,
    /// Which values are the good ones; `None` where that is nobody's question.
    pub better: Option<Better>,
    /// Whether methods are compared by it, seed by seed.
    pub is_compared: bool,
}

impl Figure {
    /// A figure of that name and place, which says nothing of good and bad.
    pub fn new(name: impl Into<String>, at: impl Into<String>, unit: Unit) -> Self {
        Self { name: name.into(), at: at.into(), unit, better: None, is_compared: false }
    }

    /// The figure in a result; `None` where the result has none.
    pub fn of(&self, result: &Value) -> Option<f64> {
        let Some((list, rest)) = self.at.split_once("/*") else { return result.pointer(&self.at)?.as_f64() };
        let items = result.pointer(list)?.as_array()?;
        let values: Option<Vec<f64>> = items.iter().map(|item| item.pointer(rest)?.as_f64()).collect();
        Some(Spread::of(&values?)?.mean)
    }

    /// The figure of the same name among those of a run with another number of tasks.
    pub fn same_in<'a>(&self, figures: &'a [Self]) -> Option<&'a Self> {
        figures.iter().find(|it| it.name == self.name)
    }
}

/// A spread as it is shown: mean, and deviation where there is one.
pub fn text(spread: &Spread, unit: Unit) -> String {
    let mean = unit.text(spread.mean);
    spread.deviation.map_or_else(|| mean.clone(), |deviation| format!("{mean} ± {}", unit.text(deviation)))
}

/// The figures that sum up a run of this many tasks.
pub fn summary(tasks: usize) -> Vec<Figure> {
    columns(&DEFAULT_COLUMNS[..5], Metric::Accuracy, tasks)
}

/// The figures of these columns for a run of this many tasks.
pub fn columns(names: &[ColumnName], metric: Metric, tasks: usize) -> Vec<Figure> {
    let last = tasks.saturating_sub(1);
    let key = metric.key();
    let plain = metric == Metric::Accuracy;
    let named = |name: &str| match plain {
        true => name.to_owned(),
        false => format!("{name}, {}", metric.title()),
    };
    let percent = |name: String, at: String, better: Better| Figure {
        better: Some(better),
        ..Figure::new(name, at, Unit::Percent)
    };
    let mut figures = Vec::new();
    for name in names {
        match name {
            ColumnName::Last => {
                let at = if plain { "/last_accuracy".into() } else { format!("/tasks/{last}/{key}") };
                let name = if plain { "last accuracy".to_owned() } else { named("last") };
                figures.push(Figure { is_compared: true, ..percent(name, at, Better::Higher) });
            }
            ColumnName::Average => {
                let at =
                    if plain { "/average_incremental_accuracy".into() } else { format!("/tasks/*/{key}") };
                let it = percent(named("average incremental"), at, Better::Higher);
                figures.push(Figure { is_compared: true, ..it });
            }
            ColumnName::Old => {
                figures.push(percent("old".into(), format!("/tasks/{last}/old_accuracy"), Better::Higher));
            }
            ColumnName::New => {
                figures.push(percent("new".into(), format!("/tasks/{last}/new_accuracy"), Better::Higher));
            }
            ColumnName::Forgetting => {
                figures.push(percent("forgetting".into(), "/forgetting".into(), Better::Lower));
            }
            ColumnName::Tasks => figures.extend((0..tasks).map(|task| {
                percent(named(&format!("task {}", task + 1)), format!("/tasks/{task}/{key}"), Better::Higher)
            })),
            ColumnName::Seconds => figures.push(Figure::new("seconds", "/wall_seconds", Unit::Seconds)),
            ColumnName::Memory => {
                figures.push(Figure::new("peak memory", "/peak_memory_bytes", Unit::Mebibytes));
            }
            ColumnName::Kept => {
                figures.push(Figure::new("kept between tasks", "/stored_bytes", Unit::Bytes));
            }
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_shown_in_its_unit() {
        let spread = Spread::of(&[0.702, 0.697, 0.713]).unwrap();
        assert_eq!(text(&spread, Unit::Percent), "70.4 ± 0.8");
        assert_eq!(text(&Spread::of(&[0.5]).unwrap(), Unit::Percent), "50.0");
        assert_eq!(text(&Spread::of(&[12.25, 12.75]).unwrap(), Unit::Seconds), "12.5 ± 0.4");
    }

    #[test]
    fn a_figure_is_where_it_says() {
        let result = serde_json::json!({ "tasks": [{ "old_accuracy": null, "new_accuracy": 0.25 }] });
        let figures = summary(1);
        assert_eq!(figures[3].of(&result), Some(0.25));
        assert_eq!(figures[2].of(&result), None);
        assert_eq!(Unit::Mebibytes.text(f64::from(3 << 19)), "1.5");
        let bytes = [512.0, 37_888.0, 3_145_728.0].map(|it| Unit::Bytes.text(it));
        assert_eq!(bytes, ["512 B", "37.0 KiB", "3.0 MiB"], "no kept statistics are rounded to nothing");
    }

    #[test]
    fn columns_are_those_of_the_metric() {
        let result = serde_json::json!({
            "last_accuracy": 0.5, "average_incremental_accuracy": 0.7, "forgetting": 0.1,
            "tasks": [{ "accuracy": 0.9, "top5": 1.0, "accuracy_nme": null }, { "accuracy": 0.5, "top5": 0.6, "accuracy_nme": 0.2 }],
        });
        let of = |metric| -> Vec<Option<f64>> {
            let names = [ColumnName::Last, ColumnName::Average, ColumnName::Tasks];
            columns(&names, metric, 2).iter().map(|it| it.of(&result)).collect()
        };
        assert_eq!(of(Metric::Accuracy), [Some(0.5), Some(0.7), Some(0.9), Some(0.5)]);
        assert_eq!(of(Metric::Top5), [Some(0.6), Some(0.8), Some(1.0), Some(0.6)]);
        assert_eq!(
            of(Metric::NearestMean),
            [Some(0.2), None, None, Some(0.2)],
            "a mean over what is not all is none"
        );
    }
}
