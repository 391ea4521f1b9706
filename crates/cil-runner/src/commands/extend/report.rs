//! The report of an extension: accuracies on old and new classes, and the cost.

use anyhow::Result;
use cil_backbone::Frozen;
use cil_data::store::{Images, TestSet};
use cil_random::Draw;
use cil_train::metrics::accuracy;
use dfgr::Replay;
use serde::Serialize;

use super::{Sets, same_but_for_spelling};
use crate::cli::args::models::Method;
use crate::engine::Engine;
use crate::models::Opened;
use crate::models::measure::{Accuracies, accuracies, confusion, probabilities};
use crate::models::record::Measured;

/// Generated images that old and new answers are compared on, at a time and in all.
const GENERATED: (usize, u64) = (250, 4);
/// Share of a new class's images that is one old class to the model, from which on it is asked whether both are one.
const ALIKE: f64 = 0.8;
/// Mean probability of that class, likewise.
const SURE: f64 = 0.8;

/// The report, as JSON.
#[derive(Clone, Debug, Serialize)]
pub(in crate::commands) struct Report {
    /// The file that was written.
    pub(in crate::commands) model: String,
    /// Its bytes.
    pub(in crate::commands) bytes: usize,
    /// Bytes of the statistics in it.
    pub(in crate::commands) statistics_bytes: usize,
    /// How it was learned.
    pub(in crate::commands) method: &'static str,
    /// The old classes.
    pub(in crate::commands) old_classes: Vec<String>,
    /// The new ones.
    pub(in crate::commands) new_classes: Vec<String>,
    /// Images that the new ones were learned from.
    pub(in crate::commands) images: usize,
    /// Old classes: accuracies of the old model, which has no others.
    pub(in crate::commands) old_before: Option<Accuracies>,
    /// The same images now, when all classes compete.
    pub(in crate::commands) old_after: Option<Accuracies>,
    /// New classes on images that nothing learned from, when all classes compete.
    pub(in crate::commands) new: Option<Accuracies>,
    /// All given images.
    pub(in crate::commands) all: Option<Accuracies>,
    /// The images of the accuracies.
    pub(in crate::commands) measured_on: String,
    /// Share of generated images whose class is the old model's; null where no generator was trained.
    pub(in crate::commands) agreement_on_generated: Option<f64>,
    /// Share of held-out new images that are taken for an old class.
    pub(in crate::commands) new_taken_for_old: Option<f64>,
    /// Counts `[class][answer]` of the images that were measured on.
    pub(in crate::commands) confusion: Vec<Vec<u32>>,
    /// Warnings.
    pub(in crate::commands) warnings: Vec<String>,
    /// Seconds of the whole command.
    pub(in crate::commands) seconds: f64,
}

impl Report {
    /// The part that is kept in the model's record.
    pub(super) fn measured(&self) -> Measured {
        let accuracy = |part: &Option<Accuracies>| part.as_ref().map(|it| it.accuracy);
        Measured {
            on: self.measured_on.clone(),
            new: accuracy(&self.new),
            old: accuracy(&self.old_after),
            old_before: accuracy(&self.old_before),
            agreement_on_generated: self.agreement_on_generated,
        }
    }
}

/// The images that measure an extension.
pub(super) struct About<'a> {
    pub(super) opened: &'a Opened,
    pub(super) old: &'a Frozen,
    pub(super) classifier: &'a Frozen,
    pub(super) replay: Option<&'a Replay>,
    pub(super) sets: &'a Sets,
    pub(super) names: &'a [String],
    pub(super) method: Method,
    pub(super) seed: u64,
    pub(super) engine: &'a Engine,
}

/// A method in words.
pub(super) fn method_name(method: Method) -> &'static str {
    match method {
        Method::Statistics => "statistics",
        Method::Logistic => "logistic",
        Method::Head => "head",
        Method::Dfgr => "dfgr",
        Method::FineTune => "fine-tune",
    }
}

/// Measures what became of the classes.
pub(super) fn measure(about: &About<'_>) -> Result<Report> {
    let About { opened, old, classifier, sets, names, engine, .. } = about;
    let n_old = opened.class_names().len();
    let (normalisation, device) = (&opened.normalisation, &engine.device);
    let images = sets.given.as_ref().unwrap_or(&sets.held_out);
    let counted = match images.is_empty() {
        true => None,
        false => Some(confusion(classifier, images, normalisation, device)?),
    };
    let part = |classes: std::ops::Range<usize>| {
        let (counts, top5) = counted.as_ref()?;
        let mut counts = counts.clone();
        let outside = |class: &usize| !classes.contains(class);
        (0..names.len()).filter(outside).for_each(|class| counts.rows[class].fill(0));
        let measured = accuracies(&counts, &top5_of(top5, &classes), names);
        (measured.images > 0).then_some(measured)
    };
    let (old_after, new) = (part(0..n_old), part(n_old..names.len()));
    let old_before = match (&old_after, of_classes(images, n_old)?) {
        (Some(_), old_images) => {
            let (counts, top5) = confusion(old, &old_images, normalisation, device)?;
            Some(accuracies(&counts, &top5, opened.class_names()))
        }
        _ => None,
    };
    let new_taken_for_old = counted.as_ref().and_then(|(counts, _)| {
        let rows = &counts.rows[n_old..];
        let total: u32 = rows.iter().flatten().sum();
        let taken: u32 = rows.iter().map(|row| row[..n_old].iter().sum::<u32>()).sum();
        (total > 0).then(|| f64::from(taken) / f64::from(total))
    });
    debug_assert!(counted.as_ref().is_none_or(|(it, _)| accuracy(it, 0..names.len()).is_some()));
    let agreement_on_generated = about.replay.map(|replay| agreement(about, replay)).transpose()?;
    Ok(Report {
        model: String::new(),
        bytes: 0,
        statistics_bytes: 0,
        method: method_name(about.method),
        old_classes: opened.class_names().to_vec(),
        new_classes: names[n_old..].to_vec(),
        images: sets.new,
        all: if sets.given.is_some() { part(0..names.len()) } else { None },
        old_before,
        old_after,
        new,
        measured_on: match (&sets.given, images.is_empty(), about.replay.is_some()) {
            (Some(_), ..) => "the images of --eval",
            (None, false, true) => "new images that were held out; old classes on generated images alone",
            (None, false, false) => {
                "new images that were held out; old classes were not measured (give --eval)"
            }
            (None, true, true) => "generated images of the old classes alone",
            (None, true, false) => "nothing; give --eval",
        }
        .to_owned(),
        agreement_on_generated,
        new_taken_for_old,
        confusion: counted.map_or(Vec::new(), |(counts, _)| counts.rows),
        warnings: Vec::new(),
        seconds: 0.0,
    })
}

fn top5_of(top5: &[u32], classes: &std::ops::Range<usize>) -> Vec<u32> {
    top5.iter().enumerate().map(|(class, count)| if classes.contains(&class) { *count } else { 0 }).collect()
}

/// Images of the first `classes` classes.
fn of_classes(images: &Images, classes: usize) -> Result<Images> {
    let (height, width) = images.sides();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for at in (0..images.len()).filter(|at| images.label(*at) < classes) {
        pixels.extend_from_slice(&images.read(at)?);
        labels.push(images.label(at) as u16);
    }
    Ok(Images::new(height, width, pixels, labels)?)
}

/// Share of fresh generated images whose likeliest class both models agree on.
fn agreement(about: &About<'_>, replay: &Replay) -> Result<f64> {
    let (mut same, mut total) = (0, 0);
    for position in 0..GENERATED.1 {
        let draw = Draw { position, ..Draw::new(about.seed, "agreement") };
        let images = replay.sample(GENERATED.0, draw)?.images;
        let answers = |model: &Frozen| -> Result<Vec<u32>> {
            Ok(model.forward(&images)?.logits.argmax(1)?.to_vec1::<u32>()?)
        };
        let (before, after) = (answers(about.old)?, answers(about.classifier)?);
        same += before.iter().zip(&after).filter(|(before, after)| before == after).count();
        total += before.len();
    }
    Ok(same as f64 / f64::from(total as u32))
}

/// Sentences on new classes that the model seems to know by another name.
pub(super) fn alike(
    old: &Frozen,
    train: &Images,
    new: usize,
    names: &[String],
    opened: &Opened,
    engine: &Engine,
) -> Result<Vec<String>> {
    let known = opened.class_names();
    let mut warnings = Vec::new();
    for (class, name) in names.iter().enumerate().skip(known.len()) {
        if let Some(other) = same_but_for_spelling(name, known) {
            warnings.push(format!("{name:?} differs from the model's class {other:?} in its spelling alone"));
        }
        let images = one_class(train, new, class)?;
        let rows = probabilities(old, &TestSet::of(images, 1)?, &opened.normalisation, &engine.device)?;
        let mut counts = vec![(0usize, 0f64); known.len()];
        for row in &rows {
            let best = crate::models::measure::largest(row, 1)[0];
            counts[best].0 += 1;
            counts[best].1 += f64::from(row[best]);
        }
        let Some((most, (count, sum))) = counts.iter().enumerate().max_by_key(|(_, it)| it.0) else {
            continue;
        };
        let share = *count as f64 / rows.len().max(1) as f64;
        let sure = sum / (*count).max(1) as f64;
        if share >= ALIKE && sure >= SURE {
            warnings.push(format!(
                "the model predicts {:.0} % of the images of {name:?} as {:?}: they may be one class with two names",
                100.0 * share,
                known[most]
            ));
        }
    }
    Ok(warnings)
}

/// Up to a hundred of a class's images among the first `new`, with the label 0.
fn one_class(train: &Images, new: usize, class: usize) -> Result<Images> {
    let (height, width) = train.sides();
    let places: Vec<usize> = (0..new).filter(|at| train.label(*at) == class).take(100).collect();
    let mut pixels = Vec::new();
    for at in &places {
        pixels.extend_from_slice(&train.read(*at)?);
    }
    Ok(Images::new(height, width, pixels, vec![0; places.len()])?)
}

/// The report, for people.
pub(super) fn text(report: &Report) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut text = format!(
        "{}: {} classes, {} of them new, from {} images by {}\n",
        report.model,
        report.old_classes.len() + report.new_classes.len(),
        report.new_classes.len(),
        report.images,
        report.method,
    );
    if let (Some(before), Some(after)) = (&report.old_before, &report.old_after) {
        text.push_str(&format!(
            "old classes   {} before, {} now that all classes compete\n",
            percent(before.accuracy),
            percent(after.accuracy)
        ));
    }
    if let Some(new) = &report.new {
        let taken = report
            .new_taken_for_old
            .map_or(String::new(), |it| format!("; {} of them are predicted as an old class", percent(it)));
        text.push_str(&format!("new classes   {} of {} images{taken}\n", percent(new.accuracy), new.images));
    }
    if let Some(share) = report.agreement_on_generated {
        text.push_str(&format!("agreement     {} with the old model, on generated images\n", percent(share)));
    }
    text.push_str(&format!("measured on   {}\n", report.measured_on));
    text.push_str(&format!(
        "kept          {:.2} MB, {:.2} MB of them statistics of features; no image\n",
        report.bytes as f64 / 1e6,
        report.statistics_bytes as f64 / 1e6
    ));
    text.push_str(&format!("took          {:.0} s\n", report.seconds));
    text
}
