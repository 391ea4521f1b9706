//! A table for a paper, as Markdown and as LaTeX.
//!
//! Both are made from the same cells ([`Comparison`]), and names are escaped for each.

use crate::results::comparison::{Column, Comparison, Row};
use crate::results::statistics::Spread;

/// The table as Markdown.
pub fn markdown(table: &Comparison) -> String {
    let blocks = table.has_blocks();
    let mut text = if blocks { "| split and order " } else { "" }.to_owned();
    text.push_str("| method | seeds |");
    table
        .columns
        .iter()
        .for_each(|it| text.push_str(&format!(" {} |", escape_markdown(&Comparison::heading(it)))));
    let block = if blocks { "|---" } else { "" };
    text.push_str(&format!("\n{block}|---|{}\n", "---:|".repeat(table.columns.len() + 1)));
    for row in shown(table) {
        if blocks {
            text.push_str(&format!("| {} ", escape_markdown(&row.block)));
        }
        let cell =
            |column: &Column, cell: Option<Spread>, best: bool| match Comparison::text(column, cell, " ± ") {
                Some(text) if best => format!("**{text}**"),
                Some(text) => text,
                None => "–".to_owned(),
            };
        let cells = cells(table, row, cell).join(" | ");
        text.push_str(&format!(
            "| {} | {} | {cells} |\n",
            escape_markdown(&row.method),
            Comparison::seeds(row)
        ));
    }
    text
}

/// The table as LaTeX, with the package `booktabs`.
pub fn latex(table: &Comparison) -> String {
    let blocks = table.has_blocks();
    let columns = "r".repeat(table.columns.len() + 1);
    let first = if blocks { "ll" } else { "l" };
    let mut text =
        format!("% needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{{first}{columns}}}\n\\toprule\n");
    let names: Vec<String> = table.columns.iter().map(|it| escape_latex(&Comparison::heading(it))).collect();
    if blocks {
        text.push_str("split and order & ");
    }
    text.push_str(&format!("method & seeds & {} \\\\\n\\midrule\n", names.join(" & ")));
    for row in shown(table) {
        if blocks {
            text.push_str(&format!("{} & ", escape_latex(&row.block)));
        }
        let cell = |column: &Column, cell: Option<Spread>, best: bool| {
            let Some(text) = Comparison::text(column, cell, " \\pm ") else { return "--".to_owned() };
            let text = text.replace(" KiB", "\\,\\mathrm{KiB}").replace(" MiB", "\\,\\mathrm{MiB}");
            if best { format!("$\\mathbf{{{text}}}$") } else { format!("${text}$") }
        };
        let cells = cells(table, row, cell).join(" & ");
        text.push_str(&format!(
            "{} & {} & {cells} \\\\\n",
            escape_latex(&row.method),
            Comparison::seeds(row)
        ));
    }
    text.push_str("\\bottomrule\n\\end{tabular}\n");
    text
}

/// Rows that say something: whole runs, or runs that a sweep waits for.
fn shown(table: &Comparison) -> impl Iterator<Item = &Row> {
    table.rows.iter().filter(|row| row.seeds > 0 || row.planned.is_some())
}

fn cells(
    table: &Comparison,
    row: &Row,
    text: impl Fn(&Column, Option<Spread>, bool) -> String,
) -> Vec<String> {
    let all = table.columns.iter().zip(row.cells.iter().zip(&row.best));
    all.map(|(column, (cell, best))| text(column, *cell, *best)).collect()
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
