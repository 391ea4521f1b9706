//! Writing a data set's folder.
//!
//! Every file is written under the folder it is given and synced; moving that folder to its final name is the caller's
//! last step, so nothing half-written is ever seen under that name.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::manifest::{self, Manifest, SplitRecord, Splits};
use super::samples::ContentDigest;
use super::{CHANNELS, Collection, Samples, Spec, Split};

/// Writes `collection` into the new folder `folder`.
pub fn write(folder: &Path, spec: &Spec, collection: &Collection) -> Result<()> {
    collection.check(spec)?;
    fs::create_dir(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let manifest = Manifest {
        format: manifest::FORMAT,
        name: spec.name.clone(),
        classes: collection.classes.clone(),
        channels: CHANNELS,
        height: spec.side,
        width: spec.side,
        splits: Splits {
            train: write_split(folder, Split::Train, &collection.train)?,
            test: write_split(folder, Split::Test, &collection.test)?,
        },
        source: collection.source.clone(),
    };
    let mut text = serde_json::to_string_pretty(&manifest)?;
    text.push('\n');
    write_file(&folder.join(manifest::FILE), |file| Ok(file.write_all(text.as_bytes())?))?;
    sync_folder(folder)
}

/// Makes the names in `folder` durable.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|handle| handle.sync_all())
        .with_context(|| format!("cannot sync {}", folder.display()))
}

fn write_split(folder: &Path, split: Split, samples: &Samples) -> Result<SplitRecord> {
    let order = samples.canonical_order();
    let (images, labels) = (format!("{}.images", split.name()), format!("{}.labels", split.name()));
    let mut content = ContentDigest::default();
    write_file(&folder.join(&images), |file| {
        for &index in &order {
            let (label, pixels) = samples.get(index);
            content.update(label, pixels);
            file.write_all(pixels)?;
        }
        Ok(())
    })?;
    write_file(&folder.join(&labels), |file| {
        for &index in &order {
            file.write_all(&samples.get(index).0.to_le_bytes())?;
        }
        Ok(())
    })?;
    Ok(SplitRecord { count: samples.len(), images, labels, content_sha256: content.finish() })
}

fn write_file(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let place = || format!("cannot write {}", path.display());
    let mut file = BufWriter::new(File::create_new(path).with_context(place)?);
    fill(&mut file).with_context(place)?;
    file.flush().with_context(place)?;
    file.get_ref().sync_all().with_context(place)
}
