//! A run's folder, read back.
//!
//! A run is read here, once, and its numbers are computed from its events; an unfinished run is read up to its last
//! event. It writes nothing.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result};
use cil_train::audit::findings::Findings;

use crate::cli::failure::bad_input;
use crate::config::{Checked, RunConfig};
use crate::drive;
use crate::folder::contents;
use crate::folder::environment::Environment;
use crate::folder::integrity;
use crate::folder::log::{Line, load_events};
use crate::folder::writer::is_unbegun;
use crate::render::pictures::Drawn;
use crate::results::found;
use crate::results::result::{self, RunResult};
use crate::setup;

/// The records of a run, finished or in progress.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The folder's name, without `.partial`.
    pub name: String,
    /// Where it was read.
    pub folder: PathBuf,
    /// Its configuration.
    pub checked: Checked,
    /// The machine that it ran on.
    pub environment: Environment,
    /// The event.
    pub lines: Vec<Line>,
    /// Whether it is whole.
    pub finished: bool,
    /// Its numbers; those of the tasks so far if it is not whole, `None` before the first.
    pub result: Option<RunResult>,
    /// Pictures of generated images.
    pub pictures: Vec<Picture>,
    /// What an audit of the finished run found, if there was one.
    pub found: Option<Findings>,
    /// Whether every file was compared with its digest; older folders have no digests.
    pub verified: bool,
}

/// A picture of generated images.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The task that they were generated for.
    pub task: usize,
    /// Whether they are of its new classes, by the new teacher, else of the old ones.
    pub new: bool,
    /// A PNG file: a row for each class of `drawn`.
    pub png: Vec<u8>,
    /// Their teacher's outputs; `None` in older runs.
    pub drawn: Option<Drawn>,
}

impl Recorded {
    /// Reads a run folder, whole or `.partial`.
    ///
    /// # Errors
    /// If there is no such folder, or a file of it is missing or broken.
    pub fn load(folder: &Path) -> Result<Self> {
        let place = folder.display();
        if !folder.is_dir() {
            let mut partial = folder.as_os_str().to_owned();
            partial.push(".partial");
            let why = match Path::new(&partial).is_dir() {
                true => format!("the run is not whole, it is {}", Path::new(&partial).display()),
                false => "there is no such folder".to_owned(),
            };
            return Err(bad_input(format!("{place} is not a run folder; {why}")));
        }
        if is_unbegun(folder) {
            return Err(bad_input(format!("{place}: {}", contents::UNBEGUN)));
        }
        let verified = integrity::hold(folder)?;
        let name = folder.canonicalize().with_context(|| format!("cannot read {place}"))?;
        let name = name.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
        let checked = RunConfig::load(&folder.join(contents::CONFIG), &[])?.check()?;
        let environment = contents::read_environment(folder)?;
        let lines = load_events(folder)?.lines;
        let facts = setup::facts(&checked);
        let finished = result::ended(&lines);
        let result = match finished {
            true => result::report(facts, &lines).map(Some),
            false => result::so_far(facts, &lines),
        };
        let pictures = (0..checked.increments().tasks())
            .flat_map(|task| [(task, false), (task, true)])
            .filter_map(|(task, new)| picture(folder, task, new).transpose());
        Ok(Self {
            name: name.strip_suffix(".partial").unwrap_or(&name).to_owned(),
            folder: folder.to_owned(),
            environment,
            finished,
            result: result.with_context(|| format!("{place} has no result"))?,
            pictures: pictures.collect::<Result<_>>()?,
            found: found::read(folder, checked.increments())?,
            lines,
            checked,
            verified,
        })
    }

    /// Names of the classes in the order of learning; where they were not recorded, the data set's labels.
    pub fn class_names(&self) -> Vec<String> {
        let names = &self.environment.class_names;
        let name = |label: &usize| names.get(*label).cloned().unwrap_or_else(|| format!("class {label}"));
        self.checked.order().labels().iter().map(name).collect()
    }

    /// Tasks that were evaluated, and how many there are.
    pub fn tasks(&self) -> (usize, usize) {
        let done = self.result.as_ref().map_or(0, |result| result.tasks.len());
        (done, self.checked.increments().tasks())
    }
}

fn picture(folder: &Path, task: usize, new: bool) -> Result<Option<Picture>> {
    let path = folder.join(format!("{}.png", drive::picture_name(task, new)));
    let Some(png) = if_there(&path)? else { return Ok(None) };
    let path = path.with_extension("json");
    let drawn = if_there(&path)?.map(|text| serde_json::from_slice(&text)).transpose();
    let drawn = drawn.with_context(|| format!("{} does not say what was drawn", path.display()))?;
    Ok(Some(Picture { task, new, png, drawn }))
}

/// A file's content, if there is such a file.
fn if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
