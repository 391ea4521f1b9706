//! Every loss against PyTorch (`golden/losses.py`), against finite differences, and at its edges.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use candle_core::{DType, Device, Tensor};
use dtid::dual::{DtidConfig, DualForm, Teacher, dual_teacher_kl, joint_logits};
use dtid::kl::kl;
use dtid::regression::{Centring, double_logit_regression};
use dtid::vid::{initial_raw_variance, variance, vid};

mod support;
use support::{Case, assert_close, check_detached, check_gradient, flat};

const GOLDEN: &str = include_str!("golden/losses.json");

const COLUMNS: DtidConfig = DtidConfig { temperature: 2.0, form: DualForm::Columns { old: 0.7, new: 1.3 } };

fn joint(match_scale: bool) -> DtidConfig {
    DtidConfig { temperature: 1.5, form: DualForm::Joint { weight: 0.5, match_scale } }
}

fn all(logits: &Tensor) -> Teacher<'_> {
    Teacher { logits, rows: None }
}

fn scalar(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

#[test]
fn kl_matches_torch() {
    let case = Case::load(GOLDEN, "kl");
    case.check(&["student"], |it| kl(&it[0], &case.tensor("teacher"), 2.0));
}

#[test]
fn kl_is_zero_on_itself_and_on_one_class() {
    let logits = Case::load(GOLDEN, "kl").tensor("student");
    let loss = kl(&logits, &(&logits + 3.0).unwrap(), 2.0).unwrap();
    assert_close(scalar(&loss), 0.0, 1e-14, "shifted by a constant");
    let one = logits.narrow(1, 0, 1).unwrap();
    let other = logits.narrow(1, 1, 1).unwrap();
    let gradients = check_gradient(&[one], |it| kl(&it[0], &other, 2.0));
    assert_eq!(flat(&gradients[0]), [0.0; 4]);
}

#[test]
fn kl_survives_certain_logits() {
    let student = Tensor::new(&[[-1e4f32, 1e4, 0.0]], &Device::Cpu).unwrap();
    let teacher = Tensor::new(&[[1e4f32, -1e4, 0.0]], &Device::Cpu).unwrap();
    assert_eq!(scalar(&kl(&student, &teacher, 1.0).unwrap()), 2e4);
}

#[test]
fn kl_refuses_what_it_cannot_mean() {
    let logits = Case::load(GOLDEN, "kl").tensor("student");
    let message = |student: &Tensor, temperature| kl(student, &logits, temperature).unwrap_err().to_string();
    assert!(message(&logits, 0.0).contains("temperature is 0.0; use a value from 0.01 to 10000"));
    assert!(message(&logits.narrow(1, 0, 3).unwrap(), 2.0).contains("[4, 5], the student's [4, 3]"));
    assert!(message(&logits.narrow(0, 0, 0).unwrap(), 2.0).contains("at least one row"));
}

#[test]
fn columns_match_torch() {
    let case = Case::load(GOLDEN, "columns");
    let (old, new, rows) = (case.tensor("old"), case.tensor("new"), case.tensor("rows"));
    let new = Teacher { logits: &new, rows: Some(&rows) };
    case.check(&["student"], |it| Ok(dual_teacher_kl(&it[0], all(&old), new, &COLUMNS)?.unwrap()));
}

#[test]
fn columns_leave_out_what_does_not_apply() {
    let case = Case::load(GOLDEN, "columns");
    let (student, old, new) = (case.tensor("student"), case.tensor("old"), case.tensor("new"));
    let rows = case.tensor("rows");
    let nobody =
        Teacher { logits: &new.narrow(0, 0, 0).unwrap(), rows: Some(&rows.narrow(0, 0, 0).unwrap()) };
    let only_old = dual_teacher_kl(&student, all(&old), nobody, &COLUMNS).unwrap().unwrap();
    let expected = kl(&student.narrow(1, 0, 3).unwrap(), &old, 2.0).unwrap();
    assert_close(scalar(&only_old), 0.7 * scalar(&expected), 1e-14, "old teacher alone");

    let new = Teacher { logits: &new, rows: Some(&rows) };
    let silent = DtidConfig { form: DualForm::Columns { old: 0.0, new: 0.0 }, ..COLUMNS };
    assert!(dual_teacher_kl(&student, all(&old), new, &silent).unwrap().is_none());
    let error = dual_teacher_kl(&student, all(&old), all(&old), &COLUMNS).unwrap_err().to_string();
    assert!(error.contains("3 old and 3 new classes, the student has 5 columns"), "{error}");
}

#[test]
fn joint_matches_torch() {
    for (name, config) in [("joint", joint(false)), ("joint_scaled", joint(true))] {
        let case = Case::load(GOLDEN, name);
        let (old, new) = (case.tensor("old"), case.tensor("new"));
        case.check(&["student"], |it| Ok(dual_teacher_kl(&it[0], all(&old), all(&new), &config)?.unwrap()));
    }
}

#[test]
fn joint_is_zero_at_its_target_and_blind_to_each_teachers_level() {
    let case = Case::load(GOLDEN, "joint");
    let (old, new) = (case.tensor("old"), case.tensor("new"));
    let target = joint_logits(&old, &new, true).unwrap();
    let shifted = (&new + 100.0).unwrap();
    let loss = dual_teacher_kl(&target, all(&old), all(&shifted), &joint(true)).unwrap().unwrap();
    assert_close(scalar(&loss), 0.0, 1e-12, "at the target");
    // A teacher of one class is constant; nothing is blown up.
    let one = joint_logits(&old, &new.narrow(1, 0, 1).unwrap(), true).unwrap();
    assert_eq!(flat(&one.narrow(1, 3, 1).unwrap()), [0.0; 4]);
}

#[test]
fn joint_wants_both_teachers_on_the_same_rows() {
    let case = Case::load(GOLDEN, "columns");
    let (student, old, new) = (case.tensor("student"), case.tensor("old"), case.tensor("new"));
    let rows = case.tensor("rows");
    let some = Teacher { logits: &new, rows: Some(&rows) };
    let error = dual_teacher_kl(&student, all(&old), some, &joint(false)).unwrap_err().to_string();
    assert!(error.contains("both on the same rows"), "{error}");
    let old = old.index_select(&rows, 0).unwrap();
    let loss = |student: &Tensor, old: Teacher<'_>, new: Teacher<'_>| {
        scalar(&dual_teacher_kl(student, old, new, &joint(false)).unwrap().unwrap())
    };
    let by_rows = loss(&student, Teacher { logits: &old, rows: Some(&rows) }, some);
    let by_hand = loss(&student.index_select(&rows, 0).unwrap(), all(&old), all(&new));
    assert_eq!(by_rows, by_hand);
}

#[test]
fn config_refuses_unknown_keys_and_bad_values() {
    let read = |text: &str| serde_json::from_str::<DtidConfig>(text);
    let config = read(r#"{"temperature": 2.0, "form": {"columns": {"old": 0.7, "new": 1.3}}}"#).unwrap();
    assert_eq!(config, COLUMNS);
    assert_eq!(read(&serde_json::to_string(&joint(true)).unwrap()).unwrap(), joint(true));
    for wrong in [
        r#"{"temperature": 2.0, "form": {"columns": {"old": 0.7, "new": 1.3, "wieght": 1}}}"#,
        r#"{"temprature": 2.0, "form": {"columns": {"old": 0.7, "new": 1.3}}}"#,
        r#"{"temperature": 2.0, "form": {"columns": {"old": 0.7}}}"#,
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    assert!(DtidConfig { temperature: f64::NAN, ..COLUMNS }.check().is_err());
    assert!(DtidConfig { form: DualForm::Columns { old: 1.0, new: -1.0 }, ..COLUMNS }.check().is_err());
}

#[test]
fn regression_matches_torch() {
    for (name, centring) in [("regression_batch", Centring::Batch), ("regression_row", Centring::Row)] {
        let case = Case::load(GOLDEN, name);
        let (old, new) = (case.tensor("old"), case.tensor("new"));
        case.check(&["student"], |it| double_logit_regression(&it[0], &old, &new, centring));
    }
}

#[test]
fn regression_is_zero_at_its_target() {
    let case = Case::load(GOLDEN, "regression_row");
    let (old, new) = (case.tensor("old"), case.tensor("new"));
    let target = joint_logits(&old, &new, false).unwrap();
    assert_eq!(scalar(&double_logit_regression(&target, &old, &new, Centring::Row).unwrap()), 0.0);
    let error = double_logit_regression(&target, &old, &old, Centring::Row).unwrap_err().to_string();
    assert!(error.contains("[4, 6], the student's [4, 5]"), "{error}");
}

#[test]
fn vid_matches_torch() {
    for name in ["vid", "vid_any_variance"] {
        let case = Case::load(GOLDEN, name);
        case.check(&["mean", "raw"], |it| vid(&it[0], &case.tensor("teacher"), &it[1]));
    }
}

#[test]
fn vid_starts_at_variance_five_and_is_least_at_the_squared_residual() {
    let raw = initial_raw_variance(3, DType::F64, &Device::Cpu).unwrap();
    for found in flat(&variance(&raw).unwrap()) {
        assert_close(found, 5.0, 1e-13, "initial variance");
    }
    let mean = Tensor::new(&[[1f64, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    let on_itself = vid(&mean, &mean, &raw.narrow(0, 0, 2).unwrap()).unwrap();
    assert_close(scalar(&on_itself), 0.5 * 5f64.ln(), 1e-13, "no residual");
    // Residuals ±2 in both channels: the least variance is 4, where the gradient on `a` vanishes.
    let teacher = (&mean + Tensor::new(&[[2f64, -2.0], [-2.0, 2.0]], &Device::Cpu).unwrap()).unwrap();
    let raw = Tensor::new(&[(4f64 - 1e-5).exp_m1().ln(); 2], &Device::Cpu).unwrap();
    let gradients = check_gradient(&[raw], |it| vid(&mean, &teacher, &it[0]));
    assert!(flat(&gradients[0]).iter().all(|it| it.abs() < 1e-14));
}

#[test]
fn variance_does_not_overflow() {
    let raw = Tensor::new(&[-1000f32, 0.0, 1000.0], &Device::Cpu).unwrap();
    let found = flat(&variance(&raw).unwrap());
    assert_close(found[0], 1e-5, 1e-7, "far below");
    assert_close(found[1], std::f64::consts::LN_2, 1e-4, "zero");
    assert_close(found[2], 1000.0, 1e-6, "far above");
}

#[test]
fn teachers_get_no_gradient() {
    let case = Case::load(GOLDEN, "joint");
    let (student, old, new) = (case.tensor("student"), case.tensor("old"), case.tensor("new"));
    let student = candle_core::Var::from_tensor(&student).unwrap();
    let student = student.as_tensor();
    check_detached(&new, |it| kl(&student.narrow(1, 0, 2)?, it, 2.0));
    for config in [COLUMNS, joint(false), joint(true)] {
        check_detached(&new, |it| Ok(dual_teacher_kl(student, all(&old), all(it), &config)?.unwrap()));
        check_detached(&old, |it| Ok(dual_teacher_kl(student, all(it), all(&new), &config)?.unwrap()));
    }
    for centring in [Centring::Batch, Centring::Row] {
        check_detached(&new, |it| double_logit_regression(student, &old, it, centring));
        check_detached(&old, |it| double_logit_regression(student, it, &new, centring));
    }
    let raw = initial_raw_variance(5, DType::F64, &Device::Cpu).unwrap();
    let teacher = joint_logits(&old, &new, false).unwrap();
    check_detached(&teacher, |it| vid(student, it, &raw));
}
