//! Parquet shards as the hub lays them out.

use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray};
use image::{ImageFormat, RgbImage};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use xtask::dataset::{Spec, Split};

use super::{CLASSES, images};

/// Writes two shards of training images and one of test images into `folder`.
pub(crate) fn write(spec: &Spec, folder: &Path) {
    let train = images(spec, Split::Train, 2);
    let (first, second) = train.split_at(train.len() / 2);
    write_shard(&folder.join("train-00000-of-00002.parquet"), first, true);
    write_shard(&folder.join("train-00001-of-00002.parquet"), second, true);
    write_shard(&folder.join("test-00000-of-00001.parquet"), &images(spec, Split::Test, 2), true);
}

/// Writes one shard; `metadata` says whether the hub's own metadata is there.
pub(crate) fn write_shard(path: &Path, images: &[(u8, u8, Vec<u8>)], metadata: bool) {
    let encoded: Vec<Vec<u8>> = images.iter().map(|image| png(&image.2)).collect();
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(&encoded));
    let paths: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; images.len()]));
    let image: ArrayRef = Arc::new(StructArray::try_from(vec![("bytes", bytes), ("path", paths)]).unwrap());
    let column = |label: fn(&(u8, u8, Vec<u8>)) -> u8| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(images.iter().map(|image| i64::from(label(image)))))
    };
    // Not in the hub's order: columns are found by name.
    let columns =
        [("coarse_label", column(|image| image.0)), ("img", image), ("fine_label", column(|image| image.1))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let names = serde_json::to_string(&CLASSES).unwrap();
    let hub = format!(
        r#"{{"info": {{"features": {{"fine_label": {{"names": {names}, "_type": "ClassLabel"}}}}}}}}"#
    );
    let pairs = metadata.then(|| vec![KeyValue::new("huggingface".to_owned(), hub)]);
    let properties = WriterProperties::builder().set_key_value_metadata(pairs).build();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn png(planes: &[u8]) -> Vec<u8> {
    let area = planes.len() / 3;
    let side = area.isqrt() as u32;
    let interleaved = (0..area).flat_map(|index| [0, 1, 2].map(|channel| planes[channel * area + index]));
    let image = RgbImage::from_raw(side, side, interleaved.collect()).unwrap();
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}
