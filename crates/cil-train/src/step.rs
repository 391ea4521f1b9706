//! What a term may look at in one learning step.
//!
//! Rows of a step are ordered: new images, then exemplars, then generated images of old classes. Where new images are not
//! shared, generated ones of their classes stand in their place. The student and the old teacher have
//! seen every row; the new teacher has seen the new images only, or every row where a term asks for that. Views hold the maps that the phase's terms ask for.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Result, Tensor};
use cil_backbone::{HeadWeights, View};

use crate::recipe::Rows;

/// One learning step as terms see it.
#[derive(Debug)]
pub struct Step<'a> {
    /// Classes of earlier tasks; they are the first columns.
    pub old_classes: usize,
    /// All classes seen, this task's included.
    pub classes: usize,
    /// Class of every row, u32 `[rows]`, where the networks are. It differs from step to step, so whoever reads it makes
    /// the host wait, and the step one that no GPU can repeat by itself.
    pub labels: &'a Tensor,
    /// Rows with images of this task's classes.
    pub new_rows: Range<usize>,
    /// Rows with exemplars.
    pub exemplar_rows: Range<usize>,
    /// Rows with generated images of old classes.
    pub synthetic_rows: Range<usize>,
    /// The network that learns, on all rows.
    pub student: &'a View,
    /// The model of the task before, on all rows.
    pub old: Option<&'a View>,
    /// The teacher of the new classes, on the new rows; its columns are the new classes.
    pub new: Option<&'a View>,
    /// The teacher of the new classes on all rows, where a term asks for it.
    pub new_of_all: Option<&'a View>,
    /// The head that learns, its trained tensors as variables.
    pub head: &'a HeadWeights,
    /// Weights of the old teacher's head, `[old classes, width]`.
    pub old_head: Option<&'a Tensor>,
    /// Images of every class in an epoch, generated ones estimated; empty where no term asks for them.
    pub class_counts: &'a [usize],
    /// What the terms' own networks say of the student's maps, and their other values, by name.
    pub aids: BTreeMap<String, Tensor>,
}

impl Step<'_> {
    /// The rows that a selection names.
    pub fn rows(&self, rows: Rows) -> Range<usize> {
        match rows {
            Rows::New => self.new_rows.clone(),
            Rows::Real => self.new_rows.start..self.exemplar_rows.end,
            Rows::Old => self.exemplar_rows.start..self.synthetic_rows.end,
            Rows::Synthetic => self.synthetic_rows.clone(),
            Rows::All => self.new_rows.start..self.synthetic_rows.end,
        }
    }

    /// What the new teacher says of `rows`, a tensor of its view with a row for each image; `None` where it says nothing.
    ///
    /// # Errors
    /// If the device refuses it.
    pub fn of_new_teacher(
        &self,
        rows: Rows,
        of: impl Fn(&View) -> Option<&Tensor>,
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
    /// share of the rows.
    pub fn balanced_weights(&self, rows: &Range<usize>) -> Vec<f32> {
        let is_new = |row: &usize| self.new_rows.contains(row);
        let n_new = rows.clone().filter(is_new).count();
        let n_old = rows.len() - n_new;
        if n_old == 0 || n_new == 0 {
            return vec![1.0; rows.len()];
        }
        let weight = |classes: usize, count: usize| {
            (classes as f64 / self.classes as f64 * rows.len() as f64 / count as f64) as f32
        };
        let (old_weight, new_weight) =
            (weight(self.old_classes, n_old), weight(self.classes - self.old_classes, n_new));
        rows.clone().map(|row| if is_new(&row) { new_weight } else { old_weight }).collect()
    }
}
