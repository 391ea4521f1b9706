//! Heads of statistics on small runs: what answers, of what is kept, and that nothing else changes.

use std::ops::Range;

use crate::support::{data, data_free, plan, replay, run, training, values};
use candle_core::Tensor;
use cil_backbone::head::{PROJECTION, normalized};
use cil_backbone::{Frozen, HeadKind, StageCells};
use cil_data::store::TrainSet;
use cil_train::evaluate::{Subject, evaluate};
use cil_train::event::{Event, PhaseKind};
use cil_train::learner::{Learner, Plan};
use cil_train::methods::frozen::frozen_features;
use cil_train::methods::lwf;
use cil_train::recipe::{
    AdversarialImages, AdversarialReplaySpec, Carry, DiscriminantSpec, Recipe, Rows, SyntheticNorm, Views,
};
use cil_train::term::{ClassBalanced, LogitKd};

/// Between two classes with equal priors a discriminant's boundary goes through the middle of their means: logits are
/// equal there; features are of length 1.
fn assert_boundaries_are_halfway(of: &Frozen, train: &TrainSet, plan: &Plan, classes: Range<usize>) {
    let head = of.snapshot().head.weights(&of.snapshot().parameters).unwrap();
    let (weights, biases) = (head.weights.last().unwrap(), head.biases.last().unwrap());
    let of_class = |(at, class): (usize, usize)| {
        let samples = train.samples(class..class + 1);
        let images = train.images(&samples, &plan.preparation, None, &plan.device).unwrap();
        let mean = normalized(&of.forward(&images).unwrap().features).unwrap().mean(0).unwrap();
        let bias: f32 = biases.get(at).unwrap().to_scalar().unwrap();
        (mean, weights.get(at).unwrap(), bias)
    };
    let all: Vec<(Tensor, Tensor, f32)> = classes.enumerate().map(of_class).collect();
    for pair in all.windows(2) {
        let [(mean, weight, bias), (other_mean, other_weight, other_bias)] = pair else { continue };
        let apart = (weight - other_weight).unwrap();
        let said: f32 =
            ((mean + other_mean).unwrap() * apart).unwrap().sum_all().unwrap().to_scalar().unwrap();
        let apart = bias - other_bias;
        assert!((apart + said / 2.0).abs() < 1e-3 * (1.0 + apart.abs()), "{apart}, {said}");
    }
}

#[test]
fn a_discriminant_answers_and_nothing_is_trained_otherwise() {
    let (train, test) = data(6);
    let with = |discriminant: Option<DiscriminantSpec>| {
        let recipe = Recipe { discriminant: discriminant.clone(), ..data_free(SyntheticNorm::Joint) };
        let plan = plan(recipe, &[3, 2, 1], 1);
        let (mut learner, mut stored, mut heads) = (Learner::new(plan.clone()).unwrap(), 0, Vec::new());
        let mut before = Vec::new();
        while let Some(event) = learner.advance(&train).unwrap() {
            if let Event::TaskStart { .. } = event {
                before = (0..6).map(|class| train.reads(class)).collect();
            }
            if let Event::TaskLearned { task, stored_bytes, .. } = event {
                let seen = plan.increments.seen(task);
                let old = seen - plan.increments.classes(task).len();
                assert!((0..old).all(|class| train.reads(class) == before[class]), "an old image was read");
                stored = stored_bytes;
                let classifier = learner.classifier().unwrap().unwrap();
                let snapshot = classifier.snapshot();
                assert_eq!(snapshot.head.blocks, plan.increments.sizes()[..=task]);
                heads.push(snapshot.head.kind);
                if discriminant.is_some() {
                    assert_boundaries_are_halfway(&classifier, &train, &plan, old..seen);
                }
            }
        }
        let (model, classifier) = (learner.model().unwrap(), learner.classifier().unwrap().unwrap());
        let means = learner.class_means(&train).unwrap();
        let trained = discriminant.map(|_| model);
        let subject = Subject { classifier: &classifier, trained, means: &means };
        let of = (&plan.increments, &plan.preparation, &plan.device);
        let evaluation = evaluate(subject, &test, of.0, 2, of.1, of.2).unwrap();
        (values(&learner), evaluation, stored, heads)
    };
    let (plain, head, none, kinds) = with(None);
    let (same, both, some, linear) = with(Some(DiscriminantSpec::pooled(0.01)));
    assert_eq!(plain, same);
    assert_eq!(kinds, [HeadKind::Cosine; 3]);
    assert_eq!(linear, [HeadKind::LinearOfDirections; 3]);
    // Six means and a covariance of features of width 16, in f64.
    assert_eq!((none, some), (0, (6 * 16 + 16 * 16) * 8));
    assert_eq!(head.trained_head, None);
    assert_eq!(both.trained_head.as_ref(), Some(&head.classifier));
    assert_eq!(both.nearest_mean, head.nearest_mean);
    assert_ne!(both.classifier, head.classifier);
}

/// Statistics of all three stages, of images and of their mirror images.
fn stages() -> DiscriminantSpec {
    let stage = |stage, cells| StageCells { stage, cells, normalised: true };
    let stages = vec![stage(3, 2), stage(2, 1), stage(1, 1)];
    DiscriminantSpec { stages, mirrored: true, ..DiscriminantSpec::pooled(0.01) }
}

#[test]
fn a_discriminant_of_several_stages_answers_of_what_it_says_it_keeps() {
    let (train, test) = data(6);
    let recipe = Recipe { discriminant: Some(stages()), ..data_free(SyntheticNorm::Joint) };
    let plan = plan(recipe, &[3, 2, 1], 1);
    let (mut learner, mut before) = (Learner::new(plan.clone()).unwrap(), Vec::new());
    let counts = || -> Vec<u64> { (0..6).map(|class| train.reads(class)).collect() };
    while let Some(event) = learner.advance(&train).unwrap() {
        if let Event::TaskStart { .. } = event {
            before = counts();
        }
        if let Event::TaskLearned { task, stored_bytes, .. } = event {
            let seen = plan.increments.seen(task);
            let old = seen - plan.increments.classes(task).len();
            assert_eq!(counts()[..old], before[..old], "an old image was read");
            // Means, and a triangle of the covariance of 16 x 4 + 8 + 4 features, in f32.
            assert_eq!(stored_bytes as usize, (seen * 76 + 76 * 77 / 2) * 4);
            let head = learner.classifier().unwrap().unwrap().snapshot().head.clone();
            assert_eq!((head.kind, head.width), (HeadKind::Linear, 76));
            assert_eq!(
                (head.stages, head.blocks.as_slice()),
                (stages().stages, &plan.increments.sizes()[..=task])
            );
        }
    }
    // Nothing else is trained otherwise.
    let (_, plain) = run(Plan { recipe: data_free(SyntheticNorm::Joint), ..plan.clone() }, &train);
    assert_eq!(values(&plain), values(&learner));
    let (model, classifier) = (learner.model().unwrap(), learner.classifier().unwrap().unwrap());
    let means = learner.class_means(&train).unwrap();
    let subject = |classifier, trained| Subject { classifier, trained, means: &means };
    let of = (&plan.increments, &plan.preparation, &plan.device);
    let both = evaluate(subject(&classifier, Some(model)), &test, of.0, 2, of.1, of.2).unwrap();
    let head = evaluate(subject(model, None), &test, of.0, 2, of.1, of.2).unwrap();
    assert_eq!(both.trained_head.as_ref(), Some(&head.classifier));
    assert_eq!(both.nearest_mean, head.nearest_mean);
    assert_ne!(both.classifier, head.classifier);
    let error =
        Learner::new(plan).unwrap().adopt_base(classifier.snapshot().clone()).unwrap_err().to_string();
    assert!(error.contains("base.safetensors"), "{error}");
}

/// However statistics follow the backbone: the training is the same, and no old image is read.
#[test]
fn statistics_follow_the_backbone_without_an_old_image() {
    let (train, _) = data(6);
    let images = AdversarialImages { images: 5, step: 2.0, iterations: 2, map: false };
    let by_map = AdversarialImages { map: true, ..images };
    let raw = vec![StageCells { stage: 3, cells: 1, normalised: false }];
    let mut heads = Vec::new();
    let plain = lwf(training(1), training(1));
    let (_, untouched) = run(plan(plain.clone(), &[3, 3], 1), &train);
    for (carry, stages, nearest_mean) in [
        (Carry::Map, vec![], false),
        (Carry::None, vec![], false),
        (Carry::Nearby { sigma: 0.3 }, vec![], true),
        (Carry::Linear, raw.clone(), true),
        (Carry::Adversarial(images), vec![], false),
        (Carry::Adversarial(images), raw.clone(), true),
        (Carry::Adversarial(by_map), vec![], false),
        (Carry::Adversarial(by_map), stages().stages, false),
        (Carry::Map, stages().stages, false),
    ] {
        let views = (carry == Carry::Map && !stages.is_empty()).then_some(Views {
            rotated: true,
            augmented: 1,
            pasted: 2,
        });
        let spec = DiscriminantSpec { carry, stages, nearest_mean, views, ..DiscriminantSpec::pooled(0.01) };
        let plan = plan(Recipe { discriminant: Some(spec.clone()), ..plain.clone() }, &[3, 3], 1);
        let (mut learner, mut before) = (Learner::new(plan.clone()).unwrap(), Vec::new());
        let counts = || -> Vec<u64> { (0..6).map(|class| train.reads(class)).collect() };
        while let Some(event) = learner.advance(&train).unwrap() {
            match event {
                Event::TaskStart { .. } => before = counts(),
                Event::TaskLearned { task, .. } => {
                    let old = plan.increments.seen(task) - plan.increments.classes(task).len();
                    assert_eq!(counts()[..old], before[..old], "an old image was read: {carry:?}");
                }
                _ => {}
            }
        }
        assert_eq!(values(&untouched), values(&learner), "{carry:?}");
        let classifier = learner.classifier().unwrap().unwrap();
        let head = &classifier.snapshot().head;
        if nearest_mean {
            assert_eq!(head.kind, HeadKind::LinearOfDirections, "{carry:?}");
        }
        let weights = head.weights(&classifier.snapshot().parameters).unwrap().weights;
        let first = weights[0].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(first.iter().all(|value| value.is_finite()), "{carry:?}");
        assert!(!heads.contains(&first), "{carry:?} makes no difference");
        heads.push(first);
    }
}

/// Every key of views and adversarial images changes what answers or what is learned.
#[test]
fn every_key_of_views_and_adversarial_images_counts() {
    let (train, _) = data(6);
    let answer = |carry, views, adversarial| {
        let mut recipe = lwf(training(1), training(1));
        recipe.increment.terms[1] = LogitKd { weight: 1.0, temperature: 2.0, rows: Rows::All }.into();
        recipe.discriminant = Some(DiscriminantSpec { carry, views, ..DiscriminantSpec::pooled(0.01) });
        let (_, learner) = run(plan(Recipe { adversarial, ..recipe }, &[3, 3], 1), &train);
        let classifier = learner.classifier().unwrap().unwrap();
        let weights = classifier.snapshot().head.weights(&classifier.snapshot().parameters).unwrap().weights;
        weights[0].flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let views = Views { rotated: true, augmented: 1, pasted: 1 };
    let images = AdversarialImages { images: 5, step: 2.0, iterations: 2, map: true };
    let replay = AdversarialReplaySpec { images: 6, step: 2.0, iterations: 2, noise: 1.0, batch: 5 };
    let by_views = |views| answer(Carry::Map, Some(views), None);
    let by_images = |images| answer(Carry::Adversarial(images), None, None);
    let by_replay = |replay| answer(Carry::Map, None, Some(replay));
    let found = [
        by_views(views),
        by_views(Views { rotated: false, ..views }),
        by_views(Views { augmented: 2, ..views }),
        by_views(Views { pasted: 2, ..views }),
        by_images(images),
        by_images(AdversarialImages { images: 4, ..images }),
        by_images(AdversarialImages { step: 1.0, ..images }),
        by_images(AdversarialImages { iterations: 1, ..images }),
        by_images(AdversarialImages { map: false, ..images }),
        by_replay(replay),
        by_replay(AdversarialReplaySpec { images: 5, ..replay }),
        by_replay(AdversarialReplaySpec { step: 1.0, ..replay }),
        by_replay(AdversarialReplaySpec { iterations: 1, ..replay }),
        by_replay(AdversarialReplaySpec { noise: 0.0, ..replay }),
        by_replay(AdversarialReplaySpec { batch: 4, ..replay }),
    ];
    for (at, one) in found.iter().enumerate() {
        assert!(!found[..at].contains(one), "change {at} changes nothing");
    }
}

/// Adversarial images stand where generated ones would, without an old image, and begin again as they were.
#[test]
fn adversarial_images_are_replayed_without_an_old_image() {
    let (train, _) = data(6);
    let spec = AdversarialReplaySpec { images: 6, step: 2.0, iterations: 2, noise: 1.0, batch: 5 };
    let with = |adversarial, stages: Vec<StageCells>| {
        let mut recipe = lwf(training(1), training(2));
        let kd = LogitKd { weight: 1.0, temperature: 2.0, rows: Rows::All };
        recipe.increment.terms[1] = kd.into();
        recipe.increment.terms.push(ClassBalanced { weight: 0.1, rows: Rows::All }.into());
        recipe.discriminant = Some(DiscriminantSpec { stages, ..DiscriminantSpec::pooled(0.01) });
        let plan = plan(Recipe { adversarial, ..recipe }, &[3, 3], 1);
        let mut learner = Learner::new(plan.clone()).unwrap();
        let counts = || -> Vec<u64> { (0..3).map(|class| train.reads(class)).collect() };
        let (mut before, mut images) = (Vec::new(), Vec::new());
        while let Some(event) = learner.advance(&train).unwrap() {
            match event {
                Event::TaskStart { task: 1, .. } => before = counts(),
                Event::TaskLearned { task: 1, .. } => assert_eq!(counts(), before, "an old image was read"),
                Event::Progress { task: 1, images: of_unit, .. } => images.push(of_unit),
                _ => {}
            }
            // What is left is made again from what was saved.
            let saved = learner.save().unwrap();
            learner = Learner::restore(plan.clone(), &saved, &train).unwrap();
        }
        (values(&learner), images, values(&run(plan, &train).1))
    };
    let (plain, of_unit, _) = with(None, vec![]);
    assert_eq!(of_unit, [36, 36]);
    let mut found = vec![plain];
    for stages in [vec![], stages().stages] {
        let (resumed, of_unit, at_once) = with(Some(spec), stages);
        // Three steps of five more.
        assert_eq!(of_unit, [51, 51]);
        assert_eq!(resumed, at_once);
        assert!(!found.contains(&resumed));
        found.push(resumed);
    }
}

/// A generator with the kept statistics as targets: of pooled features and of stages, resumed to the bit, and without
/// an old image.
#[test]
fn generated_images_follow_kept_statistics() {
    let (train, _) = data(6);
    let with = |features: f64, conditional: bool, stages: Vec<StageCells>| {
        let mut spec = replay(SyntheticNorm::Joint);
        spec.inversion.generator.conditional = conditional;
        spec.inversion.weights.features = features;
        let mut recipe = lwf(training(1), training(1));
        recipe.increment.terms[1] = LogitKd { weight: 1.0, temperature: 2.0, rows: Rows::All }.into();
        recipe.discriminant = Some(DiscriminantSpec { stages, ..DiscriminantSpec::pooled(0.01) });
        let plan = plan(Recipe { replay: Some(spec), ..recipe }, &[3, 2, 1], 1);
        let (events, learner) = run(plan.clone(), &train);
        let reported = events.iter().any(|event| match event {
            Event::Progress { phase: PhaseKind::Inversion, losses, .. } => losses.contains_key("features"),
            _ => false,
        });
        assert_eq!(reported, features > 0.0);
        let mut again = Learner::new(plan.clone()).unwrap();
        let counts = || -> Vec<u64> { (0..3).map(|class| train.reads(class)).collect() };
        let mut before = Vec::new();
        while let Some(event) = again.advance(&train).unwrap() {
            match event {
                Event::TaskStart { task: 1, .. } => before = counts(),
                Event::TaskLearned { task: 1, .. } => assert_eq!(counts(), before, "an old image was read"),
                _ => {}
            }
            again = Learner::restore(plan.clone(), &again.save().unwrap(), &train).unwrap();
        }
        assert_eq!(values(&learner), values(&again));
        values(&learner)
    };
    let found = [
        with(0.0, true, vec![]),
        with(1.0, true, vec![]),
        with(1.0, true, stages().stages),
        with(2.0, true, vec![]),
        with(0.0, false, vec![]),
        with(9.0, false, vec![]),
    ];
    for (at, one) in found.iter().enumerate() {
        assert!(!found[..at].contains(one), "change {at} changes nothing");
    }
}

/// Ridge regression over random features of the pooled ones.
#[test]
fn random_features_answer_by_least_squares_and_their_projection_is_in_the_model() {
    let (train, _) = data(4);
    let spec = DiscriminantSpec { random_features: Some(24), ridge: true, ..DiscriminantSpec::pooled(0.01) };
    let of = |seed| {
        let recipe = Recipe { discriminant: Some(spec.clone()), ..frozen_features(training(1), training(1)) };
        let (events, learner) = run(plan(recipe, &[2, 2], seed), &train);
        let kept = events.iter().rev().find_map(|event| match event {
            Event::TaskLearned { stored_bytes, .. } => Some(*stored_bytes as usize),
            _ => None,
        });
        assert_eq!(kept, Some((4 * 24 + 24 * 25 / 2) * 4));
        let snapshot = learner.classifier().unwrap().unwrap().snapshot().clone();
        let projection = snapshot.parameters.get(PROJECTION).unwrap().to_vec2::<f32>().unwrap();
        let head = snapshot.head.weights(&snapshot.parameters).unwrap();
        assert_eq!((head.weights[1].dims(), head.kind), (&[2, 24][..], HeadKind::LinearOfDirections));
        assert!(
            head.biases
                .iter()
                .all(|it| it.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() == 0.0)
        );
        projection
    };
    let (one, other) = (of(1), of(2));
    assert_eq!((one.len(), one[0].len()), (24, 16));
    assert_ne!(one, other, "the projection is the seed's");
}

/// Where the backbone stays, statistics do not depend on the tasks that they came by, but for rounding.
#[test]
fn statistics_on_a_frozen_body_do_not_depend_on_the_number_of_steps() {
    let (train, _) = data(6);
    let of = |increments: &[usize]| {
        let recipe = Recipe { discriminant: Some(stages()), ..frozen_features(training(2), training(1)) };
        let (_, learner) = run(plan(recipe, increments, 1), &train);
        let classifier = learner.classifier().unwrap().unwrap();
        let head = classifier.snapshot().head.weights(&classifier.snapshot().parameters).unwrap();
        let weights = Tensor::cat(&head.weights, 0).unwrap();
        weights.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let (few, many) = (of(&[3, 3]), of(&[3, 1, 1, 1]));
    let scale = few.iter().fold(0f32, |most, value| most.max(value.abs()));
    for (few, many) in few.iter().zip(&many) {
        assert!((few - many).abs() < 1e-3 * scale, "{few}, {many}");
    }
}
