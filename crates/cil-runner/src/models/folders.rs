//! Folders of images as the commands on model files take them.
//!
//! A folder's classes are matched with a model's by name, and a name that does not match is reported before
//! anything is decoded or learned.

use std::path::Path;

use anyhow::Result;
use cil_data::dataset::Dataset;
use cil_data::fit::Fit;
use cil_data::folder::{self, BrokenImages, Decode, Folder};
use cil_data::store::{Images, TestSet};

use crate::cli::failure::{bad_input, nearest};
use crate::render::progress::Progress;

/// The content of a folder, before its images are decoded.
///
/// # Errors
/// A sentence that names the folder.
pub fn scan(path: &Path) -> Result<Folder> {
    if !path.is_dir() {
        let problem = if path.exists() { "is no folder" } else { "is not there" };
        return Err(bad_input(format!(
            "{} {problem}; name a folder with a folder of images a class",
            path.display()
        )));
    }
    folder::scan(path).map_err(|error| bad_input(format!("{error:#}")))
}

/// A folder's images at a network's size; broken files are reported.
///
/// # Errors
/// Naming all broken files, if they are not left out.
pub fn decode(folder: &Folder, fit: Fit, skip_broken: bool, progress: &Progress) -> Result<Dataset> {
    let files = folder.train.len() + folder.test.len();
    let what = format!("reading {files} images of {}", folder.root.display());
    let by = Decode { fit, skip_broken };
    let decoded = progress
        .during(&what, || folder.decode(&by, &|_| {}))
        .map_err(|error| bad_input(in_one_line(&error)))?;
    if !decoded.broken.is_empty() {
        let names: Vec<String> = decoded.broken.iter().map(|it| it.path.display().to_string()).collect();
        progress.say(&format!("left out {} of {files} images: {}", names.len(), names.join(", ")));
    }
    Ok(decoded.dataset)
}

/// The error with all broken files in one line, as every complaint of this program is.
fn in_one_line(error: &anyhow::Error) -> String {
    let Some(BrokenImages { broken, files }) = error.downcast_ref() else { return format!("{error:#}") };
    let named: Vec<String> =
        broken.iter().map(|file| format!("{}: {}", file.path.display(), file.why)).collect();
    format!(
        "{} of {files} images cannot be read; repair or remove them, or leave them out with --skip-broken: {}",
        broken.len(),
        named.join("; ")
    )
}

/// The number of each of a folder's classes in the model.
///
/// # Errors
/// Naming the class that the model does not know, and the nearest that it does.
pub fn known(folder: &Folder, names: &[String]) -> Result<Vec<u16>> {
    let number = |class: &String| match names.iter().position(|name| name == class) {
        Some(number) => Ok(number as u16),
        None => {
            let meant = nearest(class, names.iter().map(String::as_str))
                .map_or(String::new(), |name| format!("; is {name:?} meant?"));
            Err(bad_input(format!(
                "{}: the model has no class {class:?}{meant} Its classes are {}",
                folder.root.display(),
                names.join(", ")
            )))
        }
    };
    folder.classes.iter().map(number).collect()
}

/// Images to evaluate on, with the model's class numbers: the folder's part for it, or all if it has none.
///
/// # Errors
/// If a class is not the model's, or an image is broken.
pub fn to_evaluate(
    path: &Path,
    names: &[String],
    fit: Fit,
    skip_broken: bool,
    progress: &Progress,
) -> Result<Images> {
    let mut folder = scan(path)?;
    let numbers = known(&folder, names)?;
    if folder.test.is_empty() {
        folder.test.clone_from(&folder.train);
    }
    // Decoded once: a folder needs a picture of each class to be a data set.
    folder.train = first_of_each(&folder);
    let dataset = decode(&folder, fit, skip_broken, progress)?;
    Ok(dataset.test().relabelled(&numbers)?)
}

fn first_of_each(folder: &Folder) -> Vec<folder::Filed> {
    let mut seen = None;
    let is_first = |filed: &&folder::Filed| seen.replace(filed.label) != Some(filed.label);
    folder.train.iter().filter(is_first).cloned().collect()
}

/// Images without labels, at a network's size.
///
/// # Errors
/// If there are more than can be counted.
pub fn unlabelled(fit: Fit, pixels: Vec<u8>, count: usize) -> Result<TestSet> {
    let images = Images::new(fit.side, fit.side, pixels, vec![0; count])?;
    Ok(TestSet::of(images, 1)?)
}
