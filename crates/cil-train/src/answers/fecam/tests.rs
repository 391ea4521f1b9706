//! FeCAM against numpy (`tests/golden/answers.py`), and what is kept of it.

use super::super::{Kept, tests::*};
use super::*;

fn after_both(spec: &FecamSpec) -> Fecam {
    let golden = golden();
    let of = |task: usize| Fecam::of(spec, classes(&golden["tasks"][task]).into_iter().map(Ok)).unwrap();
    of(0).joined(&of(1))
}

/// Logits less the first class's.
fn answers(spec: &FecamSpec) -> Vec<Vec<f64>> {
    let golden = golden();
    let answer = after_both(spec).answer(spec, golden["shrinkage"].as_f64().unwrap()).unwrap();
    let head = spec_of(Some(spec.clone())).head(&cil_backbone::Architecture::lucir(8).into());
    said(&head, &answer, &golden["images"])
}

#[test]
fn distances_are_those_of_the_released_code() {
    let golden = golden();
    let off_diagonal = golden["off-diagonal"].as_f64().unwrap();
    let per_class = FecamSpec { off_diagonal, ..FecamSpec::per_class() };
    let shared = FecamSpec { off_diagonal, ..FecamSpec::shared() };
    let plain = FecamSpec { tukey: 1.0, rounds: 1, correlations: false, ..per_class.clone() };
    let within = FecamSpec { covariance: Covariance::WithinClass, ..shared.clone() };
    for (name, spec) in
        [("per-class", per_class), ("per-class-plain", plain), ("shared", shared), ("within-class", within)]
    {
        assert_close(&answers(&spec), &golden[name], 1e-5, name);
    }
}

#[test]
fn what_is_kept_comes_back_and_is_as_large_as_it_says() {
    let count = |spec: &FecamSpec| if spec.covariance == Covariance::PerClass { 5 } else { 1 };
    for spec in [FecamSpec::per_class(), FecamSpec::shared()] {
        let kept = Kept::Fecam(after_both(&spec));
        let values = kept.values().unwrap();
        let bytes: usize = values.iter().map(|(_, it)| it.elem_count() * it.dtype().size_in_bytes()).sum();
        assert_eq!((bytes, kept.bytes()), ((5 * 5 + count(&spec) * 15) * 4, bytes));
        let with = spec_of(Some(spec));
        assert_eq!(Kept::restore(&values, &with, (5, 5)).unwrap(), kept);
        assert!(Kept::restore(&values, &with, (4, 5)).unwrap_err().to_string().contains(", not "));
    }
}

#[test]
fn what_has_no_covariance_is_refused() {
    let rows = |count: usize| Tensor::ones((count, 3), candle_core::DType::F32, &Device::Cpu);
    let of = |spec: &FecamSpec, count: usize| Fecam::of(spec, std::iter::once(Ok(rows(count).unwrap())));
    assert!(of(&FecamSpec::per_class(), 1).unwrap_err().to_string().contains("need 2"));
    assert!(of(&FecamSpec::shared(), 1).unwrap_err().to_string().contains("needs 2"));
    // Features that do not vary.
    for spec in [FecamSpec::per_class(), FecamSpec::shared()] {
        let message = of(&spec, 2).unwrap().answer(&spec, 1.0).err().unwrap().to_string();
        assert!(message.contains("use a larger"), "{message}");
    }
}
