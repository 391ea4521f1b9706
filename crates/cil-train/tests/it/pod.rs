//! POD-spatial against PyTorch (`golden/losses.py`), finite differences, its edges, and itself on other numbers of
//! threads.

use candle_core::{DType, Device, Tensor};
use cil_train::loss::pod::pod_spatial;

use crate::golden::{Case, assert_close, check_detached, check_gradient, flat};

const GOLDEN: &str = include_str!("../golden/losses.json");

/// The loss with the gradient that comes with it, for checks that ask candle.
fn differentiable(student: &Tensor, old: &Tensor, weight: f64) -> candle_core::Result<Tensor> {
    let (loss, grad) = pod_spatial(student, old, weight)?;
    let plane = (student * grad)?.sum_all()?;
    (loss * weight)? + (&plane - plane.detach())?
}

fn scalar(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

#[test]
fn loss_and_gradient_are_pytorch_s() {
    let case = Case::load(GOLDEN, "pod");
    let old = case.tensor("old0");
    case.check(&["student0"], |it| differentiable(&it[0], &old, 1.0));
    // The mean over maps is the weight's business.
    let case = Case::load(GOLDEN, "pod_of_two_maps");
    let old = [case.tensor("old0"), case.tensor("old1")];
    case.check(&["student0", "student1"], |it| {
        differentiable(&it[0], &old[0], 0.35)? + differentiable(&it[1], &old[1], 0.35)?
    });
}

#[test]
fn it_is_blind_to_scale_and_zero_on_itself() {
    let case = Case::load(GOLDEN, "pod");
    let (student, old) = (case.tensor("student0"), case.tensor("old0"));
    let loss = |student: &Tensor| scalar(&pod_spatial(student, &old, 1.0).unwrap().0);
    assert_close(loss(&(&student * 30.0).unwrap()), loss(&student), 1e-13, "scaled");
    let (itself, grad) = pod_spatial(&old, &old, 1.0).unwrap();
    assert_eq!((scalar(&itself), flat(&grad)), (0.0, vec![0.0; 3 * 2 * 4 * 5]));
    // A map of zeros has no profile: the distance is the other's length, and nothing pulls.
    let (blank, grad) = pod_spatial(&old.zeros_like().unwrap(), &old, 1.0).unwrap();
    assert_close(scalar(&blank), 1.0, 1e-14, "blank");
    assert!(flat(&grad).iter().all(|it| *it == 0.0));
    check_detached(&old, |it| Ok(pod_spatial(&student, it, 1.0)?.0));
    let dims = &[2, 1, 1, 3];
    let maps = [
        Tensor::ones(dims, DType::F64, &Device::Cpu).unwrap(),
        Tensor::new(&[[[[1f64, 2., 3.]]], [[[3., 2., 1.]]]], &Device::Cpu).unwrap(),
    ];
    check_gradient(&maps[..1], |it| differentiable(&it[0], &maps[1], 1.3));
}

#[test]
fn numbers_of_threads_and_types_do_not_matter() {
    let values = |phase: f32| -> Vec<f32> { (0..37 * 6 * 144).map(|at| (at as f32 * phase).sin()).collect() };
    let map = |phase| Tensor::from_vec(values(phase), (37, 6, 12, 12), &Device::Cpu).unwrap();
    let (student, old) = (map(1.3), map(0.7));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (loss, grad) = pool.install(|| pod_spatial(&student, &old, 2.0).unwrap());
        (flat(&loss), flat(&grad))
    };
    let one = with(1);
    assert!(one == with(2) && one == with(3));
    let wide = |it: &Tensor| it.to_dtype(DType::F64).unwrap();
    let (loss, grad) = pod_spatial(&wide(&student), &wide(&old), 2.0).unwrap();
    assert_close(one.0[0], scalar(&loss), 1e-6, "loss");
    for (narrow, wide) in one.1.iter().zip(flat(&grad)) {
        assert!((narrow - wide).abs() < 1e-8, "{narrow} {wide}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let case = Case::load(GOLDEN, "pod");
    let (student, old) = (case.tensor("student0"), case.tensor("old0"));
    let message = |student: &Tensor| pod_spatial(student, &old, 1.0).unwrap_err().to_string();
    assert!(message(&student.narrow(0, 0, 2).unwrap()).contains("[3, 2, 4, 5], the student's [2, 2, 4, 5]"));
    assert!(message(&student.flatten_from(2).unwrap()).contains("the student's [3, 2, 20]"));
    assert!(message(&student.to_dtype(DType::U32).unwrap()).contains("use F32 or F64"));
}
