//! Numbers computed from confusion matrices; pure functions.
//!
//! "Forgetting" is a different number in different toolboxes, so each has its own name here. With the accuracy of task
//! `j` after learning task `t` written `a[t][j]`, and `T` the last task:
//! Chaudhry et al. 2018 average `max over t in j..T of a[t][j] - a[T][j]` over `j < T`.

use serde::{Deserialize, Serialize};

use crate::event::Confusion;

/// Share of images classified right among the classes `from..to`; `None` if there are none.
pub fn accuracy(confusion: &Confusion, classes: std::ops::Range<usize>) -> Option<f64> {
    let rows = confusion.rows.get(classes.clone())?;
    let total: u64 = rows.iter().flatten().map(|count| u64::from(*count)).sum();
    let right: u64 = classes.zip(rows).map(|(class, row)| u64::from(row[class])).sum();
    (total > 0).then(|| right as f64 / total as f64)
}

/// Accuracy of each earlier task after each task: `matrix[t][j]` for `j <= t`.
///
/// `increments`: classes of each task, the base first. `confusions`: one per task learned.
pub fn accuracy_matrix(confusions: &[Confusion], increments: &[usize]) -> Vec<Vec<f64>> {
    let row = |(task, confusion): (usize, &Confusion)| {
        let mut start = 0;
        let of_task = |size: &usize| {
            let range = start..start + size;
            start += size;
            accuracy(confusion, range).unwrap_or(0.0)
        };
        increments[..=task].iter().map(of_task).collect()
    };
    confusions.iter().enumerate().map(row).collect()
}

/// Mean over tasks of the accuracy on all classes seen so far, the base task included.
pub fn average_incremental_accuracy(confusions: &[Confusion]) -> Option<f64> {
    let each = confusions.iter().map(|it| accuracy(it, 0..it.rows.len())).collect::<Option<Vec<_>>>()?;
    (!each.is_empty()).then(|| each.iter().sum::<f64>() / each.len() as f64)
}

/// The forms of forgetting that toolboxes report, each under its own name; larger is worse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forgetting {
    /// Chaudhry et al. 2018: best earlier accuracy minus the last, over all tasks but the newest (FACIL, continuum).
    pub chaudhry: f64,
    /// The last accuracy takes part in the maximum, so no task counts below 0 (PyCIL, Mammoth).
    pub best_including_last: f64,
    /// Accuracy right after learning minus the last accuracy: minus the backward transfer of Lopez-Paz and Ranzato
    /// 2017 (Avalanche).
    pub minus_backward_transfer: f64,
    /// The newest task counts as 0 minus its accuracy, and the divisor is one too large: the number of PODNet's
    /// repository, for comparison with its logs only.
    pub podnet_repository: f64,
}

/// Forgetting after the last task; `None` before the second.
pub fn forgetting(matrix: &[Vec<f64>]) -> Option<Forgetting> {
    let (last, earlier) = matrix.split_last()?;
    if earlier.is_empty() {
        return None;
    }
    let old = earlier.len();
    let best = |task: usize| earlier[task..].iter().map(|row| row[task]).fold(f64::MIN, f64::max);
    let sum: f64 = (0..old).map(|task| best(task) - last[task]).sum();
    let clipped: f64 = (0..old).map(|task| (best(task) - last[task]).max(0.0)).sum();
    let drop: f64 = (0..old).map(|task| matrix[task][task] - last[task]).sum();
    Some(Forgetting {
        chaudhry: sum / old as f64,
        best_including_last: clipped / old as f64,
        minus_backward_transfer: drop / old as f64,
        podnet_repository: (sum - last[old]) / (old + 2) as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-12, "{got} is not {expected}");
    }

    /// The matrix on which the toolboxes' own functions were run: FACIL 5.0, PyCIL 7.5, Avalanche 2.5, PODNet -19.5.
    #[test]
    fn forgetting_has_one_meaning_per_name() {
        let matrix = [vec![0.80], vec![0.85, 0.85], vec![0.90, 0.70, 0.88]];
        let got = forgetting(&matrix).expect("three tasks");
        close(got.chaudhry, 0.050);
        close(got.best_including_last, 0.075);
        close(got.minus_backward_transfer, 0.025);
        close(got.podnet_repository, -0.195);
        assert!(forgetting(&matrix[..1]).is_none());
    }

    #[test]
    fn accuracies_come_from_counts() {
        let base = Confusion { rows: vec![vec![3, 1], vec![0, 4]] };
        let next = Confusion { rows: vec![vec![2, 0, 2], vec![1, 1, 2], vec![0, 0, 4]] };
        close(accuracy(&base, 0..2).expect("images"), 7.0 / 8.0);
        close(accuracy(&next, 0..2).expect("images"), 3.0 / 8.0);
        assert!(accuracy(&next, 0..0).is_none());
        assert!(accuracy(&next, 2..4).is_none());
        let matrix = accuracy_matrix(&[base.clone(), next.clone()], &[2, 1]);
        assert_eq!(matrix, [vec![7.0 / 8.0], vec![3.0 / 8.0, 1.0]]);
        close(average_incremental_accuracy(&[base, next]).expect("two"), (7.0 / 8.0 + 7.0 / 12.0) / 2.0);
    }
}
