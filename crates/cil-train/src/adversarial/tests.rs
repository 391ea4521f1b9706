//! The steps against PyTorch's (`tests/golden/carry.py`), and which images stand for a class.

use candle_core::Var;
use cil_backbone::head::normalized;
use serde_json::Value;

use super::*;

const GOLDEN: &str = include_str!("../../tests/golden/carry.json");

#[test]
fn steps_are_those_of_the_code() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let values = |name: &str| serde_json::from_value::<Vec<f64>>(golden[name].clone()).unwrap();
    let rows = |name: &str| {
        let rows: Vec<Vec<f64>> = serde_json::from_value(golden[name].clone()).unwrap();
        let dims = (rows.len(), rows[0].len());
        Tensor::from_vec(rows.concat(), dims, &Device::Cpu).unwrap()
    };
    let (weight, point) = (rows("weight"), rows("point"));
    let images = Tensor::from_vec(values("images"), (3, 1, 2, 2), &Device::Cpu).unwrap();
    let settings = AdversarialImages {
        images: 3,
        step: golden["length"].as_f64().unwrap(),
        iterations: golden["iterations"].as_u64().unwrap() as usize,
        map: false,
    };
    let found = moved(&images, settings, true, |images| {
        let images = Var::from_tensor(images)?;
        let features = normalized(&images.flatten_from(1)?.matmul(&weight.t()?)?)?;
        let half = (features.broadcast_sub(&point)?.sqr()?.sum_all()? / 2.0)?;
        Ok(half.backward()?.get(&images).unwrap().clone())
    });
    let found = found.unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    for (found, expected) in found.iter().zip(values("changed")) {
        assert!((found - expected).abs() < 1e-9, "{found}, {expected}");
    }
    assert_ne!(found, values("images"));
}

#[test]
fn a_gradient_of_nothing_leaves_images_alone() {
    let images = Tensor::from_vec(vec![1.0, 2.0], (2, 1, 1, 1), &Device::Cpu).unwrap();
    let same = stepped(&images, &images.zeros_like().unwrap(), 3.0).unwrap();
    assert_eq!(same.flatten_all().unwrap().to_vec1::<f64>().unwrap(), [1.0, 2.0]);
}

#[test]
fn the_nearest_rows_come_first_and_equal_ones_in_their_order() {
    let features = DMatrix::from_row_slice(4, 1, &[3.0, 1.0, 1.0, 0.5]);
    let means = DMatrix::from_row_slice(2, 1, &[9.0, 1.0]);
    assert_eq!(nearest_rows(&features, &means, 1, 3), [1, 2, 3]);
    assert_eq!(nearest_rows(&features, &means, 0, 9), [0, 1, 2, 3]);
}
