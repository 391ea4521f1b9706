//! A model card: the README of a repository on the hub, written from what a model file says of itself.

use std::fmt::Write;

use super::Opened;
use super::hub::Address;
use super::record::{Answers, Measured, Task};

/// The card of a model in that repository, as Markdown with the fields that the hub reads.
pub fn card(opened: &Opened, address: &Address, license: Option<&str>) -> String {
    let mut text = String::from("---\npipeline_tag: image-classification\nlibrary_name: cil\n");
    if let Some(license) = license {
        writeln!(text, "license: {license}").ok();
    }
    text.push_str("tags:\n- image-classification\n- class-incremental-learning\n---\n");
    let (snapshot, card) = (&opened.model.snapshot, &opened.model.card);
    let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
    let parameters: usize = snapshot.parameters.iter().map(|(_, tensor)| tensor.elem_count()).sum();
    let answers = match opened.record.answers {
        Answers::Head => "the head that was trained",
        Answers::Statistics => "a linear discriminant made of class statistics that the file holds",
    };
    let side = opened.fit.side;
    write!(
        text,
        "\n# {}\n\nAn image classifier of {} classes, trained by class-incremental learning with `cil-runner`.\n\n\
         | | |\n|---|---|\n| network | {}, {parameters} parameters |\n| input | RGB, {side} x {side}, shorter side resized \
         to {} first, centre crop |\n| normalisation | mean {}, standard deviation {}, of pixels in [0, 1] |\n| classifier \
         | {answers} |\n| file | {:.2} MB, SHA-256 `{}` |\n\n## Classes\n\n{}\n",
        address.name,
        opened.class_names().len(),
        snapshot.backbone,
        opened.fit.shorter,
        list(&card.mean),
        list(&card.deviation),
        opened.bytes as f64 / 1e6,
        opened.sha256,
        escaped(&opened.class_names().join(", ")),
    )
    .ok();
    text.push_str(
        "\n## Where it comes from\n\nOne row a task. Accuracies were measured after the task, with all classes learned so far competing.\n\n| task | classes | images | method | seed | code | new classes | old classes | measured on \
         |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for (number, task) in opened.record.tasks.iter().enumerate() {
        text.push_str(&row(number + 1, task));
    }
    let named = Address { revision: None, ..address.clone() };
    write!(
        text,
        "\n## Use\n\n```sh\ncil-runner predict {named} photo.jpg\ncil-runner export {named} --onnx \
         model.onnx\ncil-runner extend {named} NEW_CLASSES --out extended.safetensors\n```\n"
    )
    .ok();
    text
}

fn row(number: usize, task: &Task) -> String {
    let percent =
        |share: Option<f64>| share.map_or("not measured".to_owned(), |it| format!("{:.1} %", 100.0 * it));
    let or_unknown = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    let unmeasured = Measured { on: "nothing".to_owned(), ..Measured::default() };
    let measured = task.measured.as_ref().unwrap_or(&unmeasured);
    format!(
        "| {number} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        escaped(&task.classes.join(", ")),
        or_unknown(task.images.map(|it| it.to_string())),
        escaped(&task.method),
        or_unknown(task.seed.map(|it| it.to_string())),
        or_unknown(task.code_version.clone()),
        percent(measured.new),
        match number {
            1 => "none".to_owned(),
            _ => percent(measured.old),
        },
        escaped(&measured.on),
    )
}

/// Text in a table of Markdown: a class may have any name.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' => escaped.extend(['\\', character]),
            it if it.is_control() => escaped.push(' '),
            it => escaped.push(it),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_a_table() {
        assert_eq!(escaped("a|b\nc_d"), "a\\|b c\\_d");
    }

    #[test]
    fn a_row_says_what_was_measured_and_what_was_not() {
        let measured = Measured { on: "held-out".to_owned(), new: Some(0.5), ..Measured::default() };
        let task =
            Task { measured: Some(measured), ..Task::of_classes(vec!["cat".to_owned()], "extend, logistic") };
        assert_eq!(
            row(2, &task),
            "| 2 | cat | unknown | extend, logistic | unknown | unknown | 50.0 % | not measured | held-out |\n"
        );
    }
}
