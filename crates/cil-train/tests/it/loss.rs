//! Every loss against PyTorch (`golden/losses.py`), against finite differences, and at its edges.

use candle_core::{DType, Device, Tensor, Var};
use cil_train::loss::cross_entropy::{
    Divisor, balanced_class_weights, cross_entropy, smoothed_cross_entropy, weighted_cross_entropy,
};
use cil_train::loss::features::{Projections, angle_relation, less_forget, old_head_feature_kd};
use cil_train::loss::logits::{logit_kd, logit_l1};
use cil_train::loss::margin_ranking::margin_ranking;
use cil_train::loss::nca::{NcaForm, nca};

use crate::golden::{Case, assert_close, check_detached, check_gradient, flat};

const GOLDEN: &str = include_str!("../golden/losses.json");

fn scalar(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

fn index(labels: &[u32]) -> Tensor {
    Tensor::new(labels, &Device::Cpu).unwrap()
}

#[test]
fn cross_entropy_matches_torch() {
    let case = Case::load(GOLDEN, "cross_entropy");
    let labels = case.tensor("labels");
    case.check(&["logits"], |it| cross_entropy(&it[0], &labels));

    let case = Case::load(GOLDEN, "class_weights");
    let class_weights = case.tensor("class_weights");
    case.check(&["logits"], |it| {
        weighted_cross_entropy(&it[0], &labels, Some(&class_weights), None, Divisor::Weights)
    });

    let case = Case::load(GOLDEN, "both_weights_by_rows");
    let row_weights = case.tensor("row_weights");
    case.check(&["logits"], |it| {
        weighted_cross_entropy(&it[0], &labels, Some(&class_weights), Some(&row_weights), Divisor::Rows)
    });
}

#[test]
fn cross_entropy_at_its_edges() {
    let case = Case::load(GOLDEN, "cross_entropy");
    let (logits, labels) = (case.tensor("logits"), case.tensor("labels"));
    let plain = scalar(&cross_entropy(&logits, &labels).unwrap());
    for divisor in [Divisor::Weights, Divisor::Rows] {
        let unweighted = weighted_cross_entropy(&logits, &labels, None, None, divisor).unwrap();
        assert_close(scalar(&unweighted), plain, 1e-14, "no weights");
        // Nobody counts: zero, not NaN, and no gradient.
        let nobody = Tensor::zeros(6, DType::F64, &Device::Cpu).unwrap();
        let gradients = check_gradient(std::slice::from_ref(&logits), |it| {
            weighted_cross_entropy(&it[0], &labels, None, Some(&nobody), divisor)
        });
        assert!(flat(&gradients[0]).iter().all(|it| *it == 0.0));
    }
    let one_class = logits.narrow(1, 0, 1).unwrap();
    assert_eq!(scalar(&cross_entropy(&one_class, &index(&[0; 6])).unwrap()), 0.0);
    assert!(cross_entropy(&logits, &index(&[0; 5])).is_err());
    assert!(cross_entropy(&logits.narrow(0, 0, 0).unwrap(), &index(&[])).is_err());
    let short = Tensor::ones(4, DType::F64, &Device::Cpu).unwrap();
    assert!(weighted_cross_entropy(&logits, &labels, Some(&short), None, Divisor::Rows).is_err());
}

#[test]
fn balanced_weights_give_every_class_the_same_say() {
    let counts = [10usize, 0, 40, 50];
    let weights = balanced_class_weights(&counts);
    for (count, weight) in counts.iter().zip(&weights) {
        let share = *count as f32 * weight;
        assert!(if *count == 0 { share == 0.0 } else { (share - 100.0 / 3.0).abs() < 1e-4 });
    }
    assert_eq!(balanced_class_weights(&[7, 7]), [1.0, 1.0]);
    assert!(balanced_class_weights(&[]).is_empty());
}

#[test]
fn less_forget_matches_torch() {
    let case = Case::load(GOLDEN, "less_forget");
    case.check(&["student"], |it| less_forget(&it[0], &case.tensor("old")));
}

#[test]
fn less_forget_at_its_edges() {
    let old = Case::load(GOLDEN, "less_forget").tensor("old");
    for (factor, expected) in [(1.0, 0.0), (3.0, 0.0), (-1.0, 2.0)] {
        let loss = less_forget(&(&old * factor).unwrap(), &old).unwrap();
        assert_close(scalar(&loss), expected, 1e-11, "scaled");
    }
    let zero = Var::zeros(old.dims(), DType::F32, &Device::Cpu).unwrap();
    let loss = less_forget(&zero, &old.to_dtype(DType::F32).unwrap()).unwrap();
    assert_eq!(scalar(&loss), 1.0);
    assert!(flat(loss.backward().unwrap().get(&zero).unwrap()).iter().all(|it| it.is_finite()));
    assert!(less_forget(&old, &old.narrow(1, 0, 1).unwrap()).is_err());
}

const PAPER: NcaForm = NcaForm::Paper { margin: 0.6 };

#[test]
fn nca_matches_torch() {
    for (name, form) in
        [("nca", NcaForm::Released), ("nca_without_margin", NcaForm::Released), ("nca_of_the_paper", PAPER)]
    {
        let case = Case::load(GOLDEN, name);
        let labels = case.tensor("labels");
        case.check(&["similarities", "scale"], |it| {
            nca(&it[0].broadcast_mul(&it[1])?, &labels, form, Some(&it[1]))?.mean_all()
        });
    }
}

#[test]
fn nca_at_its_edges() {
    let logits = Tensor::new(&[[3f64, 1., -2.], [0., 5., 5.5]], &Device::Cpu).unwrap();
    let labels = index(&[0, 1]);
    let rows = |form| {
        flat(&nca(&logits, &labels, form, Some(&Tensor::new(&[1f64], &Device::Cpu).unwrap())).unwrap())
    };
    let released = rows(NcaForm::Released);
    // The label's logit is the largest: cross-entropy. It is not: the largest counts twice.
    let sum = |others: &[f64]| others.iter().map(|it| it.exp()).sum::<f64>().ln();
    assert_close(released[0], sum(&[3., 1., -2.]) - 3., 1e-14, "first");
    assert_close(released[1], sum(&[0., 5.5, 5.5]) - 5., 1e-14, "second");
    let paper = rows(PAPER);
    assert_close(paper[0], (sum(&[1., -2.]) - 3. + 0.6).max(0.), 1e-14, "hinged");
    assert_eq!(paper[0], 0.0);
    assert_close(paper[1], sum(&[0., 5.5]) - 5. + 0.6, 1e-14, "with its margin");
    // Large logits overflow nowhere, in f32 too.
    let large = Tensor::new(&[[300f32, -300.], [300., -300.]], &Device::Cpu).unwrap();
    assert_eq!(flat(&nca(&large, &index(&[0, 1]), NcaForm::Released, None).unwrap())[0], 0.0);
    let wrong = flat(&nca(&large, &index(&[0, 1]), NcaForm::Released, None).unwrap())[1];
    assert_close(wrong, 600. + 2f64.ln(), 1e-6, "a wrong one");
    let message = |form, scale: Option<&Tensor>, columns| {
        nca(&logits.narrow(1, 0, columns).unwrap(), &index(&[0, 0]), form, scale).unwrap_err().to_string()
    };
    assert!(message(PAPER, None, 3).contains("it has none"));
    assert!(
        message(PAPER, Some(&Tensor::ones(1, DType::F64, &Device::Cpu).unwrap()), 1).contains("one class")
    );
    assert!(nca(&logits, &index(&[0]), NcaForm::Released, None).is_err());
}

#[test]
fn margin_ranking_matches_torch() {
    let case = Case::load(GOLDEN, "margin");
    let labels = case.tensor("labels");
    case.check(&["similarities"], |it| Ok(margin_ranking(&it[0], &labels, 3, 0.5, 2)?.unwrap()));
}

#[test]
fn margin_ranking_at_its_edges() {
    let similarities = Tensor::new(&[[0.9f64, 0.1, 0.2, -0.3], [0.0, 0.0, 1.0, 1.0]], &Device::Cpu).unwrap();
    let loss = |labels: &[u32], n_old, n_negatives| {
        let found = margin_ranking(&similarities, &index(labels), n_old, 0.5, n_negatives).unwrap();
        found.map(|it| scalar(&it))
    };
    // By hand: row 0 is safe (0.5 - 0.9 + 0.2 < 0); row 1 of class 0 lacks 1.5 against each new class.
    assert_eq!(loss(&[0, 2], 2, 2), Some(0.0));
    assert_eq!(loss(&[0, 0], 2, 2), Some(0.75));
    assert_eq!(loss(&[2, 0], 2, 9), Some(1.5));
    assert_eq!(loss(&[2, 3], 2, 2), None);
    assert_eq!(loss(&[0, 2], 4, 2), None);
    assert_eq!(loss(&[0, 2], 2, 0), None);
    assert!(margin_ranking(&similarities, &index(&[0]), 2, 0.5, 2).is_err());
}

#[test]
fn logit_distillation_matches_torch() {
    let case = Case::load(GOLDEN, "logit_kd");
    let old = case.tensor("old");
    case.check(&["student"], |it| logit_kd(&it[0], &old, 2.0));
    Case::load(GOLDEN, "logit_l1").check(&["student"], |it| logit_l1(&it[0], &old));
}

#[test]
fn logit_distillation_leaves_new_columns_alone() {
    let case = Case::load(GOLDEN, "logit_kd");
    let student = case.tensor("student");
    let old = student.narrow(1, 0, 3).unwrap();
    for loss in [|a: &Tensor, b: &Tensor| logit_kd(a, b, 2.0), logit_l1] {
        assert_eq!(scalar(&loss(&student, &old).unwrap()), 0.0);
        let var = Var::from_tensor(&student).unwrap();
        let gradient = loss(&var, &case.tensor("old")).unwrap().backward().unwrap();
        let new = gradient.get(&var).unwrap().narrow(1, 3, 2).unwrap();
        assert!(flat(&new).iter().all(|it| *it == 0.0));
        assert!(loss(&old, &student).is_err());
    }
    // At agreement the L1 loss pulls nowhere.
    let var = Var::from_tensor(&student).unwrap();
    let gradient = logit_l1(&var, &old).unwrap().backward().unwrap();
    assert!(flat(gradient.get(&var).unwrap()).iter().all(|it| *it == 0.0));
}

#[test]
fn old_head_matches_torch_and_is_zero_on_itself() {
    let case = Case::load(GOLDEN, "old_head");
    let (old, head) = (case.tensor("old"), case.tensor("head"));
    case.check(&["student"], |it| old_head_feature_kd(&it[0], &old, &head));
    assert_eq!(scalar(&old_head_feature_kd(&old, &old, &head).unwrap()), 0.0);
    assert!(old_head_feature_kd(&old, &old, &head.narrow(1, 0, 2).unwrap()).is_err());
}

#[test]
fn angle_relation_matches_torch() {
    let case = Case::load(GOLDEN, "angle");
    case.check(&["student"], |it| angle_relation(&it[0], &case.tensor("old"), None));
    let case = Case::load(GOLDEN, "angle_projected");
    case.check(&["student", "student_projection", "old_projection"], |it| {
        let projections = Projections { student: &it[1], old: &it[2] };
        angle_relation(&it[0], &case.tensor("old"), Some(projections))
    });
}

#[test]
fn angle_relation_sees_only_shape() {
    let rows = Case::load(GOLDEN, "angle").tensor("student");
    let moved = ((&rows * 3.0).unwrap() + 1.0).unwrap();
    assert_close(scalar(&angle_relation(&rows, &moved, None).unwrap()), 0.0, 1e-14, "scaled and moved");
    // Two rows, or equal rows, hold no angle; the gradient stays finite in f32.
    let twice = Tensor::cat(&[&rows, &rows], 0).unwrap().to_dtype(DType::F32).unwrap();
    let var = Var::from_tensor(&twice).unwrap();
    let old = Tensor::cat(&[&rows, &rows.sqr().unwrap()], 0).unwrap().to_dtype(DType::F32).unwrap();
    let gradient = angle_relation(&var, &old, None).unwrap().backward().unwrap();
    assert!(flat(gradient.get(&var).unwrap()).iter().all(|it| it.is_finite()));
    let two = rows.narrow(0, 0, 2).unwrap();
    assert_close(scalar(&angle_relation(&two, &two.neg().unwrap(), None).unwrap()), 0.0, 1e-14, "two rows");
    assert!(angle_relation(&rows, &two, None).is_err());
}

#[test]
fn the_old_model_gets_no_gradient() {
    let case = Case::load(GOLDEN, "old_head");
    let student = Var::from_tensor(&case.tensor("student")).unwrap();
    let (old, head) = (case.tensor("old"), case.tensor("head"));
    check_detached(&old, |it| less_forget(&student, it));
    check_detached(&old, |it| logit_kd(&student, it, 2.0));
    check_detached(&old, |it| logit_l1(&student, it));
    check_detached(&old, |it| old_head_feature_kd(&student, it, &head));
    check_detached(&head, |it| old_head_feature_kd(&student, &old, it));
    let projection = Var::from_tensor(&head).unwrap();
    let projections = Projections { student: &projection, old: &projection };
    check_detached(&old, |it| angle_relation(&student, it, None));
    check_detached(&old, |it| angle_relation(&student, it, Some(projections)));
    let labels = index(&[0, 1, 2, 0]);
    let weights = Tensor::ones(4, DType::F64, &Device::Cpu).unwrap();
    check_detached(&weights, |it| {
        weighted_cross_entropy(&student, &labels, None, Some(it), Divisor::Weights)
    });
}

#[test]
fn smoothed_cross_entropy_matches_targets_that_are_written_out() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../golden/smoothing.json")).unwrap();
    let numbers = |value: &serde_json::Value| -> Vec<f64> { serde_json::from_value(value.clone()).unwrap() };
    let labels: Vec<u32> = serde_json::from_value(golden["labels"].clone()).unwrap();
    let weights = Tensor::new(numbers(&golden["weights"]), &Device::Cpu).unwrap();
    let logits = Tensor::from_vec(numbers(&golden["logits"]), (3, 4), &Device::Cpu).unwrap();
    for (name, weights) in [("plain", None), ("weighted", Some(&weights))] {
        for case in golden[name].as_array().unwrap() {
            let variable = Var::from_tensor(&logits).unwrap();
            let share = case["smoothing"].as_f64().unwrap();
            let loss = smoothed_cross_entropy(&variable, &index(&labels), weights, share).unwrap();
            assert!((scalar(&loss) - case["loss"].as_f64().unwrap()).abs() < 1e-12, "{name} {share}");
            let gradients = loss.backward().unwrap();
            let gradient = gradients.get(&variable).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for (found, expected) in gradient.iter().zip(numbers(&case["gradient"])) {
                assert!((found - expected).abs() < 1e-12, "{name} {share}: {found}, {expected}");
            }
        }
    }
}
