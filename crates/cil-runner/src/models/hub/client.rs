//! Fetching from the hub and uploading to it, by its own client.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hf_hub::repository::{CommitOperation, RepoTreeEntry, RepoTypeModel};
use hf_hub::{HFClient, HFClientSync, HFError};

use super::{Address, Located, MODEL_FILE};
use crate::cli::failure::bad_input;
use crate::folder::environment::sha256;

/// The file of a repository, from the hub, or from the cache where no connection may be opened.
pub(super) fn fetch(address: &Address) -> Result<Located> {
    let offline = is_offline();
    let (hub, client) = client()?;
    let repository = client.model(&address.owner, &address.name);
    let get = |file: &str| {
        repository
            .download_file()
            .filename(file)
            .maybe_revision(address.revision.clone())
            .local_files_only(offline)
            .send()
    };
    let file = address.file.clone().unwrap_or_else(|| MODEL_FILE.to_owned());
    let path = match get(&file) {
        Ok(path) => path,
        Err(HFError::LocalEntryNotFound { .. }) => {
            let cache = hub.cache_dir().display();
            return Err(bad_input(format!(
                "{address}: {file} is not in the cache {cache}, and HF_HUB_OFFLINE forbids a connection; unset it, or give \
                 the path of a file"
            )));
        }
        Err(HFError::EntryNotFound { .. }) => {
            let entries = repository.list_tree().maybe_revision(address.revision.clone()).send();
            return Err(without_file(address, &file, &entries.map_err(|error| failed(address, error))?));
        }
        Err(error) => return Err(failed(address, error)),
    };
    // Of a model of another program this has the classes and the normalisation; it comes to lie beside the file.
    match get("config.json") {
        Ok(_) | Err(HFError::EntryNotFound { .. } | HFError::LocalEntryNotFound { .. }) => {}
        Err(error) => return Err(failed(address, error)),
    }
    check_blob(&path)?;
    let commit = commit_of(&path);
    let revision = commit.or_else(|| address.revision.clone());
    let name = Address { revision, file: Some(file), ..address.clone() }.to_string();
    Ok(Located { name: PathBuf::from(name), path })
}

/// Uploads files (name and bytes) in one commit, making the repository if it is not there; the commit's address.
///
/// # Errors
/// If the hub cannot be reached, or does not let this user write there.
pub fn upload(address: &Address, private: bool, files: Vec<(String, Vec<u8>)>) -> Result<String> {
    if is_offline() {
        return Err(bad_input(format!("{address}: HF_HUB_OFFLINE forbids a connection; unset it")));
    }
    let ((hub, client), repository) = (client()?, address.repository());
    client
        .create_repository()
        .repo_id(&repository)
        .repo_type(RepoTypeModel)
        .private(private)
        .exist_ok(true)
        .send()
        .map_err(|error| failed(address, error))?;
    let names = files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" and ");
    let operations =
        files.iter().map(|(name, bytes)| CommitOperation::add_bytes(name, bytes.clone())).collect();
    let commit = client
        .model(&address.owner, &address.name)
        .create_commit()
        .operations(operations)
        .commit_message(format!("Upload {names} with cil-runner"))
        .maybe_revision(address.revision.clone())
        .send()
        .map_err(|error| failed(address, error))?;
    Ok(commit.commit_url.unwrap_or_else(|| format!("{}/{repository}", hub.endpoint())))
}

/// The hub's client, and the same for calls that wait.
fn client() -> Result<(HFClient, HFClientSync)> {
    let made = HFClient::builder().build().and_then(|it| Ok((it.clone(), HFClientSync::from_inner(it)?)));
    made.map_err(|error| anyhow::anyhow!(one_line(error))).context("cannot use the hub")
}

fn is_offline() -> bool {
    let value = std::env::var("HF_HUB_OFFLINE").unwrap_or_default();
    ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str())
}

/// The refusal of a repository that has not that file, with the files that it has.
fn without_file(address: &Address, file: &str, entries: &[RepoTreeEntry]) -> anyhow::Error {
    let is_model = |entry: &RepoTreeEntry| match entry {
        RepoTreeEntry::File { path, .. } if path.ends_with(".safetensors") => Some(path.clone()),
        _ => None,
    };
    let models: Vec<String> = entries.iter().filter_map(is_model).collect();
    bad_input(match models.first() {
        None => {
            format!("{address}: it has no {file}, and no other safetensors file; name another repository")
        }
        Some(first) => format!(
            "{address}: it has no {file}; name one of its files ({}), such as hf://{}/{first}",
            models.join(", "),
            address.repository()
        ),
    })
}

/// Large files lie in the cache under the SHA-256 of their content.
fn check_blob(path: &Path) -> Result<()> {
    let blob = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
    let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_sha256 = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bytes = std::fs::read(&blob).with_context(|| format!("cannot read {}", blob.display()))?;
    let found = sha256(&bytes);
    if is_sha256 && found != name {
        return Err(bad_input(format!(
            "{} has the SHA-256 {found}, not that of its name; remove it, so that it is fetched again",
            blob.display()
        )));
    }
    Ok(())
}

/// The commit in a path of the cache, `../snapshots/COMMIT/..`.
fn commit_of(path: &Path) -> Option<String> {
    let parts: Vec<_> = path.components().map(|it| it.as_os_str().to_string_lossy()).collect();
    let at = parts.iter().rposition(|part| part == "snapshots")?;
    parts.get(at + 1).map(ToString::to_string)
}

fn failed(address: &Address, error: HFError) -> anyhow::Error {
    bad_input(format!("{address}: {}", one_line(error)))
}

/// The hub's messages may quote whole pages.
fn one_line(error: HFError) -> String {
    let text = format!("{:#}", anyhow::anyhow!(error));
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}
