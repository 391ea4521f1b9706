//! Pooled outputs distillation of maps (PODNet, Douillard et al. 2020).
//!
//! Loss and gradient come from one parallel pass over the samples, since maps are large; samples are independent and
//! the mean over them has a fixed order, so the number of threads does not matter.

use candle_core::{DType, Result, Tensor, bail};
use cil_engine::measures;
use dtid::values::{Value, grain, with_values};
use rayon::prelude::*;

/// Shortest profile that is brought to length 1; `F.normalize`'s floor.
const LENGTH_FLOOR: f64 = 1e-12;

/// Mean over samples of POD-spatial on one map, and `weight` times its gradient to the student's map; both detached.
///
/// `student`, `old`: `[rows, channels, height, width]`. A sample's profile is the sums of squares over the width, then
/// those over the height, of every channel, brought to length 1; the loss is the distance (not squared) between both
/// profiles, from 0 to `sqrt(2)`. It is blind to a map's scale; where the profiles agree the gradient is 0, as
/// PyTorch's. `pod(collapse_channels="spatial")` of the authors' code at c09fc54, for one of its maps; that takes the
/// mean over maps.
///
/// # Errors
/// If the shapes differ or are no maps, or the types are not both `f32` or both `f64`.
pub fn pod_spatial(student: &Tensor, old: &Tensor, weight: f64) -> Result<(Tensor, Tensor)> {
    if student.dims() != old.dims() || student.rank() != 4 || student.elem_count() == 0 {
        bail!("the old model's map is {:?}, the student's {:?}", old.dims(), student.dims())
    }
    // A GPU's maps stay there.
    if let Some(found) = measures::profiles(student, old, LENGTH_FLOOR, weight)? {
        return Ok(found);
    }
    match student.dtype() {
        DType::F32 => pod_of::<f32>(student, old, weight),
        DType::F64 => pod_of::<f64>(student, old, weight),
        other => bail!("the student's map is {other:?}, use F32 or F64"),
    }
}

fn pod_of<T: Value>(student: &Tensor, old: &Tensor, weight: f64) -> Result<(Tensor, Tensor)> {
    let (rows, channels, height, width) = student.dims4()?;
    let form = Form { channels, height, width };
    let sample = channels * height * width;
    let mut grad = vec![T::narrow(0.0); rows * sample];
    let mut distances = vec![0f64; rows];
    with_values(student, |student: &[T]| {
        with_values(old, |old: &[T]| {
            distances
                .par_iter_mut()
                .zip(grad.par_chunks_exact_mut(sample))
                .zip(student.par_chunks_exact(sample).zip(old.par_chunks_exact(sample)))
                .with_min_len(grain(sample))
                .for_each(|((distance, grad), (student, old))| {
                    *distance = form.sample(student, old, grad, weight / rows as f64);
                });
            Ok(())
        })
    })?;
    let loss = distances.iter().sum::<f64>() / rows as f64;
    let device = student.device();
    Ok((Tensor::full(T::narrow(loss), (), device)?, Tensor::from_vec(grad, student.dims(), device)?))
}

/// A map of one sample.
#[derive(Clone, Copy)]
struct Form {
    channels: usize,
    height: usize,
    width: usize,
}

impl Form {
    /// The distance of two maps' profiles; `grad` becomes `scale` times its gradient to the first.
    fn sample<T: Value>(self, student: &[T], old: &[T], grad: &mut [T], scale: f64) -> f64 {
        let (mut own, mut other) = (self.profile(student), self.profile(old));
        let length = normalise(&mut own);
        normalise(&mut other);
        let difference = |(own, other): (&f64, &f64)| own - other;
        let distance = own.iter().zip(&other).map(difference).map(|it| it * it).sum::<f64>().sqrt();
        if distance == 0.0 {
            return 0.0;
        }
        // To the profile: through the length too, unless that is at its floor.
        let along = match length > LENGTH_FLOOR {
            true => own.iter().zip(&other).map(|it| it.0 * difference(it)).sum::<f64>(),
            false => 0.0,
        };
        // Twice, for the square.
        let factor = 2.0 * scale / (distance * length.max(LENGTH_FLOOR));
        let to_profile: Vec<T> =
            own.iter().zip(&other).map(|it| T::narrow(factor * (difference(it) - along * it.0))).collect();
        let (to_rows, to_columns) = to_profile.split_at(self.channels * self.height);
        let lines = student.chunks_exact(self.width).zip(grad.chunks_exact_mut(self.width)).zip(to_rows);
        for (line, ((student, grad), to_row)) in lines.enumerate() {
            let to_columns = &to_columns[line / self.height * self.width..][..self.width];
            for ((grad, student), to_column) in grad.iter_mut().zip(student).zip(to_columns) {
                *grad = *student * (*to_row + *to_column);
            }
        }
        distance
    }

    /// Sums of squares over the width, `[channels, height]`, then those over the height, `[channels, width]`.
    fn profile<T: Value>(self, map: &[T]) -> Vec<f64> {
        let mut profile = vec![0f64; self.channels * (self.height + self.width)];
        let (rows, columns) = profile.split_at_mut(self.channels * self.height);
        for (line, (values, row)) in map.chunks_exact(self.width).zip(rows).enumerate() {
            let columns = &mut columns[line / self.height * self.width..][..self.width];
            for (value, column) in values.iter().zip(columns) {
                let square = value.wide() * value.wide();
                *row += square;
                *column += square;
            }
        }
        profile
    }
}

/// Brings a profile to length 1; its length before.
fn normalise(profile: &mut [f64]) -> f64 {
    let length = profile.iter().map(|it| it * it).sum::<f64>().sqrt();
    profile.iter_mut().for_each(|it| *it /= length.max(LENGTH_FLOOR));
    length
}
