//! Timing, and what the times are compared with.
//!
//! Each work is reported as a median with its quartiles, and the machine's peak is that of candle's own matrix product,
//! measured in the same process with the same threads.

use std::time::Instant;

use anyhow::Result;
use candle_core::Tensor;
use serde::Serialize;

use super::{Model, Ready, Setting, Work, name};
use crate::cli::failure::Interrupted;
use crate::cli::interrupt::Interrupt;
use crate::engine::Refusals;
use crate::engine::machine;
use crate::render::table;

/// Steps before the clock counts.
const WARM_UP: usize = 2;
/// Steps between two waits for a GPU.
const STEPS_ON_GPU: usize = 10;
/// Side of the square matrices whose product is the peak.
const PEAK_SIDE: usize = 2048;
/// Products of which the fastest counts.
const PEAK_ROUNDS: usize = 7;

/// The measurements.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The network of train and eval.
    pub model: String,
    /// Images in a step.
    pub batch: usize,
    /// Steps that were timed of each work.
    pub rounds: usize,
    /// Threads in use.
    pub threads: usize,
    /// The kernels that ran the networks.
    pub kernels: String,
    /// The processor's name.
    pub processor: Option<String>,
    /// The GPU, if one computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<machine::Gpu>,
    /// The calls that its cuDNN refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusals: Option<Refusals>,
    /// Commit that the program was built from.
    pub code_version: String,
    /// The fastest product of two 2048x2048 matrices in `f32`, in GFLOP a second; none on a GPU, whose convolutions use
    /// other units than such a product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix_product_gflops: Option<f64>,
    /// Each work.
    pub works: Vec<Measured>,
}

/// One work.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Its name.
    pub work: String,
    /// Median time of a step in milliseconds.
    pub milliseconds: f64,
    /// Lower and upper quartile of the same.
    pub quartiles: [f64; 2],
    /// Median processor time of a step in milliseconds, all threads; on a machine that others use too, it says more
    /// than the time that passed.
    pub processor_milliseconds: Option<f64>,
    /// Images through the network that is trained or evaluated, a second; generated ones count.
    pub images_per_second: f64,
    /// Operations of a step in billions, counted from the graphs.
    pub gflop: f64,
    /// Those by the median time, a second.
    pub gflops: f64,
    /// That as a share of the matrix product's, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_of_peak: Option<f64>,
    /// Most memory that the process held so far, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// Times each of `works`.
///
/// # Errors
/// If a work cannot be done, or a signal asked to stop.
pub fn measure(
    model: Model,
    works: &[Work],
    rounds: usize,
    setting: &Setting<'_>,
    interrupt: &Interrupt,
) -> Result<Report> {
    let mut measured = Vec::new();
    for work in works {
        let mut ready = Ready::new(*work, model, setting)?;
        let (mut times, mut processor) = (Vec::new(), Vec::new());
        for round in 0..WARM_UP + rounds {
            let time = timed(&mut ready, setting)?;
            if round >= WARM_UP {
                times.push(time.wall);
                processor.extend(time.processor);
            }
            if interrupt.is_asked() {
                return Err(Interrupted("interrupted".to_owned()).into());
            }
        }
        times.sort_by(f64::total_cmp);
        processor.sort_by(f64::total_cmp);
        let milliseconds = quantile(&times, 0.5);
        let images = if *work == Work::Step { 2 * setting.batch } else { setting.batch };
        let gflop = ready.flops() / 1e9;
        measured.push(Measured {
            work: name(work),
            milliseconds,
            quartiles: [quantile(&times, 0.25), quantile(&times, 0.75)],
            processor_milliseconds: (!processor.is_empty()).then(|| quantile(&processor, 0.5)),
            images_per_second: images as f64 / milliseconds * 1e3,
            gflop,
            gflops: gflop / milliseconds * 1e3,
            share_of_peak: None,
            peak_memory_bytes: machine::peak_memory_bytes(),
        });
    }
    let peak = match setting.engine.gpu {
        Some(_) => None,
        None => Some(matrix_product_gflops(setting)?),
    };
    measured.iter_mut().for_each(|it| it.share_of_peak = peak.map(|peak| it.gflops / peak));
    Ok(Report {
        model: name(&model),
        batch: setting.batch,
        rounds,
        threads: setting.engine.threads,
        kernels: setting.engine.kernels.to_owned(),
        processor: machine::processor(),
        gpu: setting.engine.gpu.clone(),
        refusals: setting.engine.refusals(),
        code_version: env!("CIL_CODE_VERSION").to_owned(),
        matrix_product_gflops: peak,
        works: measured,
    })
}

/// The time of one step, in milliseconds.
pub(super) struct Time {
    /// Time that passed.
    pub(super) wall: f64,
    /// Processor time of all threads, where the system reports it.
    pub(super) processor: Option<f64>,
}

/// One step, timed until the device has done it; on a GPU the mean of several that follow each other, as in training,
/// where the host is ahead.
pub(super) fn timed(ready: &mut Ready, setting: &Setting<'_>) -> Result<Time> {
    let device = &setting.engine.device;
    let steps = if device.is_cpu() { 1 } else { STEPS_ON_GPU };
    device.synchronize()?;
    let (start, before) = (Instant::now(), machine::processor_milliseconds());
    for _ in 0..steps {
        ready.step()?;
    }
    device.synchronize()?;
    let (passed, after) = (start.elapsed(), machine::processor_milliseconds());
    let processor = before.zip(after).map(|(before, after)| (after - before) / steps as f64);
    Ok(Time { wall: passed.as_secs_f64() * 1e3 / steps as f64, processor })
}

/// The value below which that share of sorted values lies, between neighbours by their distance.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

fn matrix_product_gflops(setting: &Setting<'_>) -> Result<f64> {
    let values = (0..PEAK_SIDE * PEAK_SIDE).map(|at| (at % 7) as f32 - 3.0).collect();
    let matrix = Tensor::from_vec(values, (PEAK_SIDE, PEAK_SIDE), &setting.engine.device)?;
    let mut fastest = f64::INFINITY;
    for _ in 0..PEAK_ROUNDS {
        let start = Instant::now();
        matrix.matmul(&matrix)?;
        setting.engine.device.synchronize()?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (PEAK_SIDE as f64).powi(3) / fastest / 1e9)
}

impl Report {
    /// The report as a table for a reader.
    pub fn text(&self) -> String {
        let header = [
            "work",
            "ms a step",
            "quartiles",
            "processor ms",
            "images/s",
            "GFLOP a step",
            "GFLOP/s",
            "of peak",
            "most memory so far",
        ];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for it in &self.works {
            rows.push(vec![
                it.work.clone(),
                format!("{:.1}", it.milliseconds),
                format!("{:.1}-{:.1}", it.quartiles[0], it.quartiles[1]),
                it.processor_milliseconds.map_or("-".to_owned(), |it| format!("{it:.0}")),
                format!("{:.0}", it.images_per_second),
                format!("{:.1}", it.gflop),
                format!("{:.0}", it.gflops),
                it.share_of_peak.map_or("-".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
                it.peak_memory_bytes.map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20)),
            ]);
        }
        let place = match &self.gpu {
            Some(gpu) => gpu.to_string(),
            None => self.processor.clone().unwrap_or_else(|| "processor unknown".to_owned()),
        };
        let peak = self.matrix_product_gflops.map_or(String::new(), |peak| {
            format!(
                "Peak: {peak:.0} GFLOP/s, the fastest of {PEAK_ROUNDS} products of two {PEAK_SIDE}x{PEAK_SIDE} matrices. \
                 GFLOP counts direct convolution, so a rate may\nexceed what direct convolution could reach, and even \
                 the peak, where Winograd's algorithm does less.\n"
            )
        });
        let refused = self.refusals.map_or(String::new(), |Refusals { joined, algorithms, additions }| {
            format!(
                "Refused by cuDNN: {joined} joined calls, {algorithms} algorithms, {additions} additions.\n"
            )
        });
        format!(
            "{}, batch {}, {} steps each; {}, {}, {place}\n\n{}\n{peak}{refused}",
            self.model,
            self.batch,
            self.rounds,
            match self.threads {
                1 => "1 thread".to_owned(),
                several => format!("{several} threads"),
            },
            self.kernels,
            table::layout(&rows),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_between_neighbours() {
        assert_eq!(quantile(&[3.0], 0.5), 3.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.5), 1.5);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.25), 1.5);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 1.0), 4.0);
    }
}
