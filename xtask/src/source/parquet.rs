//! Hub shards: PNG images and labels in parquet columns.
//!
//! Columns are found by name, never by position, and class names come from the hub's own metadata. An image is decoded
//! only after its header has given the expected size.

use std::fs::File;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use image::{ColorType, ImageDecoder, codecs::png::PngDecoder};

use super::file_name;
use crate::dataset::{CHANNELS, Collection, Samples, SourceFile, SourceRecord, Spec, Split};
use crate::digest::digest_file;

const BATCH_ROWS: usize = 256;
const IMAGE_COLUMN: &str = "img";

/// Reads the shards of both splits.
pub(super) fn read(spec: &Spec, train: &[PathBuf], test: &[PathBuf]) -> Result<Collection> {
    let mut files = Vec::new();
    let mut classes: Option<Vec<String>> = None;
    let mut read_split = |split: Split, shards: &[PathBuf]| -> Result<Samples> {
        let mut samples = Samples::of_side(spec.side);
        for path in shards {
            let digest = digest_file(path)?;
            files.push(SourceFile { name: file_name(path), bytes: digest.bytes, sha256: digest.sha256 });
            let names = read_shard(spec, split, path, &mut samples)
                .with_context(|| format!("in {}", path.display()))?;
            if classes.get_or_insert_with(|| names.clone()) != &names {
                bail!("{} names other classes than the shards before it", path.display());
            }
        }
        Ok(samples)
    };
    let (train, test) = (read_split(Split::Train, train)?, read_split(Split::Test, test)?);
    let source = SourceRecord { kind: "parquet".into(), files };
    Ok(Collection { classes: classes.unwrap_or_default(), train, test, source })
}

fn read_shard(spec: &Spec, split: Split, path: &Path, samples: &mut Samples) -> Result<Vec<String>> {
    // The parquet reader promises no freedom from panics on broken files.
    catch_unwind(AssertUnwindSafe(|| read_rows(spec, split, path, samples)))
        .unwrap_or_else(|_| Err(anyhow!("the parquet reader gave up: the file is broken")))
}

fn read_rows(spec: &Spec, split: Split, path: &Path, samples: &mut Samples) -> Result<Vec<String>> {
    let file = File::open(path).context("cannot open")?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).context("not a parquet file")?;
    let metadata = builder.metadata().file_metadata();
    let rows = usize::try_from(metadata.num_rows()).context("negative number of rows")?;
    ensure!(
        samples.len() + rows <= spec.count(split),
        "{} rows make more than the {} {} images of {}",
        rows,
        spec.count(split),
        split.name(),
        spec.name
    );
    let hub = metadata
        .key_value_metadata()
        .and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface"))
        .and_then(|pair| pair.value.as_deref())
        .context("the schema has no \"huggingface\" metadata")?;
    let classes = class_names(hub, &spec.hub_label)?;
    let mask = ProjectionMask::columns(
        metadata.schema_descr(),
        [&format!("{IMAGE_COLUMN}.bytes"), spec.hub_label.as_str()].into_iter().map(|name| name as &str),
    );
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().context("cannot read")?;
    for batch in reader {
        read_batch(&batch.context("cannot read")?, spec, samples)?;
    }
    Ok(classes)
}

fn read_batch(batch: &RecordBatch, spec: &Spec, samples: &mut Samples) -> Result<()> {
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("no column {name:?}"));
    let images = column(IMAGE_COLUMN)?
        .as_struct_opt()
        .and_then(|image| image.column_by_name("bytes"))
        .and_then(|bytes| bytes.as_binary_opt::<i32>())
        .with_context(|| format!("column {IMAGE_COLUMN:?} has no byte strings in \"bytes\""))?;
    let labels = column(&spec.hub_label)?
        .as_primitive_opt::<Int64Type>()
        .with_context(|| format!("column {:?} is not of 64-bit integers", spec.hub_label))?;
    for row in 0..batch.num_rows() {
        ensure!(!images.is_null(row) && !labels.is_null(row), "image {} is missing", samples.len());
        let label = labels.value(row);
        let label =
            u16::try_from(label).with_context(|| format!("image {} has label {label}", samples.len()))?;
        let pixels = decode(images.value(row), spec).with_context(|| format!("image {}", samples.len()))?;
        samples.push(label, &pixels)?;
    }
    Ok(())
}

/// Decodes a PNG of the one right size to `[channel][row][column]`.
fn decode(bytes: &[u8], spec: &Spec) -> Result<Vec<u8>> {
    let side = spec.side;
    let decoder = PngDecoder::new(Cursor::new(bytes)).context("is not a PNG")?;
    let (size, color) = (decoder.dimensions(), decoder.color_type());
    if size != (side as u32, side as u32) || color != ColorType::Rgb8 {
        bail!("is {}x{} {color:?}, not {side}x{side} Rgb8", size.0, size.1);
    }
    let mut interleaved = vec![0; spec.image_bytes()];
    decoder.read_image(&mut interleaved).context("is a broken PNG")?;
    let mut planes = vec![0; spec.image_bytes()];
    for (index, pixel) in interleaved.chunks_exact(CHANNELS).enumerate() {
        for (channel, &value) in pixel.iter().enumerate() {
            planes[channel * side * side + index] = value;
        }
    }
    Ok(planes)
}

/// `info.features.<column>.names` of the hub's metadata.
fn class_names(metadata: &str, column: &str) -> Result<Vec<String>> {
    let value: serde_json::Value =
        serde_json::from_str(metadata).context("the \"huggingface\" metadata is not JSON")?;
    let names = value
        .pointer(&format!("/info/features/{column}/names"))
        .with_context(|| format!("the \"huggingface\" metadata names no classes for {column:?}"))?;
    serde_json::from_value(names.clone())
        .with_context(|| format!("the class names of {column:?} are not strings"))
}
