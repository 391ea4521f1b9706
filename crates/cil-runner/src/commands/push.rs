//! `push`: a model file on the hub, with a card written from its record.

use std::fs;

use anyhow::Result;
use serde::Serialize;

use crate::cli::args::Global;
use crate::cli::args::models::{About, Push};
use crate::cli::failure::bad_input;
use crate::cli::output::Output;
use crate::engine::Engine;
use crate::models::Opened;
use crate::models::card::card;
use crate::models::hub::{self, Address, MODEL_FILE, locate};

/// The pushed files, as JSON.
#[derive(Debug, Serialize)]
struct Pushed<'a> {
    repository: String,
    files: [&'a str; 2],
    bytes: usize,
    /// Null with `--dry-run`.
    commit: Option<&'a str>,
    card: &'a str,
}

/// Does what `push` says.
///
/// # Errors
/// If the file is no model of this program, the address is none, or the hub does not take it.
pub(super) fn push(arguments: &Push, global: &Global, output: &mut Output<'_>) -> Result<()> {
    let address = Address::parse(arguments.repository.as_ref())?.ok_or_else(|| {
        bad_input(format!("{}: give the repository as hf://owner/name", arguments.repository))
    })?;
    let is_plain = |it: char| it.is_ascii_alphanumeric() || ['-', '.'].contains(&it);
    if let Some(license) = arguments.license.as_ref().filter(|it| it.is_empty() || !it.chars().all(is_plain))
    {
        return Err(bad_input(format!(
            "--license {license:?}: give an identifier, such as mit or cc-by-4.0"
        )));
    }
    let engine = Engine::new(global)?;
    let opened = Opened::read(&arguments.model, &About::default(), &engine)?;
    let bytes = fs::read(&locate(&arguments.model)?.path)?;
    if !cil_backbone::file::is_own(&bytes)? {
        return Err(bad_input(format!(
            "{}: it is a model of another program, without a record of its training; push a file that train or \
             extend wrote",
            opened.path.display()
        )));
    }
    // Not pushed before it is known to answer.
    opened.classifier(&engine)?;
    let file = address.file.clone().unwrap_or_else(|| MODEL_FILE.to_owned());
    let card = card(&opened, &address, arguments.license.as_deref());
    let commit = match arguments.dry_run {
        true => None,
        false => {
            let files = vec![(file.clone(), bytes), ("README.md".to_owned(), card.clone().into_bytes())];
            Some(hub::upload(&address, arguments.private, files)?)
        }
    };
    let pushed = Pushed {
        repository: address.repository(),
        files: [&file, "README.md"],
        bytes: opened.bytes,
        commit: commit.as_deref(),
        card: &card,
    };
    if output.json {
        return output.value(&pushed);
    }
    output.text(&match commit {
        Some(commit) => format!("{}: {file} and README.md pushed, {commit}\n", address.repository()),
        None => card,
    })
}
