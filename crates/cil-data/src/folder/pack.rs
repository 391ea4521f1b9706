//! A folder's pictures, decoded once: the cache beside the data sets.
//!
//! The pack holds each whole picture, its shorter side resized to the rule's length, so that training can crop any part
//! of it, as published training at 224 pixels does; evaluation crops the centre. The pack's key covers every file's
//! path, size and time of change, the rule, and the version of this code; a pack with another key is written again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{Broken, BrokenImages, Decode, Decoded, Filed, Folder};
use crate::dataset::{Dataset, Digests, hex};
use crate::fit::{Fit, resized};
use crate::packed::{Packed, Packing};
use crate::picture::{self, Picture};
use crate::store::Images;

/// Version of what is kept; another one makes every cache again.
const VERSION: &str = "pictures 1";
/// Files that are decoded at a time: with the shorter side at 256 they take some 100 MB.
const AT_A_TIME: usize = 256;

impl Folder {
    /// The data set of this folder, whose pictures lie in a file below `cache` and are read as they are needed; the
    /// file is made now if it is not there or was made of something else. See [`Folder::decode`] for the rest.
    ///
    /// # Errors
    /// As [`Folder::decode`], or if the file cannot be written.
    pub fn packed(&self, by: &Decode, cache: &Path, done: &(dyn Fn(usize) + Sync)) -> Result<Decoded> {
        by.fit.check()?;
        fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
        let counted = AtomicUsize::new(0);
        let finished = || done(counted.fetch_add(1, Ordering::Relaxed) + 1);
        let place = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        let where_from = hex(&Sha256::digest(format!("{} {:?}", place.display(), by.fit)));
        let name = |part: &str| cache.join(format!("{}-{}-{part}.pack", self.name(), &where_from[..12]));
        let train = self.part(&self.train, by, &name("train"), &finished)?;
        let test = self.part(&self.test, by, &name("test"), &finished)?;
        let mut broken = Vec::new();
        for packed in [&train, &test] {
            let files = packed.index().broken.iter();
            broken.extend(files.map(|(path, why)| Broken { path: path.clone(), why: why.clone() }));
        }
        if !broken.is_empty() && !by.skip_broken {
            return Err(BrokenImages { broken, files: self.train.len() + self.test.len() }.into());
        }
        let digests = Digests { train: train.index().digest.clone(), test: test.index().digest.clone() };
        let images = |packed: Packed| Images::packed(by.fit, Arc::new(packed));
        let (train, test) = (images(train), images(test));
        self.check_left(&train)?;
        let dataset = Dataset::of_parts(&self.name(), self.classes.clone(), train, test, digests);
        Ok(Decoded { dataset, broken })
    }

    fn part(
        &self,
        files: &[Filed],
        by: &Decode,
        path: &Path,
        finished: &(dyn Fn() + Sync),
    ) -> Result<Packed> {
        let key = key(files, &by.fit);
        if let Some(packed) = Packed::open(path, &key) {
            return Ok(packed);
        }
        let mut packing = Packing::begin(path, &key)?;
        match fill(&mut packing, files, &by.fit, finished) {
            Ok(()) => packing.end(),
            Err(error) => {
                packing.give_up();
                Err(error)
            }
        }
    }
}

/// Decodes the files in their order, some at a time.
fn fill(packing: &mut Packing, files: &[Filed], fit: &Fit, finished: &(dyn Fn() + Sync)) -> Result<()> {
    for files in files.chunks(AT_A_TIME) {
        let decoded: Vec<Result<Picture>> = files
            .par_iter()
            .with_max_len(1)
            .map(|file| {
                let picture = picture::read_unnamed(&file.path).and_then(|picture| shrunk(&picture, fit));
                finished();
                picture
            })
            .collect();
        for (file, picture) in files.iter().zip(decoded) {
            match picture {
                Ok(picture) => packing.push(file.label as u16, &picture)?,
                Err(error) => packing.left_out(file.path.clone(), format!("{error:#}")),
            }
        }
    }
    Ok(())
}

/// The whole picture with its shorter side at the rule's length. Of one that is longer than eight times its width the
/// middle is kept, so that no picture takes out of proportion.
fn shrunk(picture: &Picture, fit: &Fit) -> Result<Picture> {
    let (height, width) = (picture.height, picture.width);
    let short = height.min(width);
    let kept = |length: usize| length.min(8 * short);
    let (down, across) = (kept(height), kept(width));
    let to = |length: usize| fit.shorter * length / short;
    let part = [((width - across) / 2) as f64, ((height - down) / 2) as f64, across as f64, down as f64];
    let to = (to(down), to(across));
    let pixels = resized(picture, part, to)?;
    Ok(Picture { height: to.0, width: to.1, pixels })
}

/// The key of a cache.
fn key(files: &[Filed], fit: &Fit) -> String {
    let mut digest = Sha256::new();
    digest.update(format!("{VERSION} {fit:?} {}", files.len()));
    for file in files {
        let (bytes, seconds, nanoseconds) = fs::metadata(&file.path)
            .map_or((0, 0, 0), |metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
        let path = file.path.as_os_str().as_encoded_bytes();
        digest.update((path.len() as u64).to_le_bytes());
        digest.update(path);
        digest.update((file.label as u64).to_le_bytes());
        digest.update(bytes.to_le_bytes());
        digest.update(seconds.to_le_bytes());
        digest.update(nanoseconds.to_le_bytes());
    }
    hex(&digest.finalize())
}
