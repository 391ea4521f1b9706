//! Reading data sets from the files that others publish.
//!
//! Each reader takes files that lie on disk and gives a [`Collection`]; none of them downloads. A reader never trusts a
//! length that a file states before it has seen that many bytes.

mod archive;
mod binary;
#[cfg(feature = "hub")]
mod hub;
mod local;
#[cfg(feature = "parquet")]
mod parquet;
mod pickle;
mod python;
mod tiny;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::dataset::{Collection, Spec};

pub(crate) use archive::read as read_archive;
pub use local::{find, read};
pub(crate) use tiny::{ARCHIVE as TINY_ARCHIVE, URL as TINY_URL, read as read_tiny};

/// The files of a data set in a folder.
#[derive(Debug)]
pub enum Found {
    /// An official archive.
    Archive(crate::dataset::Archive, PathBuf),
    /// Hub shards.
    Shards {
        /// Files with training images, sorted by name.
        train: Vec<PathBuf>,
        /// Files with test images, sorted by name.
        test: Vec<PathBuf>,
    },
}

#[cfg(feature = "parquet")]
fn read_shards(spec: &Spec, train: &[PathBuf], test: &[PathBuf]) -> Result<Collection> {
    parquet::read(spec, train, test)
}

#[cfg(not(feature = "parquet"))]
fn read_shards(_: &Spec, train: &[PathBuf], _: &[PathBuf]) -> Result<Collection> {
    let shard = train.first().map(|path| path.display().to_string()).unwrap_or_default();
    anyhow::bail!(
        "{shard} is a parquet shard, which this build cannot read: build xtask with --features parquet"
    )
}

/// How the hub is asked.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Its address; the client's own default otherwise.
    pub endpoint: Option<String>,
    /// Sent along if there is one; the data sets here need none.
    pub token: Option<String>,
    /// The hub's cache.
    pub cache: PathBuf,
    /// Open no connection.
    pub offline: bool,
}

/// Reads `spec` from the hub.
#[cfg(feature = "hub")]
pub(crate) fn read_hub(spec: &Spec, options: &HubOptions) -> Result<Collection> {
    hub::read(spec, options)
}

/// Says how to get a build that reads from the hub.
#[cfg(not(feature = "hub"))]
pub(crate) fn read_hub(spec: &Spec, _: &HubOptions) -> Result<Collection> {
    anyhow::bail!(
        "this build has no hub client; run `cargo run -p xtask --features hub -- fetch-data {} --source hub`",
        spec.name
    )
}

/// A file's name for messages and manifests.
fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
