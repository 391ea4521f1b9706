//! How exemplars count: beside generated images, in margin ranking, as ABD's table draws them, and in whole batches.

use std::collections::BTreeMap;

use crate::support::{data, plan, replay, run, training, values};
use candle_core::{DType, Device, Tensor};
use cil_backbone::{HeadKind, HeadWeights, Outputs, POOLED};
use cil_data::exemplars::Budget;
use cil_engine::{Graph, GraphBuilder, Op, Shape};
use cil_train::event::{Event, PhaseKind};
use cil_train::methods::rehearsal::rehearsal;
use cil_train::methods::{lucir, with_dfgr};
use cil_train::recipe::{Recipe, Rows, SyntheticNorm, TermSpec, Training};
use cil_train::step::Step;
use cil_train::term::{MarginRanking, Objective};

/// Six old classes and two new ones: eight new rows, two exemplars, six generated rows, whose cosine to the nearest new
/// class is -1 for exemplars and 1 for generated rows.
fn on_step<Out>(exemplar_share: Option<f64>, see: impl FnOnce(&Step<'_>) -> Out) -> Out {
    let cosines: Vec<f64> = (0..16)
        .flat_map(|row| {
            let new = if row < 10 { -1.0 } else { 1.0 };
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, new, new]
        })
        .collect();
    let cosines = Tensor::from_vec(cosines, (16, 8), &Device::Cpu).unwrap();
    let student = Outputs {
        features: Tensor::zeros((16, 3), DType::F64, &Device::Cpu).unwrap(),
        logits: cosines.clone(),
        similarities: Some(cosines),
        scale: None,
        maps: BTreeMap::new(),
    };
    let labels: Vec<u32> = (0..16).map(|row| if row < 8 { 6 } else { 0 }).collect();
    let head = HeadWeights {
        kind: HeadKind::WithoutBias,
        weights: Vec::new(),
        biases: Vec::new(),
        scale: None,
        projection: None,
        power: None,
    };
    see(&Step {
        old_classes: 6,
        classes: 8,
        labels: &Tensor::new(labels, &Device::Cpu).unwrap(),
        new_rows: 0..8,
        exemplar_rows: 8..10,
        synthetic_rows: 10..16,
        student: &student,
        old: None,
        new: None,
        new_of_all: None,
        turned: None,
        head: &head,
        old_head: None,
        feature_matrix: None,
        exemplar_share,
        class_counts: &[],
        aux_nets: BTreeMap::new(),
    })
}

#[test]
fn exemplars_have_their_stated_share_of_what_old_classes_count_for() {
    let weights = |share, rows| {
        on_step(share, |step| {
            let weights = step.balanced_weights(&step.rows(rows), &step.student.logits).unwrap();
            weights.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()
        })
    };
    // Old classes are 6 of 8, so old rows weigh 12 of 16 together and new ones 4.
    assert_eq!(weights(None, Rows::All), [vec![0.5; 8], vec![1.5; 8]].concat());
    assert_eq!(weights(Some(0.5), Rows::All), [vec![0.5; 8], vec![3.0; 2], vec![1.0; 6]].concat());
    assert_eq!(weights(Some(0.25), Rows::All), [vec![0.5; 8], vec![1.5; 8]].concat());
    assert_eq!(weights(Some(1.0), Rows::Old), [vec![4.0; 2], vec![0.0; 6]].concat());
    // Where one kind is alone there is nothing to share.
    assert_eq!(weights(Some(0.5), Rows::Real), weights(None, Rows::Real));
    assert_eq!(weights(Some(0.5), Rows::Synthetic), vec![1.0; 6]);
}

fn graph() -> Graph {
    let mut graph = GraphBuilder::new(Shape::Map { channels: 1, height: 4, width: 4 });
    let input = graph.input();
    let pooled = graph.add("pool", Op::GlobalAvgPool, &[input]).unwrap();
    graph.tap(POOLED, pooled);
    graph.build().unwrap()
}

#[test]
fn margins_are_ranked_on_the_rows_that_are_named() {
    let loss = |rows| {
        let terms = [TermSpec::MarginRanking(MarginRanking { weight: 1.0, margin: 0.5, negatives: 2, rows })];
        let objective = Objective::new(&terms, &graph()).unwrap();
        on_step(None, |step| objective.loss(step).unwrap().total.to_scalar::<f64>().unwrap())
    };
    // max(0, 0.5 - 0 + cosine to a new class): 0 for exemplars, 1.5 for generated images.
    assert_eq!((loss(Rows::Exemplars), loss(Rows::Synthetic)), (0.0, 1.5));
    assert!((loss(Rows::Old) - 1.5 * 6.0 / 8.0).abs() < 1e-12);
}

/// Images of an epoch of the student, by task.
fn images(events: &[Event]) -> Vec<usize> {
    let of_student = |event: &Event| match event {
        Event::Progress { phase: PhaseKind::Student, images, done: 1, .. } => Some(*images),
        _ => None,
    };
    events.iter().filter_map(of_student).collect()
}

#[test]
fn rehearsal_sees_as_many_exemplars_as_new_images_drawn_at_random() {
    let (train, _) = data(6);
    let recipe = rehearsal(training(1), training(1), Budget::PerClass(3));
    let (events, learner) = run(plan(recipe.clone(), &[2, 2, 2], 1), &train);
    // Twelve images of a class: 24 new ones, and from the second task on as many draws of 6 and of 12 exemplars.
    assert_eq!(images(&events), [24, 48, 48]);
    let (_, again) = run(plan(recipe.clone(), &[2, 2, 2], 1), &train);
    assert_eq!(values(&again), values(&learner), "the same seed draws the same exemplars");
    let herded = Recipe { random_exemplars: false, ..recipe.clone() };
    let (_, herded) = run(plan(herded, &[2, 2, 2], 1), &train);
    assert_ne!(values(&herded), values(&learner));
    let once = Recipe { oversample: false, ..recipe };
    assert_eq!(images(&run(plan(once, &[2, 2, 2], 1), &train).0), [24, 30, 36]);
}

#[test]
fn a_last_batch_that_is_not_full_can_be_left_out() {
    let full = |batch| Training { batch, drop_last: true, ..training(1) };
    assert_eq!((full(16).steps(24), full(16).steps(32), full(16).steps(10)), (1, 2, 1));
    assert_eq!((training(1).steps(24), training(1).steps(32), training(1).steps(0)), (2, 2, 0));
    let (train, _) = data(4);
    let recipe = |drop_last| {
        let of = |batch| Training { batch, drop_last, ..training(1) };
        lucir(of(16), of(16), 0)
    };
    assert_eq!(images(&run(plan(recipe(true), &[2, 2], 1), &train).0), [16, 16]);
    assert_eq!(images(&run(plan(recipe(false), &[2, 2], 1), &train).0), [24, 24]);
}

#[test]
fn what_needs_exemplars_is_refused_without_them() {
    let refused = |recipe: Recipe, part: &str| {
        let message = format!("{:#}", recipe.check().unwrap_err());
        assert!(message.contains(part), "{message}");
    };
    let lucir = |exemplars| lucir(training(1), training(1), exemplars);
    refused(Recipe { oversample: true, ..lucir(0) }, "oversample is true and no exemplar is kept");
    refused(Recipe { random_exemplars: true, ..lucir(0) }, "random-exemplars is true");
    let mut ranked = lucir(0);
    ranked.increment.terms[2] = TermSpec::MarginRanking(MarginRanking {
        weight: 1.0,
        margin: 0.5,
        negatives: 2,
        rows: Rows::Exemplars,
    });
    refused(ranked, "rows is \"exemplars\" and no exemplar is kept");
    let mut ranked = lucir(20);
    ranked.increment.terms[2] =
        TermSpec::MarginRanking(MarginRanking { weight: 1.0, margin: 0.5, negatives: 2, rows: Rows::New });
    refused(ranked, "margin-ranking is of old images");
    let mut shared = with_dfgr(lucir(20), replay(SyntheticNorm::Joint));
    shared.check().unwrap();
    shared.replay.as_mut().unwrap().exemplar_share = Some(1.5);
    refused(shared.clone(), "replay.exemplar-share is 1.5; use a value from 0 to 1");
    (shared.exemplars, shared.increment.terms) = (Budget::PerClass(0), lucir(0).increment.terms);
    shared.replay.as_mut().unwrap().exemplar_share = Some(0.5);
    refused(shared, "replay.exemplar-share is 0.5 and no exemplar is kept");
}
