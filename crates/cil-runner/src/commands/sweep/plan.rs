//! `sweep plan`: what would be done, and what it would take.
//!
//! Runs that differ in seed and class order alone take the same time, so one of them is measured, or the time of a
//! finished one is used.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::Meant;
use super::job::jobs;
use super::status::{Row, rows};
use crate::cli::args::Global;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::config::identity::hash;
use crate::config::{Checked, OrderSpec, RunConfig};
use crate::engine::Engine;
use crate::estimate::estimate;
use crate::render::progress::{Progress, duration};
use crate::render::table::layout;

/// The plan of a sweep.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Every job, bases first.
    pub jobs: Vec<Row>,
    /// Seconds that each job takes, in the order of the jobs; null where nothing was estimated.
    pub seconds: Vec<Option<f64>>,
    /// Seconds of what is missing, one run after the other; null where nothing was estimated.
    pub seconds_left: Option<f64>,
    /// Most memory of one run; null where nothing was measured.
    pub peak_memory_bytes: Option<u64>,
}

/// Shows the plan.
///
/// # Errors
/// If a folder cannot be read, or the data set is not there.
pub fn plan(
    meant: &Meant,
    estimated: bool,
    global: &Global,
    interrupt: &Interrupt,
    output: &mut Output<'_>,
) -> Result<()> {
    let jobs = rows(meant)?;
    let mut plan =
        Plan { seconds: vec![None; jobs.len()], jobs, seconds_left: None, peak_memory_bytes: None };
    if estimated {
        plan.estimate(meant, global, interrupt)?;
    }
    if output.json {
        return output.value(&plan);
    }
    output.text(&plan.text(meant.folder.path()))
}

impl Plan {
    fn estimate(&mut self, meant: &Meant, global: &Global, interrupt: &Interrupt) -> Result<()> {
        let jobs = jobs(meant);
        let mut known: BTreeMap<String, f64> = BTreeMap::new();
        for (at, (job, checked)) in jobs.iter().enumerate() {
            if let Some(took) = self.jobs[at].wall_seconds {
                known.insert(shape(checked, job.base.is_some())?, took);
            }
        }
        let progress = match global.json {
            true => Progress::silent(),
            false => Progress::on_standard_error("sweep plan"),
        };
        let engine = Engine::new(global)?;
        for (at, (job, checked)) in jobs.iter().enumerate() {
            let shape = shape(checked, job.base.is_some())?;
            let took = match known.get(&shape) {
                Some(took) => *took,
                None => {
                    let taken = job.base.is_some();
                    let it = estimate(checked, &global.data_dir, &engine, taken, interrupt, &progress)?;
                    self.peak_memory_bytes = self.peak_memory_bytes.max(it.peak_memory_bytes);
                    *known.entry(shape).or_insert(it.seconds)
                }
            };
            self.seconds[at] = Some(took);
        }
        let missing = self.jobs.iter().zip(&self.seconds).filter(|(job, _)| job.state != "done");
        self.seconds_left = Some(missing.filter_map(|it| *it.1).sum());
        Ok(())
    }

    fn text(&self, folder: &Path) -> String {
        let header = ["index", "run", "state", "base model", "time"];
        let mut cells = vec![header.map(str::to_owned).to_vec()];
        for (job, seconds) in self.jobs.iter().zip(&self.seconds) {
            let base = match (&job.base, job.is_base) {
                (Some(base), _) => base.clone(),
                (None, true) => String::new(),
                (None, false) => "its own".to_owned(),
            };
            cells.push(vec![
                job.index.to_string(),
                if job.is_base { format!("base {}", job.name) } else { job.name.clone() },
                job.state.to_owned(),
                base,
                seconds.map_or("-".to_owned(), |it| {
                    duration(Duration::try_from_secs_f64(it).unwrap_or(Duration::MAX))
                }),
            ]);
        }
        let runs = self.jobs.iter().filter(|it| !it.is_base);
        let (bases, shared) =
            (self.jobs.len() - runs.clone().count(), runs.clone().filter(|it| it.base.is_some()));
        let done = runs.clone().filter(|it| it.state == "done").count();
        let mut text = layout(&cells);
        text.push_str(&format!(
            "{} runs in {}, {done} of them done; {} of them share {bases} base models\n",
            runs.count(),
            folder.display(),
            shared.count()
        ));
        if let Some(left) = self.seconds_left {
            let left = duration(Duration::from_secs_f64(left));
            text.push_str(&format!("about {left} of work is left, one run after the other"));
            let memory = self.peak_memory_bytes.map(|it| format!("; a run takes at most {} MiB", it >> 20));
            text.push_str(&memory.unwrap_or_default());
            text.push('\n');
        }
        text
    }
}

/// Names what takes the same time: the configuration without seed and class order.
fn shape(checked: &Checked, base_is_taken: bool) -> Result<String> {
    let config = checked.config().clone();
    let labels = (0..config.classes).collect();
    let plain = RunConfig { seed: 0, class_order: OrderSpec::Labels(labels), ..config }.check()?;
    Ok(format!("{} {base_is_taken}", hash(&plain)?))
}
