//! Measures of maps, against their formulas in `f64` and their gradients by differences.

use candle_core::{Result, Tensor, bail};

use super::emulator;
use super::turn;
use crate::measures::{gaussian, profiles, sum_of_rows};
use crate::testing::{Dice, bits};

const FLOOR: f64 = 1e-5;
const SHORTEST: f64 = 1e-12;

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
}

fn near(found: f64, expected: f64, scale: f64, what: &str) {
    assert!((found - expected).abs() <= 1e-5 * scale, "{what}: {found}, not {expected}");
}

/// Largest absolute value.
fn size(values: &[f64]) -> f64 {
    values.iter().fold(1e-30, |size, value| size.max(value.abs()))
}

/// Whether `found` is `weight` times the grad of `measure` at `at`.
fn check_grad(found: &[f64], at: &[f64], weight: f64, measure: impl Fn(&[f64]) -> f64, what: &str) {
    let scale = size(found);
    let mut dice = Dice::new(5);
    for _ in 0..20 {
        let place = dice.below(at.len());
        let (mut up, mut down) = (at.to_vec(), at.to_vec());
        let step = 1e-5;
        up[place] += step;
        down[place] -= step;
        let grad = weight * (measure(&up) - measure(&down)) / (2.0 * step);
        assert!((found[place] - grad).abs() <= 2e-4 * scale, "{what} {place}: {}, not {grad}", found[place]);
    }
}

fn gaussian_of(mean: &[f64], target: &[f64], raw: &[f64], positions: usize) -> f64 {
    let one = |(at, (mean, target)): (usize, (&f64, &f64))| {
        let variance = (raw[at / positions % raw.len()].exp() + 1.0).ln() + FLOOR;
        0.5 * ((target - mean).powi(2) / variance + variance.ln())
    };
    mean.iter().zip(target).enumerate().map(one).sum::<f64>() / mean.len() as f64
}

fn profile_of(map: &[f64], [channels, height, width]: [usize; 3]) -> Vec<f64> {
    let at = |channel: usize, y: usize, x: usize| map[(channel * height + y) * width + x].powi(2);
    let mut profile = Vec::new();
    for channel in 0..channels {
        profile.extend((0..height).map(|y| (0..width).map(|x| at(channel, y, x)).sum::<f64>()));
    }
    for channel in 0..channels {
        profile.extend((0..width).map(|x| (0..height).map(|y| at(channel, y, x)).sum::<f64>()));
    }
    let length = profile.iter().map(|it| it * it).sum::<f64>().sqrt().max(SHORTEST);
    profile.iter().map(|it| it / length).collect()
}

fn profiles_of(maps: &[f64], targets: &[f64], dims: [usize; 3]) -> f64 {
    let sample = dims.iter().product();
    let one = |(map, target): (&[f64], &[f64])| {
        let (own, other) = (profile_of(map, dims), profile_of(target, dims));
        own.iter().zip(&other).map(|(own, other)| (own - other).powi(2)).sum::<f64>().sqrt()
    };
    let samples = maps.chunks(sample).zip(targets.chunks(sample)).map(one);
    samples.sum::<f64>() / (maps.len() / sample) as f64
}

#[test]
fn a_gaussian_and_its_gradients_are_the_formula_s() -> Result<()> {
    let Some(turn) = turn("the measure of a Gaussian") else { return Ok(()) };
    let device = turn.gpu.device();
    let mut dice = Dice::new(51);
    for dims in [vec![3, 5, 4, 6], vec![2, 300], vec![9, 2, 40, 33], vec![1, 1, 1, 1]] {
        let positions: usize = dims[2..].iter().product();
        let (mean, target) = (dice.tensor(&dims, -1.0, 1.0)?, dice.tensor(&dims, -1.0, 1.0)?);
        let raw = dice.tensor(&[dims[1]], -4.0, 6.0)?;
        let there = |tensor: &Tensor| tensor.to_device(&device);
        // A part of a larger map, as terms take it.
        let larger = Tensor::cat(&[&target, &mean], 0)?.to_device(&device)?.narrow(0, dims[0], dims[0])?;
        emulator::reset();
        let (at_target, at_raw) = (there(&target)?, there(&raw)?);
        let Some(found) = gaussian(&larger, &at_target, &at_raw, FLOOR, 1.7)? else {
            bail!("not on the GPU")
        };
        if let Some(counts) = emulator::counts() {
            assert_eq!((counts.kernels, counts.waits), (2, 0), "{counts:?}");
        }
        let (mean, target, raw) = (values(&mean)?, values(&target)?, values(&raw)?);
        let expected = gaussian_of(&mean, &target, &raw, positions);
        let loss = values(&found.loss)?[0];
        near(loss, expected, 1.0 + expected.abs(), "the measure");
        let of_mean = values(&found.mean)?;
        check_grad(&of_mean, &mean, 1.7, |mean| gaussian_of(mean, &target, &raw, positions), "mean");
        let of_raw = values(&found.raw_variance)?;
        check_grad(&of_raw, &raw, 1.7, |raw| gaussian_of(&mean, &target, raw, positions), "variance");
        assert_eq!((found.mean.dims(), found.loss.rank()), (dims.as_slice(), 0));
    }
    Ok(())
}

#[test]
fn profiles_and_their_gradient_are_the_formula_s() -> Result<()> {
    let Some(turn) = turn("the measure of profiles") else { return Ok(()) };
    let device = turn.gpu.device();
    let mut dice = Dice::new(52);
    for (rows, dims) in [(3, [5, 4, 6]), (1, [1, 1, 1]), (4, [16, 9, 9]), (2, [3, 17, 20])] {
        let shape = [rows, dims[0], dims[1], dims[2]];
        let (map, target) = (dice.tensor(&shape, -1.0, 1.0)?, dice.tensor(&shape, -1.0, 1.0)?);
        let (at_map, at_target) = (map.to_device(&device)?, target.to_device(&device)?);
        emulator::reset();
        let Some((loss, grad)) = profiles(&at_map, &at_target, SHORTEST, 0.3)? else {
            bail!("not on the GPU")
        };
        if let Some(counts) = emulator::counts() {
            assert_eq!((counts.kernels, counts.copies, counts.waits), (2, 0, 0), "{counts:?}");
        }
        let (map, target) = (values(&map)?, values(&target)?);
        near(values(&loss)?[0], profiles_of(&map, &target, dims), 1.0, "the measure");
        if dims != [1, 1, 1] {
            let measure = |map: &[f64]| profiles_of(map, &target, dims);
            check_grad(&values(&grad)?, &map, 0.3, measure, "map");
        }
        // Where both agree there is no gradient, and an empty map has no length.
        let Some((loss, grad)) = profiles(&at_map, &at_map, SHORTEST, 0.3)? else { bail!("not on the GPU") };
        assert_eq!((values(&loss)?[0], size(&values(&grad)?)), (0.0, 1e-30));
        let empty = (dice.tensor(&shape, 0.0, 1.0)? * 0.0)?.to_device(&device)?;
        let Some((_, grad)) = profiles(&empty, &at_target, SHORTEST, 0.3)? else { bail!("not on the GPU") };
        assert!(values(&grad)?.iter().all(|it| *it == 0.0));
    }
    Ok(())
}

#[test]
fn rows_are_added_in_their_order() -> Result<()> {
    let Some(turn) = turn("sums of rows") else { return Ok(()) };
    let device = turn.gpu.device();
    let mut dice = Dice::new(53);
    let (one, other) = (dice.tensor(&[3, 2, 5], -1.0, 1.0)?, dice.tensor(&[2, 2, 5], -1.0, 1.0)?);
    let parts = [(0..3, one.to_device(&device)?), (2..4, other.to_device(&device)?)];
    let Some(found) = sum_of_rows(&parts, 5)? else { bail!("not on the GPU") };
    let empty = |rows: usize| one.narrow(0, 0, rows)?.zeros_like();
    let first = Tensor::cat(&[&one, &empty(2)?], 0)?;
    let second = Tensor::cat(&[&empty(2)?, &other, &empty(1)?], 0)?;
    assert_eq!(
        bits(&found)?,
        bits(&((empty(3)?.narrow(0, 0, 1)?.broadcast_as((5, 2, 5))? + first)? + second)?)?
    );
    let refused = sum_of_rows(&parts, 3).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("rows 2..4 of 3"), "{refused}");
    assert!(sum_of_rows(&[(0..3, one)], 3)?.is_none());
    Ok(())
}
