//! Whether a run folder is still what its run wrote.
//!
//! Files are compared with `SHA256SUMS`, events with the checks of their lines, checkpoints with their own digests. A
//! folder of an earlier version that lacks these is reported as unverified, not as damaged. It writes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::cli::failure::{bad_input, sentence};
use crate::cli::output::Output;
use crate::folder::checkpoint;
use crate::folder::contents::{BASE, CONFIG, ENVIRONMENT, FINDINGS, MODEL, RESULT};
use crate::folder::log::{EVENTS, load_events};
use crate::folder::sums::{SUMS, Sums};
use crate::folder::writer::{PARTIAL, is_unbegun};

/// Files that every whole run has a digest of.
const ALWAYS: [&str; 6] = [CONFIG, ENVIRONMENT, EVENTS, RESULT, BASE, MODEL];
/// Files that may be removed from a record to save space; reports need all others.
const MODELS: [&str; 2] = [BASE, MODEL];
/// A run that goes replaces files; then what was read of them is read again, so often and after that time.
const AGAIN: (usize, Duration) = (4, Duration::from_millis(100));
/// Folders in folders that are looked through for runs: a sweep's folder below `runs`, its bases below that.
const DEPTH: usize = 4;

/// The result of checking a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Verdict {
    /// Each file is what the run wrote.
    Intact {
        /// Files that were compared with a digest, events and checkpoints included.
        files: usize,
    },
    /// It was written before digests were kept.
    Unverified,
    /// Something is not what the run wrote.
    Damaged {
        /// What.
        wrong: Vec<Wrong>,
    },
}

/// A file that is not what the run wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// Its name.
    pub file: String,
    /// The error, in a sentence.
    #[serde(rename = "told")]
    pub message: String,
}

impl Wrong {
    fn new(file: &str, message: String) -> Self {
        Self { file: file.to_owned(), message }
    }
}

/// Holds a run folder against what its run wrote.
pub fn verify(folder: &Path) -> Verdict {
    let is_partial = folder.extension().is_some_and(|it| it == PARTIAL);
    let mut verdict = once(folder, is_partial);
    for _ in 0..AGAIN.0 {
        if !is_partial || !matches!(verdict, Verdict::Damaged { .. }) {
            break;
        }
        thread::sleep(AGAIN.1);
        verdict = once(folder, is_partial);
    }
    verdict
}

fn once(folder: &Path, is_partial: bool) -> Verdict {
    let (mut wrong, mut files) = (Vec::new(), 0);
    let sums = Sums::load(folder).unwrap_or_else(|error| {
        wrong.push(Wrong::new(SUMS, sentence(&error)));
        None
    });
    let log = load_events(folder);
    let log = log.inspect_err(|error| wrong.push(Wrong::new(EVENTS, sentence(error)))).ok();
    let is_checked = log.as_ref().is_some_and(|log| log.is_checked());
    // A whole run's log has a digest, too.
    files += usize::from(is_checked && is_partial);
    let checkpoints = checkpoint::verify(folder).unwrap_or_default();
    files += checkpoints.len();
    let damaged = checkpoints.into_iter().filter(|it| !it.1);
    wrong.extend(damaged.map(|(path, _)| {
        let message = format!("{} is damaged: its digest is another", path.display());
        Wrong::new(&path.file_name().unwrap_or_default().to_string_lossy(), message)
    }));
    match sums {
        None if is_checked && wrong.is_empty() && (!is_partial || folder.join(CONFIG).exists()) => {
            wrong.push(Wrong::new(SUMS, format!("{} is missing", folder.join(SUMS).display())));
        }
        None => {}
        Some(sums) => {
            let listed = sums.names().filter(|name| !(is_partial && *name == EVENTS));
            let mut count = 0;
            let listed = listed.inspect(|_| count += 1);
            wrong.extend(listed.filter_map(|name| Some(Wrong::new(name, file(folder, &sums, name)?))));
            files += count;
            let is_taken_out = |name: &str| MODELS.contains(&name) && !folder.join(name).exists();
            let lacking = ALWAYS
                .iter()
                .filter(|name| !is_partial && !sums.names().any(|it| it == **name) && !is_taken_out(name));
            let place = folder.join(SUMS);
            wrong.extend(
                lacking.map(|name| Wrong::new(SUMS, format!("{} has no digest of {name}", place.display()))),
            );
        }
    }
    match (wrong.is_empty(), is_checked) {
        (false, _) => Verdict::Damaged { wrong },
        (true, true) => Verdict::Intact { files },
        (true, false) => Verdict::Unverified,
    }
}

/// The error of a file that has a digest.
fn file(folder: &Path, sums: &Sums, name: &str) -> Option<String> {
    let path = folder.join(name);
    let place = path.display();
    match fs::read(&path) {
        Ok(content) if sums.is_of(name, &content) == Some(true) => None,
        Ok(_) => Some(differs(&path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(match name {
            RESULT => format!("{place} is missing; `cil-runner report` of its folder computes it again"),
            FINDINGS => format!("{place} is missing; audit the run again"),
            _ => format!("{place} is missing"),
        }),
        Err(error) => Some(format!("{place} cannot be read: {error}")),
    }
}

fn differs(path: &Path) -> String {
    let place = path.display();
    let message =
        |who: &str| format!("{place} is not what the {who} wrote: {SUMS} beside it has another digest");
    match path.file_name().and_then(|name| name.to_str()) {
        Some(RESULT) => {
            format!("{}; remove it, and `cil-runner report` of its folder computes it again", message("run"))
        }
        Some(FINDINGS) => format!("{}; remove it, and audit the run again", message("audit")),
        _ => message("run"),
    }
}

/// Refuses a run folder that was changed after its run; returns whether it could be verified. Four things are passed
/// over: a result that is missing, since it is computed again; findings of an audit that are missing, since the run has
/// none then; a checkpoint, since the one before it serves; and models of a whole run that are missing, since whoever
/// needs one opens it.
///
/// # Errors
/// Naming what is wrong.
pub fn hold(folder: &Path) -> Result<bool> {
    hold_but(folder, &[])
}

/// The same, whatever is wrong with files of the names `but`.
///
/// # Errors
/// Naming what is wrong.
pub fn hold_but(folder: &Path, but: &[&str]) -> Result<bool> {
    match verify(folder) {
        Verdict::Intact { .. } => Ok(true),
        Verdict::Unverified => Ok(false),
        Verdict::Damaged { wrong } => {
            let is_missing = |name: &str| !folder.join(name).exists();
            let is_partial = folder.extension().is_some_and(|it| it == PARTIAL);
            let is_passed_over = |it: &Wrong| {
                let file = it.file.as_str();
                ([RESULT, FINDINGS].contains(&file) && is_missing(file))
                    || (!is_partial && MODELS.contains(&file) && is_missing(file))
                    || but.contains(&file)
                    || checkpoint::is_one(Path::new(file))
            };
            let messages: Vec<&str> =
                wrong.iter().filter(|it| !is_passed_over(it)).map(|it| it.message.as_str()).collect();
            match messages.is_empty() {
                true => Ok(true),
                false => bail!("{}", messages.join("; ")),
            }
        }
    }
}

/// Refuses a file that somebody names if it lies in a run folder and is not what the run wrote there.
///
/// # Errors
/// Naming the file.
pub fn hold_file(path: &Path, content: &[u8]) -> Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|it| it.to_str())) else {
        return Ok(());
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match Sums::load(folder)?.and_then(|sums| sums.is_of(name, content)) {
        Some(false) => Err(bad_input(differs(path))),
        _ => Ok(()),
    }
}

/// The report on one folder.
#[derive(Serialize)]
struct Verified {
    run: PathBuf,
    #[serde(flatten)]
    verdict: Verdict,
}

/// `report --verify`: checks each run folder, and those below a folder that is not one.
///
/// # Errors
/// If a folder is damaged, or there is no run in what was named.
pub fn report(places: &[PathBuf], output: &mut Output<'_>) -> Result<()> {
    let mut verified = Vec::new();
    for place in places {
        let before = verified.len();
        for run in runs_below(place, DEPTH)? {
            verified.push(Verified { verdict: verify(&run), run });
        }
        if verified.len() == before {
            return Err(bad_input(format!("{}: there is no run folder", place.display())));
        }
    }
    if output.json {
        output.value(&verified)?;
    } else {
        verified.iter().try_for_each(|it| output.text(&it.text()))?;
    }
    match verified.iter().filter(|it| matches!(it.verdict, Verdict::Damaged { .. })).count() {
        0 => Ok(()),
        damaged => bail!("{damaged} of {} run folders are not what their runs wrote", verified.len()),
    }
}

impl Verified {
    fn text(&self) -> String {
        let run = self.run.display();
        match &self.verdict {
            Verdict::Intact { files } => format!("{run}: intact, {files} files\n"),
            Verdict::Unverified => format!("{run}: unverified, it was written before digests were kept\n"),
            Verdict::Damaged { wrong } => {
                wrong.iter().map(|it| format!("{run}: damaged, {}\n", it.message)).collect()
            }
        }
    }
}

/// `place` if it is a run folder, else the run folders below it.
fn runs_below(place: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    if place.join(EVENTS).exists() || place.join(SUMS).exists() {
        let is_begun = !is_unbegun(place);
        return Ok(if is_begun { vec![place.to_owned()] } else { Vec::new() });
    }
    let mut found = Vec::new();
    if depth > 0 && place.is_dir() {
        let entries = fs::read_dir(place).with_context(|| format!("cannot read {}", place.display()))?;
        let mut below = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        below.sort();
        for path in below.iter().filter(|path| path.is_dir()) {
            found.extend(runs_below(path, depth - 1)?);
        }
    }
    Ok(found)
}
