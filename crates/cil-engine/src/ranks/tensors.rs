//! Tensors of several ranks: where they lie, if the transport reaches there, and through the host otherwise.

use bytemuck::Pod;
use candle_core::{DType, Result, Tensor, bail};

use super::{Ranks, gather, shares, sum};
use crate::uploads::{Number, fresh};

/// As [`gather`], of a tensor `[values]` in `f32` or `f64`; the result lies where `own` does.
pub(crate) fn gather_tensor(ranks: &dyn Ranks, own: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    let own = own.contiguous()?;
    if !own.device().is_cpu()
        && let Some(all) = ranks.gather_on_device(&own, lengths)?
    {
        return Ok(all);
    }
    fn through_host<T: Number + Pod>(ranks: &dyn Ranks, own: &Tensor, lengths: &[usize]) -> Result<Tensor> {
        let all = gather(ranks, &own.to_vec1::<T>()?, lengths)?;
        let count = all.len();
        fresh(all, count, own.device())
    }
    match own.dtype() {
        DType::F32 => through_host::<f32>(ranks, &own, lengths),
        DType::F64 => through_host::<f64>(ranks, &own, lengths),
        other => bail!("ranks share values in f32 and f64 only, and these are {other:?}"),
    }
}

/// As [`sum`], of a tensor `[values]` in `f32`; the result lies where `own` does.
pub(crate) fn sum_tensor(ranks: &dyn Ranks, own: &Tensor) -> Result<Tensor> {
    let (own, count) = (own.contiguous()?, ranks.count());
    let lengths = shares(own.elem_count(), count);
    // Each rank has a piece that is not empty.
    if !own.device().is_cpu()
        && own.elem_count() >= count
        && let Some(pieces) = ranks.exchange_on_device(&own, &lengths)?
    {
        let length = lengths[ranks.rank()];
        let mut sum = pieces.narrow(0, 0, length)?;
        for rank in 1..count {
            sum = (sum + pieces.narrow(0, rank * length, length)?)?;
        }
        return gather_tensor(ranks, &sum, &lengths);
    }
    let mut values = own.to_vec1::<f32>()?;
    sum(ranks, &mut values)?;
    let count = values.len();
    fresh(values, count, own.device())
}
