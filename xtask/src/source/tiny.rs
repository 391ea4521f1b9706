//! Tiny-ImageNet as it was published: a zip of JPEG files, or the folder that it unpacks to.
//!
//! Labels are the sorted WordNet numbers of the classes that are there, so that a part of the classes is a data set as
//! well; members are decoded as they come, in memory, and nothing is written to a path that the archive names. The
//! images of `test` have no labels and are passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::Crc;
use flate2::read::DeflateDecoder;
use image::ImageFormat;
use zip::CompressionMethod;

use super::file_name;
use crate::dataset::{CHANNELS, Collection, Samples, SourceFile, SourceRecord, Spec};
use crate::digest::digest_file;

/// The archive's name.
pub(crate) const ARCHIVE: &str = "tiny-imagenet-200.zip";
/// Where it was published.
pub(crate) const URL: &str = "http://cs231n.stanford.edu/";

/// The folder in the archive.
const FOLDER: &str = "tiny-imagenet-200";
const ANNOTATIONS: &str = "val/val_annotations.txt";
const WORDS: &str = "words.txt";
/// Bytes of a member, at most.
const MOST_BYTES: u64 = 1 << 24;

/// Reads the archive, the folder that it unpacks to, or a folder that holds one of the two.
pub(crate) fn read(spec: &Spec, path: &Path) -> Result<Collection> {
    let inside = [path.join(ARCHIVE), path.join(FOLDER)].into_iter().find(|it| it.exists());
    let path = inside.unwrap_or_else(|| path.to_owned());
    let metadata = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (members, files) = match metadata.is_dir() {
        true => (Members::folder(&path)?, Vec::new()),
        false => {
            let digest = digest_file(&path)?;
            let file = SourceFile { name: file_name(&path), bytes: digest.bytes, sha256: digest.sha256 };
            (Members::zip(&path)?, vec![file])
        }
    };
    collected(spec, members, files).with_context(|| format!("in {}", path.display()))
}

/// Files by their name below the archive's folder.
enum Members {
    Folder(BTreeMap<String, PathBuf>),
    Zip(BTreeMap<String, usize>, Box<zip::ZipArchive<BufReader<File>>>),
}

impl Members {
    fn zip(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let archive = zip::ZipArchive::new(BufReader::new(file))
            .with_context(|| format!("{} is not a zip; name {ARCHIVE} or its folder", path.display()))?;
        let names =
            (0..archive.len()).filter_map(|at| Some((below(&archive.name_for_index(at)?.ok()?)?, at)));
        Ok(Self::Zip(names.collect(), Box::new(archive)))
    }

    fn folder(path: &Path) -> Result<Self> {
        let (mut found, mut waiting) = (BTreeMap::new(), vec![(String::new(), path.to_owned())]);
        while let Some((name, folder)) = waiting.pop() {
            let place = || format!("cannot read the folder {}", folder.display());
            for entry in fs::read_dir(&folder).with_context(place)? {
                let entry = entry.with_context(place)?;
                let inner = match name.as_str() {
                    "" => entry.file_name().to_string_lossy().into_owned(),
                    name => format!("{name}/{}", entry.file_name().to_string_lossy()),
                };
                // Links are not followed, so there is an end.
                match entry.file_type().with_context(place)?.is_dir() {
                    true => waiting.push((inner, entry.path())),
                    false => drop(found.insert(inner, entry.path())),
                }
            }
        }
        Ok(Self::Folder(found))
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Folder(found) => found.keys().cloned().collect(),
            Self::Zip(found, _) => found.keys().cloned().collect(),
        }
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let missing = || format!("{name} is missing");
        match self {
            Self::Folder(found) => {
                let path = found.get(name).with_context(missing)?;
                File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
            }
            Self::Zip(found, archive) => {
                let at = found.get(name).with_context(missing)?;
                // The raw bytes, since `zip` inflates only with features that would compile candle a second time.
                let member = archive.by_index_raw(*at).with_context(|| name.to_owned())?;
                let (method, right) = (member.compression(), member.crc32());
                let read = match method {
                    CompressionMethod::STORE => member.take(MOST_BYTES + 1).read_to_end(&mut bytes),
                    CompressionMethod::DEFLATE => {
                        DeflateDecoder::new(member).take(MOST_BYTES + 1).read_to_end(&mut bytes)
                    }
                    other => bail!("{name} is compressed by {other:?}; Deflate and Store are read"),
                };
                let mut checksum = Crc::new();
                checksum.update(&bytes);
                ensure!(read.is_err() || checksum.sum() == right, "{name} is damaged: its checksum differs");
                read
            }
        }
        .with_context(|| format!("cannot read {name}"))?;
        ensure!(
            bytes.len() as u64 <= MOST_BYTES,
            "{name} has more than {MOST_BYTES} bytes, the largest size that is read"
        );
        Ok(bytes)
    }

    fn text(&mut self, name: &str) -> Result<String> {
        String::from_utf8(self.bytes(name)?).with_context(|| format!("{name} is not UTF-8"))
    }
}

/// A member's name below the archive's folder.
fn below(member: &str) -> Option<String> {
    let name = member.trim_start_matches("./").strip_prefix(FOLDER)?.strip_prefix('/')?;
    (!name.is_empty() && !name.ends_with('/')).then(|| name.to_owned())
}

/// The class of `train/<wnid>/images/<file>.JPEG`.
fn class_of(name: &str) -> Option<&str> {
    let (class, file) = name.strip_prefix("train/")?.split_once("/images/")?;
    (file.ends_with(".JPEG") && !class.contains('/')).then_some(class)
}

fn collected(spec: &Spec, mut members: Members, files: Vec<SourceFile>) -> Result<Collection> {
    let names = members.names();
    let classes: Vec<String> = names
        .iter()
        .filter_map(|name| class_of(name))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(str::to_owned)
        .collect();
    if classes.is_empty() {
        bail!("there is no train/<class>/images/*.JPEG; name {ARCHIVE} or its folder");
    }
    let label = |class: &str| classes.binary_search_by(|it| it.as_str().cmp(class)).ok();
    let (mut train, mut test) = (Samples::of_side(spec.side), Samples::of_side(spec.side));
    for name in &names {
        if let Some(label) = class_of(name).and_then(label) {
            push(&mut train, label, name, &mut members, spec.side)?;
        }
    }
    let mut annotated = BTreeMap::new();
    for line in members.text(ANNOTATIONS)?.lines() {
        let (file, rest) = line.split_once('\t').unwrap_or((line, ""));
        annotated
            .insert(format!("val/images/{file}"), rest.split('\t').next().unwrap_or_default().to_owned());
    }
    for name in names.iter().filter(|name| name.starts_with("val/images/") && name.ends_with(".JPEG")) {
        let class = annotated.get(name).with_context(|| format!("{ANNOTATIONS} says nothing of {name}"))?;
        if let Some(label) = label(class) {
            push(&mut test, label, name, &mut members, spec.side)?;
        }
    }
    let classes = named(&classes, &members.text(WORDS)?);
    let source = SourceRecord { kind: "tiny-imagenet".into(), files };
    Ok(Collection { classes, train, test, source })
}

/// Each class's first word; where two have the same, its number too.
fn named(classes: &[String], words: &str) -> Vec<String> {
    let words: BTreeMap<&str, &str> = words
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(number, words)| (number, words.split(',').next().unwrap_or(words).trim()))
        .collect();
    let word = |class: &str| words.get(class).copied().unwrap_or(class).to_owned();
    let all: Vec<String> = classes.iter().map(|class| word(class)).collect();
    let name = |(class, word): (&String, &String)| match all.iter().filter(|other| *other == word).count() {
        1 => word.clone(),
        _ => format!("{word} ({class})"),
    };
    classes.iter().zip(&all).map(name).collect()
}

fn push(samples: &mut Samples, label: usize, name: &str, members: &mut Members, side: usize) -> Result<()> {
    let bytes = members.bytes(name)?;
    let image = image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg)
        .with_context(|| format!("{name} is a broken JPEG"))?;
    let size = (image.width() as usize, image.height() as usize);
    ensure!(size == (side, side), "{name} is {}x{}, not {side}x{side}", size.0, size.1);
    // Some of them are grey.
    let interleaved = image.into_rgb8().into_raw();
    let mut planes = vec![0; interleaved.len()];
    for (index, pixel) in interleaved.chunks_exact(CHANNELS).enumerate() {
        for (channel, value) in pixel.iter().enumerate() {
            planes[channel * side * side + index] = *value;
        }
    }
    samples.push(label as u16, &planes)
}
