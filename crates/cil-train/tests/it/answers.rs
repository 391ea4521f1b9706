//! FeCAM and FeTrIL on small runs: what answers, of what is kept, that no old image is read, and that a run that was
//! stopped goes on to the same bits.

use crate::support::{data, plan, run, training, values};
use cil_backbone::{HeadKind, StageCells};
use cil_train::event::Event;
use cil_train::learner::{Learner, Plan};
use cil_train::methods::frozen::frozen_features;
use cil_train::methods::lucir;
use cil_train::recipe::{Covariance, DiscriminantSpec, FecamSpec, Recipe};

fn last_relu() -> Vec<StageCells> {
    vec![StageCells { stage: 3, cells: 1, normalised: false }]
}

fn fecam(fecam: FecamSpec) -> DiscriminantSpec {
    DiscriminantSpec { fecam: Some(fecam), stages: last_relu(), ..DiscriminantSpec::pooled(1.0) }
}

fn fetril() -> DiscriminantSpec {
    DiscriminantSpec { fetril: true, mirrored: true, ..DiscriminantSpec::pooled(1.0) }
}

fn frozen(discriminant: DiscriminantSpec) -> Plan {
    let recipe = Recipe { discriminant: Some(discriminant), ..frozen_features(training(12), training(1)) };
    plan(recipe, &[3, 2, 1], 1)
}

#[test]
fn each_head_answers_of_what_it_says_it_keeps_and_no_old_image_is_read() {
    let (train, test) = data(6);
    let within = FecamSpec { covariance: Covariance::WithinClass, ..FecamSpec::shared() };
    // Features of width 16, in f32: means alone; a covariance of each class, or one, as triangles.
    let (means, triangle) = (16 * 4, 16 * 17 / 2 * 4);
    for (spec, kind, of_class, once) in [
        (fecam(FecamSpec::per_class()), HeadKind::Mahalanobis, means + triangle, 0),
        (fecam(FecamSpec::shared()), HeadKind::LinearOfDirections, means, triangle),
        (fecam(within), HeadKind::LinearOfDirections, means, triangle),
        (fetril(), HeadKind::LinearOfDirections, means, 0),
    ] {
        let plan = frozen(spec.clone());
        let (mut learner, mut before) = (Learner::new(plan.clone()).unwrap(), Vec::new());
        let mut evaluations = Vec::new();
        let counts = || -> Vec<u64> { (0..6).map(|class| train.reads(class)).collect() };
        while let Some(event) = learner.advance(&train).unwrap() {
            if let Event::TaskStart { .. } = event {
                before = counts();
            }
            if let Event::TaskLearned { task, stored_bytes, .. } = event {
                let seen = plan.increments.seen(task);
                let old = seen - plan.increments.classes(task).len();
                assert_eq!(counts()[..old], before[..old], "an old image was read");
                assert_eq!(stored_bytes as usize, seen * of_class + once, "{spec:?}");
                let head = learner.classifier().unwrap().unwrap().snapshot().head.clone();
                assert_eq!((head.kind, head.width), (kind, 16));
                assert_eq!(head.blocks, plan.increments.sizes()[..=task]);
                assert_eq!(head.powered, spec.fecam.is_some());
                // What was saved and taken up again answers the same.
                let saved = learner.save().unwrap();
                let again = Learner::restore(plan.clone(), &saved, &train).unwrap();
                let said = |of: &Learner| of.evaluator(&train).unwrap().evaluate(&test).unwrap();
                assert_eq!(said(&learner), said(&again));
                evaluations.push(said(&learner));
            }
        }
        // Of the training images a sixth would be right by chance.
        let (classifier, mut right) = (learner.classifier().unwrap().unwrap(), 0);
        for class in 0..6 {
            let samples = train.samples(class..class + 1);
            let images = train.images(&samples, &plan.preparation, None, &plan.device).unwrap();
            let said =
                classifier.forward(&images).unwrap().logits.argmax(1).unwrap().to_vec1::<u32>().unwrap();
            right += said.iter().filter(|it| **it == class as u32).count();
        }
        assert!(right > 18, "{spec:?}: {right} of 72");
        assert_eq!(evaluations.len(), 3);
    }
}

#[test]
fn nothing_is_trained_otherwise() {
    let (train, _) = data(6);
    let pooled = run(frozen(DiscriminantSpec::pooled(0.01)), &train).1;
    for spec in [fecam(FecamSpec::per_class()), fetril()] {
        assert_eq!(values(&run(frozen(spec), &train).1), values(&pooled));
    }
}

#[test]
fn what_these_heads_cannot_be_is_refused_in_a_sentence() {
    let message = |recipe: &Recipe| recipe.check().unwrap_err().to_string();
    let with = |spec: DiscriminantSpec| Recipe {
        discriminant: Some(spec),
        ..frozen_features(training(2), training(1))
    };
    let trained = Recipe { discriminant: Some(fetril()), ..lucir(training(2), training(1), 0) };
    assert!(message(&trained).contains("increment.trained should be \"head\""), "{}", message(&trained));
    for (spec, part) in [
        (DiscriminantSpec { fetril: true, ..fecam(FecamSpec::shared()) }, "fecam and discriminant.fetril"),
        (DiscriminantSpec { ridge: true, ..fetril() }, "fetril and discriminant.ridge"),
        (DiscriminantSpec { random_features: Some(8), ..fetril() }, "random-features"),
        (DiscriminantSpec { generated: Some(8), ..fecam(FecamSpec::shared()) }, "generated"),
        (fecam(FecamSpec { tukey: 0.0, ..FecamSpec::shared() }), "fecam.tukey"),
        (fecam(FecamSpec { off_diagonal: -1.0, ..FecamSpec::shared() }), "fecam.off-diagonal"),
        (fecam(FecamSpec { rounds: 0, ..FecamSpec::shared() }), "fecam.rounds is 0"),
    ] {
        let recipe = with(spec);
        assert!(message(&recipe).contains(part), "{}", message(&recipe));
    }
    let mut scored = with(fetril());
    (scored.head, scored.imprint) = (HeadKind::Mahalanobis, false);
    assert!(message(&scored).contains("one that is trained"), "{}", message(&scored));
    // Of the network.
    let lucir = cil_backbone::Architecture::lucir(8);
    let pooled = DiscriminantSpec { stages: Vec::new(), ..fecam(FecamSpec::per_class()) };
    let message = with(pooled.clone()).check_network(&lucir.into()).unwrap_err().to_string();
    assert!(message.contains("may be negative") && message.contains("stage=3"), "{message}");
    with(pooled)
        .check_network(&cil_backbone::Architecture::small(cil_backbone::Variant::He, 8).into())
        .unwrap();
    let wide = vec![StageCells { stage: 3, cells: 4, normalised: true }];
    let wide = DiscriminantSpec { stages: wide, ..fecam(FecamSpec::per_class()) };
    let message = with(wide).check_network(&lucir.into()).unwrap_err().to_string();
    assert!(message.contains("1024 features") && message.contains("at most 512"), "{message}");
    // Of the images.
    let one = with(fecam(FecamSpec::per_class())).check_images(&[2, 1], &[3, 3, 1]).unwrap_err().to_string();
    assert!(one.contains("class 2 of task 2 has 1 training images"), "{one}");
    with(fecam(FecamSpec::shared())).check_images(&[2, 2], &[1, 1, 1, 1]).unwrap();
    assert!(with(fecam(FecamSpec::shared())).check_images(&[2, 1], &[3, 3, 1]).is_err());
    with(fetril()).check_images(&[2, 1], &[1, 1, 1]).unwrap();
}
