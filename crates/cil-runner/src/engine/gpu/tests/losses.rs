//! Losses of more rows than candle keeps constants for, in captured steps.

use std::collections::BTreeMap;

use candle_core::DType;
use cil_backbone::{HeadKind, HeadWeights, Outputs};
use cil_engine::captures::{Captures, Repeatable};
use cil_engine::{GraphBuilder, Op, Shape, uploads};
use cil_train::recipe::{Columns, Rows, TermSpec};
use cil_train::step::Step;
use cil_train::term::{CrossEntropy, HeadCrossEntropy, Objective};

use super::super::*;
use super::{bits, noise, turn};

/// New rows, exemplars and generated ones.
const ROWS: [usize; 3] = [700, 100, 500];
const CLASSES: [usize; 2] = [4, 2];
const WIDTH: usize = 5;

/// A step that adds the loss of its inputs (logits, features, labels) to what was there.
struct Adding {
    objective: Objective,
    head: HeadWeights,
    sum: Tensor,
}

impl Repeatable for Adding {
    type Done = ();
    type Error = candle_core::Error;

    fn state(&mut self) -> Vec<&mut Tensor> {
        vec![&mut self.sum]
    }

    fn step(&mut self, inputs: &[Tensor]) -> candle_core::Result<()> {
        let [logits, features, labels] = inputs else { candle_core::bail!("three inputs") };
        let student = Outputs {
            features: features.clone(),
            logits: logits.clone(),
            similarities: None,
            scale: None,
            maps: BTreeMap::new(),
        };
        let [new, exemplars, generated] = ROWS;
        let step = Step {
            old_classes: CLASSES[0],
            classes: CLASSES[0] + CLASSES[1],
            labels,
            new_rows: 0..new,
            exemplar_rows: new..new + exemplars,
            synthetic_rows: new + exemplars..new + exemplars + generated,
            student: &student,
            old: None,
            new: None,
            new_of_all: None,
            turned: None,
            head: &self.head,
            old_head: None,
            feature_matrix: None,
            exemplar_share: None,
            class_counts: &[],
            aux_nets: BTreeMap::new(),
        };
        let total = self.objective.loss(&step)?.total;
        // As a term does that names rows one by one.
        let rows: Vec<u32> = (0..1290).rev().collect();
        let named =
            features.index_select(&uploads::constant(&rows, features.device())?, 0)?.sqr()?.mean_all()?;
        self.sum = ((&self.sum + total)? + named)?.detach();
        Ok(())
    }

    fn prepare(&mut self, (): &()) -> candle_core::Result<()> {
        Ok(())
    }

    fn repeat(&mut self, (): &()) {}
}

fn graph() -> Graph {
    let mut graph = GraphBuilder::new(Shape::Vector { width: WIDTH });
    let node = graph.add("relu", Op::Relu, &[graph.input()]).unwrap();
    graph.tap("out", node);
    graph.build().unwrap()
}

fn adding(device: &Device) -> Adding {
    let terms = [
        TermSpec::CrossEntropy(CrossEntropy {
            weight: 1.0,
            rows: Rows::All,
            columns: Columns::Seen,
            balanced: true,
            smoothing: 0.0,
        }),
        TermSpec::HeadCrossEntropy(HeadCrossEntropy { weight: 0.5, rows: Rows::All, balanced: true }),
    ];
    let weights = vec![noise(&[CLASSES[0] + CLASSES[1], WIDTH], "head").to_device(device).unwrap()];
    Adding {
        objective: Objective::new(&terms, &graph()).unwrap(),
        head: HeadWeights {
            kind: HeadKind::WithoutBias,
            weights,
            biases: Vec::new(),
            scale: None,
            projection: None,
            power: None,
        },
        sum: Tensor::zeros((), DType::F32, device).unwrap(),
    }
}

/// Logits, features and labels, new classes first.
fn inputs(part: &str) -> [Tensor; 3] {
    let rows = ROWS.iter().sum();
    let classes = (0..rows).map(|row| match row < ROWS[0] {
        true => (CLASSES[0] + row % CLASSES[1]) as u32,
        false => (row % CLASSES[0]) as u32,
    });
    let labels = Tensor::from_iter(classes, &Device::Cpu).unwrap();
    [
        noise(&[rows, CLASSES[0] + CLASSES[1]], part),
        noise(&[rows, WIDTH], &format!("{part}, features")),
        labels,
    ]
}

#[test]
fn losses_with_balanced_weights_of_many_rows_are_captured() {
    let Some(turn) = turn("balanced losses of many rows") else { return };
    let device = turn.gpu.device();
    let executor = CudaExecutor::new(graph(), &turn.gpu, Precision::Exact);
    let _kept = uploads::keep(&device);
    let (mut captured, mut one_by_one, mut here) = (adding(&device), adding(&device), adding(&Device::Cpu));
    let mut captures = Captures::new(&executor, &device);
    for part in ["a", "b", "c", "d"] {
        let inputs = inputs(part);
        captures.step(&mut captured, &inputs, &[]).unwrap();
        one_by_one.step(&inputs.each_ref().map(|it| it.to_device(&device).unwrap())).unwrap();
        here.step(&inputs).unwrap();
    }
    captures.leave(|| captured.state()).unwrap();
    assert_eq!(bits(&captured.sum), bits(&one_by_one.sum));
    let value = |sum: &Tensor| sum.to_device(&Device::Cpu).unwrap().to_scalar::<f32>().unwrap();
    let (found, expected) = (value(&captured.sum), value(&here.sum));
    assert!((found - expected).abs() < 1e-5 * expected, "{found}, not {expected}");
    assert!(expected > 4.0, "four losses: {expected}");
}
