//! Tables for the terminal.
//!
//! A table is a string; columns are as wide as their widest cell, and numbers are aligned right.

use crate::results::result::RunResult;

/// Lays out `rows`, the first being the header; the first column stands left, the others right.
pub fn layout(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cell = |(column, cell): (usize, &String)| match column {
            0 => format!("{cell:<width$}", width = widths[column]),
            _ => format!("{cell:>width$}", width = widths[column]),
        };
        let line: Vec<String> = row.iter().enumerate().map(cell).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
        if index == 0 {
            let total = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
            text.push_str(&"-".repeat(total));
            text.push('\n');
        }
    }
    text
}

/// A table whose cells all stand left.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|it| it.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let pad = |row: &Vec<String>| -> Vec<String> {
        row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect()
    };
    layout(&rows.iter().map(pad).collect::<Vec<_>>())
}

/// One row per run: accuracy in percent after each task, then the summary.
pub fn comparison(results: &[(String, RunResult)]) -> String {
    let tasks = results.iter().map(|(_, result)| result.tasks.len()).max().unwrap_or(0);
    let mut header = vec!["accuracy, %".to_owned()];
    for task in 0..tasks {
        let seen = results.iter().find_map(|(_, result)| Some(result.tasks.get(task)?.classes_seen));
        header.push(format!("{} classes", seen.unwrap_or(0)));
    }
    header.extend(["average", "old", "new", "forgetting", "seconds"].map(str::to_owned));
    let mut rows = vec![header];
    for (name, result) in results {
        let mut row = vec![name.clone()];
        row.extend((0..tasks).map(|task| percent(result.tasks.get(task).map(|it| it.accuracy))));
        let last = result.tasks.last();
        row.push(percent(Some(result.average_incremental_accuracy)));
        row.push(percent(last.and_then(|it| it.old_accuracy)));
        row.push(percent(last.map(|it| it.new_accuracy)));
        row.push(percent(result.forgetting));
        row.push(format!("{:.0}", result.wall_seconds));
        rows.push(row);
    }
    layout(&rows)
}

/// All tasks of one run, counted from 1.
pub fn single(result: &RunResult) -> String {
    // The trained head's accuracy is of interest where something else answers.
    let has_head = result.tasks.iter().any(|task| task.accuracy_trained_head.is_some());
    let header = ["task", "classes", "accuracy", "old", "new", "nearest mean", "task-aware", "top 5"];
    let mut header = header.map(str::to_owned).to_vec();
    header.extend(has_head.then(|| "trained head".to_owned()));
    let mut rows = vec![header];
    for task in &result.tasks {
        let mut row = vec![
            (task.task + 1).to_string(),
            task.classes_seen.to_string(),
            percent(Some(task.accuracy)),
            percent(task.old_accuracy),
            percent(Some(task.new_accuracy)),
            percent(task.accuracy_nme),
            percent(Some(task.task_aware_accuracy)),
            percent(task.top5),
        ];
        row.extend(has_head.then(|| percent(task.accuracy_trained_head)));
        rows.push(row);
    }
    let forgetting =
        result.forgetting.map_or_else(String::new, |it| format!(", forgetting {:.1} %", it * 100.0));
    let exemplars = match result.exemplars_kept {
        Some(kept @ 1..) => format!(", among them {kept} exemplars"),
        _ => String::new(),
    };
    let summary = format!(
        "average incremental {} %, last {} %{forgetting}; {:.0} s, {:.0} images/s, {} bytes kept{exemplars}\n",
        percent(Some(result.average_incremental_accuracy)),
        percent(Some(result.last_accuracy)),
        result.wall_seconds,
        result.images_per_second,
        result.stored_bytes,
    );
    layout(&rows) + &summary
}

fn percent(fraction: Option<f64>) -> String {
    fraction.map_or_else(|| "-".to_owned(), |fraction| format!("{:.1}", fraction * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows =
            [["name", "a"], ["x", "100.0"], ["longer", "-"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(layout(&rows), "name        a\n-------------\nx       100.0\nlonger      -\n");
        assert_eq!(percent(Some(0.12345)), "12.3");
        assert_eq!(percent(None), "-");
    }
}
