//! `audit`: whether a generator's images are worth replaying, or where the missing points of a run are.
//!
//! It inverts a model exactly as a run of the preset would, measures, and keeps nothing but a picture.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use cil_backbone::{Frozen, Network};
use cil_random::Draw;
use cil_train::audit::{self as measure, Quality};
use cil_train::event::Event;

use crate::cli::args::{Audit, Global};
use crate::cli::failure::bad_input;
use crate::cli::output::Output;
use crate::config::sizes::Sizes;
use crate::engine::Engine;
use crate::engine::machine;
use crate::estimate::workload::{Activity, Item, items};
use crate::folder::files::export;
use crate::folder::log::Line;
use crate::models::model::{self, Loaded};
use crate::presets::target::{configuration_of, named};
use crate::render::pictures;
use crate::render::progress::Progress;
use crate::render::table;
use crate::setup;

mod oracle;

/// Images of each class in the picture, and how many it is chosen from.
const PICTURED: (usize, usize) = (16, 1000);

/// Does what `audit` says.
pub fn audit(arguments: &Audit, global: &Global, output: &mut Output<'_>) -> Result<()> {
    if arguments.oracle {
        return oracle::oracle(Path::new(&arguments.target.target), global, output);
    }
    let (Some(base_model), Some(other_model)) = (&arguments.base_model, &arguments.other_model) else {
        return Err(bad_input("audit needs --base-model and --other-model, or --oracle and a run folder"));
    };
    let target = named(&arguments.target)?;
    let checked = configuration_of(&target, &arguments.set, global.seed, Some(global.data_dir.as_path()))?;
    if checked.config().recipe.replay.is_none() {
        return Err(bad_input(format!("{}: its recipe has no replay to audit", target)));
    }
    let engine = Engine::new(global)?;
    let plan = setup::plan(&checked, &engine);
    let dataset = engine.keep(setup::load(&checked, &global.data_dir)?)?;
    let own = model::card(&checked, &dataset);
    let model = |path: &Path| -> Result<Frozen> {
        let Loaded { snapshot, card, .. } = model::load(path, &engine)?;
        model::check_suits(path, &card, &own)?;
        Ok(Network::from_snapshot(snapshot, &engine.executors, 0, &engine.device)?.freeze()?)
    };
    let (teacher, other) = (model(base_model)?, model(other_model)?);
    let (train, test) = setup::split(&checked, &dataset)?;
    let student = plan.recipe.increment.training.clone();
    let mut progress = match global.json {
        true => Progress::silent(),
        false => Progress::on_standard_error("audit"),
    };
    let is_audited =
        |it: &Item| it.task == 1 && [Activity::Inversion, Activity::Student].contains(&it.activity);
    let all = items(&checked, &Sizes::of_images(&train, &test), true)?;
    progress.expect(all.into_iter().filter(is_audited).collect());
    let started = Instant::now();
    let mut shown = |event: &Event| {
        let (seconds, peak_memory_bytes) = (started.elapsed().as_secs_f64(), machine::peak_memory_bytes());
        progress.show(&Line { seconds, peak_memory_bytes, event: event.clone() });
        Ok(())
    };
    let replay =
        measure::invert(&plan, &teacher, Some(&train), &mut shown).context("the inversion failed")?;
    if let Some(path) = &arguments.picture {
        let images = replay.sample(PICTURED.1, Draw::new(plan.seed, "picture"))?;
        let rows = pictures::by_class(&images.labels.to_vec()?, teacher.classes(), PICTURED.0);
        export(path, &pictures::grid(&images.images, &rows, &checked.config().normalisation)?)?;
    }
    let quality = measure::audit(&plan, &replay, &other, &student, &train, &test, &mut shown)?;
    progress.finish();
    if output.json {
        return output.value(&quality);
    }
    output.text(&text(&quality))
}

fn text(quality: &Quality) -> String {
    let number = |value: f64| format!("{value:.3}");
    let ratio = |pair: &measure::Pair| pair.generated / pair.real;
    // What is wanted, and whether it is reached; of some nothing is asked.
    let row = |name: &str, pair: &measure::Pair, asked: Option<(String, bool)>| {
        let (wanted, verdict) = match asked {
            Some((wanted, true)) => (wanted, "reached"),
            Some((wanted, false)) => (wanted, "not reached"),
            None => (String::new(), ""),
        };
        let numbers = [pair.generated, pair.real, ratio(pair)].map(number);
        std::iter::once(name.to_owned())
            .chain(numbers)
            .chain([wanted, verdict.to_owned()])
            .collect::<Vec<_>>()
    };
    let header = ["", "generated", "real", "ratio", "wanted", ""].map(str::to_owned).to_vec();
    let shares: Vec<String> =
        quality.class_shares.iter().map(|share| format!("{:.0}", share * 100.0)).collect();
    let teacher = quality.teacher_accuracy.real;
    let least = CHANCE / quality.class_shares.len().max(1) as f64;
    let statistics = (format!("ratio at most {STATISTICS}"), ratio(&quality.statistics_loss) <= STATISTICS);
    let variance = (format!("ratio at least {VARIANCE}"), ratio(&quality.variance_within_class) >= VARIANCE);
    let label = (format!("generated at least {least:.3}"), quality.other_accuracy.generated >= least);
    table::layout(&[
        header,
        row("batch-norm loss", &quality.statistics_loss, Some(statistics)),
        row("variance within a class", &quality.variance_within_class, Some(variance)),
        row("the same by another seed's model", &quality.variance_within_class_by_other, None),
        row("teacher says the label", &quality.teacher_accuracy, None),
        row("another seed's model says the label", &quality.other_accuracy, Some(label)),
    ]) + &format!(
        "classes among generated images, %: {}\na student of generated images alone: {:.3} of real images right, \
         {:.3} of the teacher's share\n",
        shares.join(" "),
        quality.student_accuracy,
        quality.student_accuracy / teacher
    )
}

/// Of images that are worth replaying (docs/results.md): the batch-norm loss is at most so many times that of real
/// images, the variance within a class at least this share of theirs, and the accuracy by another model so many times
/// chance.
const STATISTICS: f64 = 3.0;
const VARIANCE: f64 = 0.33;
const CHANCE: f64 = 3.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_has_its_verdict() {
        let pair = |generated, real| measure::Pair { generated, real };
        let quality = Quality {
            statistics_loss: pair(4.53, 10.26),
            variance_within_class: pair(7.45, 10.26),
            variance_within_class_by_other: pair(8.47, 12.37),
            teacher_accuracy: pair(1.0, 0.877),
            other_accuracy: pair(0.75, 0.87),
            class_shares: vec![1.0 / 6.0; 6],
            student_accuracy: 0.497,
        };
        let of = |quality: &Quality, name: &str| {
            text(quality)
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert!(of(&quality, "batch-norm").ends_with("ratio at most 3 reached"), "{}", text(&quality));
        // Three times chance among six classes is a half.
        assert!(
            of(&quality, "another").contains("generated at least 0.500")
                && of(&quality, "another").ends_with("0.500 reached")
        );
        let poor =
            Quality { variance_within_class: pair(1.0, 10.0), other_accuracy: pair(0.49, 0.9), ..quality };
        assert!(
            of(&poor, "variance").ends_with("not reached") && of(&poor, "another").ends_with("not reached")
        );
    }
}
