//! A folder that holds a data set in one of the published forms.
//!
//! Files are recognised by their published names, never by looking inside. If a folder holds several forms, an official
//! archive is preferred, since its digest is published.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Found, file_name, read_archive, read_shards};
use crate::dataset::{Collection, Spec};

/// Recognises what `folder` holds of `spec`.
pub fn find(spec: &Spec, folder: &Path) -> Result<Found> {
    let place = || format!("cannot read the folder {}", folder.display());
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).with_context(place)? {
        let path = entry.with_context(place)?.path();
        let name = file_name(&path);
        if name.ends_with(".parquet") && name.starts_with("train-") {
            train.push(path);
        } else if name.ends_with(".parquet") && name.starts_with("test-") {
            test.push(path);
        }
    }
    for archive in &spec.archives {
        let path = folder.join(&archive.file);
        if path.is_file() {
            return Ok(Found::Archive(archive.clone(), path));
        }
    }
    train.sort();
    test.sort();
    match (train.is_empty(), test.is_empty()) {
        (false, false) => {
            check_shards(folder, &train)?;
            check_shards(folder, &test)?;
            Ok(Found::Shards { train, test })
        }
        (true, true) => {
            let archives: Vec<&str> = spec.archives.iter().map(|archive| archive.file.as_str()).collect();
            bail!(
                "{} holds nothing of {}: {} and no train-*.parquet or test-*.parquet",
                folder.display(),
                spec.name,
                archives.join(", ")
            )
        }
        (true, false) => bail!("{} holds test-*.parquet but no train-*.parquet", folder.display()),
        (false, true) => bail!("{} holds train-*.parquet but no test-*.parquet", folder.display()),
    }
}

/// Reads what `folder` holds of `spec`.
pub fn read(spec: &Spec, folder: &Path) -> Result<Collection> {
    match find(spec, folder)? {
        Found::Archive(archive, path) => read_archive(spec, &archive, &path),
        Found::Shards { train, test } => read_shards(spec, &train, &test),
    }
}

/// Shards say in their names how many there are; a missing one is reported by name.
fn check_shards(folder: &Path, shards: &[PathBuf]) -> Result<()> {
    let Some(first) = shards.first().map(|path| file_name(path)) else { return Ok(()) };
    let Some((split, total)) = shard_total(&first) else { return Ok(()) };
    if total > 10_000 {
        bail!("{first} says that there are {total} shards, too many for this data set");
    }
    for index in 0..total {
        let name = format!("{split}-{index:05}-of-{total:05}.parquet");
        if !shards.iter().any(|path| file_name(path) == name) {
            bail!("{} lacks the shard {name}", folder.display());
        }
    }
    if shards.len() != total {
        bail!("{} holds {} {split} shards, {first} says {total}", folder.display(), shards.len());
    }
    Ok(())
}

/// `train-00000-of-00003.parquet` is (`train`, 3).
fn shard_total(name: &str) -> Option<(&str, usize)> {
    let (head, total) = name.strip_suffix(".parquet")?.rsplit_once("-of-")?;
    let (split, _) = head.split_once('-')?;
    Some((split, total.parse().ok()?))
}
