//! One tidy CSV file: a row for each number of each run.
//!
//! Numbers are those of `result.json`, written so that they are read back to the same bits; fractions stay fractions. A
//! value without a task or a class has an empty cell there. The accuracy on a class is counted from the confusion that
//! the run recorded.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::results::result::evaluations;
use crate::results::summary::Summary;

/// The columns.
pub const COLUMNS: [&str; 10] =
    ["run", "method", "dataset", "split", "class_order", "seed", "task", "class", "metric", "value"];

/// Keys of a result that describe the run and are no measure.
const FACTS: [&str; 7] =
    ["format", "seed", "class_order", "increments", "exemplars_per_class", "tasks", "accuracy_matrix"];

/// The file's text: the runs of `summary` in their order.
///
/// # Errors
/// If a row cannot be written.
pub fn csv(summary: &Summary) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for (run, result) in summary.runs.iter().zip(&summary.results) {
        let config = run.checked.config();
        let (seed, order) = (config.seed.to_string(), config.class_order.to_string());
        let split = config.increments.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
        let mut write = |task: &str, class: &str, metric: &str, value: &str| {
            let of_run = [run.name.as_str(), &config.method, config.dataset.name(), &split, &order, &seed];
            writer.write_record(of_run.into_iter().chain([task, class, metric, value]))
        };
        for (task, metric, value) in numbers(result) {
            write(&task, "", &metric, &value)?;
        }
        let names = run.class_names();
        for (task, evaluation) in evaluations(&run.lines)?.iter().enumerate() {
            for (class, row) in evaluation.classifier.rows.iter().enumerate() {
                let images: u64 = row.iter().map(|count| u64::from(*count)).sum();
                if images > 0 {
                    let value = serde_json::json!(f64::from(row[class]) / images as f64).to_string();
                    let name = names.get(class).map_or("", String::as_str);
                    write(&task.to_string(), name, "accuracy_of_class", &value)?;
                }
            }
        }
    }
    let bytes = writer.into_inner().context("cannot write a table")?;
    String::from_utf8(bytes).context("a table is text")
}

/// Task, metric and value of every number in a result.
fn numbers(result: &Value) -> Vec<(String, String, String)> {
    let mut rows = Vec::new();
    let tasks = result["tasks"].as_array().map_or(&[][..], Vec::as_slice);
    for (task, of_task) in tasks.iter().enumerate() {
        let mut push = |metric: String, value: &Value| {
            if value.is_number() {
                rows.push((task.to_string(), metric, value.to_string()));
            }
        };
        for (metric, value) in
            of_task.as_object().into_iter().flatten().filter(|(metric, _)| *metric != "task")
        {
            push(metric.clone(), value);
        }
        for (earlier, value) in result["accuracy_matrix"][task].as_array().into_iter().flatten().enumerate() {
            push(format!("accuracy_of_task_{earlier}"), value);
        }
    }
    for (metric, value) in result.as_object().into_iter().flatten() {
        if !FACTS.contains(&metric.as_str()) {
            whole(metric.clone(), value, &mut rows);
        }
    }
    rows
}

/// Numbers of the whole run; those in an inner table are named `table.key`.
fn whole(metric: String, value: &Value, rows: &mut Vec<(String, String, String)>) {
    match value {
        Value::Number(number) => rows.push((String::new(), metric, number.to_string())),
        Value::Object(inner) => {
            inner.iter().for_each(|(key, value)| whole(format!("{metric}.{key}"), value, rows));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_row() {
        let result = serde_json::json!({
            "format": 1, "seed": 3, "method": "lwf", "increments": [2, 2], "forgetting": null, "last_accuracy": 0.1,
            "tasks": [{ "task": 0, "accuracy": 0.5, "old_accuracy": null }], "accuracy_matrix": [[0.5]],
            "phase_seconds": { "student": 2.5 },
        });
        let rows: Vec<String> = numbers(&result)
            .into_iter()
            .map(|(task, metric, value)| format!("{task},{metric},{value}"))
            .collect();
        assert_eq!(
            rows,
            [
                "0,accuracy,0.5",
                "0,accuracy_of_task_0,0.5",
                ",last_accuracy,0.1",
                ",phase_seconds.student,2.5"
            ]
        );
        assert!(numbers(&Value::Null).is_empty());
    }
}
