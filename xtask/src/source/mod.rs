//! Reading data sets from the files that others publish.
//!
//! One decision: each reader takes files that lie on disk and gives a [`Collection`]; none of them downloads.
//! A reader never trusts a length that a file states before it has seen that many bytes.

mod archive;
mod binary;
mod local;
#[cfg(feature = "parquet")]
mod parquet;
mod pickle;
mod python;

use std::path::Path;

use anyhow::Result;

use crate::dataset::{Collection, Spec};

pub(crate) use archive::read as read_archive;
pub use local::{find, read};

/// What a folder holds of a data set.
#[derive(Debug)]
pub enum Found {
    /// An official archive.
    Archive(crate::dataset::Archive, std::path::PathBuf),
    /// Hub shards.
    Shards {
        /// Files with training images, sorted by name.
        train: Vec<std::path::PathBuf>,
        /// Files with test images, sorted by name.
        test: Vec<std::path::PathBuf>,
    },
}

#[cfg(feature = "parquet")]
fn read_shards(spec: &Spec, train: &[std::path::PathBuf], test: &[std::path::PathBuf]) -> Result<Collection> {
    parquet::read(spec, train, test)
}

#[cfg(not(feature = "parquet"))]
fn read_shards(_: &Spec, train: &[std::path::PathBuf], _: &[std::path::PathBuf]) -> Result<Collection> {
    let shard = train.first().map(|path| path.display().to_string()).unwrap_or_default();
    anyhow::bail!(
        "{shard} is a parquet shard, which this build cannot read: build xtask with --features parquet"
    )
}

/// A file's name for messages and manifests.
fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
