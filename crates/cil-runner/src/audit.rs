//! `audit`: whether a generator's images are worth replaying.
//!
//! One decision: it inverts a model exactly as a run of the preset would, measures, and keeps nothing but a picture.

use std::time::Instant;

use anyhow::{Context, Result};
use cil_backbone::{Frozen, Network};
use cil_random::Draw;
use cil_train::audit::{self as measure, Quality};
use cil_train::event::Event;

use crate::args::{Audit, Global};
use crate::commands::configuration_of;
use crate::engine::Engine;
use crate::estimate::sizes::Sizes;
use crate::estimate::workload::{Activity, Item, items};
use crate::failure::bad_input;
use crate::machine;
use crate::model::{self, Loaded};
use crate::output::Output;
use crate::pictures;
use crate::progress::Progress;
use crate::record::{Line, export};
use crate::run;
use crate::table;

/// Images of each class in the picture, and how many it is chosen from.
const PICTURED: (usize, usize) = (16, 1000);

/// Does what `audit` says.
pub fn audit(arguments: &Audit, global: &Global, output: &mut Output<'_>) -> Result<()> {
    let checked =
        configuration_of(&arguments.target, &arguments.set, global.seed, Some(global.data_dir.as_path()))?;
    if checked.config().recipe.replay.is_none() {
        return Err(bad_input(format!("{}: its recipe has no replay to audit", arguments.target)));
    }
    let engine = Engine::new(global)?;
    let plan = run::plan(&checked, &engine);
    let dataset = engine.keep(run::load(&checked, &global.data_dir)?)?;
    let own = model::card(&checked, &dataset);
    let model = |path: &std::path::Path| -> Result<Frozen> {
        let Loaded { snapshot, card, .. } = model::load(path, &engine)?;
        model::check_suits(path, &card, &own)?;
        Ok(Network::from_snapshot(snapshot, &engine.executors, 0, &engine.device)?.freeze()?)
    };
    let (teacher, other) = (model(&arguments.base_model)?, model(&arguments.other_model)?);
    let (train, test) = run::split(&checked, &dataset)?;
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
    let replay = measure::invert(&plan, &teacher, &mut shown).context("the inversion failed")?;
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
    let row = |name: &str, pair: &measure::Pair| {
        vec![name.to_owned(), number(pair.generated), number(pair.real), number(pair.generated / pair.real)]
    };
    let header = ["", "generated", "real", "ratio"].map(str::to_owned).to_vec();
    let shares: Vec<String> =
        quality.class_shares.iter().map(|share| format!("{:.0}", share * 100.0)).collect();
    let teacher = quality.teacher_accuracy.real;
    table::layout(&[
        header,
        row("batch-norm loss", &quality.statistics_loss),
        row("variance within a class", &quality.variance_within_class),
        row("the same by another seed's model", &quality.variance_within_class_by_other),
        row("teacher says the label", &quality.teacher_accuracy),
        row("another seed's model says the label", &quality.other_accuracy),
    ]) + &format!(
        "classes among generated images, %: {}\na student of generated images alone: {:.3} of real images right, \
         {:.3} of the teacher's share\n",
        shares.join(" "),
        quality.student_accuracy,
        quality.student_accuracy / teacher
    )
}
