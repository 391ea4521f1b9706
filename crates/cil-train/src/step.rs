//! The data of one training step that a term may read.
//!
//! Rows of a step are ordered: new images, then exemplars, then generated images of old classes. Where new images are
//! not shared, generated ones of their classes stand in their place. The student and the old teacher have
//! seen every row; the new teacher has seen the new images only, or every row where a term asks for that. Views hold
//! the maps that the phase's terms ask for.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Result, Tensor};
use cil_backbone::{HeadWeights, Outputs};
use serde::{Deserialize, Serialize};

/// Which rows of a step's batch a term acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rows {
    /// Images of this task's classes: real ones, or generated ones where they are not shared.
    New,
    /// The same, and exemplars.
    Real,
    /// Exemplars and generated images of old classes.
    Old,
    /// Exemplars alone.
    Exemplars,
    /// Generated images of old classes, or adversarial ones in their place.
    Synthetic,
    /// Every row.
    All,
}

/// One training step, as terms see it.
#[derive(Debug)]
pub struct Step<'a> {
    /// Classes of earlier tasks; they are the first columns.
    pub old_classes: usize,
    /// All classes seen, this task's included.
    pub classes: usize,
    /// Class of every row, u32 `[rows]`, on the networks' device. Labels change every step; reading them on the host
    /// forces a synchronisation and rules out CUDA-graph capture.
    pub labels: &'a Tensor,
    /// Rows with images of this task's classes.
    pub new_rows: Range<usize>,
    /// Rows with exemplars.
    pub exemplar_rows: Range<usize>,
    /// Rows with generated images of old classes.
    pub synthetic_rows: Range<usize>,
    /// The network that learns, on all rows.
    pub student: &'a Outputs,
    /// The model of the task before, on all rows.
    pub old: Option<&'a Outputs>,
    /// The teacher of the new classes, on the new rows; its columns are the new classes.
    pub new: Option<&'a Outputs>,
    /// The teacher of the new classes on all rows, if a term needs it.
    pub new_of_all: Option<&'a Outputs>,
    /// The student's features of the new images turned by one, two and three right angles, all images of one turn after
    /// the other: `[3 new rows, width]`. `None` where no term reads them, or no image is new. The student saw them in
    /// the same batch, or in one of their own where generated images have one.
    pub turned: Option<&'a Tensor>,
    /// The head that learns, its trained tensors as variables.
    pub head: &'a HeadWeights,
    /// Weights of the old teacher's head, `[old classes, width]`.
    pub old_head: Option<&'a Tensor>,
    /// The empirical feature matrix of the old teacher, `[width, width]`, if a term needs it.
    pub feature_matrix: Option<&'a Tensor>,
    /// Exemplars' share of the old classes' weight beside generated images; if absent, all rows have the same weight.
    pub exemplar_share: Option<f64>,
    /// Images of every class in an epoch, generated ones estimated; empty if no term needs them.
    pub class_counts: &'a [usize],
    /// Outputs of the terms' auxiliary networks on the student's maps, and their other values, by name.
    pub aux_nets: BTreeMap<String, Tensor>,
}

impl Step<'_> {
    /// The rows that a selection names.
    pub fn rows(&self, rows: Rows) -> Range<usize> {
        match rows {
            Rows::New => self.new_rows.clone(),
            Rows::Real => self.new_rows.start..self.exemplar_rows.end,
            Rows::Exemplars => self.exemplar_rows.clone(),
            Rows::Old => self.exemplar_rows.start..self.synthetic_rows.end,
            Rows::Synthetic => self.synthetic_rows.clone(),
            Rows::All => self.new_rows.start..self.synthetic_rows.end,
        }
    }

    /// The new teacher's outputs for `rows`, from a tensor with a row for each image; `None` where it has
    /// nothing.
    ///
    /// # Errors
    /// If the device refuses it.
    pub fn of_new_teacher(
        &self,
        rows: Rows,
        of: impl Fn(&Outputs) -> Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let rows = match (rows, self.new) {
            // It was asked of these alone.
            (Rows::New, new) => return Ok(new.and_then(of).cloned()),
            (other, _) => self.rows(other),
        };
        match self.new_of_all.and_then(of) {
            Some(said) if !rows.is_empty() => said.narrow(0, rows.start, rows.len()).map(Some),
            _ => Ok(None),
        }
    }

    /// Labels of `rows`.
    ///
    /// # Errors
    /// If the device refuses it.
    pub fn labels(&self, rows: &Range<usize>) -> Result<Tensor> {
        self.labels.narrow(0, rows.start, rows.len())
    }

    /// Weights of `rows` that give every class seen the same share, with mean 1 over the rows.
    ///
    /// Within new and within old rows classes are drawn alike, so a group's weight is its share of the classes over its
    /// share of the rows; [`Self::exemplar_share`] divides the old rows' further. `[rows]`, made where `like` is and in
    /// its type: nothing is brought there, however many rows.
    ///
    /// # Errors
    /// If the device refuses it.
    pub fn balanced_weights(&self, rows: &Range<usize>, like: &Tensor) -> Result<Tensor> {
        // Rows follow each other: new ones, exemplars, generated ones.
        let before = |end: usize| end.clamp(rows.start, rows.end) - rows.start;
        let n_new = before(self.new_rows.end);
        let (n_kept, n_old) = (before(self.exemplar_rows.end) - n_new, rows.len() - n_new);
        let weight = |classes: usize, count: usize| {
            (classes as f64 / self.classes as f64 * rows.len() as f64 / count as f64) as f32
        };
        let (new_weight, old_weight) = match n_old == 0 || n_new == 0 {
            true => (1.0, 1.0),
            false => (weight(self.classes - self.old_classes, n_new), weight(self.old_classes, n_old)),
        };
        let mut parts = vec![(new_weight, n_new), (old_weight, n_old)];
        if let Some(share) = self.exemplar_share.filter(|_| n_kept > 0 && n_kept < n_old) {
            let of = |share: f64, count: usize| old_weight * (share * n_old as f64 / count as f64) as f32;
            let n_generated = n_old - n_kept;
            parts = vec![
                (new_weight, n_new),
                (of(share, n_kept), n_kept),
                (of(1.0 - share, n_generated), n_generated),
            ];
        }
        parts.retain(|(_, count)| *count > 0);
        let full =
            |(value, count): (f32, usize)| Tensor::full(value, count, like.device())?.to_dtype(like.dtype());
        if let [] | [_] = parts.as_slice() {
            return full((parts.first().map_or(1.0, |it| it.0), rows.len()));
        }
        Tensor::cat(&parts.into_iter().map(full).collect::<Result<Vec<_>>>()?, 0)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use cil_backbone::HeadKind;

    use super::*;

    /// Every row's weight as its definition has it: the share of its group's classes over the share of its rows.
    #[test]
    fn balanced_weights_are_the_share_of_classes_over_the_share_of_rows() {
        let device = Device::Cpu;
        let tensor = Tensor::zeros((0, 1), DType::F32, &device).unwrap();
        let student = Outputs {
            features: tensor.clone(),
            logits: tensor.clone(),
            similarities: None,
            scale: None,
            maps: BTreeMap::new(),
        };
        let head = HeadWeights {
            kind: HeadKind::WithoutBias,
            weights: Vec::new(),
            biases: Vec::new(),
            scale: None,
            projection: None,
            power: None,
        };
        for (n_new, n_exemplars, n_generated) in [(3, 2, 4), (900, 0, 1100), (0, 5, 2), (7, 0, 0)] {
            let end = n_new + n_exemplars + n_generated;
            let step = Step {
                old_classes: 50,
                classes: 60,
                labels: &tensor,
                new_rows: 0..n_new,
                exemplar_rows: n_new..n_new + n_exemplars,
                synthetic_rows: n_new + n_exemplars..end,
                student: &student,
                old: None,
                new: None,
                new_of_all: None,
                turned: None,
                head: &head,
                old_head: None,
                feature_matrix: None,
                exemplar_share: None,
                class_counts: &[],
                aux_nets: BTreeMap::new(),
            };
            for rows in [0..end, 0..n_new, n_new..end, n_new / 2..end - end / 3] {
                let n_of_new = rows.clone().filter(|row| *row < n_new).count();
                let weight = |row: usize| {
                    let (classes, count) =
                        if row < n_new { (10, n_of_new) } else { (50, rows.len() - n_of_new) };
                    (f64::from(classes) / 60.0 * rows.len() as f64 / count as f64) as f32
                };
                let alike = n_of_new == 0 || n_of_new == rows.len();
                let expected: Vec<f32> =
                    rows.clone().map(|row| if alike { 1.0 } else { weight(row) }).collect();
                let found = step.balanced_weights(&rows, &tensor).unwrap();
                assert_eq!(found.to_vec1::<f32>().unwrap(), expected, "{rows:?} of {n_new} new and {end}");
            }
        }
    }
}
