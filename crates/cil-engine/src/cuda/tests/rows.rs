//! Losses of rows, against their formulas in `f64`, and gradients through candle's autograd by differences.

use candle_core::{D, Device, Result, Tensor, Var, bail};

use super::emulator;
use super::turn;
use crate::rows::{Divisor, cross_entropy, divergence, unit_rows};
use crate::testing::Dice;

/// Rows and columns: one of each, more columns than a block has threads, more rows.
const SHAPES: [[usize; 2]; 4] = [[7, 60], [1, 1], [3, 700], [300, 5]];

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
}

/// `value` and the gradient of `3 loss` are those of `formula` at `at`; a few places of the gradient, by differences.
fn check(loss: &Tensor, at: &Var, formula: impl Fn(&[f64]) -> f64, what: &str) -> Result<()> {
    let gradients = (loss * 3.0)?.backward()?;
    let Some(gradient) = gradients.get(at.as_tensor()) else { bail!("{what}: there is no gradient") };
    let (found, point) = (values(gradient)?, values(at.as_tensor())?);
    let (value, expected) = (values(loss)?[0], formula(&point));
    assert!((value - expected).abs() <= 1e-5 * (1.0 + expected.abs()), "{what}: {value}, not {expected}");
    let size = found.iter().fold(1e-9, |size: f64, it| size.max(it.abs()));
    let mut dice = Dice::new(9);
    for _ in 0..20 {
        let place = dice.below(point.len());
        let (mut up, mut down) = (point.clone(), point.clone());
        up[place] += 1e-5;
        down[place] -= 1e-5;
        let grad = 3.0 * (formula(&up) - formula(&down)) / 2e-5;
        let is_near = (found[place] - grad).abs() <= 2e-4 * size + 1e-7;
        assert!(is_near, "{what}, place {place}: {}, not {grad}", found[place]);
    }
    Ok(())
}

fn softmax(row: &[f64], temperature: f64) -> Vec<f64> {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let all: Vec<f64> = row.iter().map(|it| ((it - most) / temperature).exp()).collect();
    let sum: f64 = all.iter().sum();
    all.iter().map(|it| it / sum).collect()
}

fn variable(dice: &mut Dice, dims: &[usize], most: f64, device: &Device) -> Result<Var> {
    Var::from_tensor(&dice.tensor(dims, -most, most)?.to_device(device)?)
}

#[test]
fn cross_entropy_and_its_gradient_are_the_formula_s() -> Result<()> {
    let Some(turn) = turn("cross-entropy of rows") else { return Ok(()) };
    let device = turn.gpu.device();
    let mut dice = Dice::new(61);
    for [rows, columns] in SHAPES {
        let logits = variable(&mut dice, &[rows, columns], 30.0, &device)?;
        let picked: Vec<u32> = (0..rows).map(|_| dice.below(columns) as u32).collect();
        let weights = dice.tensor(&[rows], 0.0, 2.0)?;
        let at_picked = Tensor::from_slice(&picked, rows, &device)?;
        let at_weights = weights.to_device(&device)?;
        let of_rows = values(&weights)?;
        for (weighted, divided_by) in
            [(false, Divisor::Rows), (true, Divisor::Rows), (true, Divisor::Weights)]
        {
            emulator::reset();
            let given = weighted.then_some(&at_weights);
            let Some(loss) = cross_entropy(&logits, &at_picked, given, divided_by)? else {
                bail!("not on the GPU")
            };
            if let Some(counts) = emulator::counts() {
                assert_eq!((counts.kernels, counts.copies, counts.waits), (2, 0, 0), "{counts:?}");
            }
            let formula = |point: &[f64]| {
                let weight = |row: usize| if weighted { of_rows[row] } else { 1.0 };
                let one = |row: usize| {
                    let own = &point[row * columns..][..columns];
                    -weight(row) * softmax(own, 1.0)[picked[row] as usize].ln()
                };
                let divisor = match divided_by {
                    Divisor::Rows => rows as f64,
                    Divisor::Weights => of_rows.iter().sum(),
                };
                (0..rows).map(one).sum::<f64>() / divisor
            };
            check(&loss, &logits, formula, &format!("{rows} x {columns}, {weighted}, {divided_by:?}"))?;
        }
    }
    Ok(())
}

#[test]
fn what_is_no_number_and_columns_that_are_not_there_give_no_number() -> Result<()> {
    let Some(turn) = turn("cross-entropy of rows that are not finite") else { return Ok(()) };
    let device = turn.gpu.device();
    let loss_of = |logits: [f32; 4], picked: [u32; 2]| -> Result<f64> {
        let logits = Tensor::from_slice(&logits, (2, 2), &device)?;
        let picked = Tensor::from_slice(&picked, 2, &device)?;
        let Some(loss) = cross_entropy(&logits, &picked, None, Divisor::Rows)? else {
            bail!("not on the GPU")
        };
        Ok(values(&loss)?[0])
    };
    assert!(loss_of([0.0, 1.0, 2.0, 3.0], [0, 1])?.is_finite());
    assert!(loss_of([0.0, 1.0, f32::NAN, 3.0], [0, 1])?.is_nan());
    assert!(loss_of([f32::NAN; 4], [0, 1])?.is_nan());
    assert!(loss_of([0.0, 1.0, 2.0, 3.0], [0, 2])?.is_nan());
    let logits = Tensor::zeros((2, 2), candle_core::DType::F32, &device)?;
    let three = Tensor::zeros(3, candle_core::DType::U32, &device)?;
    assert!(cross_entropy(&logits, &three, None, Divisor::Rows).is_err());
    Ok(())
}

#[test]
fn divergence_and_its_gradient_are_the_formula_s() -> Result<()> {
    let Some(turn) = turn("divergence of rows") else { return Ok(()) };
    let device = turn.gpu.device();
    let mut dice = Dice::new(62);
    for [rows, columns] in SHAPES {
        for temperature in [1.0, 2.0, 20.0] {
            let student = variable(&mut dice, &[rows, columns], 8.0, &device)?;
            // A part of a larger matrix, as terms take it.
            let larger = dice.tensor(&[rows, columns + 3], -8.0, 8.0)?;
            let teacher = larger.narrow(1, 2, columns)?;
            let part = larger.to_device(&device)?.narrow(1, 2, columns)?;
            let Some(loss) = divergence(&student, &part, temperature)? else { bail!("not on the GPU") };
            let other = values(&teacher)?;
            let formula = |point: &[f64]| {
                let one = |row: usize| {
                    let own = softmax(&point[row * columns..][..columns], temperature);
                    let other = softmax(&other[row * columns..][..columns], temperature);
                    own.iter().zip(&other).map(|(own, other)| other * (other.ln() - own.ln())).sum::<f64>()
                };
                temperature.powi(2) * (0..rows).map(one).sum::<f64>() / rows as f64
            };
            check(&loss, &student, formula, &format!("{rows} x {columns} at {temperature}"))?;
        }
    }
    Ok(())
}

#[test]
fn rows_of_length_one_and_their_gradient_are_the_formula_s() -> Result<()> {
    let Some(turn) = turn("rows of length 1") else { return Ok(()) };
    let device = turn.gpu.device();
    let mut dice = Dice::new(63);
    for [rows, columns] in SHAPES {
        let given = variable(&mut dice, &[rows, columns], 3.0, &device)?;
        let with = dice.tensor(&[rows, columns], -1.0, 1.0)?;
        let Some(unit) = unit_rows(&given, 1e-24)? else { bail!("not on the GPU") };
        assert_eq!(unit.dims(), [rows, columns]);
        let loss = (unit * with.to_device(&device)?)?.sum_all()?;
        let with = values(&with)?;
        let formula = |point: &[f64]| {
            let one = |row: usize| {
                let own = &point[row * columns..][..columns];
                let length = (own.iter().map(|it| it * it).sum::<f64>() + 1e-24).sqrt();
                own.iter().zip(&with[row * columns..]).map(|(own, with)| own * with / length).sum::<f64>()
            };
            (0..rows).map(one).sum()
        };
        check(&loss, &given, formula, &format!("{rows} x {columns}"))?;
    }
    // A row of zeros stays, and its gradient is finite.
    let empty = Var::zeros((2, 3), candle_core::DType::F32, &device)?;
    let Some(unit) = unit_rows(&empty, 1e-24)? else { bail!("not on the GPU") };
    assert_eq!(values(&unit)?, [0.0; 6]);
    let gradients = unit.sum(D::Minus1)?.sum_all()?.backward()?;
    assert!(values(gradients.get(&empty).expect("a gradient"))?.iter().all(|it| it.is_finite()));
    Ok(())
}
