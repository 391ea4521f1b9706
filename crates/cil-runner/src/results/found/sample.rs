//! Findings for tests.

use cil_train::audit::findings::{Accuracy, Findings, Probe, Task};

/// Findings of a run of two tasks of two classes.
pub(crate) fn findings() -> Findings {
    let of = |all, own_task| Accuracy { all, own_task };
    let task = |run: f64| Task {
        classes: 2,
        run: of(run, 0.9),
        true_means: Some(of(run + 0.1, 0.91)),
        true_covariance: Some(of(run + 0.05, 0.92)),
        true_statistics: of(run + 0.15, 0.93),
        probe: of(run + 0.2, 0.94),
        mean_drift: Some(0.25),
    };
    let (tasks, probe) = (vec![task(0.6), task(0.4)], Probe { steps: 5, unsettled: 0 });
    Findings { all: Task { classes: 4, ..task(0.5) }, tasks, covariance_drift: Some(0.125), probe }
}
