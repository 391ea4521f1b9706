//! What an audit of a finished run finds: numbers alone.
//!
//! They are apart from what measures them, since a report shows them and has no way to a measurement.

use serde::{Deserialize, Serialize};

/// Accuracies of one classifier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Where all classes compete.
    pub all: f64,
    /// Where the classes of the image's own task compete.
    pub own_task: f64,
}

/// What the measures say of one task's classes, or of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// How many classes.
    pub classes: usize,
    /// The run's classifier.
    pub run: Accuracy,
    /// The same rule on kept covariance and true means; of a run that carries statistics.
    pub true_means: Option<Accuracy>,
    /// The same rule on kept means and true covariance; of a run that carries statistics.
    pub true_covariance: Option<Accuracy>,
    /// The same rule on true statistics; a discriminant of pooled features where the run has none.
    pub true_statistics: Accuracy,
    /// A linear support vector machine on directions of pooled features of all training images.
    pub probe: Accuracy,
    /// Mean distance of kept means from the true ones, as a share of the deviation within classes.
    pub mean_drift: Option<f64>,
}

/// What the measures say of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Task by task.
    pub tasks: Vec<Task>,
    /// Of all classes.
    pub all: Task,
    /// How far the kept covariance is from the true one, as a share of it (Frobenius norms).
    pub covariance_drift: Option<f64>,
    /// How far the linear probe was trained.
    pub probe: Probe,
}

/// How far the linear probe was trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Newton steps that were taken.
    pub steps: usize,
    /// Classes that had not reached the rule by which training stops when the most steps were taken.
    pub unsettled: usize,
}
