//! Models on the Hugging Face hub, by address: `hf://owner/name`.
//!
//! The hub's own client fetches and uploads. It reads `HF_ENDPOINT`, `HF_TOKEN` (or the token of its login),
//! `HF_HUB_CACHE` and `HF_HOME`, as other programs do; with `HF_HUB_OFFLINE=1` this module reads the cache and opens
//! no connection. The client is there with the feature `hub` alone; without it an address is refused in words.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli::failure::bad_input;

/// The beginning of an address.
const SCHEME: &str = "hf://";
/// The file that is read and written where an address names none.
pub const MODEL_FILE: &str = "model.safetensors";

/// A repository of models, and what of it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A user or an organisation.
    pub owner: String,
    /// The repository's name.
    pub name: String,
    /// A branch, a tag or a commit; the main branch if there is none.
    pub revision: Option<String>,
    /// A file of the repository.
    pub file: Option<String>,
}

impl Address {
    /// The address that a command's argument spells; `None` if it is a path of this machine.
    ///
    /// # Errors
    /// If it begins as an address does and is none.
    pub fn parse(argument: &Path) -> Result<Option<Self>> {
        let text = argument.to_string_lossy();
        let Some(rest) = text.strip_prefix(SCHEME) else { return Ok(None) };
        let wrong = || {
            bad_input(format!(
                "{text}: give hf://owner/name, hf://owner/name@revision or hf://owner/name/file.safetensors"
            ))
        };
        let mut parts = rest.splitn(3, '/');
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else { return Err(wrong()) };
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (name, None),
        };
        let file = parts.next();
        let is_name = |part: &str| {
            let allowed = |it: char| it.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&it);
            !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.')
        };
        let is_file = |file: &str| file.ends_with(".safetensors") && file.split('/').all(is_name);
        if !is_name(owner) || !is_name(name) || !revision.is_none_or(is_name) || !file.is_none_or(is_file) {
            return Err(wrong());
        }
        let [revision, file] = [revision, file].map(|it| it.map(str::to_owned));
        Ok(Some(Self { owner: owner.to_owned(), name: name.to_owned(), revision, file }))
    }

    /// `owner/name`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.owner, self.name)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        match &self.file {
            Some(file) => write!(f, "/{file}"),
            None => Ok(()),
        }
    }
}

/// A model file on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// As messages and records name it: the path that was given, or the address with commit and file.
    pub name: PathBuf,
    /// Where its bytes are.
    pub path: PathBuf,
}

/// The file that a command's argument names: a path of this machine as it is, an address through the hub's cache.
///
/// # Errors
/// If the address is none, or its file can be had neither from the hub nor from the cache.
pub fn locate(argument: &Path) -> Result<Located> {
    match Address::parse(argument)? {
        None => Ok(Located { name: argument.to_owned(), path: argument.to_owned() }),
        Some(address) => fetch(&address),
    }
}

#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
use client::fetch;
#[cfg(feature = "hub")]
pub use client::upload;

#[cfg(not(feature = "hub"))]
fn fetch(address: &Address) -> Result<Located> {
    Err(without_client(address))
}

/// Uploads files (name and bytes) in one commit.
///
/// # Errors
/// Always: this program was built without the hub's client.
#[cfg(not(feature = "hub"))]
pub fn upload(address: &Address, _private: bool, _files: Vec<(String, Vec<u8>)>) -> Result<String> {
    Err(without_client(address))
}

#[cfg(not(feature = "hub"))]
fn without_client(address: &Address) -> anyhow::Error {
    bad_input(format!(
        "{address}: this program was built without the hub's client; build it with --features hub, or download the file \
         and give its path"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_distinguished_from_paths_and_wrong_ones_refused() {
        let parse = |text: &str| Address::parse(Path::new(text));
        for path in ["model.safetensors", "hf:/owner/name", "./hf://owner/name", "/hf/owner"] {
            assert_eq!(parse(path).unwrap(), None, "{path}");
        }
        for text in [
            "hf://owner/name",
            "hf://owner/name@v1.0",
            "hf://owner/name/weights/a.safetensors",
            "hf://timm/resnet18.a1_in1k@0f3a/model.safetensors",
        ] {
            assert_eq!(parse(text).unwrap().unwrap().to_string(), text);
        }
        for text in [
            "hf://",
            "hf://owner",
            "hf://owner/",
            "hf:///name",
            "hf://owner/name/",
            "hf://owner/name@",
            "hf://owner/name/model.bin",
            "hf://owner/name/../../model.safetensors",
            "hf://owner/na me",
            "hf://owner/name/.safetensors",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text}: give hf://owner/name,")), "{error}");
        }
    }
}
