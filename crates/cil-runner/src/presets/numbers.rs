//! Published and measured accuracies, from one data file that presets, README and docs/results.md quote.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::method::MethodName;

const TEXT: &str = include_str!("numbers.toml");

/// The accuracies of one method in one protocol, by one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Number {
    /// The protocol.
    pub protocol: String,
    /// The method's whole name.
    pub method: String,
    /// Who computed it.
    pub kind: Kind,
    /// Average incremental accuracy in percent, with its deviation where there are several runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<String>,
    /// Accuracy after the last task in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Keys that were changed from the preset, as `--set` takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// Who printed it, or which runs it is of.
    pub source: String,
}

/// Who computed a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Others, in a publication or its code.
    Published,
    /// This program.
    Measured,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    number: Vec<Number>,
}

static NUMBERS: LazyLock<Vec<Number>> =
    LazyLock::new(|| toml::from_str::<File>(TEXT).map(|it| it.number).unwrap_or_default());

/// All numbers.
pub fn all() -> &'static [Number] {
    &NUMBERS
}

/// The numbers of a method in a protocol.
pub fn of(protocol: &str, method: &MethodName) -> Vec<&'static Number> {
    let method = method.to_string();
    all().iter().filter(|it| it.protocol == protocol && it.method == method).collect()
}

impl Number {
    /// The number in a line.
    pub fn text(&self) -> String {
        let average = self.average.as_ref().map(|it| format!("average incremental accuracy {it} %"));
        let last = self.last.as_ref().map(|it| format!("last {it} %"));
        let numbers = [average, last].into_iter().flatten().collect::<Vec<_>>().join(", ");
        let kind = match self.kind {
            Kind::Published => "published",
            Kind::Measured => "measured",
        };
        let set = match self.set.join(" --set ") {
            set if set.is_empty() => set,
            set => format!(" with --set {set}"),
        };
        format!("{kind}{set}: {numbers} ({})", self.source)
    }
}

/// The expected accuracy of a preset, in a line.
pub(super) fn expected(protocol: &str, method: &MethodName) -> String {
    let found = of(protocol, method);
    let mut sentences: Vec<String> = found.iter().map(|it| it.text()).collect();
    if !found.iter().any(|it| it.kind == Kind::Published) {
        sentences.push("no published number of this variant".to_owned());
    }
    if !found.iter().any(|it| it.kind == Kind::Measured) {
        sentences.push("not run here yet".to_owned());
    }
    sentences.join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::{find, protocols};
    use super::*;

    const RESULTS: &str = include_str!("../../../../docs/results.md");
    const README: &str = include_str!("../../../../README.md");

    fn measured(protocol: &str) -> impl Iterator<Item = &'static Number> {
        all().iter().filter(move |it| it.protocol == protocol && it.kind == Kind::Measured)
    }

    /// The cells of a table's rows, without emphasis.
    fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
        text.lines()
            .filter(|line| line.starts_with("| "))
            .map(|line| line.split('|').map(|cell| cell.trim_matches([' ', '*'])).collect())
    }

    #[test]
    fn every_number_is_of_a_preset_that_can_be_run() {
        assert!(all().len() > 40, "{} numbers", all().len());
        for number in all() {
            let preset = find(&format!("{}-{}", number.protocol, number.method)).unwrap();
            assert_eq!(preset.config.method, number.method, "the whole name");
            assert!(protocols().iter().any(|it| it.name == number.protocol));
            assert!(number.average.is_some() || number.last.is_some());
            preset.config.with_changes(&number.set, "numbers.toml").unwrap().check().unwrap();
        }
    }

    #[test]
    fn measured_numbers_are_those_of_the_tables() {
        for number in all().iter().filter(|it| it.kind == Kind::Measured) {
            let cells: Vec<&str> =
                [&number.average, &number.last].into_iter().flatten().map(String::as_str).collect();
            let is_row = |row: &Vec<&str>| cells.iter().all(|cell| row.iter().any(|it| it.contains(cell)));
            assert!(rows(RESULTS).any(|row| is_row(&row)), "docs/results.md has no row of {number:?}");
        }
    }

    #[test]
    fn the_tables_of_the_readme_are_those_of_the_data_file() {
        let mut compared = 0;
        for row in rows(README) {
            let has = |number: &Number| {
                let is_there = |it: &Option<String>| it.as_ref().is_some_and(|it| row.contains(&it.as_str()));
                is_there(&number.average) && is_there(&number.last)
            };
            let is_small = row.iter().filter(|cell| cell.contains(" ± ")).count() > 2;
            if is_small {
                let method = row[1].trim_matches(['`', '*']);
                assert!(measured("cifar100-10c").any(|it| it.method == method && has(it)), "{row:?}");
                compared += 1;
            } else if row[1].starts_with('`') && row.len() == 6 {
                let mut large = measured("cifar100-b50-t5").chain(measured("cifar100-20c"));
                assert!(large.any(has), "{row:?}");
                compared += 1;
            }
        }
        assert!(compared >= 12, "{compared} rows");
    }
}
