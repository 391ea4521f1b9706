//! `audit --oracle`: where the missing points of a run are.
//!
//! It reads real images of all of a run's classes, so it is of a run that is over. What it finds is kept in the run's
//! folder, where `report` reads it; nothing else of the folder changes but the list of digests.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::Device;
use cil_backbone::Network;
use cil_engine::Parameters;
use cil_train::audit::Work;
use cil_train::audit::findings::{Accuracy, Findings, Task};
use cil_train::audit::oracle::oracle as measure;

use crate::cli::args::Global;
use crate::cli::failure::{bad_input, sentence};
use crate::cli::output::Output;
use crate::engine::Engine;
use crate::folder::contents::{MODEL, STATISTICS};
use crate::folder::integrity;
use crate::models::model::{self, Loaded};
use crate::render::progress::{Progress, note};
use crate::render::table;
use crate::results::found::Found;
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
    let mut progress = match global.json {
        true => Progress::silent(),
        false => Progress::on_standard_error("audit"),
    };
    let mut report = |work: Work| show(&mut progress, work);
    let findings = measure(&plan, &classifier, kept.as_ref(), &train, &test, &mut report)?;
    progress.finish();
    let printed = text(&findings);
    let found = Found::new(findings);
    // A run of somebody else, or on a disk that is only read, is audited all the same.
    if let Err(error) = found.write(folder) {
        note(&format!("{}; what was found is shown and not kept", sentence(&error)));
    }
    if output.json {
        return output.value(&found);
    }
    output.text(&printed)
}

/// Shows how far the work is.
fn show(progress: &mut Progress, work: Work) {
    match work {
        Work::Images { classes, of } => {
            progress.stage("images of all classes", (classes, of), &format!("class {classes} of {of}"));
        }
        Work::Probe { steps, most, unsettled } => {
            let so_far = format!("step {steps} of at most {most}, {unsettled} classes still change");
            progress.stage("linear probe", (steps, most), &so_far);
        }
    }
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

fn text(found: &Findings) -> String {
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
    rows.extend(found.tasks.iter().enumerate().map(|(at, task)| row(format!("task {}", at + 1), task)));
    rows.push(row("all".to_owned(), &found.all));
    let covariance = found.covariance_drift.map_or_else(
        || "the run keeps no statistics that could have drifted\n".to_owned(),
        |drift| format!("the kept covariance differs from the true one by {drift:.3} of it\n"),
    );
    let probe = match found.probe.unsettled {
        0 => String::new(),
        classes => format!(
            "the probe ended after {} steps, when {classes} of its classes still changed: it may be better than \
             shown\n",
            found.probe.steps
        ),
    };
    table::layout(&rows) + &covariance + &probe + READ
}

/// How the table is read.
const READ: &str = "true statistics and the probe saw training images of all classes, which no run may; means' drift is in \
                    deviations within classes\n";

#[cfg(test)]
mod tests {
    use cil_train::audit::findings::Probe;

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
        let probe = Probe { steps: 20, unsettled: 3 };
        let found = Findings { tasks: vec![task.clone()], all: task, covariance_drift: Some(0.125), probe };
        let printed = text(&found);
        let line = printed.lines().find(|line| line.starts_with("task 1")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            cells,
            ["task", "1", "50", "50.1", "70.2", "51.3", "-", "52.4", "71.5", "60.0", "80.0", "0.250"]
        );
        assert!(printed.contains("by 0.125 of it"), "{printed}");
        assert!(printed.contains("after 20 steps, when 3 of its classes still changed"), "{printed}");
        let settled = Findings { probe: Probe { steps: 6, unsettled: 0 }, ..found };
        assert!(!text(&settled).contains("still changed"));
    }
}
