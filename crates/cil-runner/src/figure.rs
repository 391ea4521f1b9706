//! Figures: numbers of a result, by their place in it.
//!
//! One decision: a figure is named by its place in `result.json` (a JSON pointer), so what is shown anywhere is looked up
//! there, and a reader or a test can look it up as well.

use serde_json::Value;

use crate::statistics::Spread;

/// In what a figure is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A fraction, in percent.
    Percent,
    /// Seconds.
    Seconds,
    /// Bytes, in MiB.
    Mebibytes,
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
            Self::Rate => format!("{value:.0}"),
        }
    }

    /// Its name where figures are marked with it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Percent => "percent",
            Self::Seconds => "seconds",
            Self::Mebibytes => "mebibytes",
            Self::Rate => "images-per-second",
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
}

impl Figure {
    /// A figure of that name and place.
    pub fn new(name: impl Into<String>, at: impl Into<String>, unit: Unit) -> Self {
        Self { name: name.into(), at: at.into(), unit }
    }

    /// The figure in a result; `None` where the result has none.
    pub fn of(&self, result: &Value) -> Option<f64> {
        result.pointer(&self.at)?.as_f64()
    }
}

/// A spread as it is shown: mean, and deviation where there is one.
pub fn text(spread: &Spread, unit: Unit) -> String {
    let mean = unit.text(spread.mean);
    spread.deviation.map_or_else(|| mean.clone(), |deviation| format!("{mean} ± {}", unit.text(deviation)))
}

/// The figures that sum up a run of this many tasks.
pub fn summary(tasks: usize) -> Vec<Figure> {
    let last = tasks.saturating_sub(1);
    let percent = |name: &str, at: String| Figure::new(name, at, Unit::Percent);
    vec![
        percent("last accuracy", "/last_accuracy".into()),
        percent("average incremental", "/average_incremental_accuracy".into()),
        percent("old", format!("/tasks/{last}/old_accuracy")),
        percent("new", format!("/tasks/{last}/new_accuracy")),
        percent("forgetting", "/forgetting".into()),
    ]
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
    }
}
