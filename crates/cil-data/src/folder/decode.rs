//! From a folder's files to a data set in memory.
//!
//! Every file is tried, so that all broken ones are named at once; an image's place is that of its file in the sorted
//! list, so the data set is the same for any number of threads.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use super::{Filed, Folder};
use crate::dataset::Dataset;
use crate::fit::Fit;
use crate::picture;
use crate::store::Images;

/// How a folder is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decode {
    /// How each picture is resized and cropped.
    pub fit: Fit,
    /// Whether broken files are left out; else one refuses them all.
    pub skip_broken: bool,
}

/// A decoded folder.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Its classes and images. Without a part to evaluate on there is no test image.
    pub dataset: Dataset,
    /// Files that were left out.
    pub broken: Vec<Broken>,
}

/// A file that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// The error of a folder with broken files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenImages {
    /// All of them.
    pub broken: Vec<Broken>,
    /// How many files were tried.
    pub files: usize,
}

impl Display for BrokenImages {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { broken, files } = self;
        write!(
            formatter,
            "{} of {files} images cannot be read; repair or remove them, or leave them out with --skip-broken",
            broken.len()
        )?;
        broken.iter().try_for_each(|file| write!(formatter, "; {}: {}", file.path.display(), file.why))
    }
}

impl std::error::Error for BrokenImages {}

/// One file as a network of that size takes it: `[3][side][side]`.
///
/// # Errors
/// As [`picture::read`].
pub fn decode_file(path: &Path, fit: &Fit) -> Result<Vec<u8>> {
    let mut out = vec![0; fit.bytes()];
    fit.apply(&picture::read(path)?, &mut out).with_context(|| path.display().to_string())?;
    Ok(out)
}

impl Folder {
    /// Decodes all files, in parallel; `done` receives the number of finished files, now and then, from any thread.
    ///
    /// In memory are the images at the network's size, and at a time no more decoded pictures than
    /// [`picture`] allows.
    ///
    /// # Errors
    /// [`BrokenImages`] if there are any and they are not left out; a sentence if the rule is wrong or a class has no
    /// image left.
    pub fn decode(&self, by: &Decode, done: &(dyn Fn(usize) + Sync)) -> Result<Decoded> {
        by.fit.check()?;
        let counted = AtomicUsize::new(0);
        let finished = || done(counted.fetch_add(1, Ordering::Relaxed) + 1);
        let (train, mut broken) = part(&self.train, &by.fit, &finished)?;
        let (test, broken_test) = part(&self.test, &by.fit, &finished)?;
        broken.extend(broken_test);
        if !broken.is_empty() && !by.skip_broken {
            return Err(BrokenImages { broken, files: self.train.len() + self.test.len() }.into());
        }
        self.check_left(&train)?;
        let dataset = Dataset::of_images(&self.name(), self.classes.clone(), train, test)?;
        Ok(Decoded { dataset, broken })
    }

    /// Refuses a class without a training image.
    pub(super) fn check_left(&self, train: &Images) -> Result<()> {
        let mut left = vec![false; self.classes.len()];
        (0..train.len()).for_each(|at| left[train.label(at)] = true);
        if let Some(class) = left.iter().position(|left| !left) {
            let (root, class) = (self.root.display(), &self.classes[class]);
            bail!("{root}: the class {class} has no image left; all its files are broken");
        }
        Ok(())
    }
}

/// The images of some files, and those that are broken.
fn part(files: &[Filed], fit: &Fit, finished: &(dyn Fn() + Sync)) -> Result<(Images, Vec<Broken>)> {
    let bytes = fit.bytes();
    let mut pixels = Vec::new();
    pixels
        .try_reserve_exact(files.len() * bytes)
        .with_context(|| format!("{} images of {bytes} bytes do not fit into memory", files.len()))?;
    pixels.resize(files.len() * bytes, 0);
    let tried: Vec<Option<Broken>> = pixels
        .par_chunks_exact_mut(bytes)
        .zip(files)
        .with_max_len(1)
        .map(|(out, file)| {
            let made = picture::read_unnamed(&file.path).and_then(|picture| fit.apply(&picture, out));
            finished();
            made.err().map(|error| Broken { path: file.path.clone(), why: format!("{error:#}") })
        })
        .collect();
    let (mut labels, mut kept) = (Vec::with_capacity(files.len()), 0);
    for (at, file) in files.iter().enumerate() {
        if tried[at].is_none() {
            pixels.copy_within(at * bytes..(at + 1) * bytes, kept * bytes);
            labels.push(file.label as u16);
            kept += 1;
        }
    }
    pixels.truncate(kept * bytes);
    let images = Images::new(fit.side, fit.side, pixels, labels)?;
    Ok((images, tried.into_iter().flatten().collect()))
}
