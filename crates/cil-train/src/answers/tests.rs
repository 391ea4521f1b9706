//! What tests of both heads share.

use cil_backbone::HeadWeights;
use serde_json::Value;

use super::values::Answer;
use super::*;

pub(super) fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/answers.json")).unwrap()
}

pub(super) fn tensor_of(value: &Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    let dims = (rows.len(), rows[0].len());
    Tensor::from_vec(rows.concat(), dims, &Device::Cpu).unwrap()
}

pub(super) fn classes(value: &Value) -> Vec<Tensor> {
    value.as_array().unwrap().iter().map(tensor_of).collect()
}

/// FeCAM's settings, or FeTrIL's.
pub(super) fn spec_of(fecam: Option<crate::recipe::FecamSpec>) -> DiscriminantSpec {
    let fetril = fecam.is_none();
    DiscriminantSpec { fecam, fetril, ..DiscriminantSpec::pooled(1.0) }
}

/// What a head of that form and those values says of images' features.
pub(super) fn plainly(form: &Head, answer: &Answer, images: &Value) -> Vec<Vec<f64>> {
    let dims = answer.weights.shape();
    let rows = Tensor::from_slice(answer.weights.transpose().as_slice(), dims, &Device::Cpu).unwrap();
    let power = answer.power.map(|power| Tensor::new(&[power], &Device::Cpu).unwrap());
    let weights = HeadWeights {
        kind: form.kind,
        weights: vec![rows],
        biases: vec![Tensor::from_slice(answer.biases.as_slice(), dims.0, &Device::Cpu).unwrap()],
        scale: None,
        projection: None,
        power,
    };
    let logits = weights.forward(&tensor_of(images)).unwrap().logits;
    logits.to_vec2::<f64>().unwrap()
}

/// The same less what it says of the first class.
pub(super) fn said(form: &Head, answer: &Answer, images: &Value) -> Vec<Vec<f64>> {
    let found = plainly(form, answer, images);
    found.into_iter().map(|row| row.iter().map(|it| it - row[0]).collect()).collect()
}

pub(super) fn assert_close(found: &[Vec<f64>], expected: &Value, within: f64, message: &str) {
    let expected: Vec<Vec<f64>> = serde_json::from_value(expected.clone()).unwrap();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() < within * (1.0 + expected.abs()), "{message}: {found}, {expected}");
    }
}
