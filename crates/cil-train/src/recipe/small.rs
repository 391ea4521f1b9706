//! Tasks and classes that are too small for a method.
//!
//! Too few classes, or too few images of a class, for a method are refused before anything is trained, with the class
//! or the task, the count, the key and what to use. Class counts are known from a configuration alone, counts of images
//! once a data set is loaded.

use anyhow::{Result, bail};
use cil_data::exemplars::Budget;

use super::{Covariance, Recipe, TermSpec};

impl Recipe {
    /// Refuses what does not suit tasks of those numbers of classes.
    ///
    /// # Errors
    /// Naming the key within the recipe, the task and what would be right.
    pub fn check_increments(&self, sizes: &[usize]) -> Result<()> {
        let needs = |it: &&TermSpec| !it.settings().applies_without_new_teacher();
        let term = self.increment.terms.iter().find(needs).map(|it| it.inner().kind());
        let term_given = format!("increment.terms has a {} term", term.as_deref().unwrap_or_default());
        let needs_new_teacher =
            [("new-replay is set".to_owned(), self.new_replay.is_some()), (term_given, term.is_some())];
        for (condition, _) in needs_new_teacher.into_iter().filter(|it| it.1) {
            let has_none = |size: &usize| !self.new_teacher.as_ref().is_some_and(|it| it.applies_to(*size));
            if let Some(at) = sizes.iter().skip(1).position(has_none) {
                bail!(
                    "{condition} and task {} has one class; a new teacher has nothing to distinguish it from, so give \
                     later \
                     tasks 2 or more",
                    at + 2
                );
            }
        }
        self.check_exemplars(sizes)?;
        self.check_held_out(sizes)
    }

    /// Refuses a total of exemplars that becomes none of a class.
    fn check_exemplars(&self, sizes: &[usize]) -> Result<()> {
        let (Budget::Total(total), false) = (self.exemplars, self.exemplars.is_none()) else { return Ok(()) };
        let mut seen = 0;
        for (task, size) in sizes.iter().enumerate() {
            seen += size;
            if self.exemplars.per_class(seen) == 0 {
                let classes: usize = sizes.iter().sum();
                bail!(
                    "exemplars.total is {total}, and {seen} classes are seen after task {}: that is no image of a \
                     class; use at least {classes}, or 0 to keep none",
                    task + 1
                );
            }
        }
        Ok(())
    }

    /// Refuses classes with too few training images. `sizes`: classes of each task; `images`: training images of each
    /// class in the order of learning.
    ///
    /// # Errors
    /// Naming the class by its place in the order, its count, the key within the recipe and what would do.
    pub fn check_images(&self, sizes: &[usize], images: &[usize]) -> Result<()> {
        let mut first = 0;
        for (task, size) in sizes.iter().enumerate() {
            let of_task = images.get(first..first + size).unwrap_or(&[]);
            if let Some(spec) = &self.bias_correction {
                // As many as are held out of an old class; of a base class as many as will be kept.
                let seen = if task == 0 { *size } else { first };
                let held_out = spec.held_out_of(self.exemplars.per_class(seen));
                if let Some(at) = of_task.iter().position(|count| *count <= held_out) {
                    bail!(
                        "bias-correction.held-out is {}, which holds {held_out} images of each class out in task {}, \
                         and class {} has {}: none is left to train on; use more than {held_out} images of a class, \
                         or a smaller share",
                        spec.held_out,
                        task + 1,
                        first + at,
                        of_task[at]
                    );
                }
            }
            self.check_images_alone(task, first, of_task)?;
            if self.discriminant.as_ref().is_some_and(|it| !it.is_of_a_frozen_backbone()) {
                let advice = "use more images of a class, or no discriminant";
                if task == 0 && of_task.iter().all(|count| *count < 2) {
                    bail!(
                        "discriminant is set, and no class of task 1 has 2 training images or more; a covariance \
                         within \
                         classes needs 2 of at least one: {advice}"
                    );
                }
                let kept = first.saturating_mul(self.exemplars.per_class(first));
                let at_hand = of_task.iter().sum::<usize>().saturating_add(kept);
                if task > 0 && at_hand < 2 {
                    bail!(
                        "discriminant is set, and task {} has {at_hand} training images and exemplars; at least two \
                         are needed to estimate the change of features: {advice}",
                        task + 1
                    );
                }
            }
            first += size;
        }
        Ok(())
    }

    /// Of heads of a frozen backbone: each class has a covariance of its own, or all of a task have one.
    fn check_images_alone(&self, task: usize, first: usize, images: &[usize]) -> Result<()> {
        let Some(fecam) = self.discriminant.as_ref().and_then(|it| it.fecam.as_ref()) else { return Ok(()) };
        if let (true, Some(at)) =
            (fecam.covariance != Covariance::Shared, images.iter().position(|count| *count < 2))
        {
            bail!(
                "discriminant.fecam is set, and class {} of task {} has {} training images; a covariance of a class \
                 needs 2: use more, or covariance \"shared\"",
                first + at,
                task + 1,
                images[at]
            );
        }
        if images.iter().sum::<usize>() < 2 {
            bail!(
                "discriminant.fecam is set, and task {} has one training image; a covariance needs 2: use more",
                task + 1
            );
        }
        Ok(())
    }
}
