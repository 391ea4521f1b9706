//! A learner that is saved, dropped and restored after any unit ends with the bits of one that was not.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{data, data_free, plan, replay, run, training, values};
use candle_core::{DType, Device, Tensor};
use cil_backbone::{Architecture, HeadKind, StageCells, Variant};
use cil_data::exemplars::{Budget, Exemplars};
use cil_data::store::TrainSet;
use cil_engine::Parameters;
use cil_train::event::{Event, PhaseKind};
use cil_train::learner::{Learner, Plan, Position, Saved};
use cil_train::methods::bic::bias_correction;
use cil_train::methods::efc::efc;
use cil_train::methods::{fine_tune, joint, podnet};
use cil_train::recipe::correction::BiasCorrectionSpec;
use cil_train::recipe::{
    DiscriminantSpec, LogisticSpec, NewReplaySpec, PhaseSpec, Recipe, Regressor, Rows, SyntheticNorm,
    Teachers, TermSpec, Trained,
};
use cil_train::term::{ClassBalanced, Vid};

/// Every phase, both teachers, exemplars, and terms that bring networks and values of their own.
fn everything() -> Recipe {
    let mut recipe = data_free(SyntheticNorm::Running);
    recipe.exemplars = Budget::PerClass(2);
    let (teachers, rows, regressor) = (Teachers::Both, Rows::All, Regressor::Normed);
    recipe.increment.terms.push(TermSpec::Vid(Vid {
        weight: 0.1,
        teachers,
        stages: vec![3],
        rows,
        new_rows: Rows::New,
        regressor,
    }));
    let terms = data_free(SyntheticNorm::Running).increment.terms;
    recipe.balance = Some(PhaseSpec { trained: Trained::Head, terms, training: training(2) });
    let new_teacher = recipe.new_teacher.as_mut().unwrap();
    (new_teacher.exemplars, new_teacher.training.epochs) = (true, 2);
    let replay = recipe.replay.as_mut().unwrap();
    (replay.warm_start, replay.exemplar_share) = (true, Some(0.5));
    (recipe.random_exemplars, recipe.oversample) = (true, true);
    recipe.discriminant = Some(DiscriminantSpec::pooled(0.01));
    recipe
}

/// Statistics of several stages and of mirror images.
fn stages() -> DiscriminantSpec {
    let stage = |stage, cells| StageCells { stage, cells, normalised: true };
    let stages = vec![stage(3, 1), stage(1, 2)];
    DiscriminantSpec { stages, mirrored: true, ..DiscriminantSpec::pooled(0.01) }
}

const PHASES: [PhaseKind; 6] = [
    PhaseKind::Inversion,
    PhaseKind::NewTeacher,
    PhaseKind::NewInversion,
    PhaseKind::Student,
    PhaseKind::Balance,
    PhaseKind::BiasCorrection,
];

/// A copy that shares nothing with the learner that gave it, as a file would give it.
fn copied(saved: &Saved) -> Saved {
    let bits = |tensor: &Tensor| match tensor.dtype() {
        DType::F64 => Tensor::new(tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap(), tensor.device()),
        DType::U32 => Tensor::new(tensor.flatten_all().unwrap().to_vec1::<u32>().unwrap(), tensor.device()),
        _ => Tensor::new(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), tensor.device()),
    };
    let store = |(name, values): (&String, &Parameters)| {
        let tensors = values
            .iter()
            .map(|(name, tensor)| (name.to_owned(), bits(tensor).unwrap().reshape(tensor.dims()).unwrap()));
        (name.clone(), Parameters::from_tensors(tensors.collect()))
    };
    let position = serde_json::to_string(&saved.position).unwrap();
    Saved {
        position: serde_json::from_str(&position).unwrap(),
        fixed: saved.fixed.iter().map(store).collect(),
        moving: saved.moving.iter().map(store).collect(),
    }
}

/// The learner's next event, and its whole state then.
fn next(learner: &mut Learner, train: &TrainSet) -> (String, Position, BTreeMap<String, Vec<u64>>) {
    let event = format!("{:?}", learner.advance(train).unwrap());
    let saved = learner.save().unwrap();
    let mut bits = BTreeMap::new();
    for (store, values) in saved.fixed.iter().chain(&saved.moving) {
        for (name, tensor) in values.iter() {
            let flat = tensor.flatten_all().unwrap();
            let values = match tensor.dtype() {
                DType::F64 => flat.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect(),
                DType::U32 => flat.to_vec1::<u32>().unwrap().into_iter().map(u64::from).collect(),
                _ => flat.to_vec1::<f32>().unwrap().into_iter().map(|it| it.to_bits().into()).collect(),
            };
            bits.insert(format!("{store}/{name}"), values);
        }
    }
    (event, saved.position, bits)
}

/// Restores after every unit, and compares what comes next; the phases that were interrupted midway.
fn check(plan: &Plan, train: &TrainSet, mut straight: Learner) -> BTreeSet<PhaseKind> {
    let mut midway = BTreeSet::new();
    loop {
        let mut resumed = Learner::restore(plan.clone(), &copied(&straight.save().unwrap()), train).unwrap();
        assert_eq!(resumed.units(), straight.units());
        let event = straight.save().unwrap().position;
        let (wanted, found) = (next(&mut straight, train), next(&mut resumed, train));
        assert_eq!((&found.0, &found.1), (&wanted.0, &wanted.1), "after {event:?}");
        let differ: Vec<_> =
            wanted.2.iter().filter(|(name, bits)| found.2.get(*name) != Some(bits)).collect();
        assert!(differ.is_empty() && found.2.len() == wanted.2.len(), "{:?} after {event:?}", differ.first());
        if wanted.0.contains("TaskLearned") {
            let means = |it: &Learner| {
                let means = it.class_means(train).unwrap();
                (means.source, means.means.map(|it| it.to_vec2::<f32>().unwrap()))
            };
            assert_eq!(means(&resumed), means(&straight));
            let head = |it: &Learner| {
                let classifier = it.classifier().unwrap().unwrap();
                format!("{:?}", classifier.snapshot().head.weights(&classifier.snapshot().parameters))
            };
            assert_eq!(head(&resumed), head(&straight));
        }
        let text = format!("{:?}", straight.save().unwrap().moving.keys());
        for phase in PHASES {
            if text.contains("network") && wanted.0.contains(&format!("phase: {phase:?}")) {
                midway.insert(phase);
            }
        }
        if wanted.0 == "None" {
            assert_eq!(values(&resumed), values(&straight));
            return midway;
        }
    }
}

#[test]
fn every_phase_goes_on_to_the_same_bits() {
    let (train, _) = data(6);
    let plan = plan(everything(), &[2, 2, 2], 1);
    let (_, undisturbed) = run(plan.clone(), &train);
    let straight = Learner::new(plan.clone()).unwrap();
    let midway = check(&plan, &train, straight);
    assert_eq!(midway.len(), 4, "{midway:?}");
    let saved = undisturbed.save().unwrap();
    assert_eq!(values(&Learner::restore(plan, &saved, &train).unwrap()), values(&undisturbed));
}

#[test]
fn a_correction_goes_on_to_the_same_bits() {
    let (train, _) = data(5);
    let recipe = bias_correction(training(2), training(2), Budget::PerClass(4), training(3));
    let recipe = Recipe {
        bias_correction: recipe.bias_correction.map(|it| BiasCorrectionSpec { held_out: 0.5, ..it }),
        ..recipe
    };
    let plan = plan(recipe, &[2, 2, 1], 1);
    let midway = check(&plan, &train, Learner::new(plan.clone()).unwrap());
    assert_eq!(midway, BTreeSet::from([PhaseKind::Student, PhaseKind::BiasCorrection]));
}

#[test]
fn proxies_go_on_to_the_same_bits() {
    let (train, _) = data(5);
    let recipe = podnet(training(2), training(2), training(2), 2);
    let plan = plan(recipe, &[3, 2], 1);
    let midway = check(&plan, &train, Learner::new(plan.clone()).unwrap());
    assert_eq!(midway, BTreeSet::from([PhaseKind::Student, PhaseKind::Balance]));
}

#[test]
fn means_of_generated_images_and_a_task_without_new_teacher_go_on_to_the_same_bits() {
    let (train, _) = data(5);
    let recipe = Recipe { discriminant: Some(stages()), ..data_free(SyntheticNorm::Joint) };
    let plan = plan(recipe, &[2, 2, 1], 1);
    check(&plan, &train, Learner::new(plan.clone()).unwrap());
}

#[test]
fn appended_classes_go_on_to_the_same_bits() {
    let (train, _) = data(5);
    for cells in [vec![], vec![(1, 2), (3, 1)]] {
        let stages = cells.into_iter().map(|(stage, cells)| StageCells { stage, cells, normalised: false });
        let stages = stages.collect();
        let recipe = Recipe {
            head: HeadKind::Linear,
            logistic: Some(LogisticSpec { generated: 60, penalty: 0.003, given_up: 0.2, stages }),
            replay: Some(replay(SyntheticNorm::Joint)),
            ..fine_tune(training(2), training(1))
        };
        let architecture = Architecture { width: 4, ..Architecture::small(Variant::He, 8) };
        let plan = Plan { backbone: architecture.into(), ..plan(recipe, &[2, 2, 1], 1) };
        let midway = check(&plan, &train, Learner::new(plan.clone()).unwrap());
        assert_eq!(midway, BTreeSet::from([PhaseKind::Inversion, PhaseKind::Student]));
    }
}

#[test]
fn a_second_generator_and_a_student_of_its_images_go_on_to_the_same_bits() {
    let (train, _) = data(6);
    let mut recipe = data_free(SyntheticNorm::Separate);
    let inversion = replay(SyntheticNorm::Separate).inversion;
    recipe.new_replay = Some(NewReplaySpec { inversion, images_per_class: 12 });
    recipe.increment.terms = everything().increment.terms;
    let terms = vec![TermSpec::ClassBalanced(ClassBalanced { weight: 1.0, rows: Rows::All })];
    recipe.balance = Some(PhaseSpec { trained: Trained::Head, terms, training: training(2) });
    recipe.new_teacher.as_mut().unwrap().training.epochs = 2;
    let plan = plan(recipe, &[2, 2, 2], 1);
    let midway = check(&plan, &train, Learner::new(plan.clone()).unwrap());
    assert_eq!(midway, PHASES[..5].iter().copied().collect());
}

#[test]
fn a_feature_matrix_is_kept_counted_and_taken_up_again() {
    let (train, _) = data(5);
    let plan = plan(efc(training(2), training(2)), &[2, 2, 1], 1);
    let midway = check(&plan, &train, Learner::new(plan.clone()).unwrap());
    assert_eq!(midway, BTreeSet::from([PhaseKind::Student]));
    let (events, learner) = run(plan.clone(), &train);
    let width = plan.backbone.feature_width();
    for event in &events {
        if let Event::TaskLearned { stored_bytes, .. } = event {
            assert_eq!(*stored_bytes, (width * width * 4) as u64, "a number for each pair of features");
        }
    }
    let values = &learner.save().unwrap().fixed["feature-matrix"];
    let matrix = values.get("feature-matrix").unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(matrix.len(), width);
    let trace: f32 = (0..width).map(|at| matrix[at][at]).sum();
    assert!(trace > 0.0 && (0..width).all(|at| matrix[at][at] >= -1e-6 * trace), "{trace}");
    for (row, column) in (0..width).flat_map(|row| (0..row).map(move |column| (row, column))) {
        assert!((matrix[row][column] - matrix[column][row]).abs() <= 1e-5 * trace);
    }
    // A model of another process has none.
    let model = learner.model().unwrap().snapshot().clone();
    let longer = crate::support::plan(efc(training(2), training(2)), &[2, 2, 1, 1], 1);
    let refused = Learner::new(longer).unwrap().adopt(model, None, Exemplars::default()).unwrap_err();
    assert!(refused.to_string().contains("the recipe has elastic-features"), "{refused}");
    // Where a matrix is missing, or has another form, the state is none of this plan.
    let mut saved = learner.save().unwrap();
    let wrong = Parameters::from_tensors(
        [("feature-matrix".to_owned(), Tensor::new(&[[1f32]], &Device::Cpu).unwrap())].into(),
    );
    saved.fixed.insert("feature-matrix".to_owned(), wrong);
    let refused =
        |saved: &Saved| format!("{:#}", Learner::restore(plan.clone(), saved, &train).err().unwrap());
    assert!(refused(&saved).contains("feature-matrix: it is [1, 1]"), "{}", refused(&saved));
    saved.fixed.remove("feature-matrix");
    assert!(refused(&saved).contains("it should have those of"), "{}", refused(&saved));
}

/// A matrix of a cosine head would say nothing of its answers.
#[test]
fn elastic_features_are_of_a_linear_head() {
    let recipe = Recipe { head: HeadKind::Cosine, ..efc(training(1), training(1)) };
    let refused = format!("{:#}", recipe.check().unwrap_err());
    assert!(refused.contains("use head = \"linear\" or \"without-bias\""), "{refused}");
}

#[test]
fn joint_training_and_a_base_model_that_was_taken_go_on_to_the_same_bits() {
    let (train, _) = data(4);
    let joint = plan(joint(training(2), training(2)), &[2, 2], 1);
    check(&joint, &train, Learner::new(joint.clone()).unwrap());
    let plan = plan(everything(), &[2, 2], 1);
    let mut first = Learner::new(plan.clone()).unwrap();
    while !matches!(first.advance(&train).unwrap(), Some(Event::TaskLearned { .. })) {}
    let mut learner = Learner::new(plan.clone()).unwrap();
    learner.adopt_base(first.model().unwrap().snapshot().clone()).unwrap();
    check(&plan, &train, learner);
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let (train, _) = data(4);
    let plan = plan(everything(), &[2, 2], 1);
    let mut learner = Learner::new(plan.clone()).unwrap();
    let phase = |event: &Option<Event>| match event {
        Some(Event::Progress { phase, .. }) => Some(*phase),
        _ => None,
    };
    while phase(&learner.advance(&train).unwrap()) != Some(PhaseKind::Balance) {}
    let saved = learner.save().unwrap();
    let refused = |change: &dyn Fn(&mut Saved, &mut serde_json::Value), part: &str| {
        let (mut wrong, mut position) = (saved.clone(), serde_json::to_value(&saved.position).unwrap());
        change(&mut wrong, &mut position);
        wrong.position = serde_json::from_value(position).unwrap();
        let error = format!("{:#}", Learner::restore(plan.clone(), &wrong, &train).err().unwrap());
        assert!(error.contains(part), "{part}: {error}");
    };
    refused(&|_, at| at["task"] = 7.into(), "does not come to Within { index: 3 } of task 8");
    refused(&|_, at| at["task"] = u64::MAX.into(), "does not come to");
    refused(&|_, at| at["stage"] = serde_json::json!({"within": {"index": 9}}), "does not come to");
    refused(&|_, at| at["stage"] = "done".into(), "does not come to");
    refused(&|_, at| at["done"] = 2.into(), "2 of 2 epochs");
    refused(&|_, at| at["done"] = serde_json::Value::Null, "the state has values of");
    refused(&|_, at| at["exemplars"]["by-class"][0][0] = 4_000_000_000u32.into(), "exemplars");
    refused(&|_, at| at["exemplars"]["by-class"][1] = at["exemplars"]["by-class"][0].clone(), "exemplars");
    refused(&|wrong, _| drop(wrong.fixed.remove("old")), "\"old\"");
    refused(&|wrong, _| drop(wrong.fixed.remove("statistics")), "\"statistics\"");
    refused(&|wrong, _| drop(wrong.fixed.get_mut("statistics").unwrap().remove("means")), "means");
    refused(&|wrong, _| drop(wrong.fixed.get_mut("model").unwrap().remove("head.1.weight")), "head.1.weight");
    let other = saved.fixed["generator"].clone();
    refused(&move |wrong, _| drop(wrong.moving.insert("optimizer".into(), other.clone())), "holds no tensor");
    assert!(Learner::restore(plan.clone(), &saved, &train).is_ok());
}
