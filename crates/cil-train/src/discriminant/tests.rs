//! Statistics against PyTorch's normal distributions, and what is kept of them.

use serde_json::Value;

use super::*;

/// As normal distributions and least squares have it in PyTorch (`tests/golden/discriminant.py`).
const GOLDEN: &str = include_str!("../../tests/golden/discriminant.json");

fn rows(value: &Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    let dims = (rows.len(), rows[0].len());
    Tensor::from_vec(rows.concat(), dims, &Device::Cpu).unwrap()
}

fn of(classes: &[Tensor], form: Form) -> Result<ClassStatistics> {
    ClassStatistics::of(classes.iter().cloned().map(Ok), form)
}

fn classes(value: &Value) -> Vec<Tensor> {
    value.as_array().unwrap().iter().map(rows).collect()
}

/// Logits less the first class's.
fn answers(statistics: &ClassStatistics, shrinkage: f64, images: &Tensor) -> Vec<Vec<f64>> {
    said(statistics.discriminant(shrinkage, &Device::Cpu).unwrap(), images)
}

fn said((weights, biases): (Tensor, Tensor), images: &Tensor) -> Vec<Vec<f64>> {
    let images = images.to_dtype(DType::F32).unwrap();
    let logits = images.matmul(&weights.t().unwrap()).unwrap().broadcast_add(&biases).unwrap();
    let logits = logits.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
    logits.iter().map(|row| row.iter().map(|it| it - row[0]).collect()).collect()
}

fn assert_close(found: &[Vec<f64>], expected: &[Vec<f64>], within: f64) {
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() < within * (1.0 + expected.abs()), "{found}, {expected}");
    }
}

#[test]
fn logits_are_log_likelihoods_before_and_after_a_change_of_the_backbone() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let expected = |name: &str| serde_json::from_value::<Vec<Vec<f64>>>(golden[name].clone()).unwrap();
    let (shrinkage, images) = (golden["shrinkage"].as_f64().unwrap(), rows(&golden["images"]));
    let old = of(&classes(&golden["old"]), Form::Pooled).unwrap();
    // Weights are returned in f32.
    assert_close(&answers(&old, shrinkage, &images), &expected("alone"), 1e-5);
    let after = classes(&golden["after"]);
    let newer = of(&after, Form::Pooled).unwrap();
    let carried = old.carried(&rows(&golden["before"]), &Tensor::cat(&after, 0).unwrap()).unwrap();
    assert_close(&answers(&carried.joined(&newer), shrinkage, &images), &expected("joined"), 1e-5);
}

#[test]
fn logits_have_mean_0_over_the_classes() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let old = of(&classes(&golden["old"]), Form::Pooled).unwrap();
    let (weights, biases) = old.discriminant(0.01, &Device::Cpu).unwrap();
    let largest = |values: &Tensor| values.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    for values in [weights, biases] {
        let mean = values.mean(0).unwrap();
        assert!(largest(&mean) < 1e-5 * largest(&values), "{mean}");
    }
}

#[test]
fn a_backbone_that_stays_carries_nothing_away() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let (old, seen) = (of(&classes(&golden["old"]), Form::Pooled).unwrap(), rows(&golden["before"]));
    let carried = old.carried(&seen, &seen).unwrap();
    // The ridge shrinks by a ten-thousandth or so.
    assert!((&carried.means - &old.means).amax() < 0.002, "{}", carried.means);
    assert!((&carried.covariance - &old.covariance).amax() < 0.002 * old.covariance.amax());
    assert_ne!(carried, old);
}

#[test]
fn what_is_kept_comes_back_and_other_values_are_refused() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let statistics = of(&classes(&golden["old"]), Form::Pooled).unwrap();
    let values = statistics.values().unwrap();
    assert_eq!(ClassStatistics::restore(&values, 3, 5, Form::Pooled).unwrap(), statistics);
    assert_eq!(statistics.bytes(), (3 * 5 + 5 * 5) * 8);
    for (classes, width) in [(4, 5), (3, 6)] {
        let error = ClassStatistics::restore(&values, classes, width, Form::Pooled).unwrap_err().to_string();
        assert!(error.contains(", not "), "{error}");
    }
}

#[test]
fn what_has_no_statistics_is_refused() {
    let none = Tensor::zeros((0, 5), DType::F32, &Device::Cpu).unwrap();
    let one = Tensor::ones((1, 5), DType::F32, &Device::Cpu).unwrap();
    assert!(of(&[], Form::Pooled).is_err());
    assert!(of(&[one.clone(), none.clone()], Form::Pooled).unwrap_err().to_string().contains("class 1"));
    let flat = of(&[one], Form::Pooled).unwrap();
    assert!(flat.discriminant(0.01, &Device::Cpu).unwrap_err().to_string().contains("shrinkage"));
    assert!(flat.carried(&none, &none).is_err());
    let alike = Tensor::ones((3, 5), DType::F32, &Device::Cpu).unwrap();
    assert!(flat.carried(&alike, &alike).unwrap_err().to_string().contains("do not differ"));
}

/// As normal distributions and least squares have it in PyTorch (`tests/golden/stages.py`).
const STAGES: &str = include_str!("../../tests/golden/stages.json");

#[test]
fn statistics_of_several_stages_are_carried_by_the_change() {
    let (given, golden): (Value, Value) =
        (serde_json::from_str(GOLDEN).unwrap(), serde_json::from_str(STAGES).unwrap());
    let expected = |name: &str| serde_json::from_value::<Vec<Vec<f64>>>(golden[name].clone()).unwrap();
    let (shrinkage, images) = (given["shrinkage"].as_f64().unwrap(), rows(&given["images"]));
    let old = of(&classes(&given["old"]), Form::Wide).unwrap();
    // Kept in f32.
    assert_close(&answers(&old, shrinkage, &images), &expected("alone"), 1e-4);
    let after = classes(&given["after"]);
    let newer = of(&after, Form::Wide).unwrap();
    let carried = old.carried(&rows(&given["before"]), &Tensor::cat(&after, 0).unwrap()).unwrap();
    assert_close(&answers(&carried.joined(&newer), shrinkage, &images), &expected("joined"), 1e-4);
}

#[test]
fn statistics_of_several_stages_stay_to_the_bit_where_the_backbone_stays() {
    let given: Value = serde_json::from_str(GOLDEN).unwrap();
    let (old, seen) = (of(&classes(&given["old"]), Form::Wide).unwrap(), rows(&given["before"]));
    assert_eq!(old.carried(&seen, &seen).unwrap(), old);
    // A shift of all features moves the means alone, as far as f32 tells.
    let shifted = (&seen + 0.5).unwrap();
    let moved = old.carried(&seen, &shifted).unwrap();
    assert!((&moved.means - old.means.add_scalar(0.5)).amax() < 1e-6, "{}", moved.means);
    assert!((&moved.covariance - &old.covariance).amax() < 1e-6 * old.covariance.amax());
}

#[test]
fn statistics_of_several_stages_are_kept_in_f32_and_as_a_triangle() {
    let given: Value = serde_json::from_str(GOLDEN).unwrap();
    let statistics = of(&classes(&given["old"]), Form::Wide).unwrap();
    assert_eq!(statistics.bytes(), (3 * 5 + 15) * 4);
    let values = statistics.values().unwrap();
    let kept: usize = values.iter().map(|(_, it)| it.elem_count() * it.dtype().size_in_bytes()).sum();
    assert_eq!(kept, statistics.bytes());
    assert_eq!(ClassStatistics::restore(&values, 3, 5, Form::Wide).unwrap(), statistics);
    for (classes, width) in [(4, 5), (3, 6)] {
        let error = ClassStatistics::restore(&values, classes, width, Form::Wide).unwrap_err().to_string();
        assert!(error.contains(", not "), "{error}");
    }
    assert!(ClassStatistics::restore(&values, 3, 5, Form::Pooled).is_err());
}

#[test]
fn least_squares_of_statistics_are_those_of_the_images() {
    let (given, golden): (Value, Value) =
        (serde_json::from_str(GOLDEN).unwrap(), serde_json::from_str(STAGES).unwrap());
    let expected = serde_json::from_value::<Vec<Vec<f64>>>(golden["ridge"].clone()).unwrap();
    let (shrinkage, images) = (given["shrinkage"].as_f64().unwrap(), rows(&given["images"]));
    for form in [Form::Pooled, Form::Wide] {
        // What came first and what came later.
        let (old, newer) = (of(&classes(&given["old"]), form), of(&classes(&given["after"]), form));
        let statistics = old.unwrap().joined(&newer.unwrap());
        assert_close(
            &said(statistics.least_squares(shrinkage, &Device::Cpu).unwrap(), &images),
            &expected,
            1e-4,
        );
    }
}

/// Drift of SDC, the projector of LDC and the nearest mean as PyTorch has them (`tests/golden/carry.py`).
const CARRY: &str = include_str!("../../tests/golden/carry.json");

#[test]
fn means_follow_as_in_the_published_codes() {
    let golden: Value = serde_json::from_str(CARRY).unwrap();
    let expected = |name: &str| matrix(&rows(&golden[name])).unwrap();
    let (before, after) = (rows(&golden["before"]), rows(&golden["after"]));
    for (form, within) in [(Form::Pooled, 1e-9), (Form::Wide, 1e-5)] {
        let old = of(&classes(&golden["old"]), form).unwrap();
        let near = old.carried_nearby(&before, &after, golden["sigma"].as_f64().unwrap()).unwrap();
        assert!((&near.means - expected("nearby")).amax() < within, "{}", near.means);
        assert_eq!(near.covariance, old.covariance);
        let shifts = &near.means - &old.means;
        assert!((old.moved(&shifts).unwrap().means - near.means).amax() < within);
        assert!(old.moved(&shifts.rows(0, 2).into_owned()).is_err());
    }
    // Of several stages it is the change that the ridge holds.
    let old = of(&classes(&golden["old"]), Form::Pooled).unwrap();
    let linear = old.carried_linearly(&before, &after).unwrap();
    assert!((&linear.means - expected("linear_means")).amax() < 1e-9, "{}", linear.means);
    assert!((&linear.covariance - expected("linear_covariance")).amax() < 1e-9, "{}", linear.covariance);
    let wide = of(&classes(&golden["old"]), Form::Wide).unwrap();
    assert!((wide.carried_linearly(&before, &after).unwrap().means - linear.means).amax() < 0.05);
    assert_eq!(wide.carried_linearly(&before, &before).unwrap(), wide);
}

#[test]
fn the_nearest_mean_is_that_of_directions() {
    let golden: Value = serde_json::from_str(CARRY).unwrap();
    let expected = matrix(&rows(&golden["nearest"])).unwrap();
    let (weights, biases) =
        of(&classes(&golden["old"]), Form::Pooled).unwrap().nearest_mean(&Device::Cpu).unwrap();
    let mut queries = matrix(&rows(&golden["queries"])).unwrap();
    queries.row_iter_mut().for_each(|mut row| row /= row.norm());
    let found = queries * matrix(&weights).unwrap().transpose();
    assert!((found - expected).amax() < 1e-6);
    assert_eq!(biases.to_vec1::<f32>().unwrap(), [0.0; 3]);
}

/// With as much noise as features the directions' products are the covariance; with less, of its largest part.
#[test]
fn targets_have_the_means_and_the_covariance() -> Result<()> {
    let mut stream = Draw::new(1, "targets").stream("numbers");
    let mut of_class = |count: usize| {
        let values: Vec<f64> = (0..count * 3).map(|at| stream.normal() * (at % 3 + 1) as f64).collect();
        Ok(Tensor::from_vec(values, (count, 3), &Device::Cpu)?)
    };
    let statistics = ClassStatistics::of([of_class(20), of_class(30)].into_iter(), Form::Pooled)?;
    // A target of noise e_i is the mean and the i-th direction: its distance from features is read off.
    let squared = |noise: usize, row: Vec<f64>, features: &DMatrix<f64>| -> Result<f64> {
        let targets =
            statistics.targets(vec![StageCells { stage: 1, cells: 1, normalised: false }], noise)?;
        let map = Tensor::from_slice(features.as_slice(), (1, 3, 1, 1), &Device::Cpu)?;
        let maps = [("stage1".to_owned(), map.to_dtype(DType::F32)?)].into();
        let noise = Tensor::from_vec(row.clone(), (1, row.len()), &Device::Cpu)?.to_dtype(DType::F32)?;
        let label = Tensor::new(&[1u32], &Device::Cpu)?;
        let pooled = Tensor::zeros((1, 3), DType::F32, &Device::Cpu)?;
        Ok(f64::from(targets.distance(&pooled, &maps, &noise, &label)?.to_scalar::<f32>()?))
    };
    let origin = DMatrix::zeros(1, 3);
    let mean = statistics.means().row(1).norm_squared();
    let total = statistics.covariance.trace();
    let error = squared(3, vec![0.0; 3], &origin)? - mean / total;
    assert!(error.abs() < 1e-5, "{error}");
    // Both signs of a direction: the mean's square and the direction's remain.
    let spread = |noise: usize, at: usize| -> Result<f64> {
        let of = |sign: f64| {
            squared(noise, (0..noise).map(|it| if it == at { sign } else { 0.0 }).collect(), &origin)
        };
        Ok((of(1.0)? + of(-1.0)?) / 2.0 - squared(noise, vec![0.0; noise], &origin)?)
    };
    let mut values: Vec<f64> =
        statistics.covariance.clone().symmetric_eigenvalues().iter().copied().collect();
    values.sort_by(|one, other| other.total_cmp(one));
    for (at, value) in values.iter().enumerate() {
        assert!((spread(3, at)? - value / total).abs() < 1e-5, "direction {at}");
    }
    // Of two directions alone the variance is theirs.
    assert!((spread(2, 0)? - values[0] / (values[0] + values[1])).abs() < 1e-5);
    assert!(statistics.targets(Vec::new(), 9).is_ok());
    Ok(())
}
