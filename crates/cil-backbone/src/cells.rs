//! Features of several stages: stage maps averaged over grids of cells.
//!
//! A head of several stages reads maps after ReLU, averaged over a grid of cells in each stage, the stages behind each
//! other. The head's form lists the stages as plain data, so a model file can be evaluated without its run.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor, bail};
use cil_engine::uploads;
use serde::{Deserialize, Serialize};

use crate::backbone::Backbone;

/// Most cells a side; more than the small networks' last maps have pixels.
const MOST_CELLS: usize = 16;
/// Added to a squared length before its root.
const SQUARED_LENGTH_FLOOR: f64 = 1e-24;
/// Widest features: their covariance has as many rows and columns, 64 million numbers.
pub const WIDEST: usize = 8192;

/// The features of one stage that a head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StageCells {
    /// Which stage, from 1. Its map is taken where the stage ends, after ReLU.
    pub stage: usize,
    /// Cells a side, each averaged: 1 is global average pooling, 2 makes four averages of every channel.
    pub cells: usize,
    /// Whether the stage's vector is divided by its length.
    pub normalised: bool,
}

impl StageCells {
    /// The tap that its map is returned by.
    pub fn tap(&self) -> String {
        format!("stage{}", self.stage)
    }
}

/// Names of the maps that a head of these stages reads.
pub fn taps(stages: &[StageCells]) -> Vec<String> {
    stages.iter().map(StageCells::tap).collect()
}

/// Width of the features of these stages, which pass [`check`].
pub fn width(backbone: &Backbone, stages: &[StageCells]) -> usize {
    stages.iter().map(|it| backbone.stage_channels(it.stage) * it.cells * it.cells).sum()
}

/// Refuses stages that the network does not have, and features that are too wide.
///
/// # Errors
/// Naming the entry, its value and what would be right.
pub fn check(backbone: &Backbone, stages: &[StageCells]) -> Result<()> {
    for (at, StageCells { stage, cells, .. }) in stages.iter().enumerate() {
        let n_stages = backbone.stages();
        if !(1..=n_stages).contains(stage) {
            bail!("stages.{at}.stage is {stage}; {backbone} has stages 1 to {n_stages}");
        }
        if !(1..=MOST_CELLS).contains(cells) {
            bail!("stages.{at}.cells is {cells}; use a value from 1 to {MOST_CELLS}");
        }
        if stages[..at].iter().any(|before| before.stage == *stage) {
            bail!("stages.{at}.stage is {stage} again; name each stage once");
        }
    }
    match width(backbone, stages) {
        width if width > WIDEST => bail!(
            "stages have {width} features together; use fewer cells or stages, so that they have at most {WIDEST}"
        ),
        _ => Ok(()),
    }
}

/// `[rows, width]`: of each stage in order its averages after ReLU, `[channels][cells][cells]`, divided by their length
/// where it is asked for. Cells are those of PyTorch's `adaptive_avg_pool2d`.
///
/// `maps`: `[rows, channels, height, width]` by tap.
///
/// # Errors
/// If a map is missing, or the device refuses a tensor.
pub fn features(maps: &BTreeMap<String, Tensor>, stages: &[StageCells]) -> Result<Tensor> {
    let of_stage = |it: &StageCells| {
        let Some(map) = maps.get(&it.tap()) else { bail!("the pass handed out no map of {}", it.tap()) };
        of_map(map, *it)
    };
    Tensor::cat(&stages.iter().map(of_stage).collect::<Result<Vec<_>>>()?, 1)
}

/// What [`features`] returns, in candle's operations: maps that are variables get their gradient from candle, and a GPU
/// can capture it. Rounding differs, because sums are in the maps' type.
///
/// # Errors
/// As of [`features`].
pub fn differentiable(maps: &BTreeMap<String, Tensor>, stages: &[StageCells]) -> Result<Tensor> {
    let of_stage = |it: &StageCells| {
        let Some(map) = maps.get(&it.tap()) else { bail!("the pass handed out no map of {}", it.tap()) };
        let (rows, channels, height, width) = map.dims4()?;
        let shares = uploads::constant(&shares(height, width, it.cells), map.device())?;
        let shares = shares.reshape((height * width, it.cells * it.cells))?.to_dtype(map.dtype())?;
        let pixels = map.relu()?.reshape((rows * channels, height * width))?;
        let averages = pixels.matmul(&shares)?.reshape((rows, channels * it.cells * it.cells))?;
        match it.normalised {
            true => {
                let squares = (averages.sqr()?.sum_keepdim(1)? + SQUARED_LENGTH_FLOOR)?;
                averages.broadcast_div(&squares.sqrt()?)
            }
            false => Ok(averages),
        }
    };
    Tensor::cat(&stages.iter().map(of_stage).collect::<Result<Vec<_>>>()?, 1)
}

/// `[height width, cells cells]`: the share of each pixel in the average of each cell.
fn shares(height: usize, width: usize, cells: usize) -> Vec<f64> {
    let mut found = vec![0.0; height * width * cells * cells];
    for cell in 0..cells * cells {
        let (lines, columns) = (pixels(cell / cells, height, cells), pixels(cell % cells, width, cells));
        let share = ((lines.len() * columns.len()) as f64).recip();
        for place in lines.flat_map(|line| columns.clone().map(move |column| line * width + column)) {
            found[place * cells * cells + cell] = share;
        }
    }
    found
}

fn of_map(map: &Tensor, it: StageCells) -> Result<Tensor> {
    let (rows, channels, height, width) = map.dims4()?;
    let here = map.to_device(&Device::Cpu)?.flatten_all()?;
    let sides = (height, width);
    let mut averages = match map.dtype() {
        DType::F64 => averages(&here.to_vec1::<f64>()?, sides, it.cells),
        _ => averages(&here.to_dtype(DType::F32)?.to_vec1::<f32>()?, sides, it.cells),
    };
    let each = channels * it.cells * it.cells;
    if it.normalised {
        for row in averages.chunks_exact_mut(each) {
            let length = length(row);
            row.iter_mut().for_each(|value| *value /= length);
        }
    }
    Tensor::from_vec(averages, (rows, each), &Device::Cpu)?.to_dtype(map.dtype())?.to_device(map.device())
}

fn length(row: &[f64]) -> f64 {
    (row.iter().map(|value| value * value).sum::<f64>() + SQUARED_LENGTH_FLOOR).sqrt()
}

/// The gradient to each map by its tap, from the gradient `[rows, width]` to what [`features`] makes of these maps.
///
/// # Errors
/// If a map is missing, the gradient has another shape, or the device refuses a tensor.
pub fn backward(
    maps: &BTreeMap<String, Tensor>,
    stages: &[StageCells],
    gradient: &Tensor,
) -> Result<BTreeMap<String, Tensor>> {
    let mut first = 0;
    let mut found = BTreeMap::new();
    for it in stages {
        let Some(map) = maps.get(&it.tap()) else { bail!("the pass handed out no map of {}", it.tap()) };
        let each = map.dim(1)? * it.cells * it.cells;
        found.insert(it.tap(), back_of_map(map, *it, &gradient.narrow(1, first, each)?)?);
        first += each;
    }
    Ok(found)
}

fn back_of_map(map: &Tensor, it: StageCells, gradient: &Tensor) -> Result<Tensor> {
    let (rows, channels, height, width) = map.dims4()?;
    let host =
        |of: &Tensor| of.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (values, mut gradient) = (host(map)?, host(&gradient.contiguous()?)?);
    let each = channels * it.cells * it.cells;
    if gradient.len() != rows * each {
        bail!("a gradient of {} numbers to {rows} rows of {each} features", gradient.len());
    }
    if it.normalised {
        let averages = averages(&values, (height, width), it.cells);
        for (row, gradient) in averages.chunks_exact(each).zip(gradient.chunks_exact_mut(each)) {
            let length = length(row);
            let along =
                row.iter().zip(&*gradient).map(|(value, it)| value * it).sum::<f64>() / (length * length);
            gradient.iter_mut().zip(row).for_each(|(it, value)| *it = (*it - value * along) / length);
        }
    }
    let mut found = vec![0.0; values.len()];
    let planes = found.chunks_exact_mut(height * width).zip(values.chunks_exact(height * width));
    for ((found, values), of_cells) in planes.zip(gradient.chunks_exact(it.cells * it.cells)) {
        for (at, value) in of_cells.iter().enumerate() {
            let lines = pixels(at / it.cells, height, it.cells);
            let columns = pixels(at % it.cells, width, it.cells);
            let share = value / (lines.len() * columns.len()) as f64;
            for place in lines.flat_map(|line| columns.clone().map(move |column| line * width + column)) {
                if values[place] > 0.0 {
                    found[place] += share;
                }
            }
        }
    }
    Tensor::from_vec(found, map.dims(), &Device::Cpu)?.to_dtype(map.dtype())?.to_device(map.device())
}

/// Pixels of a side that belong to cell `at` of it: from the one that holds the cell's first corner to the one that
/// holds its last.
fn pixels(at: usize, side: usize, cells: usize) -> Range<usize> {
    at * side / cells..((at + 1) * side).div_ceil(cells)
}

/// Averages of each plane over its cells, row by row of cells.
fn averages<T: Copy + Into<f64>>(values: &[T], (height, width): (usize, usize), cells: usize) -> Vec<f64> {
    let mut found = Vec::with_capacity(values.len() / (height * width) * cells * cells);
    let mut sums = vec![0.0; width];
    for plane in values.chunks_exact(height * width) {
        for row in 0..cells {
            let lines = pixels(row, height, cells);
            sums.fill(0.0);
            for line in plane[lines.start * width..lines.end * width].chunks_exact(width) {
                for (sum, value) in sums.iter_mut().zip(line) {
                    *sum += Into::<f64>::into(*value).max(0.0);
                }
            }
            found.extend((0..cells).map(|column| {
                let columns = pixels(column, width, cells);
                let pixels = (lines.len() * columns.len()) as f64;
                sums[columns].iter().sum::<f64>() / pixels
            }));
        }
    }
    found
}
