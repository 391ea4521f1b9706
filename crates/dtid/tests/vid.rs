//! The one pass of `vid_grads` against the obvious `vid`, PyTorch (`golden/losses.py`), finite differences, and
//! itself on other numbers of threads.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use candle_core::{DType, Device, Tensor, Var};
use dtid::vid::{VidGrads, vid, vid_grads};

#[expect(dead_code, reason = "the other tests of losses use all of it")]
mod support;
use support::{Case, assert_close, flat};

const GOLDEN: &str = include_str!("golden/losses.json");

/// Numbers without a pattern, the same each time.
fn numbers(dims: &[usize], key: u32, dtype: DType) -> Tensor {
    let value = |at: u32| {
        let mut x = at.wrapping_mul(0x9E37_79B1).wrapping_add(key);
        for (shift, factor) in [(16, 0x7FEB_352D), (15, 0x846C_A68B)] {
            x = (x ^ (x >> shift)).wrapping_mul(factor);
        }
        f64::from(x ^ (x >> 16)) / f64::from(1u32 << 30) - 2.0
    };
    let values: Vec<f64> = (0..dims.iter().product::<usize>() as u32).map(value).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Mean, teacher and raw variances.
fn inputs(dims: &[usize], dtype: DType) -> [Tensor; 3] {
    [numbers(dims, 1, dtype), numbers(dims, 2, dtype), (numbers(&dims[1..2], 3, dtype) * 4.0).unwrap()]
}

fn scalar(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

#[track_caller]
fn close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!((found.dims(), found.dtype()), (expected.dims(), expected.dtype()), "{what}");
    let (found, expected) = (flat(found), flat(expected));
    let size = expected.iter().fold(0f64, |size, it| size.max(it.abs()));
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() <= tolerance * size, "{what}[{at}]: {found}, expected {expected}");
    }
}

#[test]
fn loss_and_gradients_are_those_that_candle_finds() {
    let shapes: [&[usize]; 4] = [&[3, 5, 4, 6], &[2, 3, 3, 3], &[7, 4], &[40, 2, 33, 5]];
    for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-5)] {
        for dims in shapes {
            let [mean, teacher, raw] = inputs(dims, dtype);
            let (mean_var, raw_var) = (Var::from_tensor(&mean).unwrap(), Var::from_tensor(&raw).unwrap());
            let loss = vid(&mean_var, &teacher, &raw_var).unwrap();
            let grads = (&loss * 0.7).unwrap().backward().unwrap();
            let found = vid_grads(&mean, &teacher, &raw, 0.7).unwrap();
            assert_close(scalar(&found.loss), scalar(&loss), 10.0 * tolerance, "loss");
            close(&found.mean, grads.get(&mean_var).unwrap(), tolerance, "to the mean");
            close(&found.raw_variance, grads.get(&raw_var).unwrap(), tolerance, "to the variances");
        }
    }
}

#[test]
fn the_pass_matches_torch_and_finite_differences() {
    for name in ["vid", "vid_any_variance"] {
        let case = Case::load(GOLDEN, name);
        let teacher = case.tensor("teacher");
        // The loss with the gradients that come with it, for checks that ask candle.
        case.check(&["mean", "raw"], |it| {
            let found = vid_grads(&it[0], &teacher, &it[1], 1.0)?;
            let plane = ((&it[0] * &found.mean)?.sum_all()? + (&it[1] * &found.raw_variance)?.sum_all()?)?;
            found.loss + (&plane - plane.detach())?
        });
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let [mean, teacher, raw] = inputs(&[37, 6, 12, 12], DType::F32);
    let bits = |it: VidGrads| -> Vec<u32> {
        let of = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        [it.loss, it.mean, it.raw_variance].map(of).concat().into_iter().map(f32::to_bits).collect()
    };
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bits(vid_grads(&mean, &teacher, &raw, 1.0).unwrap()))
    };
    let one = with(1);
    assert!(one == with(2) && one == with(3));
}

#[test]
fn rows_of_a_larger_map_and_raw_numbers_of_any_size_are_taken() {
    let [mean, teacher, _] = inputs(&[6, 3, 2, 4], DType::F32);
    let raw = Tensor::new(&[-1000f32, 0.0, 1000.0], &Device::Cpu).unwrap();
    let (mean, teacher) = (mean.narrow(0, 2, 3).unwrap(), teacher.narrow(0, 1, 3).unwrap());
    let found = vid_grads(&mean, &teacher, &raw, 1.0).unwrap();
    let expected = vid(&mean.copy().unwrap(), &teacher.copy().unwrap(), &raw).unwrap();
    assert_close(scalar(&found.loss), scalar(&expected), 1e-4, "loss");
    assert!([&found.mean, &found.raw_variance].iter().all(|it| flat(it).iter().all(|it| it.is_finite())));
    // A tensor that is not contiguous is read in its own order.
    let turned = mean.transpose(2, 3).unwrap();
    let straight = vid_grads(&turned.contiguous().unwrap(), &turned, &raw, 1.0).unwrap();
    assert!(flat(&straight.mean).iter().all(|it| *it == 0.0));
}

#[test]
fn what_does_not_fit_is_named() {
    let [mean, teacher, raw] = inputs(&[2, 3, 2, 2], DType::F32);
    let message = |mean: &Tensor, raw: &Tensor| vid_grads(mean, &teacher, raw, 1.0).unwrap_err().to_string();
    assert!(
        message(&mean.narrow(0, 0, 1).unwrap(), &raw).contains("[1, 3, 2, 2], the teacher's [2, 3, 2, 2]")
    );
    assert!(message(&mean, &raw.narrow(0, 0, 2).unwrap()).contains("are [2], the map has 3 channels"));
    assert!(message(&mean.to_dtype(DType::U32).unwrap(), &raw).contains("use F32 or F64"));
    assert!(!message(&mean.to_dtype(DType::F64).unwrap(), &raw).is_empty());
}
