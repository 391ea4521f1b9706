//! LUCIR's inter-class separation: an old image must be nearer to its own class than to any new one, by a margin.

use candle_core::{D, Result, Tensor, bail};

/// Mean over pairs of `max(0, margin - cos(own class) + cos(new class))`, each old row being paired with its
/// `n_negatives` most similar new classes. From 0 to `margin + 2`.
///
/// `similarities`: `[rows, K]` cosines, not scaled; `labels`: u32 `[rows]`; classes `0..n_old` are old. Rows of new
/// classes take no part. `None` without an old row, a new class or a negative asked for. Which classes are most
/// similar is a choice without a gradient. Reads the labels, which waits for the device.
/// Hou et al. 2019, eq. 8 and the released code: margin 0.5, 2 negatives, weight 1.
pub fn margin_ranking(
    similarities: &Tensor,
    labels: &Tensor,
    n_old: usize,
    margin: f64,
    n_negatives: usize,
) -> Result<Option<Tensor>> {
    let (n_rows, n_seen) = similarities.dims2()?;
    if labels.dims() != [n_rows] || n_old > n_seen {
        bail!("{n_old} old classes and labels {:?} for similarities [{n_rows}, {n_seen}]", labels.dims())
    }
    let labels = labels.to_vec1::<u32>()?;
    let (rows, labels): (Vec<u32>, Vec<u32>) =
        (0u32..).zip(labels).filter(|(_, label)| (*label as usize) < n_old).unzip();
    if rows.is_empty() {
        return Ok(None);
    }
    let n_rows = rows.len();
    let rows = Tensor::from_vec(rows, n_rows, similarities.device())?;
    let labels = Tensor::from_vec(labels, n_rows, similarities.device())?;
    let similarities = similarities.contiguous()?.index_select(&rows, 0)?;
    margin_ranking_of_old(&similarities, &labels, n_old, margin, n_negatives)
}

/// [`margin_ranking`] of rows that are all of old classes; nothing is read, so nothing waits.
pub fn margin_ranking_of_old(
    similarities: &Tensor,
    labels: &Tensor,
    n_old: usize,
    margin: f64,
    n_negatives: usize,
) -> Result<Option<Tensor>> {
    let (n_rows, n_seen) = similarities.dims2()?;
    if labels.dims() != [n_rows] || n_old > n_seen {
        bail!("{n_old} old classes and labels {:?} for similarities [{n_rows}, {n_seen}]", labels.dims())
    }
    let n_pairs_per_row = n_negatives.min(n_seen - n_old);
    if n_pairs_per_row == 0 {
        return Ok(None);
    }
    let similarities = similarities.contiguous()?;
    let own = similarities.gather(&labels.unsqueeze(1)?, D::Minus1)?;
    let new = similarities.narrow(1, n_old, n_seen - n_old)?.contiguous()?;
    let nearest = new.detach().arg_sort_last_dim(false)?.narrow(1, 0, n_pairs_per_row)?.contiguous()?;
    let nearest = new.gather(&nearest, D::Minus1)?;
    let lacking = (nearest.broadcast_sub(&own)? + margin)?;
    Ok(Some(lacking.relu()?.mean_all()?))
}
