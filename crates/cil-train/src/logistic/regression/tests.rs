//! The regression beside numbers of PyTorch, and what its biases are lowered by.

use serde_json::Value;

use super::*;

/// As L-BFGS has it in PyTorch (`tests/golden/logistic.py`).
const GOLDEN: &str = include_str!("../../../tests/golden/logistic.json");
const NEW: usize = 2;

fn matrix(value: &Value) -> DMatrix<f64> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    DMatrix::from_row_slice(rows.len(), rows[0].len(), &rows.concat())
}

fn golden() -> (Value, Seen) {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let classes = serde_json::from_value(golden["classes"].clone()).unwrap();
    let seen = Seen { features: matrix(&golden["features"]), old: matrix(&golden["old"]), classes };
    (golden, seen)
}

fn spec(given_up: f64) -> LogisticSpec {
    LogisticSpec { generated: 10, penalty: 0.02, given_up, stages: Vec::new() }
}

/// Right answers among all classes: of images of old classes, and of new ones.
fn right(seen: &Seen, rows: &NewRows) -> (usize, usize) {
    let scores = rows.scores(&seen.features);
    let mut right = (0, 0);
    for (row, class) in seen.classes.iter().enumerate() {
        let (old, lead) = (seen.old.row(row).transpose().argmax(), scores.row(row).transpose().argmax());
        match class.checked_sub(seen.old.ncols()) {
            None => right.0 += usize::from(old.1 >= lead.1),
            Some(own) => right.1 += usize::from(lead.1 > old.1 && lead.0 == own),
        }
    }
    right
}

#[test]
fn weights_are_those_of_pytorch() {
    let (golden, seen) = golden();
    let found = seen.fitted(NEW, golden["penalty"].as_f64().unwrap()).unwrap();
    let weights = matrix(&golden["weights"]);
    assert!((&found.weights - &weights).amax() < 2e-3 * weights.amax(), "{} {weights}", found.weights);
    let biases: Vec<f64> = serde_json::from_value(golden["biases"].clone()).unwrap();
    for (found, expected) in found.biases.iter().zip(&biases) {
        assert!((found - expected).abs() < 5e-3, "{found} {expected}");
    }
}

#[test]
fn residuals_are_the_gradient_of_the_cross_entropy() {
    let (_, seen) = golden();
    let n_old = seen.old.ncols();
    let new =
        DMatrix::from_fn(seen.classes.len(), NEW, |row, column| ((row * 7 + column * 3) % 5) as f64 - 2.0);
    let loss = |new: &DMatrix<f64>, row: usize| {
        let logits: Vec<f64> = seen.old.row(row).iter().chain(new.row(row).iter()).copied().collect();
        logits.iter().map(|it| it.exp()).sum::<f64>().ln() - logits[seen.classes[row]]
    };
    let residuals = seen.residuals(&new, n_old);
    for row in 0..seen.classes.len() {
        for column in 0..NEW {
            let moved = |by: f64| {
                let mut new = new.clone();
                new[(row, column)] += by;
                loss(&new, row)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((slope - residuals[(row, column)]).abs() < 1e-8, "{slope} {}", residuals[(row, column)]);
        }
    }
}

#[test]
fn a_share_of_the_new_images_is_given_up_for_the_old_ones() {
    let leads = vec![3.0, -1.0, 2.0, 0.5, 1.0];
    for (share, expected) in [(0.0, 0.0), (0.2, 0.5), (0.4, 1.0), (0.79, 2.0), (0.8, 3.0)] {
        let found = lowered(leads.clone(), share);
        assert!((found - expected).abs() < 1e-12 && found <= expected, "{share}: {found}");
    }
    assert_eq!(lowered(Vec::new(), 0.2), 0.0);
    let (_, seen) = golden();
    let (plain, kept) = (seen.fitted(NEW, 0.02).unwrap(), seen.calibrated(NEW, &spec(0.3)).unwrap());
    assert_eq!(plain.weights, kept.weights);
    let ((old, new), (old_kept, new_kept)) = (right(&seen, &plain), right(&seen, &kept));
    assert!(old_kept > old && new_kept < new, "{old} {new}, {old_kept} {new_kept}");
    // Nothing is given up where nothing may be.
    let none = seen.calibrated(NEW, &spec(0.0)).unwrap();
    assert!(none.biases.iter().zip(plain.biases.iter()).all(|(a, b)| (a - b).abs() < 1.0 && a <= b));
}

#[test]
fn a_class_without_images_is_refused() {
    let (_, seen) = golden();
    let message = seen.fitted(NEW + 1, 0.02).unwrap_err().to_string();
    assert!(message.contains("class 5 has no image"), "{message}");
    let few = seen.part(&[0, 1, 35, 60, 77]);
    // One image of a class is left out of no part.
    assert!(few.calibrated(NEW, &spec(0.2)).is_ok());
}
