//! `extend`: new classes for a model whose old images are not there.
//!
//! The old file is only read. A recipe (`models::recipes`) continues from the model as a run would from its
//! own; the report is measured on images that were not used for training.

pub(super) mod report;

use std::time::Instant;

use anyhow::{Context, Result};
use cil_backbone::Snapshot;
use cil_backbone::file::{Model, ModelCard};
use cil_data::augment::Preparation;
use cil_data::dataset::Dataset;
use cil_data::exemplars::{Budget, Exemplars};
use cil_data::folder::Folder;
use cil_data::split::Increments;
use cil_data::store::{Images, TrainSet};
use cil_engine::Parameters;
use cil_train::learner::{Learner, Plan};
use cil_train::recipe::Recipe;

use crate::cli::args::Global;
use crate::cli::args::models::{Extend, Method};
use crate::cli::failure::{bad_input, nearest};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::commands::model_page;
use crate::engine::Engine;
use crate::folder::files::{export, write_atomic};
use crate::models::attempt::{Attempt, Ended, Settings, learned};
use crate::models::record::{Answers, Before, Record, Task};
use crate::models::{Opened, folders, recipes};
use crate::render::progress::Progress;

/// Share of the new images that is held out to measure on, where nothing else is given for it.
const HELD_OUT: f64 = 0.1;

/// Images that an extension works with, by the extended model's class numbers.
struct Sets {
    /// New images, and behind them those of old classes that are still there.
    train: Images,
    /// How many of them are new.
    new: usize,
    /// SHA-256 over the new ones, and over those of old classes if there are any.
    digests: Vec<String>,
    /// Images of new classes to measure on.
    held_out: Images,
    /// Images that were given to measure on, of old and new classes.
    given: Option<Images>,
}

/// Does what `extend` says.
///
/// # Errors
/// If the model or a folder cannot be read, a class is known already, a setting is wrong, or the training fails.
pub(super) fn extend(
    arguments: &Extend,
    global: &Global,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    let started = Instant::now();
    let read = (super::READ, arguments.model.as_path());
    super::check_out("--out", &arguments.out, &[read])?;
    if let Some(report) = &arguments.report {
        let written = ("the model file that is written", arguments.out.as_path());
        super::check_out("--report", report, &[read, written])?;
    }
    let engine = Engine::new(global)?;
    let mut progress = match global.json {
        true => Progress::silent(),
        false => Progress::on_standard_error("extend"),
    };
    let opened = Opened::read(&arguments.model, &arguments.about, &engine)?;
    let folder = new_classes(arguments, &opened)?;
    let names: Vec<String> = opened.class_names().iter().chain(&folder.classes).cloned().collect();
    let sets = sets(arguments, &opened, &folder, &names, &engine, &progress)?;
    let (method, recipe) = recipe(arguments, &opened, &sets)?;
    let recipe = recipes::changed(recipe, &arguments.set, &opened.model.snapshot.backbone)?;
    check_features(&opened, &recipe)?;
    let old = opened.classifier(&engine)?;
    let alike = report::alike(&old, &sets.train, sets.new, &names, &opened, &engine)?;
    alike.iter().for_each(|sentence| progress.say(sentence));

    let plan = plan(&opened, &folder, &recipe, global, &engine)?;
    let seed = plan.seed;
    let train = TrainSet::after(sets.train.clone(), names.len(), opened.record.images() as u64)?;
    let statistics = match (&recipe.logistic, &recipe.discriminant) {
        (Some(_), _) => opened.record.logistic.as_ref().map(|_| &opened.model.attached),
        (None, Some(_)) => opened.record.discriminant.as_ref().map(|_| &opened.model.attached),
        (None, None) => None,
    };
    let begun = || {
        let mut learner = Learner::new(plan.clone()).map_err(|error| bad_input(format!("{error:#}")))?;
        let exemplars = kept(&train, opened.class_names().len());
        learner.adopt(opened.model.snapshot.clone(), statistics, exemplars)?;
        Ok(learner)
    };
    let settings = Settings {
        images: sets.digests.clone(),
        model: Some(opened.sha256.clone()),
        ..Settings::new(&plan, opened.fit.side, &engine)
    };
    let attempt = Attempt::new(&arguments.out, &settings, &plan, &train);
    let Ended { learner, lines } = attempt.run(begun, &mut progress, interrupt)?;
    let (trained, classifier) = learned(&learner)?;

    let about = report::About {
        opened: &opened,
        old: &old,
        classifier: &classifier,
        replay: learner.replay(),
        sets: &sets,
        names: &names,
        method,
        seed,
        engine: &engine,
    };
    // The model is written even if it cannot be measured.
    let report = progress.during("measuring", || report::measure(&about));
    let task = Task {
        classes: folder.classes.clone(),
        images: Some(sets.new),
        data_digest: sets.digests.first().cloned(),
        method: format!("extend, {}", report::method_name(method)),
        recipe: Some(toml::to_string(&recipe).context("the recipe is not TOML")?),
        seed: Some(seed),
        code_version: Some(env!("CIL_CODE_VERSION").to_owned()),
        from: Some(Before { file: opened.path.display().to_string(), sha256: opened.sha256.clone() }),
        measured: report.as_ref().ok().map(report::Report::measured),
    };
    let attached = learner.kept_statistics()?.unwrap_or_default();
    let model = extended(&opened, trained.snapshot().clone(), attached, task, &recipe)?;
    let bytes = model.to_bytes()?;
    write_atomic(&arguments.out, &bytes)?;
    attempt.remove()?;
    let mut report = report?;
    report.seconds = started.elapsed().as_secs_f64();
    (report.model, report.bytes) = (arguments.out.display().to_string(), bytes.len());
    report.statistics_bytes = super::attached_bytes(&model);
    report.warnings = alike;
    if let Some(path) = &arguments.report {
        let page = model_page::of_extension(&report, learner.replay(), &opened, &lines)?;
        export(path, page.as_bytes())?;
    }
    progress.finish();
    if output.json {
        return output.value(&report);
    }
    output.text(&report::text(&report))
}

/// The method that is asked for, or the usual one, and its recipe.
fn recipe(arguments: &Extend, opened: &Opened, sets: &Sets) -> Result<(Method, Recipe)> {
    let beginning = recipes::Beginning {
        head: opened.model.snapshot.head.kind,
        backbone: opened.model.snapshot.backbone.clone(),
        statistics: opened.record.discriminant.clone(),
        appended: opened.record.logistic.clone(),
        images: sets.new,
        side: opened.fit.side,
    };
    let method = arguments.method.unwrap_or_else(|| recipes::usual(arguments.effort, &beginning));
    if method != Method::Logistic && !opened.model.snapshot.head.stages.is_empty() {
        return Err(bad_input(format!(
            "{}: the head reads several stages of the network, from which the network cannot be trained further; use --method logistic, or leave --method out",
            opened.path.display()
        )));
    }
    let mut recipe = recipes::extension(method, &beginning);
    let exemplars = sets.train.len() - sets.new;
    if exemplars > 0 {
        recipe.exemplars = Budget::PerClass(exemplars.div_ceil(opened.class_names().len()));
    }
    Ok((method, recipe))
}

/// Refuses a recipe whose statistics are of other features than those that the file keeps statistics of.
fn check_features(opened: &Opened, recipe: &Recipe) -> Result<()> {
    let other = |key: &str, kept: &dyn std::fmt::Debug| {
        Err(bad_input(format!(
            "{}: the statistics in the file are of features by {key} {kept:?}, and the recipe has another value; leave {key} \
             out of --set",
            opened.path.display()
        )))
    };
    if let (Some(kept), Some(asked)) = (&opened.record.logistic, &recipe.logistic)
        && kept.stages != asked.stages
    {
        return other("logistic.stages", &kept.stages);
    }
    if let (Some(kept), Some(asked)) = (&opened.record.discriminant, &recipe.discriminant) {
        if kept.stages != asked.stages {
            return other("discriminant.stages", &kept.stages);
        }
        if kept.random_features != asked.random_features {
            return other("discriminant.random-features", &kept.random_features);
        }
    }
    Ok(())
}

/// The model that is written: the old one's record with a task more.
fn extended(
    opened: &Opened,
    trained: Snapshot,
    attached: Parameters,
    task: Task,
    recipe: &Recipe,
) -> Result<Model> {
    let answers = match recipe.discriminant {
        Some(_) => Answers::Statistics,
        None => Answers::Head,
    };
    let class_names = opened.class_names().iter().chain(&task.classes).cloned().collect();
    let mut tasks = opened.record.tasks.clone();
    tasks.push(task);
    let (discriminant, logistic) = (recipe.discriminant.clone(), recipe.logistic.clone());
    let record = Record { tasks, discriminant, logistic, answers };
    let card = ModelCard { class_names, trained_on: None, ..opened.model.card.clone() };
    Ok(Model {
        resize: Some(opened.fit.shorter),
        record: Some(serde_json::to_value(&record)?),
        attached,
        ..Model::new(trained, card)
    })
}

/// The folder of new classes, some of whose images are held out to measure on.
fn new_classes(arguments: &Extend, opened: &Opened) -> Result<Folder> {
    let folder = folders::scan(&arguments.folder)?;
    let known: Vec<&String> =
        folder.classes.iter().filter(|class| opened.class_names().contains(class)).collect();
    if !known.is_empty() {
        let known = known.into_iter().cloned().collect::<Vec<_>>().join(", ");
        return Err(bad_input(format!(
            "{}: the model has {known} already; move these folders away, or rename them if they are other classes (give more images of an existing class with --exemplars)",
            folder.root.display()
        )));
    }
    let keep_all = !folder.test.is_empty() || arguments.eval.is_some() || arguments.no_held_out;
    Ok(if keep_all { folder } else { folder.held_out(HELD_OUT) })
}

fn sets(
    arguments: &Extend,
    opened: &Opened,
    folder: &Folder,
    names: &[String],
    engine: &Engine,
    progress: &Progress,
) -> Result<Sets> {
    let (fit, skip) = (opened.fit, arguments.skip_broken);
    let n_old = opened.class_names().len();
    let dataset = folders::decode(folder, fit, skip, progress)?;
    let numbers: Vec<u16> = (n_old..names.len()).map(|number| number as u16).collect();
    let mut train = dataset.train().relabelled(&numbers)?;
    let (new, mut digests) = (train.len(), vec![dataset.digests().train.clone()]);
    if let Some(path) = &arguments.exemplars {
        let mut exemplars = folders::scan(path)?;
        let numbers = folders::known(&exemplars, opened.class_names())?;
        exemplars.test.clear();
        let kept = folders::decode(&exemplars, fit, skip, progress)?;
        digests.push(kept.digests().train.clone());
        train = train.joined(&kept.train().relabelled(&numbers)?)?;
    }
    let given = match &arguments.eval {
        Some(path) => Some(folders::to_evaluate(path, names, fit, skip, progress)?),
        None => None,
    };
    let held_out = dataset.test().relabelled(&numbers)?;
    let all = engine.keep(Dataset::of_images("extension", names.to_vec(), train, held_out)?)?;
    Ok(Sets { train: all.train().clone(), new, digests, held_out: all.test().clone(), given })
}

fn plan(opened: &Opened, folder: &Folder, recipe: &Recipe, global: &Global, engine: &Engine) -> Result<Plan> {
    let mut sizes = opened.model.snapshot.head.blocks.clone();
    sizes.push(folder.classes.len());
    let classes = sizes.iter().sum();
    Ok(Plan {
        recipe: recipe.clone(),
        backbone: opened.model.snapshot.backbone.clone(),
        increments: Increments::new(sizes, classes)?,
        preparation: Preparation {
            augmentation: recipes::augmentation(opened.fit.side),
            normalisation: opened.normalisation.clone(),
        },
        seed: global.seed.unwrap_or(super::train::SEED),
        executors: engine.executors.clone(),
        device: engine.device.clone(),
    })
}

/// The images of old classes in a set.
fn kept(train: &TrainSet, n_old: usize) -> Exemplars {
    let mut exemplars = Exemplars::default();
    for class in 0..n_old {
        let samples = train.samples(class..class + 1);
        if !samples.is_empty() {
            exemplars.remember(class, samples);
        }
    }
    exemplars
}

/// A name of the model that differs from `class` in its spelling alone.
pub(super) fn same_but_for_spelling<'a>(class: &str, names: &'a [String]) -> Option<&'a String> {
    let plain = |name: &str| -> String {
        name.chars().filter(|it| it.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let near = nearest(class, names.iter().map(String::as_str));
    names.iter().find(|name| plain(name) == plain(class) && near.is_some())
}
