//! candle's own operations on the device: losses and heads are made of them. What the emulator makes of candle's
//! kernels and of cuBLAS is what candle computes on the processor.

use candle_core::{D, DType, Result};

use super::{Device, Tensor, assert_near, noise, turn};

/// Every kind of kernel that a training run launches, and some more; each result as `f32`.
fn results(device: &Device) -> Result<Vec<(&'static str, Tensor)>> {
    let there = |dims: &[usize], part: &str| noise(dims, part).to_device(device);
    let (map, row, wide) = (there(&[3, 5, 7], "map")?, there(&[7], "row")?, there(&[4, 1500], "wide")?);
    let (left, right) = (there(&[6, 40], "left")?, there(&[40, 9], "right")?);
    let (batch, double) = (there(&[3, 4, 6], "batch")?, DType::F64);
    let places = Tensor::new(&[2u32, 0, 2, 1], device)?;
    let labels = Tensor::new(&[[6u32], [0], [3]], device)?;
    let slice = map.narrow(1, 2, 1)?.squeeze(1)?;
    let all = [
        ("a sum of few", map.sum(2)?),
        ("a sum of many", wide.sum(1)?),
        ("a sum across rows", wide.sum(0)?),
        ("a sum of all", wide.sum_all()?),
        ("a sum in f64", wide.to_dtype(double)?.sum(1)?),
        ("a sum of a turned tensor", wide.t()?.sum(0)?),
        ("the largest", wide.max(D::Minus1)?),
        ("the smallest", wide.min(D::Minus1)?),
        ("where the largest is", wide.argmax(1)?),
        ("where the smallest is", map.argmin(1)?),
        ("sorted", wide.sort_last_dim(true)?.0),
        ("sorted backwards", wide.narrow(1, 0, 33)?.contiguous()?.sort_last_dim(false)?.0),
        ("a product", left.matmul(&right)?),
        ("a product of turned ones", right.t()?.matmul(&left.t()?)?),
        ("a product in f64", left.to_dtype(double)?.matmul(&right.to_dtype(double)?)?),
        ("products of a batch", batch.matmul(&batch.transpose(1, 2)?)?),
        ("gathered", slice.contiguous()?.gather(&labels, 1)?),
        ("scattered", slice.contiguous()?.scatter_add(&labels, &slice.narrow(1, 0, 1)?.contiguous()?, 1)?),
        ("selected", map.index_select(&places, 0)?),
        ("added by index", map.index_add(&places, &there(&[4, 5, 7], "more")?, 0)?),
        ("chosen", map.ge(0.1)?.where_cond(&map, &map.neg()?)?),
        ("joined", Tensor::cat(&[&map, &map.affine(2.0, 1.0)?], 1)?),
        ("broadcast", map.broadcast_mul(&row)?.broadcast_sub(&map.narrow(1, 0, 1)?)?),
        ("quotients", map.broadcast_div(&row.sqr()?.affine(1.0, 0.5)?)?),
        ("clamped", map.clamp(-0.3, 0.4)?),
        ("functions", map.abs()?.sqrt()?.exp()?.log()?.tanh()?.recip()?),
        ("powers", map.abs()?.powf(1.7)?),
        ("turned", map.transpose(0, 2)?.contiguous()?),
        ("whole numbers", map.affine(9.0, 40.0)?.to_dtype(DType::U8)?),
        ("set", Tensor::ones((2, 3), DType::F32, device)?),
    ];
    all.into_iter().map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F32)?))).collect()
}

#[test]
fn candles_operations_are_the_processors() {
    let Some(turn) = turn("candle's operations") else { return };
    let expected = results(&Device::Cpu).unwrap();
    for ((name, found), (_, expected)) in results(&turn.gpu.device()).unwrap().iter().zip(&expected) {
        assert_near(&found.to_device(&Device::Cpu).unwrap(), expected, name);
    }
}
