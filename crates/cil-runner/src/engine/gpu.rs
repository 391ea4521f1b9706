//! Executors on a GPU, and the images that are kept there.

use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use cil_data::augment::Change;
use cil_data::dataset::Dataset;
use cil_data::device_images::DeviceImages;
use cil_data::normalise::Normalisation;
use cil_engine::cuda::{Colours, CudaExecutor, Gpu, NcclRanks, Picked, Precision, StoredImages, Versions};
use cil_engine::ranks::Ranks;
use cil_engine::{Executor, ExecutorFactory, Graph};

use super::{OnGpu, Refusals};
use crate::cli::failure::bad_input;
use crate::engine::machine;
use crate::engine::ranks::text_of_all;

/// How many there are; none where the driver does not say.
pub(super) fn count() -> usize {
    Gpu::count().unwrap_or(0)
}

/// The executors of that GPU, and its cache of images; `graphs`: whether steps may be captured and replayed.
pub(super) fn open(number: usize, kernels: OnGpu, graphs: bool) -> Result<(ExecutorFactory, DeviceCache)> {
    let gpu = Gpu::open(number).map_err(|error| bad_input(format!("--device cuda:{number}: {error}")))?;
    let gpu = if graphs { gpu } else { gpu.without_captures() };
    let device_cache = DeviceCache(Some(gpu.clone()));
    let precision = match kernels {
        OnGpu::Reference => return Ok((super::reference(), device_cache)),
        OnGpu::Exact => Precision::Exact,
        OnGpu::Tf32 => Precision::Tf32,
        OnGpu::Bf16 => Precision::Bf16,
    };
    let executors =
        move |graph: Graph| Ok(Arc::new(CudaExecutor::new(graph, &gpu, precision)) as Arc<dyn Executor>);
    Ok((Arc::new(executors), device_cache))
}

/// The GPU whose memory keeps images, if there is one.
#[derive(Clone, Default)]
pub(super) struct DeviceCache(Option<Gpu>);

impl DeviceCache {
    pub(super) fn device(&self) -> Device {
        self.0.as_ref().map_or(Device::Cpu, Gpu::device)
    }

    /// Facts about the GPU and its libraries.
    pub(super) fn facts(&self) -> Result<Option<machine::Gpu>> {
        let Some(gpu) = &self.0 else { return Ok(None) };
        let Versions { gpu: name, cuda, cudnn, cublas } = gpu.versions()?;
        Ok(Some(machine::Gpu { name, driver: machine::nvidia_driver(), cuda, cudnn, cublas }))
    }

    pub(super) fn refusals(&self) -> Option<Refusals> {
        let cil_engine::cuda::Refusals { joined, algorithms, additions } = self.0.as_ref()?.refusals();
        Some(Refusals { joined, algorithms, additions })
    }

    /// Ranks whose values go from GPU to GPU, each rank's being this one.
    pub(super) fn join(&self, ranks: &Arc<dyn Ranks>) -> Result<Arc<dyn Ranks>> {
        let Some(gpu) = &self.0 else { return Ok(Arc::clone(ranks)) };
        let uuid: String = gpu.uuid()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let all = text_of_all(&**ranks, &uuid)?;
        let alike =
            (0..all.len()).find_map(|rank| Some((all[..rank].iter().position(|it| *it == all[rank])?, rank)));
        if let Some((first, second)) = alike {
            return Err(bad_input(format!(
                "ranks {first} and {second} have one GPU, and each needs its own; start at most as many processes on \
                 a machine as it has GPUs, or use --device cpu"
            )));
        }
        let joined = NcclRanks::join(gpu, Arc::clone(ranks)).map_err(|error| bad_input(error.to_string()))?;
        Ok(Arc::new(joined))
    }

    pub(super) fn keep(&self, dataset: Dataset) -> Result<Dataset> {
        let Some(gpu) = &self.0 else { return Ok(dataset) };
        dataset.with_device_copies(|images| {
            let bytes = images.bytes();
            if bytes.is_empty() || bytes.len() > gpu.free_memory()? / 2 {
                return Ok(None);
            }
            let (height, width) = images.sides();
            let stored = StoredImages::new(gpu, height, width, bytes).context("keeping images on the GPU")?;
            Ok(Some(Arc::new(OnDevice(stored)) as Arc<dyn DeviceImages>))
        })
    }
}

/// Images in a GPU's memory.
#[derive(Debug)]
struct OnDevice(StoredImages);

impl DeviceImages for OnDevice {
    fn device(&self) -> &Device {
        self.0.device()
    }

    fn table(&self, changes: &[(u32, Change)]) -> candle_core::Result<Tensor> {
        let picked = |(image, change): &(u32, Change)| {
            Picked::new(*image, change.corner, change.mirrored, change.brightness as f32)
        };
        self.0.table(&changes.iter().map(picked).collect::<candle_core::Result<Vec<_>>>()?)
    }

    fn batch(
        &self,
        table: &Tensor,
        padding: usize,
        normalisation: &Normalisation,
    ) -> candle_core::Result<Tensor> {
        let Normalisation { mean, deviation } = *normalisation;
        self.0.pick(table, padding, Colours { mean, deviation })
    }
}

#[cfg(test)]
mod tests;
