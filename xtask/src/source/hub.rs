//! Shards from the hub, through its cache.
//!
//! The cache is asked first and the network only if something is missing, so an offline machine with a filled cache
//! works like any other. Endpoint, token and cache are passed on, never left to the library to find. The hub gives no
//! broken transfer back: a shard is fetched whole, and its digest is checked.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hf_hub::{HFClient, HFClientSync, HFError};

use super::{Found, HubOptions, file_name, find, read_shards};
use crate::dataset::{Collection, Spec};
use crate::digest::digest_file;

/// Reads the shards of `spec`, fetching what the cache lacks.
pub(super) fn read(spec: &Spec, options: &HubOptions) -> Result<Collection> {
    let repository = &spec.hub_repository;
    let (owner, name) = repository
        .split_once('/')
        .with_context(|| format!("the hub repository {repository:?} is not of the form owner/name"))?;
    let place = options.endpoint.as_deref().unwrap_or("the hub");
    let mut builder = HFClient::builder().cache_dir(&options.cache);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some(token) = &options.token {
        builder = builder.token(token);
    }
    let client: HFClientSync =
        builder.build_sync().map_err(one_line).with_context(|| format!("cannot use {place}"))?;
    let snapshot = |cached_only: bool| {
        client
            .dataset(owner, name)
            .snapshot_download()
            .allow_patterns(vec!["*/train-*.parquet".to_owned(), "*/test-*.parquet".to_owned()])
            .local_files_only(cached_only)
            .send()
            .map_err(one_line)
    };
    let cached = snapshot(true).and_then(|folder| shards(spec, &folder));
    let (train, test) = match cached {
        Ok(shards) => shards,
        Err(_) if options.offline => bail!(
            "the hub cache {} does not hold all of {repository}, and no connection may be opened",
            options.cache.display()
        ),
        Err(_) => snapshot(false)
            .and_then(|folder| shards(spec, &folder))
            .with_context(|| format!("cannot fetch {repository} from {place}"))?,
    };
    for path in train.iter().chain(&test) {
        check_blob(path)?;
    }
    read_shards(spec, &train, &test)
}

/// The shards of the first folder of a snapshot that holds both splits.
fn shards(spec: &Spec, snapshot: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let place = || format!("cannot read {}", snapshot.display());
    let mut folders = Vec::new();
    for entry in fs::read_dir(snapshot).with_context(place)? {
        let path = entry.with_context(place)?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    let mut failure = anyhow!("{} holds no folder", snapshot.display());
    for folder in &folders {
        match find(spec, folder) {
            Ok(Found::Shards { train, test }) => return Ok((train, test)),
            Ok(Found::Archive(..)) => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Large files lie in the cache under the SHA-256 of their content.
fn check_blob(path: &Path) -> Result<()> {
    let blob = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
    let name = file_name(&blob);
    let is_sha256 = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_sha256 {
        let digest = digest_file(&blob)?;
        if digest.sha256 != name {
            bail!(
                "{} ({} bytes) has the SHA-256 {}, not the one in its name; remove it and fetch again",
                blob.display(),
                digest.bytes,
                digest.sha256
            );
        }
    }
    Ok(())
}

/// The hub's messages may quote whole pages.
fn one_line(error: HFError) -> anyhow::Error {
    let text = format!("{:#}", anyhow!(error));
    let words: Vec<&str> = text.split_whitespace().collect();
    anyhow!(words.join(" ").chars().take(300).collect::<String>())
}
