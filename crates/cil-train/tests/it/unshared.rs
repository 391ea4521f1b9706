//! New images that are not shared: a student learns new classes from images of a second generator alone.

use crate::support::{data, data_free, plan, replay, run, training, values};
use cil_backbone::Architecture;
use cil_data::dataset::{Dataset, Evaluate};
use cil_data::exemplars::Budget;
use cil_data::order::ClassOrder;
use cil_data::procedural::ProceduralConfig;
use cil_data::store::TrainSet;
use cil_train::evaluate::{Subject, evaluate};
use cil_train::event::{Confusion, Event, PhaseKind};
use cil_train::learner::{Learner, Plan};
use cil_train::methods::bic::bias_correction;
use cil_train::methods::{podnet, with_dfgr, with_new_images_unshared};
use cil_train::metrics::accuracy;
use cil_train::recipe::{
    DiscriminantSpec, NewReplaySpec, PhaseSpec, Recipe, Rows, SyntheticNorm, TermSpec, Trained,
};
use cil_train::term::{ClassBalanced, DualTeacher};

/// A second generator of the first one's size; an epoch is two steps of two classes.
fn new_replay() -> NewReplaySpec {
    NewReplaySpec { inversion: replay(SyntheticNorm::Joint).inversion, images_per_class: 12 }
}

/// LUCIR without exemplars, with both schemes, where new images are not shared.
fn unshared(norm: SyntheticNorm) -> Recipe {
    with_new_images_unshared(data_free(norm), new_replay())
}

/// With a phase of balancing, whose weights are by counts of classes, and the new teacher's word on all rows.
fn balanced(norm: SyntheticNorm) -> Recipe {
    let mut recipe = unshared(norm);
    recipe.balance = Some(PhaseSpec {
        trained: Trained::Head,
        terms: vec![TermSpec::ClassBalanced(ClassBalanced { weight: 1.0, rows: Rows::All })],
        training: training(2),
    });
    for term in &mut recipe.increment.terms {
        if let TermSpec::DualTeacher(DualTeacher { new_rows, .. }) = term {
            *new_rows = Rows::All;
        }
    }
    recipe
}

/// PODNet's proxies, which begin at centres of generated images' features.
fn proxies() -> Recipe {
    let mut recipe = podnet(training(1), training(1), training(1), 0);
    recipe.new_teacher = data_free(SyntheticNorm::Joint).new_teacher;
    with_new_images_unshared(with_dfgr(recipe, replay(SyntheticNorm::Joint)), new_replay())
}

/// Learns with these images; once a task's new teacher is trained, with `other` ones till the next task. Each task's
/// means are taken too.
fn exchanged(plan: &Plan, train: &TrainSet, other: &TrainSet) -> (Vec<Event>, Learner, Vec<Vec<Vec<f32>>>) {
    let mut learner = Learner::new(plan.clone()).unwrap();
    let (mut events, mut means, mut taught) = (Vec::new(), Vec::new(), false);
    while let Some(event) = learner.advance(if taught { other } else { train }).unwrap() {
        match &event {
            Event::Progress { phase: PhaseKind::NewTeacher, done, total, .. } if done == total => {
                taught = true;
            }
            Event::TaskStart { .. } => taught = false,
            Event::TaskLearned { task: 1.., .. } => {
                let found = learner.class_means(if taught { other } else { train }).unwrap();
                means.push(found.means.map_or_else(Vec::new, |it| it.to_vec2().unwrap()));
            }
            _ => {}
        }
        events.push(event);
    }
    (events, learner, means)
}

#[test]
fn a_second_generator_follows_the_new_teacher_and_its_units_are_counted() {
    let (train, _) = data(5);
    let plan = plan(balanced(SyntheticNorm::Joint), &[3, 2], 1);
    let units = Learner::new(plan.clone()).unwrap().units();
    let (events, learner) = run(plan, &train);
    let progress = events.iter().filter_map(|event| match event {
        Event::Progress { task: 1, phase, done, total, images, losses, .. } if done == total => {
            Some((*phase, *images, losses.keys().map(String::as_str).collect::<Vec<_>>().join(" ")))
        }
        _ => None,
    });
    use PhaseKind::{Balance, Inversion, NewInversion, NewTeacher, Student};
    let inversion = "batch-entropy instance-entropy statistics";
    // Twelve images of each of two classes are two steps of 16, beside 16 images of old classes each.
    let expected = [
        (Inversion, 10 * 16, inversion),
        (NewTeacher, 2 * 12, "cross-entropy total"),
        (NewInversion, 10 * 16, inversion),
        (Student, 2 * 32, "cross-entropy dual-teacher less-forget total"),
        (Balance, 2 * 32, "class-balanced total"),
    ];
    let expected = expected.map(|(phase, images, losses)| (phase, images, losses.to_owned()));
    assert_eq!(progress.collect::<Vec<_>>(), expected);
    let is_progress = |event: &&Event| matches!(event, Event::Progress { .. });
    assert_eq!(events.iter().filter(is_progress).count() as u64, units);
    assert_eq!(learner.new_replay().unwrap().teacher().classes(), 2);
}

#[test]
fn the_student_depends_on_no_new_image() {
    let ((train, _), increments) = (data(7), [3, 2, 2]);
    let config = ProceduralConfig { classes: 7, train_per_class: 12, test_per_class: 6 };
    let other = Dataset::procedural(&config, 2).unwrap();
    let (other, _) = other.split(&ClassOrder::seeded(7, 1), 0, Evaluate::Test).unwrap();
    for recipe in [balanced(SyntheticNorm::Separate), balanced(SyntheticNorm::Running), proxies()] {
        let mut plan = plan(recipe, &increments, 1);
        if plan.recipe.head.proxies() > 1 {
            plan.backbone = Architecture { width: 4, ..Architecture::podnet(8) }.into();
        }
        let (wanted, found) = (exchanged(&plan, &train, &train), exchanged(&plan, &train, &other));
        assert_eq!(format!("{:?}", found.0), format!("{:?}", wanted.0));
        assert_eq!(values(&found.1), values(&wanted.1));
        assert_eq!(found.2, wanted.2);
        let reads: Vec<u64> = (0..7).map(|class| other.reads(class)).collect();
        assert_eq!(reads, [0; 7], "an image was looked at after the new teacher's training");
    }
}

#[test]
fn neither_weights_nor_noise_of_the_generators_coincide() {
    let (train, _) = data(5);
    let mut recipe = unshared(SyntheticNorm::Joint);
    recipe.replay.as_mut().unwrap().inversion.iterations = 1;
    recipe.new_replay.as_mut().unwrap().inversion.iterations = 1;
    let learner = run(plan(recipe, &[3, 2], 1), &train).1;
    // One step of Adam moves a value by its rate, 0.001, at most.
    let (old, new) = (learner.replay().unwrap().parameters(), learner.new_replay().unwrap().parameters());
    let weights = old.iter().filter(|(name, value)| name.ends_with("weight") && value.dims().len() > 1);
    for (name, value) in weights {
        let difference = (value - new.get(name).unwrap()).unwrap().abs().unwrap().max_all().unwrap();
        let difference = difference.to_scalar::<f32>().unwrap();
        assert!(difference > 0.01, "{name} differs by {difference}");
    }
}

#[test]
fn new_classes_are_learned_from_generated_images() {
    let config = ProceduralConfig { classes: 6, train_per_class: 100, test_per_class: 40 };
    let dataset = Dataset::procedural(&config, 1).unwrap();
    let (train, test) = dataset.split(&ClassOrder::seeded(6, 1), 0, Evaluate::Test).unwrap();
    let mut recipe = unshared(SyntheticNorm::Joint);
    (recipe.base.training.epochs, recipe.increment.training.epochs) = (14, 12);
    recipe.new_teacher.as_mut().unwrap().training.epochs = 12;
    recipe.replay.as_mut().unwrap().inversion.iterations = 200;
    let second = recipe.new_replay.as_mut().unwrap();
    (second.inversion.iterations, second.images_per_class) = (200, 100);
    let mut plan = plan(recipe, &[4, 2], 1);
    plan.backbone = Architecture { width: 8, ..Architecture::lucir(8) }.into();
    let learner = run(plan.clone(), &train).1;
    let means = learner.class_means(&train).unwrap();
    let of = (&plan.increments, &plan.preparation, &plan.device);
    let found = evaluate(
        Subject { classifier: learner.model().unwrap(), trained: None, means: &means },
        &test,
        of.0,
        1,
        of.1,
        of.2,
    )
    .unwrap();
    let accuracies = |rows: &Confusion| [0..4, 4..6].map(|classes| accuracy(rows, classes).unwrap());
    let (classifier, nearest) =
        (accuracies(&found.classifier), accuracies(found.nearest_mean.as_ref().unwrap()));
    // A guess is right in 17 of 100; it was 76 and 44, and 56 and 49 by the nearest mean.
    assert!(classifier.iter().chain(&nearest).all(|it| *it > 0.3), "{classifier:?}, nearest {nearest:?}");
}

#[test]
fn what_needs_a_real_new_image_is_refused() {
    let refused = |change: &dyn Fn(&mut Recipe), part: &str| {
        let mut recipe = unshared(SyntheticNorm::Joint);
        recipe.check().unwrap();
        change(&mut recipe);
        let message = format!("{:#}", recipe.check().unwrap_err());
        assert!(message.contains(part), "{message}");
    };
    let joint = |it: &mut Recipe| {
        (it.joint, it.replay, it.new_teacher) = (true, None, None);
    };
    refused(&joint, "new-replay is set and joint is true");
    refused(&|it| it.exemplars = Budget::PerClass(2), "set exemplars to 0");
    refused(&|it| it.exemplars = Budget::Total(20), "set exemplars to 0");
    let correction = || bias_correction(training(1), training(1), Budget::PerClass(4), training(1));
    let discriminant = Some(DiscriminantSpec::pooled(0.01));
    refused(&|it| it.discriminant = discriminant.clone(), "new-replay and discriminant are both set");
    refused(&|it| it.bias_correction = correction().bias_correction, "new-replay and bias-correction");
    let alone = |it: &mut Recipe| {
        it.new_teacher = None;
        it.increment.terms.retain(|term| !matches!(term, TermSpec::DualTeacher { .. }));
    };
    refused(&alone, "add the table new-teacher");
    refused(&|it| it.replay = None, "add the table replay");
    refused(&|it| it.new_teacher.as_mut().unwrap().exemplars = true, "new-teacher.exemplars is true");
    let images = |count| move |it: &mut Recipe| it.new_replay.as_mut().unwrap().images_per_class = count;
    refused(&images(0), "new-replay.images-per-class is 0; use a value from 1 to 100000");
    refused(&images(usize::MAX), "use a value from 1 to 100000");
    let batch = |it: &mut Recipe| it.new_replay.as_mut().unwrap().inversion.batch = 1;
    refused(&batch, "new-replay.inversion.batch is 1");

    let recipe = unshared(SyntheticNorm::Joint);
    let error_text = recipe.check_increments(&[3, 2, 1]).unwrap_err().to_string();
    assert!(error_text.starts_with("new-replay is set and task 3 has one class;"), "{error_text}");
    assert!(recipe.check_increments(&[1, 2, 2]).is_ok());
    assert!(data_free(SyntheticNorm::Joint).check_increments(&[3, 2, 1]).is_ok());
    let error_text = format!("{:#}", Learner::new(plan(recipe, &[3, 1], 1)).err().unwrap());
    assert!(error_text.contains("task 2 has one class"), "{error_text}");
}

#[test]
fn a_recipe_without_it_is_written_as_before() {
    let text = |recipe: &Recipe| serde_json::to_string(recipe).unwrap();
    assert!(!text(&data_free(SyntheticNorm::Joint)).contains("new-replay"));
    let recipe = unshared(SyntheticNorm::Joint);
    assert_eq!(serde_json::from_str::<Recipe>(&text(&recipe)).unwrap(), recipe);
    let unknown = text(&recipe).replace("images-per-class", "images");
    assert!(serde_json::from_str::<Recipe>(&unknown).is_err());
}
