//! How long a run will take here, and how much memory.
//!
//! The work of a run is counted from its configuration ([`workload`]), and what an operation takes is measured on this
//! machine by a few real steps of each phase, with the real networks and batches on images of noise ([`mod@measure`]).
//! So an estimate is counted work times measured pace. For a run in progress its own paces are used instead
//! ([`forecast`]).

pub mod flops;
pub mod forecast;
pub mod measure;
mod short;
pub mod workload;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::cli::interrupt::Interrupt;
use crate::config::Checked;
use crate::config::sizes::Sizes;
use crate::engine::Engine;
use crate::engine::machine;
use crate::render::progress::{Progress, duration};
use crate::setup;
use forecast::seconds;
use measure::{Measured, measure};
use workload::{Activity, Item, items};

/// Estimated time and memory of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// From the start to the end, as the machine is now.
    pub seconds: f64,
    /// Processor time of all threads; null where the system does not report it.
    pub processor_seconds: Option<f64>,
    /// Seconds by what is done.
    pub by_activity: BTreeMap<String, f64>,
    /// Most memory; null where the system does not report it.
    pub peak_memory_bytes: Option<u64>,
    /// Of it: images of the data set.
    pub image_bytes: u64,
    /// Of it: values of student and teachers, and what the student's optimiser keeps.
    pub network_bytes: u64,
    /// Threads that it was measured with.
    pub threads: usize,
    /// The kernels that ran the networks.
    pub kernels: String,
}

/// Estimates a run: reads its images and does some steps of each phase.
///
/// # Errors
/// If the data set is not there, or an executor fails.
pub fn estimate(
    checked: &Checked,
    data_dir: &Path,
    engine: &Engine,
    base_is_taken: bool,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<Estimate> {
    let (start, before) = (Instant::now(), machine::processor_milliseconds());
    let dataset = progress.during(setup::loading(checked), || setup::load(checked, data_dir))?;
    let (train, test) = setup::split(checked, &dataset)?;
    let reading = start.elapsed().as_secs_f64();
    let after = machine::processor_milliseconds();
    let reading_processor = before.zip(after).map(|(before, after)| (after - before) / 1e3);
    let sizes = Sizes::of_images(&train, &test);
    sizes.check(checked.config())?;
    let measured = progress
        .during("measuring some steps of each phase", || measure(checked, &sizes, engine, interrupt))?;
    let items = items(checked, &sizes, base_is_taken)?;
    let mut by_activity = BTreeMap::from([("reading".to_owned(), reading)]);
    for (activity, took) in of_activities(&items, &measured) {
        by_activity.insert(activity.name().to_owned(), took);
    }
    let work = || items.iter().map(|it| (it.activity, it.total()));
    let processor = measured.processor.as_ref().and_then(|paces| seconds(work(), paces));
    let images = dataset.train().len() + test.len(sizes.test.len());
    Ok(Estimate {
        seconds: by_activity.values().sum(),
        processor_seconds: processor.zip(reading_processor).map(|(steps, reading)| steps + reading),
        by_activity,
        peak_memory_bytes: machine::peak_memory_bytes(),
        image_bytes: (images * sizes.image.iter().product::<usize>()) as u64,
        network_bytes: measured.network_bytes,
        threads: engine.threads,
        kernels: engine.kernels.to_owned(),
    })
}

/// Seconds of each activity at measured paces.
fn of_activities(items: &[Item], measured: &Measured) -> BTreeMap<Activity, f64> {
    let mut sums = BTreeMap::new();
    for item in items {
        let took = seconds([(item.activity, item.total())], &measured.wall).unwrap_or(0.0);
        *sums.entry(item.activity).or_default() += took;
    }
    sums
}

impl Estimate {
    /// In words, a fact a line.
    pub fn text(&self) -> String {
        let words = |seconds: f64| duration(Duration::from_secs_f64(seconds.max(0.0)));
        let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
        let mut text = format!("about {}", words(self.seconds));
        if let Some(processor) = self.processor_seconds {
            text.push_str(&format!(", {} of processor time", words(processor)));
        }
        text.push_str(&format!(
            ", with {} threads and {} as the machine is now\n",
            self.threads, self.kernels
        ));
        let mut parts: Vec<_> = self.by_activity.iter().filter(|it| *it.1 >= 0.5).collect();
        parts.sort_by(|left, right| right.1.total_cmp(left.1));
        if !parts.is_empty() {
            let parts = parts.iter().map(|(name, took)| format!("{name} {}", words(**took)));
            text.push_str(&format!("of it {}\n", parts.collect::<Vec<_>>().join(", ")));
        }
        let parts = format!(
            "{} of images, {} of student, teachers and optimiser, the rest values of a step",
            mebibytes(self.image_bytes),
            mebibytes(self.network_bytes)
        );
        match self.peak_memory_bytes {
            Some(peak) => text.push_str(&format!("at most {}: {parts}\n", mebibytes(peak))),
            None => text.push_str(&format!("memory: {parts}\n")),
        }
        text
    }
}
