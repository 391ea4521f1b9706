//! The schedule of a run is what a learner does.

use crate::support::{data, data_free, plan, replay, run, training};
use cil_backbone::HeadKind;
use cil_data::exemplars::Budget;
use cil_train::event::Event;
use cil_train::methods::bic::bias_correction;
use cil_train::methods::{fine_tune, joint, lwf, podnet};
use cil_train::recipe::correction::BiasCorrectionSpec;
use cil_train::recipe::{
    AdversarialReplaySpec, DiscriminantSpec, LogisticSpec, NewReplaySpec, PhaseSpec, Recipe, Rows,
    SyntheticNorm, TermSpec, Trained, Training,
};
use cil_train::schedule::{Activity, ImageCounts};
use cil_train::term::{ClassBalanced, Rotation};

/// Both teachers, replay, exemplars that are drawn as often as new images, and a balanced head.
fn everything() -> Recipe {
    let mut recipe = data_free(SyntheticNorm::Running);
    recipe.exemplars = Budget::Total(9);
    let terms = recipe.increment.terms.clone();
    recipe.balance = Some(PhaseSpec { trained: Trained::Head, terms, training: training(2) });
    recipe.new_teacher.as_mut().unwrap().exemplars = true;
    (recipe.random_exemplars, recipe.oversample) = (true, true);
    recipe
}

fn unshared() -> Recipe {
    let mut recipe = data_free(SyntheticNorm::Separate);
    let inversion = replay(SyntheticNorm::Separate).inversion;
    recipe.new_replay = Some(NewReplaySpec { inversion, images_per_class: 20 });
    let terms = vec![TermSpec::ClassBalanced(ClassBalanced { weight: 1.0, rows: Rows::All })];
    recipe.balance = Some(PhaseSpec { trained: Trained::Head, terms, training: training(1) });
    recipe
}

fn corrected() -> Recipe {
    let recipe = bias_correction(training(2), training(2), Budget::Total(16), training(3));
    let held_out = |it| BiasCorrectionSpec { held_out: 0.5, ..it };
    Recipe { bias_correction: recipe.bias_correction.map(held_out), ..recipe }
}

/// Classes are appended to a frozen head: a generator is trained, and no student.
fn appended() -> Recipe {
    let spec = LogisticSpec { generated: 60, penalty: 0.003, given_up: 0.2, stages: Vec::new() };
    let replay = Some(replay(SyntheticNorm::Joint));
    Recipe { head: HeadKind::Linear, logistic: Some(spec), replay, ..fine_tune(training(2), training(1)) }
}

/// Adversarial images in place of generated ones.
fn adversarial() -> Recipe {
    let spec = AdversarialReplaySpec { images: 3, step: 1.0, iterations: 1, noise: 0.5, batch: 5 };
    let discriminant = Some(DiscriminantSpec::pooled(0.01));
    Recipe { adversarial: Some(spec), discriminant, ..lwf(training(2), training(2)) }
}

/// Turned images, which count as passes and not as images of an epoch.
fn rotations() -> Recipe {
    let mut recipe = lwf(training(2), training(2));
    recipe.base.terms.push(Rotation { weight: 1.0 }.into());
    recipe.increment.terms.push(Rotation { weight: 1.0 }.into());
    recipe
}

#[test]
fn turned_images_are_passes() {
    let counts = ImageCounts { train: &[10, 10, 10, 10], test: &[0; 4] };
    let passes = |recipe| -> Vec<f64> {
        let schedule = plan(recipe, &[2, 2], 1).schedule(counts, false);
        schedule
            .iter()
            .filter(|it| it.activity != Activity::Memory && it.activity != Activity::Evaluation)
            .map(|it| it.passes.train)
            .collect()
    };
    assert_eq!(passes(lwf(training(2), training(2))), [20.0, 20.0]);
    assert_eq!(passes(rotations()), [80.0, 80.0]);
}

/// The work that a learner reports: task, activity, units and the mean number of images of a unit.
fn reported(events: &[Event]) -> Vec<(usize, Activity, usize, f64)> {
    let mut found: Vec<(usize, Activity, usize, f64)> = Vec::new();
    for event in events {
        let Some((task, activity)) = event.activity() else { continue };
        let images = match event {
            Event::Progress { images, .. } => *images as f64,
            _ => 0.0,
        };
        match found.last_mut() {
            Some(last) if (last.0, last.1) == (task, activity) => {
                last.2 += 1;
                last.3 += images;
            }
            _ => found.push((task, activity, 1, images)),
        }
    }
    for it in &mut found {
        it.3 /= it.2 as f64;
    }
    found
}

#[test]
fn phases_units_and_images_are_those_of_a_learner() {
    let (train, test) = data(5);
    let increments = [2, 2, 1];
    let whole = |epochs| Training { batch: 10, drop_last: true, ..training(epochs) };
    let recipes = [
        ("fine-tune", fine_tune(training(2), training(1))),
        ("without a last batch", fine_tune(whole(1), whole(2))),
        ("joint", joint(training(1), training(1))),
        ("podnet", podnet(training(1), training(1), training(2), 3)),
        ("data-free", data_free(SyntheticNorm::Joint)),
        ("everything", everything()),
        ("unshared", unshared()),
        ("corrected", corrected()),
        ("appended", appended()),
        ("adversarial", adversarial()),
        ("rotations", rotations()),
    ];
    let count = |class: usize| train.samples(class..class + 1).len();
    let images: Vec<usize> = (0..5).map(count).collect();
    let shown: Vec<usize> = (0..5).map(|class| test.len(class + 1) - test.len(class)).collect();
    let mut seen = Vec::new();
    for (name, recipe) in recipes {
        let increments = if name == "unshared" { &[2, 3][..] } else { &increments };
        let plan = plan(recipe, increments, 1);
        let schedule = plan.schedule(ImageCounts { train: &images, test: &shown }, false);
        let (events, _) = run(plan, &train);
        // The learner never holds the evaluation images.
        let scheduled: Vec<_> = schedule
            .iter()
            .filter(|it| it.activity != Activity::Evaluation)
            .map(|it| (it.task, it.activity, it.units, it.images))
            .collect();
        assert_eq!(scheduled, reported(&events), "{name}");
        seen.extend(scheduled.iter().map(|it| it.1));
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 8, "every activity but the evaluation was compared: {seen:?}");
}
