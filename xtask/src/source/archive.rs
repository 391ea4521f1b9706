//! Official archives: a gzipped tar of records or pickles.
//!
//! The published digest is checked before anything is unpacked, and members are parsed as they come, in memory; nothing
//! of an archive is ever written to a path that the archive names.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;

use super::{binary, file_name, python};
use crate::dataset::{Archive, Collection, Form, Samples, SourceFile, SourceRecord, Spec, Split};
use crate::digest::digest_file;

const MAX_NAMES_BYTES: usize = 1 << 16;
/// The most bytes of a pickle per image besides the pixels: labels, file name, and the opcodes around them.
const PICKLE_OVERHEAD: usize = 256;

/// Reads `archive` from `path`.
pub(crate) fn read(spec: &Spec, archive: &Archive, path: &Path) -> Result<Collection> {
    let digest = digest_file(path)?;
    if digest.md5 != archive.md5 {
        bail!(
            "{} ({} bytes) has the MD5 {}, the published one is {}",
            path.display(),
            digest.bytes,
            digest.md5,
            archive.md5
        );
    }
    let files = vec![SourceFile { name: file_name(path), bytes: digest.bytes, sha256: digest.sha256 }];
    let source = SourceRecord { kind: archive.form.name().into(), files };
    unpack(spec, archive, path, source).with_context(|| format!("in {}", path.display()))
}

fn unpack(spec: &Spec, archive: &Archive, path: &Path, source: SourceRecord) -> Result<Collection> {
    let mut tar = tar::Archive::new(GzDecoder::new(File::open(path).context("cannot open")?));
    let (mut train, mut test, mut classes) =
        (Samples::of_side(spec.side), Samples::of_side(spec.side), Vec::new());
    let mut missing = archive.train.clone();
    missing.extend([archive.test.clone(), archive.names.clone()]);
    for entry in tar.entries().context("not a gzipped tar")? {
        let mut entry = entry.context("the tar is broken")?;
        let member = match entry.path() {
            Ok(path) => path.to_string_lossy().into_owned(),
            Err(_) => continue,
        };
        let member = member.trim_start_matches("./");
        let Some(name) = member.strip_prefix(&archive.folder).and_then(|rest| rest.strip_prefix('/')) else {
            continue;
        };
        let Some(position) = missing.iter().position(|wanted| wanted == name) else { continue };
        let name = missing.swap_remove(position);
        if name == archive.names {
            let bytes = read_member(&mut entry, MAX_NAMES_BYTES).with_context(|| member.to_owned())?;
            classes = match archive.form {
                Form::Binary => binary::class_names(&bytes),
                Form::Python => python::class_names(spec, &bytes),
            }
            .with_context(|| member.to_owned())?;
            continue;
        }
        let (split, samples) =
            if name == archive.test { (Split::Test, &mut test) } else { (Split::Train, &mut train) };
        let limit = largest_member(spec, archive.form, split);
        read_member(&mut entry, limit)
            .and_then(|bytes| match archive.form {
                Form::Binary => binary::read(spec, &bytes, samples),
                Form::Python => python::read(spec, &bytes, samples),
            })
            .with_context(|| member.to_owned())?;
    }
    if let Some(name) = missing.first() {
        bail!("the member {}/{name} is missing", archive.folder);
    }
    Ok(Collection { classes, train, test, source })
}

fn largest_member(spec: &Spec, form: Form, split: Split) -> usize {
    match form {
        Form::Binary => spec.count(split) * spec.record_bytes(),
        Form::Python => spec.count(split) * (spec.image_bytes() + PICKLE_OVERHEAD) + (1 << 16),
    }
}

/// Reads to the member's end; the buffer grows only as bytes arrive.
fn read_member(member: &mut impl Read, limit: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    member.take(limit as u64 + 1).read_to_end(&mut bytes).context("cannot unpack")?;
    ensure!(bytes.len() <= limit, "has more than {limit} bytes, the largest size that is read");
    Ok(bytes)
}
