//! Measures of maps on the GPU: see `crate::measures`.
//!
//! Sums are cut by a map's size alone and added in a fixed order, so values are the same every time; intermediate
//! buffers are candle tensors, which return to the stream's pool.

use std::ops::Range;

use candle_core::cuda_backend::CudaDevice;
use candle_core::{DType, Device, Result, Tensor, bail};

use super::gpu::{Element, launch_on};
use super::launch::{Argument, Grid, Map, Sums, arguments};
use super::tensors::{address_on, clear, tensor_on};
use crate::measures::Gaussian;

/// Blocks that sum for themselves.
const ONE: Grid = Grid(1, 1);

/// The GPU where a map lies, if it is one and the map is in `f32`.
fn device_of(map: &Tensor) -> Option<CudaDevice> {
    match map.device() {
        Device::Cuda(device) if map.dtype() == DType::F32 => Some(device.clone()),
        _ => None,
    }
}

fn run(device: &CudaDevice, name: &'static str, grid: Grid, arguments: &[Argument<'_>]) -> Result<()> {
    launch_on(device, Element::F32, name, grid, arguments)
}

/// `[rows, channels, positions]` as a map, and its rows.
fn shape_of(map: &Tensor) -> Result<(usize, Map)> {
    if map.rank() < 2 || map.elem_count() == 0 {
        bail!("a map is {:?}; pass [rows, channels, ..] with at least one value", map.dims());
    }
    let positions: usize = map.dims()[2..].iter().product();
    let (rows, channels) = (map.dim(0)?, map.dim(1)?);
    let map = Map { channels: channels as i32, height: positions as i32, width: 1, last: 0 };
    map.count(rows)?;
    Ok((rows, map))
}

pub(crate) fn gaussian(
    mean: &Tensor,
    target: &Tensor,
    raw_variance: &Tensor,
    floor: f64,
    weight: f64,
) -> Result<Option<Gaussian>> {
    let Some(device) = device_of(mean) else { return Ok(None) };
    let (rows, map) = shape_of(mean)?;
    let (dims, channels) = (mean.dims(), map.channels as usize);
    let (_mean, at_mean) = address_on(&device, mean, "the mean map", dims)?;
    let (_target, at_target) = address_on(&device, target, "the map to be met", dims)?;
    let (_raw, at_raw) = address_on(&device, raw_variance, "the variances", &[channels])?;
    let sums = Sums::new(map, rows);
    let (grad, at_grad) = tensor_on(&device, map.count(rows)?)?;
    let (_partial, at_partial) = tensor_on(&device, sums.bytes(map) / size_of::<f32>())?;
    let (of_raw, at_of_raw) = tensor_on(&device, channels)?;
    let (loss, at_loss) = tensor_on(&device, 1)?;
    let scale = weight / map.count(rows)? as f64;
    let arguments: &[_] =
        arguments![at_mean, at_target, at_raw, at_grad, at_partial, map, sums, scale, floor];
    run(&device, "gaussian", sums.grid(map), arguments)?;
    let arguments: &[_] = arguments![at_partial, at_raw, map, sums, weight, floor, at_of_raw, at_loss];
    run(&device, "gaussian_end", ONE, arguments)?;
    Ok(Some(Gaussian { loss: loss.reshape(())?, mean: grad.reshape(dims)?, raw_variance: of_raw }))
}

pub(crate) fn profiles(
    map: &Tensor,
    target: &Tensor,
    shortest: f64,
    weight: f64,
) -> Result<Option<(Tensor, Tensor)>> {
    let Some(device) = device_of(map) else { return Ok(None) };
    let (rows, of_sample) = shape_of(map)?;
    let (_, channels, height, width) = map.dims4()?;
    let (_map, at_map) = address_on(&device, map, "a map", map.dims())?;
    let (_target, at_target) = address_on(&device, target, "the map to be met", map.dims())?;
    let (grad, at_grad) = tensor_on(&device, of_sample.count(rows)?)?;
    // Values of f64: two profiles of each sample, and its distance.
    let doubles = |count: usize| tensor_on(&device, 2 * count);
    let (_work, at_work) = doubles(2 * rows * channels * (height + width))?;
    let (_distances, at_distances) = doubles(rows)?;
    let (loss, at_loss) = tensor_on(&device, 1)?;
    let scale = weight / rows as f64;
    let arguments: &[_] = arguments![
        at_map,
        at_target,
        at_grad,
        at_work,
        at_distances,
        channels,
        height,
        width,
        scale,
        shortest
    ];
    run(&device, "profiles", Grid(rows as u32, 1), arguments)?;
    run(&device, "profiles_end", ONE, arguments![at_distances, rows, at_loss])?;
    Ok(Some((loss.reshape(())?, grad.reshape(map.dims())?)))
}

pub(crate) fn sum_of_rows(parts: &[(Range<usize>, Tensor)], n_rows: usize) -> Result<Option<Tensor>> {
    let Some(((_, first), device)) = parts.first().and_then(|it| Some((it, device_of(&it.1)?))) else {
        return Ok(None);
    };
    let (_, map) = shape_of(first)?;
    let mut dims = first.dims().to_vec();
    dims[0] = n_rows;
    let count = map.count(n_rows)?;
    let (sum, address) = tensor_on(&device, count)?;
    clear(&device, address, count)?;
    for (rows, part) in parts {
        if rows.end > n_rows || rows.is_empty() {
            bail!("a part has rows {rows:?} of {n_rows}");
        }
        dims[0] = rows.len();
        let (_part, from) = address_on(&device, part, "a part of a map's gradient", &dims)?;
        let to = address + (rows.start * map.elements() * size_of::<f32>()) as u64;
        let count = map.count(rows.len())?;
        run(&device, "accumulate", Grid::over(count), arguments![from, to, count, true])?;
    }
    dims[0] = n_rows;
    sum.reshape(dims).map(Some)
}
