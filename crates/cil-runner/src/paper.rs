//! A table to paste into a paper, as Markdown and as LaTeX.
//!
//! One decision: both are made from the same cells, and what stands in a name is escaped for each.

use crate::figure::{Figure, summary};
use crate::summary::{Group, Summary};

/// A row for each group that has a whole run: its name, its seeds and its figures; `plus` stands between mean and spread.
fn rows(runs: &Summary, plus: &str) -> Vec<(String, Vec<String>)> {
    let row = |group: &Group| {
        let cell = |figure: &Figure| {
            let Some(spread) = runs.spread(group, figure) else { return "--".to_owned() };
            let mean = figure.unit.text(spread.mean);
            spread.deviation.map_or(mean.clone(), |it| format!("{mean}{plus}{}", figure.unit.text(it)))
        };
        let figures = runs.figures(group);
        let cells = std::iter::once(group.counted.len().to_string()).chain(figures.iter().map(cell));
        (group.label.clone(), cells.collect())
    };
    runs.groups.iter().filter(|group| !group.counted.is_empty()).map(row).collect()
}

/// Accuracies in percent, as a Markdown table.
pub fn markdown(runs: &Summary) -> String {
    let figures = summary(runs.tasks());
    let mut text = "| method | seeds |".to_owned();
    figures.iter().for_each(|figure| text.push_str(&format!(" {} |", figure.name)));
    text.push_str(&format!("\n|---|{}\n", "---:|".repeat(figures.len() + 1)));
    for (label, cells) in rows(runs, " ± ") {
        text.push_str(&format!("| {} | {} |\n", escape_markdown(&label), cells.join(" | ")));
    }
    text
}

/// Accuracies in percent, as a LaTeX table of the package `booktabs`.
pub fn latex(runs: &Summary) -> String {
    let figures = summary(runs.tasks());
    let columns = "r".repeat(figures.len() + 1);
    let mut text = format!("% needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{l{columns}}}\n\\toprule\n");
    let names: Vec<&str> = figures.iter().map(|figure| figure.name.as_str()).collect();
    text.push_str(&format!("method & seeds & {} \\\\\n\\midrule\n", names.join(" & ")));
    for (label, cells) in rows(runs, " \\pm ") {
        let cells: Vec<String> =
            cells.into_iter().map(|cell| format!("${cell}$").replace("$--$", "--")).collect();
        text.push_str(&format!("{} & {} \\\\\n", escape_latex(&label), cells.join(" & ")));
    }
    text.push_str("\\bottomrule\n\\end{tabular}\n");
    text
}

/// Text that LaTeX prints as it stands.
pub fn escape_latex(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            plain if plain.is_control() => escaped.push(' '),
            plain => escaped.push(plain),
        }
    }
    escaped
}

/// Text that a Markdown table prints as it stands.
pub fn escape_markdown(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '<' | '>' | '#' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            plain if plain.is_control() => escaped.push(' '),
            plain => escaped.push(plain),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_a_format_is_escaped() {
        assert_eq!(
            escape_latex("a_b & 5% of {x}^2 \\ ~#$\n"),
            "a\\_b \\& 5\\% of \\{x\\}\\textasciicircum{}2 \\textbackslash{} \\textasciitilde{}\\#\\$ "
        );
        assert_eq!(escape_markdown("a|b_c <i>`*\n"), "a\\|b\\_c \\<i\\>\\`\\* ");
    }
}
