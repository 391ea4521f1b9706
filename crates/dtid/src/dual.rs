//! Kullback-Leibler distillation from two teachers at once.
//!
//! Two forms. [`DualForm::Columns`]: each teacher is compared with the student on the columns that it owns (the old
//! teacher on `0..M`, the new one on `M..K`), each with its own softmax, so neither says anything about the other's
//! classes. [`DualForm::Joint`]: both teachers' logits are aligned and put side by side, and one softmax over all
//! `K` columns is the target, so the student also learns how old classes stand against new ones.
//!
//! This is the output-level member of the family (option D of our reading of Choi et al. 2021); the paper itself
//! speaks of intermediate layers, see [`crate::vid`].

use candle_core::{D, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use crate::kl::{check_temperature, kl};

/// How two teachers are distilled on their logits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DtidConfig {
    /// Softmax temperature of both sides, positive. 2 in LwF (Li & Hoiem, p. 5).
    pub temperature: f64,
    /// The form of the comparison, and its weights.
    pub form: DualForm,
}

/// Largest weight of a teacher.
const LARGEST_WEIGHT: f64 = 1e6;

/// Which softmax the student is compared in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum DualForm {
    /// `old · KL(old teacher ‖ student[0..M]) + new · KL(new teacher ‖ student[M..K])`, each on its own rows.
    Columns {
        /// Weight of the old teacher, not negative; 0 leaves it out.
        old: f64,
        /// Weight of the new teacher, not negative; 0 leaves it out.
        new: f64,
    },
    /// `weight · KL(aligned teachers side by side ‖ student)`; both teachers must speak of the same rows.
    Joint {
        /// Weight of the whole, not negative; 0 leaves it out.
        weight: f64,
        /// Also bring the new teacher's logits to the old one's spread; see [`joint_logits`].
        match_scale: bool,
    },
}

/// The logits of one teacher for a batch. Detached by every function that takes it.
#[derive(Clone, Copy, Debug)]
pub struct Teacher<'a> {
    /// `[n, columns]`: one column per class of this teacher, in the student's order.
    pub logits: &'a Tensor,
    /// The student's row of each row of `logits`, u32 `[n]`; `None` when `logits` speaks of all rows in order.
    pub rows: Option<&'a Tensor>,
}

impl DtidConfig {
    /// Refuses a temperature that no softmax has, and a weight that is negative, no number or beyond all use.
    ///
    /// # Errors
    /// Naming the key, its value and what would be right.
    pub fn check(&self) -> Result<()> {
        check_temperature(self.temperature)?;
        let weights = match self.form {
            DualForm::Columns { old, new } => vec![("columns.old", old), ("columns.new", new)],
            DualForm::Joint { weight, .. } => vec![("joint.weight", weight)],
        };
        let wrong = |(_, weight): &(&str, f64)| !(0.0..=LARGEST_WEIGHT).contains(weight);
        if let Some((key, weight)) = weights.into_iter().find(wrong) {
            bail!("form.{key} is {weight:?}; use a value from 0 to {LARGEST_WEIGHT}")
        }
        Ok(())
    }
}

/// The two-teacher loss of `config`: a weighted sum of `T² · KL`, each a mean over its rows. Never negative.
///
/// `student`: `[rows, K]` logits. `old` owns columns `0..M`, `new` owns `M..K`; their column counts must add up to
/// `K`. `None` when nothing applies: every weight is 0, or no teacher speaks of any row.
pub fn dual_teacher_kl(
    student: &Tensor,
    old: Teacher<'_>,
    new: Teacher<'_>,
    config: &DtidConfig,
) -> Result<Option<Tensor>> {
    config.check()?;
    let (_, n_seen) = student.dims2()?;
    let (n_old, n_new) = (old.logits.dim(1)?, new.logits.dim(1)?);
    if n_old + n_new != n_seen {
        bail!("the teachers have {n_old} old and {n_new} new classes, the student has {n_seen} columns")
    }
    match config.form {
        DualForm::Columns { old: old_weight, new: new_weight } => {
            let old_part = one_sided(&student.narrow(1, 0, n_old)?, old, old_weight, config.temperature)?;
            let new_part = one_sided(&student.narrow(1, n_old, n_new)?, new, new_weight, config.temperature)?;
            match (old_part, new_part) {
                (Some(old_part), Some(new_part)) => Ok(Some((old_part + new_part)?)),
                (old_part, new_part) => Ok(old_part.or(new_part)),
            }
        }
        DualForm::Joint { weight, match_scale } => {
            if !same_rows(old.rows, new.rows)? {
                bail!("one softmax over both teachers needs both on the same rows")
            }
            if old.logits.dim(0)? == 0 {
                return Ok(None);
            }
            let both = joint_logits(old.logits, new.logits, match_scale)?;
            one_sided(student, Teacher { logits: &both, rows: old.rows }, weight, config.temperature)
        }
    }
}

/// Both teachers' logits at a common level, side by side: `[rows, M + N]`, detached.
///
/// `old`: `[rows, M]`, `new`: `[rows, N]`, the same rows. The two heads were never trained against each other, so
/// a constant between them means nothing; it is fixed by subtracting from each row of each teacher that row's mean
/// over the teacher's own classes (DMC, Zhang et al. 2020, eq. 4, whose regression target this is). With
/// `match_scale` the new teacher's centred logits are then multiplied by one number for the whole batch, the ratio
/// of the root mean squares (old over new), so that how sure it is of one image relative to another is kept (ours).
/// A teacher of a single class is all zeros here: it says nothing but that its class is average.
pub fn joint_logits(old: &Tensor, new: &Tensor, match_scale: bool) -> Result<Tensor> {
    let old = centre_rows(&old.detach())?;
    let mut new = centre_rows(&new.detach())?;
    if match_scale {
        let spread = |it: &Tensor| it.sqr()?.mean_all()?.sqrt();
        let ratio = (spread(&old)? / spread(&new)?.maximum(SPREAD_FLOOR)?)?;
        new = new.broadcast_mul(&ratio)?;
    }
    Tensor::cat(&[&old, &new], 1)
}

/// Below this root mean square a teacher's logits count as constant and are not blown up.
const SPREAD_FLOOR: f64 = 1e-6;

/// Each row less its own mean.
pub(crate) fn centre_rows(logits: &Tensor) -> Result<Tensor> {
    logits.broadcast_sub(&logits.mean_keepdim(D::Minus1)?)
}

fn one_sided(
    student: &Tensor,
    teacher: Teacher<'_>,
    weight: f64,
    temperature: f64,
) -> Result<Option<Tensor>> {
    if weight == 0.0 || teacher.logits.dim(0)? == 0 {
        return Ok(None);
    }
    let student = match teacher.rows {
        Some(rows) => student.contiguous()?.index_select(rows, 0)?,
        None => student.clone(),
    };
    Ok(Some((kl(&student, teacher.logits, temperature)? * weight)?))
}

fn same_rows(old: Option<&Tensor>, new: Option<&Tensor>) -> Result<bool> {
    match (old, new) {
        (None, None) => Ok(true),
        (Some(old), Some(new)) => Ok(old.to_vec1::<u32>()? == new.to_vec1::<u32>()?),
        _ => Ok(false),
    }
}
