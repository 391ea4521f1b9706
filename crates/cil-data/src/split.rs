//! How classes are divided into tasks.
//!
//! A split is a list of sizes, the base first, each at least 1, whose sum is the number of classes; a task's classes
//! are contiguous positions in the class order.

use std::ops::Range;

use anyhow::{Result, bail};

/// Classes of each task, the base first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Increments(Vec<usize>);

impl Increments {
    /// The given sizes, which divide `classes`.
    ///
    /// # Errors
    /// If there is none, one is 0, or they do not add up.
    pub fn new(sizes: Vec<usize>, classes: usize) -> Result<Self> {
        if sizes.is_empty() {
            bail!("the list is empty; [{classes}] learns all classes at once");
        }
        if let Some(at) = sizes.iter().position(|size| *size == 0) {
            bail!("task {} has 0 classes; it needs at least 1", at + 1);
        }
        let sum = sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size));
        match sum {
            Some(sum) if sum == classes => Ok(Self(sizes)),
            Some(sum) => bail!("{sizes:?} add up to {sum}, there are {classes} classes"),
            None => bail!("{sizes:?} add up to more than can be counted, there are {classes} classes"),
        }
    }

    /// Classes of each task.
    pub fn sizes(&self) -> &[usize] {
        &self.0
    }

    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.0.len()
    }

    /// The new classes of a task, as positions in the class order.
    ///
    /// # Panics
    /// If there is no such task.
    pub fn classes(&self, task: usize) -> Range<usize> {
        let seen = self.seen(task);
        seen - self.0[task]..seen
    }

    /// Classes of a task and all before it.
    ///
    /// # Panics
    /// If there is no such task.
    pub fn seen(&self, task: usize) -> usize {
        self.0[..=task].iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_contiguous_down_to_one_class() {
        let increments = Increments::new(vec![4, 2, 1], 7).unwrap();
        let classes: Vec<_> = (0..increments.tasks()).map(|task| increments.classes(task)).collect();
        assert_eq!(classes, [0..4, 4..6, 6..7]);
        assert_eq!(increments.seen(1), 6);
    }

    #[test]
    fn increments_that_do_not_add_up_are_refused() {
        let message = |sizes: &[usize]| Increments::new(sizes.to_vec(), 7).unwrap_err().to_string();
        assert_eq!(message(&[4, 2]), "[4, 2] add up to 6, there are 7 classes");
        assert!(message(&[7, 0]).starts_with("task 2 has 0 classes"));
        assert!(message(&[]).contains("[7]"));
        assert!(message(&[usize::MAX, 8]).contains("more than can be counted"));
    }
}
