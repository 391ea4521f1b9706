//! A run's state on disk, from which it is resumed.
//!
//! A checkpoint is one file: tensors and positions in the safetensors format, followed by the SHA-256 of both. It is
//! written atomically, and the two newest are kept. If one is damaged, the one before it is used. It records the length
//! of the event log that belongs to it, and the digest of its configuration.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use cil_engine::Parameters;
use cil_train::learner::{Position, Saved};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::folder::files::write_atomic;

/// Version of the format.
const FORMAT: u32 = 2;
/// The description's key among the metadata.
const KEY: &str = "cil-checkpoint";
/// The ending of a checkpoint's name.
const ENDING: &str = "checkpoint";
/// Checkpoints of a run that are kept.
const KEPT: usize = 2;
/// Bytes of the digest at the end.
const DIGEST: usize = 32;
/// Names of values that no unit of work changes, and of those that every unit changes.
const PARTS: [&str; 2] = ["fixed", "moving"];

/// A run between two units of work.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The learner.
    pub saved: Saved,
    /// Bytes of the event log that were written before.
    pub events_bytes: u64,
    /// The configuration that the learner is of, as TOML.
    pub config: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Description {
    format: u32,
    position: Position,
    events_bytes: u64,
    config: String,
    /// Names of stores, the empty ones too.
    fixed: Vec<String>,
    moving: Vec<String>,
}

/// Writes a checkpoint that is newer than all in `folder`, and removes those that are too old.
///
/// # Errors
/// Naming the file that cannot be written; what was there is there.
pub fn write(folder: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let before = list(folder)?;
    let number = before.first().map_or(0, |(number, _)| number + 1);
    write_atomic(&folder.join(format!("{number:06}.{ENDING}")), &to_bytes(checkpoint)?)?;
    for (_, path) in before.iter().skip(KEPT - 1) {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// The newest checkpoint in `folder` that is whole, and what is wrong with newer ones.
///
/// # Errors
/// If there is none.
pub fn newest(folder: &Path, device: &Device) -> Result<(Checkpoint, Vec<String>)> {
    let mut wrong = Vec::new();
    for (_, path) in list(folder)? {
        let read = || from_bytes(&fs::read(&path)?, device);
        match read().with_context(|| path.display().to_string()) {
            Ok(checkpoint) => return Ok((checkpoint, wrong)),
            Err(error) => wrong.push(crate::cli::failure::sentence(&error)),
        }
    }
    match wrong.is_empty() {
        true => bail!("there is no checkpoint in {}", folder.display()),
        false => bail!("no checkpoint in {} is whole: {}", folder.display(), wrong.join("; ")),
    }
}

/// Whether a file is a checkpoint by its name.
pub fn is_one(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == ENDING)
}

/// Whether `folder` has a checkpoint, whole or not.
pub fn exists(folder: &Path) -> bool {
    list(folder).is_ok_and(|found| !found.is_empty())
}

/// Removes all checkpoints from `folder`.
///
/// # Errors
/// Naming the file that cannot be removed.
pub fn remove(folder: &Path) -> Result<()> {
    let remove =
        |path: PathBuf| fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()));
    list(folder)?.into_iter().try_for_each(|(_, path)| remove(path))
}

/// Checkpoints by number, the newest first.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let place = || format!("cannot read {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(place)? {
        let path = entry.with_context(place)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let (Some(number), true) = (stem, is_one(&path)) {
            found.push((number, path));
        }
    }
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    Ok(found)
}

fn to_bytes(checkpoint: &Checkpoint) -> Result<Vec<u8>> {
    let Checkpoint { saved, events_bytes, config } = checkpoint;
    let names = |stores: &BTreeMap<String, Parameters>| stores.keys().cloned().collect();
    let description = Description {
        format: FORMAT,
        position: saved.position.clone(),
        events_bytes: *events_bytes,
        config: config.clone(),
        fixed: names(&saved.fixed),
        moving: names(&saved.moving),
    };
    let mut buffers = Vec::new();
    for (part, stores) in PARTS.iter().zip([&saved.fixed, &saved.moving]) {
        for (store, values) in stores {
            for (name, tensor) in values.iter() {
                let (dtype, bytes) = raw(tensor)?;
                buffers.push((format!("{part}/{store}/{name}"), dtype, tensor.dims(), bytes));
            }
        }
    }
    let mut views = Vec::new();
    for (name, dtype, dims, bytes) in &buffers {
        views.push((name.as_str(), TensorView::new(*dtype, dims.to_vec(), bytes)?));
    }
    let metadata = HashMap::from([(KEY.to_owned(), serde_json::to_string(&description)?)]);
    let mut bytes = safetensors::serialize(views, Some(metadata))?;
    bytes.extend(Sha256::digest(&bytes));
    Ok(bytes)
}

/// Checkpoints in `folder`, and whether each is what was written.
///
/// # Errors
/// If the folder cannot be read.
pub fn verify(folder: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let paths = list(folder)?.into_iter().map(|(_, path)| path);
    // One that is gone was too old for the run that goes.
    let read = paths.filter_map(|path| Some((fs::read(&path).ok()?, path)));
    Ok(read.map(|(bytes, path)| (path, whole(&bytes).is_ok())).collect())
}

/// The content before the digest at the end of a file, if the digest is correct.
fn whole(bytes: &[u8]) -> Result<&[u8]> {
    let Some((bytes, digest)) = bytes.split_at_checked(bytes.len().saturating_sub(DIGEST)) else {
        bail!("it is cut off");
    };
    ensure!(digest == Sha256::digest(bytes).as_slice(), "it is damaged: its digest is another");
    Ok(bytes)
}

fn from_bytes(bytes: &[u8], device: &Device) -> Result<Checkpoint> {
    let bytes = whole(bytes)?;
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let description: Description = serde_json::from_str(text.context("it is no checkpoint")?)?;
    ensure!(
        description.format == FORMAT,
        "it has format {}, this program reads {FORMAT}",
        description.format
    );
    let stores = |names: Vec<String>| -> BTreeMap<String, BTreeMap<String, Tensor>> {
        names.into_iter().map(|name| (name, BTreeMap::new())).collect()
    };
    let mut parts = [stores(description.fixed.clone()), stores(description.moving.clone())];
    for (key, view) in SafeTensors::deserialize(bytes)?.tensors() {
        let mut names = key.splitn(3, '/');
        let (part, store, name) = (names.next(), names.next(), names.next());
        let part = PARTS.iter().position(|it| Some(*it) == part);
        let store = part.and_then(|at| parts[at].get_mut(store?));
        let (Some(store), Some(name)) = (store, name) else { bail!("its tensor {key} has no place") };
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::U32 => DType::U32,
            other => bail!("its tensor {key} is {other:?}"),
        };
        store.insert(name.to_owned(), Tensor::from_raw_buffer(view.data(), dtype, view.shape(), device)?);
    }
    let [fixed, moving] = parts.map(|stores| {
        stores.into_iter().map(|(name, tensors)| (name, Parameters::from_tensors(tensors))).collect()
    });
    let saved = Saved { position: description.position.clone(), fixed, moving };
    let Description { events_bytes, config, .. } = description;
    Ok(Checkpoint { saved, events_bytes, config })
}

/// A tensor's values as they stand in memory of this kind of machine.
pub(crate) fn raw(tensor: &Tensor) -> Result<(Dtype, Vec<u8>)> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F32 => (Dtype::F32, flat.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect()),
        DType::F64 => (Dtype::F64, flat.to_vec1::<f64>()?.into_iter().flat_map(f64::to_le_bytes).collect()),
        DType::U32 => (Dtype::U32, flat.to_vec1::<u32>()?.into_iter().flat_map(u32::to_le_bytes).collect()),
        other => bail!("a checkpoint holds no {other:?}"),
    })
}
