//! Features of several stages: stage maps averaged over grids of cells.
//!
//! A head of several stages reads maps after ReLU, averaged over a grid of cells in each stage, the stages behind each
//! other. The head's form lists the stages as plain data, so a model file can be evaluated without its run.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use crate::backbone::Backbone;

/// Most cells a side; more than the small networks' last maps have pixels.
const MOST_CELLS: usize = 16;
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
            let length = (row.iter().map(|value| value * value).sum::<f64>() + 1e-24).sqrt();
            row.iter_mut().for_each(|value| *value /= length);
        }
    }
    Tensor::from_vec(averages, (rows, each), &Device::Cpu)?.to_dtype(map.dtype())?.to_device(map.device())
}

/// Averages of each plane over its cells, row by row of cells.
fn averages<T: Copy + Into<f64>>(values: &[T], (height, width): (usize, usize), cells: usize) -> Vec<f64> {
    // From the pixel that holds a cell's first corner to the one that holds its last.
    let range = |at: usize, side: usize| at * side / cells..((at + 1) * side).div_ceil(cells);
    let mut found = Vec::with_capacity(values.len() / (height * width) * cells * cells);
    let mut sums = vec![0.0; width];
    for plane in values.chunks_exact(height * width) {
        for row in 0..cells {
            let lines = range(row, height);
            sums.fill(0.0);
            for line in plane[lines.start * width..lines.end * width].chunks_exact(width) {
                for (sum, value) in sums.iter_mut().zip(line) {
                    *sum += Into::<f64>::into(*value).max(0.0);
                }
            }
            found.extend((0..cells).map(|column| {
                let columns = range(column, width);
                let pixels = (lines.len() * columns.len()) as f64;
                sums[columns].iter().sum::<f64>() / pixels
            }));
        }
    }
    found
}
