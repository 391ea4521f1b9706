//! A linear probe: how far pooled features are linearly separable when every image of every class is at hand.
//!
//! What is minimised is what FeTrIL's head minimises (`answers/svm.rs`), one class against the rest with squared hinge
//! losses and the cost 1. Here all classes take their Newton steps together, so that a pass over the images is two
//! products of matrices; and training ends early, since accuracies of a probe are read to a tenth of a percent. Images
//! are split by fixed chunks, whose sums run in their order: the numbers do not depend on the number of threads.

use anyhow::Result;
use candle_core::{DType, Tensor};
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::findings::Probe;
use super::{OnWork, Work};

/// A class is settled where its gradient is this times its share of the images as long as at the beginning.
const TOLERANCE: f64 = 1e-2;
/// Most Newton steps; some six are taken.
const MOST_STEPS: usize = 20;
/// A step's direction is found up to this share of the gradient, within so many passes over the images.
const OF_A_STEP: f64 = 0.1;
const MOST_PASSES: usize = 25;
/// A step must lower the loss by this share of what the gradient promises; it is halved so often at most.
const SUFFICIENT: f64 = 1e-4;
const MOST_HALVINGS: usize = 20;
/// Images of a chunk.
const CHUNK: usize = 2048;
/// What the squared hinges count beside the squares of the weights.
const COST: f64 = 1.0;

/// Features of images and their classes; each row ends with a 1, whose weight is the bias.
pub(super) struct Rows {
    width: usize,
    values: Vec<f32>,
    labels: Vec<usize>,
}

impl Rows {
    pub(super) fn new(width: usize) -> Self {
        Self { width, values: Vec::new(), labels: Vec::new() }
    }

    /// Appends the rows of one class, `[images, width]`.
    ///
    /// # Errors
    /// If they are no matrix.
    pub(super) fn add(&mut self, rows: &Tensor, class: usize) -> Result<()> {
        for row in rows.to_dtype(DType::F32)?.to_vec2::<f32>()? {
            self.values.extend(row);
            self.values.push(1.0);
            self.labels.push(class);
        }
        Ok(())
    }

    fn chunks(&self) -> Vec<Chunk> {
        let rows = self.values.chunks(CHUNK * (self.width + 1));
        let chunk = |(rows, labels): (&[f32], &[usize])| Chunk {
            rows: DMatrix::from_row_slice(labels.len(), self.width + 1, rows),
            labels: labels.to_vec(),
        };
        rows.zip(self.labels.chunks(CHUNK)).map(chunk).collect()
    }
}

/// Some images: `[images, width + 1]`, and their classes.
struct Chunk {
    rows: DMatrix<f32>,
    labels: Vec<usize>,
}

impl Chunk {
    fn scores(&self, weights: &DMatrix<f32>) -> DMatrix<f32> {
        &self.rows * weights
    }

    /// `1 - y s`: how far each image is from its side of each class's margin.
    fn slack(&self, scores: &DMatrix<f32>) -> DMatrix<f32> {
        DMatrix::from_fn(scores.nrows(), scores.ncols(), |at, class| {
            1.0 - self.sign(at, class) * scores[(at, class)]
        })
    }

    fn sign(&self, at: usize, class: usize) -> f32 {
        if self.labels[at] == class { 1.0 } else { -1.0 }
    }
}

/// Weights `[classes, width]` and biases of every class against the rest, and how far they were trained.
pub(super) fn trained(
    rows: &Rows,
    classes: usize,
    report: OnWork<'_>,
) -> (DMatrix<f64>, DVector<f64>, Probe) {
    let mut found = Newton::new(rows, classes);
    let mut probe = Probe { steps: 0, unsettled: found.unsettled() };
    while probe.unsettled > 0 && probe.steps < MOST_STEPS && found.step() {
        probe = Probe { steps: probe.steps + 1, unsettled: found.unsettled() };
        report(Work::Probe { steps: probe.steps, most: MOST_STEPS, unsettled: probe.unsettled });
    }
    let weights = found.weights.rows(0, rows.width).transpose();
    (weights, found.weights.row(rows.width).transpose(), probe)
}

/// Newton's method for all classes side by side.
struct Newton {
    chunks: Vec<Chunk>,
    /// Of each chunk the scores of the classes, `[images, classes]`.
    scores: Vec<DMatrix<f32>>,
    /// `[width + 1, classes]`.
    weights: DMatrix<f64>,
    gradient: DMatrix<f64>,
    /// The length of a class's gradient at which it is settled.
    bounds: Vec<f64>,
}

impl Newton {
    fn new(rows: &Rows, classes: usize) -> Self {
        let chunks = rows.chunks();
        let scores = chunks.iter().map(|chunk| DMatrix::zeros(chunk.labels.len(), classes)).collect();
        let weights = DMatrix::zeros(rows.width + 1, classes);
        let mut found = Self { chunks, scores, gradient: weights.clone(), weights, bounds: Vec::new() };
        found.gradient = found.gradient();
        let share = |class: usize| {
            let count = rows.labels.iter().filter(|it| **it == class).count();
            count.min(rows.labels.len() - count).max(1) as f64 / rows.labels.len() as f64
        };
        let bound = |class: usize| TOLERANCE * share(class) * found.gradient.column(class).norm();
        found.bounds = (0..classes).map(bound).collect();
        found
    }

    fn is_settled(&self, class: usize) -> bool {
        let length = self.gradient.column(class).norm();
        length <= self.bounds[class] || length == 0.0
    }

    fn unsettled(&self) -> usize {
        (0..self.bounds.len()).filter(|class| !self.is_settled(*class)).count()
    }

    /// Sums of what `of` makes of each chunk, in their order.
    fn summed(&self, of: impl Fn(usize, &Chunk) -> DMatrix<f32> + Sync) -> DMatrix<f64> {
        let parts: Vec<DMatrix<f32>> =
            self.chunks.par_iter().enumerate().map(|(at, chunk)| of(at, chunk)).collect();
        let mut sum = DMatrix::zeros(self.weights.nrows(), self.weights.ncols());
        parts.iter().for_each(|part| sum += part.map(f64::from));
        sum
    }

    fn gradient(&self) -> DMatrix<f64> {
        let hinges = self.summed(|at, chunk| {
            let mut pull = chunk.slack(&self.scores[at]);
            for (place, value) in pull.iter_mut().enumerate() {
                let (image, class) = (place % chunk.labels.len(), place / chunk.labels.len());
                *value = value.max(0.0) * chunk.sign(image, class);
            }
            chunk.rows.transpose() * pull
        });
        &self.weights - hinges * (2.0 * COST)
    }

    /// The Hessian times `along`: `1 + 2 cost sum x x'` over the images that are not on their side of the margin.
    fn hessian_product(&self, along: &DMatrix<f64>) -> DMatrix<f64> {
        let single = along.map(|value| value as f32);
        let of_images = self.summed(|at, chunk| {
            let (mut moved, slack) = (chunk.scores(&single), chunk.slack(&self.scores[at]));
            moved.zip_apply(&slack, |moved, slack| {
                if slack <= 0.0 {
                    *moved = 0.0;
                }
            });
            chunk.rows.transpose() * moved
        });
        along + of_images * (2.0 * COST)
    }

    /// The steps that Newton's method takes, by conjugate gradients; 0 for settled classes.
    fn direction(&self) -> DMatrix<f64> {
        let classes = self.bounds.len();
        let mut step = DMatrix::zeros(self.weights.nrows(), classes);
        let mut left = -&self.gradient;
        (0..classes)
            .filter(|class| self.is_settled(*class))
            .for_each(|class| left.column_mut(class).fill(0.0));
        let mut along = left.clone();
        let mut squared: Vec<f64> = left.column_iter().map(|it| it.norm_squared()).collect();
        let enough: Vec<f64> = squared.iter().map(|it| OF_A_STEP * OF_A_STEP * it).collect();
        for _ in 0..MOST_PASSES {
            let going: Vec<usize> = (0..classes).filter(|class| squared[*class] > enough[*class]).collect();
            if going.is_empty() {
                break;
            }
            let hessian_product = self.hessian_product(&along);
            for class in going {
                let size = squared[class] / along.column(class).dot(&hessian_product.column(class));
                step.column_mut(class).axpy(size, &along.column(class), 1.0);
                left.column_mut(class).axpy(-size, &hessian_product.column(class), 1.0);
                let now = left.column(class).norm_squared();
                along.column_mut(class).axpy(1.0, &left.column(class), now / squared[class]);
                squared[class] = now;
            }
        }
        step
    }

    /// Of each class the loss where its weights have moved by `sizes` times `step`.
    fn losses(&self, step: &DMatrix<f64>, moved: &[DMatrix<f32>], sizes: &[f64]) -> Vec<f64> {
        let of_chunk = |at: usize| -> Vec<f64> {
            let (chunk, scores) = (&self.chunks[at], &self.scores[at]);
            let of_class = |class: usize| -> f64 {
                let size = sizes[class] as f32;
                let (scores, moved) = (scores.column(class), moved[at].column(class));
                let pairs = scores.iter().zip(moved.iter()).enumerate();
                let slack = pairs.map(|(image, (scores, moved))| {
                    f64::from((1.0 - chunk.sign(image, class) * (scores + size * moved)).max(0.0))
                });
                slack.map(|it| it * it).sum()
            };
            (0..sizes.len()).map(of_class).collect()
        };
        let parts: Vec<Vec<f64>> = (0..self.chunks.len()).into_par_iter().map(of_chunk).collect();
        let of_class = |class: usize| {
            let weights = self.weights.column(class) + step.column(class) * sizes[class];
            0.5 * weights.norm_squared() + COST * parts.iter().map(|part| part[class]).sum::<f64>()
        };
        (0..sizes.len()).map(of_class).collect()
    }

    /// Takes a step with every class that is not settled; `false` if none can go on.
    fn step(&mut self) -> bool {
        let step = self.direction();
        let single = step.map(|value| value as f32);
        let moved: Vec<DMatrix<f32>> = self.chunks.par_iter().map(|chunk| chunk.scores(&single)).collect();
        let classes = self.bounds.len();
        let before = self.losses(&step, &moved, &vec![0.0; classes]);
        let mut sizes: Vec<f64> =
            (0..classes).map(|class| if self.is_settled(class) { 0.0 } else { 1.0 }).collect();
        for halving in 0..=MOST_HALVINGS {
            let after = self.losses(&step, &moved, &sizes);
            let promised = |class: usize| sizes[class] * self.gradient.column(class).dot(&step.column(class));
            let too_far = |class: &usize| after[*class] > before[*class] + SUFFICIENT * promised(*class);
            let again: Vec<usize> = (0..classes).filter(too_far).collect();
            if again.is_empty() {
                break;
            }
            // What is left after all halvings is rounding.
            let shorter = if halving == MOST_HALVINGS { 0.0 } else { 0.5 };
            again.iter().for_each(|class| sizes[*class] *= shorter);
        }
        if sizes.iter().all(|size| *size == 0.0) {
            return false;
        }
        for (class, size) in sizes.iter().enumerate() {
            self.weights.column_mut(class).axpy(*size, &step.column(class), 1.0);
            for (scores, moved) in self.scores.iter_mut().zip(&moved) {
                scores.column_mut(class).axpy(*size as f32, &moved.column(class), 1.0);
            }
        }
        self.gradient = self.gradient();
        true
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use cil_random::Draw;

    use super::*;
    use crate::answers::svm;

    /// Clouds that overlap, three times as many images as a chunk has.
    fn clouds(classes: usize, width: usize) -> (Rows, svm::Rows) {
        let (mut rows, mut others) = (Rows::new(width), svm::Rows::new(width));
        let images = 3 * CHUNK / classes + 5;
        for class in 0..classes {
            let mut stream = Draw::new(5, "audit").stream_in("clouds", class as u64);
            let values: Vec<f32> = (0..images * width)
                .map(|at| 0.4 * stream.normal() as f32 + if at % width == class { 1.0 } else { 0.0 })
                .collect();
            let of_class = Tensor::from_vec(values, (images, width), &Device::Cpu).unwrap();
            rows.add(&of_class, class).unwrap();
            others.add(&crate::discriminant::matrix(&of_class).unwrap(), class);
        }
        (rows, others)
    }

    /// Classes together find the minimum that each finds alone, and stop by the rule, well before the most steps.
    #[test]
    fn classes_together_find_the_minimum_of_each() {
        let (classes, width) = (7, 9);
        let (rows, others) = clouds(classes, width);
        let mut steps = Vec::new();
        let mut report = |work: Work| {
            let Work::Probe { steps: taken, most, unsettled } = work else { panic!("{work:?}") };
            assert_eq!(most, MOST_STEPS);
            steps.push((taken, unsettled));
        };
        let (weights, biases, probe) = trained(&rows, classes, &mut report);
        assert_eq!(probe.unsettled, 0);
        assert!(probe.steps < 10, "{}", probe.steps);
        assert_eq!(steps.last(), Some(&(probe.steps, 0)));
        assert_eq!(steps.iter().map(|it| it.0).collect::<Vec<_>>(), (1..=probe.steps).collect::<Vec<_>>());
        let exact = svm::tests::exactly(&others, classes, COST);
        for (class, exact) in exact.iter().enumerate() {
            let found = weights.row(class).iter().copied().chain([biases[class]]).collect::<Vec<_>>();
            let length = exact.iter().map(|it| it * it).sum::<f64>().sqrt();
            let apart =
                found.iter().zip(exact).map(|(left, right)| (left - right).powi(2)).sum::<f64>().sqrt();
            assert!(apart < 0.01 * length, "class {class}: {apart} of {length}");
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (rows, _) = clouds(5, 6);
        let of = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| trained(&rows, 5, &mut |_| {}))
        };
        assert_eq!(of(1), of(3));
    }
}
