//! `audit --oracle`: where the missing points of a run are.
//!
//! It reads real images of all of a run's classes, so it is of a run that is over and writes nothing into its folder.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::Device;
use cil_backbone::Network;
use cil_engine::Parameters;
use cil_train::audit::oracle::{Accuracy, Oracle, Task, oracle as measure};

use crate::cli::args::Global;
use crate::cli::failure::bad_input;
use crate::cli::output::Output;
use crate::engine::Engine;
use crate::folder::contents::{MODEL, STATISTICS};
use crate::folder::integrity;
use crate::models::model::{self, Loaded};
use crate::render::table;
use crate::results::recorded::Recorded;
use crate::setup;

/// Does what `audit --oracle RUN` says.
///
/// # Errors
/// If the run is not over, has no model, or its images are not there.
pub(super) fn oracle(folder: &Path, global: &Global, output: &mut Output<'_>) -> Result<()> {
    if let Some(seed) = global.seed {
        return Err(bad_input(format!(
            "--seed {seed}: a run that is audited has its seed; leave --seed out"
        )));
    }
    let run = Recorded::load(folder)?;
    if !run.finished {
        return Err(bad_input(format!("{}: the run is not over; resume it first", folder.display())));
    }
    let engine = Engine::new(global)?;
    let plan = setup::plan(&run.checked, &engine);
    let dataset = engine.keep(setup::load(&run.checked, &global.data_dir)?)?;
    let path = folder.join(MODEL);
    let Loaded { snapshot, card, .. } = model::load(&path, &engine)?;
    model::check_suits(&path, &card, &model::card(&run.checked, &dataset))?;
    let classifier = Network::from_snapshot(snapshot, &engine.executors, 0, &engine.device)?.freeze()?;
    let kept = kept(&folder.join(STATISTICS))?;
    let (train, test) = setup::split(&run.checked, &dataset)?;
    let found = measure(&plan, &classifier, kept.as_ref(), &train, &test)?;
    if output.json {
        return output.value(&found);
    }
    output.text(&text(&found))
}

/// The statistics that a run kept, if it has a file of them.
fn kept(path: &Path) -> Result<Option<Parameters>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes =
        std::fs::read(path).map_err(|error| bad_input(format!("cannot read {}: {error}", path.display())))?;
    integrity::hold_file(path, &bytes)?;
    let values = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .with_context(|| format!("{} holds no statistics", path.display()))?;
    Ok(Some(Parameters::from_tensors(values.into_iter().collect())))
}

fn text(oracle: &Oracle) -> String {
    let percent = |value: f64| format!("{:.1}", value * 100.0);
    let both = |it: &Accuracy| [percent(it.all), percent(it.own_task)];
    let header = [
        "accuracy, %",
        "classes",
        "run",
        "own task",
        "true means",
        "true covariance",
        "true statistics",
        "own task",
        "probe",
        "own task",
        "means' drift",
    ];
    let row = |name: String, task: &Task| {
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let mut row = vec![name, task.classes.to_string()];
        row.extend(both(&task.run));
        row.push(or_none(task.true_means.map(|it| percent(it.all))));
        row.push(or_none(task.true_covariance.map(|it| percent(it.all))));
        row.extend(both(&task.true_statistics));
        row.extend(both(&task.probe));
        row.push(or_none(task.mean_drift.map(|it| format!("{it:.3}"))));
        row
    };
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(oracle.tasks.iter().enumerate().map(|(at, task)| row(format!("task {}", at + 1), task)));
    rows.push(row("all".to_owned(), &oracle.all));
    let covariance = oracle.covariance_drift.map_or_else(
        || "the run keeps no statistics that could have drifted\n".to_owned(),
        |drift| format!("the kept covariance differs from the true one by {drift:.3} of it\n"),
    );
    table::layout(&rows) + &covariance + READ
}

/// How the table is read.
const READ: &str = "true statistics and the probe saw training images of all classes, which no run may; means' drift is in \
                    deviations within classes\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_stands_in_its_column() {
        let of = |all, own_task| Accuracy { all, own_task };
        let task = Task {
            classes: 50,
            run: of(0.501, 0.702),
            true_means: Some(of(0.513, 0.7)),
            true_covariance: None,
            true_statistics: of(0.524, 0.715),
            probe: of(0.6, 0.8),
            mean_drift: Some(0.25),
        };
        let oracle = Oracle { tasks: vec![task.clone()], all: task, covariance_drift: Some(0.125) };
        let printed = text(&oracle);
        let line = printed.lines().find(|line| line.starts_with("task 1")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            cells,
            ["task", "1", "50", "50.1", "70.2", "51.3", "-", "52.4", "71.5", "60.0", "80.0", "0.250"]
        );
        assert!(printed.contains("by 0.125 of it"), "{printed}");
    }
}
