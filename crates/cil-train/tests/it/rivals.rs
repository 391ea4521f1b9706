//! Losses of rival methods against PyTorch (`golden/rivals.py`), finite differences, and at their edges.

use candle_core::{DType, Device, Tensor};
use cil_train::loss::binary::{binary_cross_entropy, distilled_targets};
use cil_train::loss::features::{Projector, anti_collapse, elastic, feature_matrix, projected_kd};
use cil_train::loss::logits::global_kd;
use cil_train::loss::rotation::rotation;

use crate::golden::{Case, assert_close, check_detached, check_gradient, flat};

const GOLDEN: &str = include_str!("../golden/rivals.json");

fn scalar(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

#[test]
fn the_sigmoids_of_icarl_match_torch() {
    let case = Case::load(GOLDEN, "icarl");
    let labels = case.tensor("labels");
    let old = case.tensor("old");
    let loss = |logits: &Tensor, old: Option<&Tensor>| {
        binary_cross_entropy(logits, &distilled_targets(&labels, old, 5, logits)?)
    };
    case.check(&["logits"], |it| loss(&it[0], Some(&old)));
    Case::load(GOLDEN, "icarl_base").check(&["logits"], |it| loss(&it[0], None));
    check_detached(&old, |old| loss(&case.tensor("logits"), Some(old)));
}

#[test]
fn binary_cross_entropy_at_its_edges() {
    let of = |logits: &[f64], targets: &[f64]| {
        let one_row = |it: &[f64]| Tensor::from_vec(it.to_vec(), (1, it.len()), &Device::Cpu).unwrap();
        (one_row(logits), one_row(targets))
    };
    // Sure and right, sure and wrong, undecided.
    for (logit, target, expected) in [(200.0, 1.0, 0.0), (-1000.0, 1.0, 1000.0), (0.0, 0.3, 2f64.ln())] {
        let (logits, targets) = of(&[logit], &[target]);
        assert_close(scalar(&binary_cross_entropy(&logits, &targets).unwrap()), expected, 1e-12, "edge");
    }
    let (logits, targets) = of(&[0.0, 0.0], &[0.25, 1.0]);
    let gradients = check_gradient(&[logits], |it| binary_cross_entropy(&it[0], &targets));
    assert_eq!(flat(&gradients[0]), [0.25, -0.5]);
    let (one, two) = (of(&[1.0], &[1.0]).0, of(&[1.0, 1.0], &[1.0]).0);
    assert!(binary_cross_entropy(&one, &two).is_err());
}

#[test]
fn an_old_class_is_asked_of_the_old_model_and_a_new_one_of_the_label() {
    let like = Tensor::zeros(1, DType::F64, &Device::Cpu).unwrap();
    let labels = |it: &[u32]| Tensor::new(it, &Device::Cpu).unwrap();
    let old = Tensor::new(&[[0f64, 1000.0], [-1000.0, 0.0]], &Device::Cpu).unwrap();
    // The first row is an exemplar of class 0: its label says nothing.
    let targets = distilled_targets(&labels(&[0, 3]), Some(&old), 4, &like).unwrap();
    assert_eq!(targets.to_vec2::<f64>().unwrap(), [[0.5, 1.0, 0.0, 0.0], [0.0, 0.5, 0.0, 1.0]]);
    let targets = distilled_targets(&labels(&[1]), None, 2, &like).unwrap();
    assert_eq!(targets.to_vec2::<f64>().unwrap(), [[0.0, 1.0]]);
}

#[test]
fn the_old_prediction_among_all_classes_matches_torch() {
    let case = Case::load(GOLDEN, "global_kd");
    let old = case.tensor("old");
    case.check(&["student"], |it| global_kd(&it[0], &old, 2.0));
    check_detached(&old, |old| global_kd(&case.tensor("student"), old, 2.0));
    // Agreement costs nothing where new classes get nothing.
    let none = (Tensor::zeros((4, 2), DType::F64, &Device::Cpu).unwrap() - 1e4).unwrap();
    let student = Tensor::cat(&[&old, &none], 1).unwrap();
    assert_close(scalar(&global_kd(&student, &old, 2.0).unwrap()), 0.0, 1e-12, "agreement");
    assert!(global_kd(&old, &student, 2.0).is_err());
    assert!(global_kd(&student, &old, 0.0).is_err());
}

#[test]
fn projected_distillation_matches_torch() {
    let case = Case::load(GOLDEN, "projected_kd");
    let old = case.tensor("old");
    let layers = ["weight1", "bias1", "weight2", "bias2"];
    case.check(&["student", "weight1", "bias1", "weight2", "bias2"], |it| {
        projected_kd(&it[0], &old, &Projector { layers: [(&it[1], &it[2]), (&it[3], &it[4])] })
    });
    let values = layers.map(|name| case.tensor(name));
    let projector = Projector { layers: [(&values[0], &values[1]), (&values[2], &values[3])] };
    check_detached(&old, |old| projected_kd(&case.tensor("student"), old, &projector));
    assert!(projected_kd(&old.narrow(0, 0, 2).unwrap(), &old, &projector).is_err());
}

#[test]
fn rotations_as_labels_match_torch() {
    let case = Case::load(GOLDEN, "rotation");
    let labels = case.tensor("labels");
    case.check(&["features", "turned", "weight", "bias"], |it| {
        rotation(&it[0], &it[1], &labels, &it[2], &it[3])
    });
    let [features, turned, weight, bias] =
        ["features", "turned", "weight", "bias"].map(|name| case.tensor(name));
    let few = turned.narrow(0, 0, 6).unwrap();
    assert!(rotation(&features, &few, &labels, &weight, &bias).is_err());
}

#[test]
fn anti_collapse_matches_torch() {
    let case = Case::load(GOLDEN, "anti_collapse");
    case.check(&["features"], |it| anti_collapse(&it[0], 0.9));
    let features = case.tensor("features");
    // A feature that is another one twice: its last pivot is rounding, and nothing is NaN.
    let twice = Tensor::cat(&[&features, &features.narrow(1, 0, 1).unwrap()], 1).unwrap();
    let loss = scalar(&anti_collapse(&twice.to_dtype(DType::F32).unwrap(), 0.9).unwrap());
    assert!((-0.9..=0.0).contains(&loss), "{loss}");
    let few = features.narrow(0, 0, 4).unwrap();
    assert!(anti_collapse(&few, 0.9).unwrap_err().to_string().contains("4 rows of 4 features"));
}

#[test]
fn elastic_features_match_torch() {
    let case = Case::load(GOLDEN, "elastic");
    let [old, logits, head] = ["old", "logits", "head"].map(|name| case.tensor(name));
    let matrix = feature_matrix(&logits, &head).unwrap();
    let weights = (10.0, 0.1);
    case.check(&["student"], |it| elastic(&it[0], &old, &matrix, weights));
    check_detached(&old, |old| elastic(&case.tensor("student"), old, &matrix, weights));
    // A head that is sure of its answers does not care where features are; one more number for all classes is none.
    let sure = (&logits * 1e6).unwrap();
    let nothing = feature_matrix(&sure, &head).unwrap().abs().unwrap().sum_all().unwrap();
    assert!(scalar(&nothing) < 1e-9, "{nothing}");
    let all_moved = head.broadcast_add(&Tensor::ones(4, DType::F64, &Device::Cpu).unwrap()).unwrap();
    let again = feature_matrix(&logits, &all_moved).unwrap();
    let apart = (again - &matrix).unwrap().abs().unwrap().sum_all().unwrap();
    assert!(scalar(&apart) < 1e-12, "{apart}");
    assert!(
        elastic(&old, &old, &head, weights).unwrap_err().to_string().contains("the feature matrix is [5, 4]")
    );
    assert!(feature_matrix(&logits, &matrix).is_err());
}
