//! Which files of a folder are pictures.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::picture;

/// Endings of picture files. A file of such a name that cannot be decoded is a broken picture, whatever it is.
const NAMED: [&str; 18] = [
    "jpg", "jpeg", "jpe", "jfif", "jpx", "jp2", "png", "apng", "webp", "bmp", "dib", "gif", "tif", "tiff",
    "heic", "heif", "avif", "ppm",
];

/// The pictures at any depth below a folder, or the file itself, sorted by path.
///
/// # Errors
/// If the path or a folder below it cannot be read.
pub fn pictures(path: &Path) -> Result<Vec<PathBuf>> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    gather(path, &mut HashSet::new(), &mut found, &mut 0)?;
    found.sort();
    Ok(found)
}

/// The folders directly below one, by name.
pub(super) fn folders(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for path in below(root)? {
        if !fs::metadata(&path).is_ok_and(|it| it.is_dir()) {
            continue;
        }
        match path.file_name().map(|name| name.to_str()) {
            Some(Some(name)) => found.push((name.to_owned(), path)),
            _ => bail!("{} has a name that is not Unicode; rename the folder", path.display()),
        }
    }
    Ok(found)
}

/// The pictures of each class; `passed_over` counts other files.
pub(super) fn classes(
    root: &Path,
    folders: &[(String, PathBuf)],
    passed_over: &mut usize,
) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    if folders.is_empty() {
        bail!(
            "{} has no folder of a class; put the pictures of each class into a folder of its own, named as the class",
            root.display()
        );
    }
    let (mut found, mut empty) = (BTreeMap::new(), Vec::new());
    for (class, folder) in folders {
        let mut pictures = Vec::new();
        gather(folder, &mut HashSet::new(), &mut pictures, passed_over)?;
        pictures.sort();
        if pictures.is_empty() {
            empty.push(class.as_str());
        }
        found.insert(class.clone(), pictures);
    }
    match empty.as_slice() {
        [] => Ok(found),
        names => bail!(
            "{}: the folder{} {} hold{} no picture; move {} away",
            root.display(),
            if names.len() == 1 { "" } else { "s" },
            names.join(", "),
            if names.len() == 1 { "s" } else { "" },
            if names.len() == 1 { "it" } else { "them" }
        ),
    }
}

/// Pictures at any depth. A folder that was seen before, through a link, is not looked through again.
fn gather(
    folder: &Path,
    seen: &mut HashSet<(u64, u64)>,
    pictures: &mut Vec<PathBuf>,
    others: &mut usize,
) -> Result<()> {
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let metadata = fs::metadata(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        if !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        for path in below(&folder)? {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => waiting.push(path),
                Ok(metadata) if metadata.is_file() && (is_named(&path) || is_one(&path)) => {
                    pictures.push(path)
                }
                // A link to nothing is a broken picture if it is named as one.
                Err(_) if is_named(&path) => pictures.push(path),
                _ => *others += 1,
            }
        }
    }
    Ok(())
}

/// The entries of a folder without hidden names, in the order of names.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let place = || format!("cannot read the folder {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(place)? {
        let entry = entry.with_context(place)?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(b".") && name != "__MACOSX" {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn is_named(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_lowercase);
    extension.is_some_and(|extension| NAMED.contains(&extension.as_str()))
}

/// Whether a file of another name begins as a picture does.
fn is_one(path: &Path) -> bool {
    let mut first = Vec::new();
    File::open(path).and_then(|file| file.take(32).read_to_end(&mut first)).is_ok()
        && picture::looks_like_one(&first)
}
