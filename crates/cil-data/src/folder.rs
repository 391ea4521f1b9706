//! A folder of pictures, a folder a class, as people have them.
//!
//! The folders directly below are the classes, in the order of their names, and every picture at any depth below one is
//! of that class (torchvision's `ImageFolder`). Where there is a folder `train`, the classes are below it, and those
//! below `test`, `val`, `valid` or `validation` are what is evaluated on. A `train` without folders
//! below it, beside others, is the class of that name (CIFAR-100 has one).

mod decode;
mod pack;
mod scan;
mod subset;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use cil_random::Draw;

pub use decode::{Broken, BrokenImages, Decode, Decoded, decode_file};
pub use scan::pictures;
pub use subset::Subset;

/// A picture's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// Where it is.
    pub path: PathBuf,
    /// Its class, as position in [`Folder::classes`].
    pub label: usize,
}

/// The content of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The folder.
    pub root: PathBuf,
    /// Names of the classes, sorted by their bytes (the order of Unicode's code points).
    pub classes: Vec<String>,
    /// Pictures to train on, class after class, sorted by path.
    pub train: Vec<Filed>,
    /// Pictures to evaluate on, likewise; none where the folder has no such part.
    pub test: Vec<Filed>,
    /// Files that are no pictures and were passed over.
    pub passed_over: usize,
}

/// Names of the folder that is evaluated on, the first that has classes of the training part.
const EVALUATED: [&str; 4] = ["test", "val", "valid", "validation"];

/// Looks through a folder; no picture is decoded.
///
/// Names that begin with a dot, and `__MACOSX`, are passed over, as are files that are no pictures by name or content.
///
/// # Errors
/// If the folder cannot be read, has no folder of a class, has a class without a picture or with a name that is not
/// Unicode, or its part to evaluate on has a class that the training part lacks.
pub fn scan(root: &Path) -> Result<Folder> {
    let mut passed_over = 0;
    let below = scan::folders(root)?;
    let has_others = below.iter().any(|(name, _)| name != "train" && !EVALUATED.contains(&name.as_str()));
    let mut part = None;
    if let Some((_, path)) = below.iter().find(|(name, _)| name == "train") {
        let classes = scan::folders(path)?;
        part = (!classes.is_empty() || !has_others).then_some((path, classes));
    }
    let Some((train, classes)) = part else {
        let found = scan::classes(root, &below, &mut passed_over)?;
        return Folder::found(root, found, BTreeMap::new(), passed_over);
    };
    let found = scan::classes(train, &classes, &mut passed_over)?;
    let mut wrong = None;
    for name in EVALUATED {
        let Some((_, part)) = below.iter().find(|(found, _)| found == name) else { continue };
        let folders = scan::folders(part)?;
        match folders.iter().find(|(name, _)| !found.contains_key(name)) {
            Some((class, _)) => wrong = wrong.or_else(|| Some((part.clone(), class.clone()))),
            None if folders.is_empty() => {}
            None => {
                let evaluated = scan::classes(part, &folders, &mut passed_over)?;
                return Folder::found(root, found, evaluated, passed_over);
            }
        }
    }
    if let Some((part, class)) = wrong {
        bail!(
            "{} has a folder {class:?}, which {} lacks; name its folders as the classes there, or move it away",
            part.display(),
            train.display()
        );
    }
    Folder::found(root, found, BTreeMap::new(), passed_over)
}

impl Folder {
    fn found(
        root: &Path,
        train: BTreeMap<String, Vec<PathBuf>>,
        test: BTreeMap<String, Vec<PathBuf>>,
        passed_over: usize,
    ) -> Result<Self> {
        let classes: Vec<String> = train.keys().cloned().collect();
        if classes.len() > usize::from(u16::MAX) {
            bail!("{} has {} folders of classes; use at most 65535", root.display(), classes.len());
        }
        let label = |class: &str| classes.partition_point(|name| name.as_str() < class);
        let filed = |part: BTreeMap<String, Vec<PathBuf>>| -> Vec<Filed> {
            let of = |(class, paths): (String, Vec<PathBuf>)| {
                let label = label(&class);
                paths.into_iter().map(move |path| Filed { path, label })
            };
            part.into_iter().flat_map(of).collect()
        };
        let (train, test) = (filed(train), filed(test));
        if u32::try_from(train.len().max(test.len())).is_err() {
            bail!("{} has more than {} pictures", root.display(), u32::MAX);
        }
        Ok(Self { root: root.to_owned(), train, test, classes, passed_over })
    }

    /// The data set's name: the folder's.
    pub fn name(&self) -> String {
        let last = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        last.file_name().map_or_else(|| "folder".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Moves a share of every class's training pictures to those that are evaluated on: at least one of a class that
    /// has two. Which ones depends on their number alone, so that they are the same in every run.
    #[must_use]
    pub fn held_out(mut self, share: f64) -> Self {
        let mut kept = Vec::with_capacity(self.train.len());
        for label in 0..self.classes.len() {
            let start = self.train.partition_point(|filed| filed.label < label);
            let end = self.train.partition_point(|filed| filed.label <= label);
            let count = end - start;
            let wanted = (count as f64 * share.clamp(0.0, 1.0)).round() as usize;
            let most = count.saturating_sub(1);
            let taken = if share > 0.0 { wanted.clamp(1.min(most), most) } else { 0 };
            let mut places: Vec<usize> = (start..end).collect();
            let draw = Draw { position: label as u64, ..Draw::new(0, "held out") };
            draw.stream("files").shuffle(&mut places);
            let (test, train) = places.split_at_mut(taken);
            test.sort_unstable();
            train.sort_unstable();
            self.test.extend(test.iter().map(|at| self.train[*at].clone()));
            kept.extend(train.iter().map(|at| self.train[*at].clone()));
        }
        self.test.sort_by(|a, b| (a.label, &a.path).cmp(&(b.label, &b.path)));
        self.train = kept;
        self
    }
}
