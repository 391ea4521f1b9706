//! The binary form: fixed-length records of labels and pixels.
//!
//! The pixels are stored as we keep them (`[channel][row][column]`), so they are copied as they are. Counts are not
//! judged here; see `Collection::check`.

use anyhow::{Context, Result, bail};

use crate::dataset::{Samples, Spec};

/// Appends the records of one member.
pub(super) fn read(spec: &Spec, bytes: &[u8], samples: &mut Samples) -> Result<()> {
    let record = spec.record_bytes();
    if !bytes.len().is_multiple_of(record) {
        bail!("{} bytes are not a multiple of {record}, the length of a record", bytes.len());
    }
    for record in bytes.chunks_exact(record) {
        let (labels, pixels) = record.split_at(record.len() - spec.image_bytes());
        // The fine label is the last one before the pixels.
        let label = labels.last().copied().unwrap_or_default();
        samples.push(u16::from(label), pixels)?;
    }
    Ok(())
}

/// One class name per line.
pub(super) fn class_names(bytes: &[u8]) -> Result<Vec<String>> {
    let text = std::str::from_utf8(bytes).context("class names are not UTF-8")?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fine_label_is_the_second_byte_of_cifar100() {
        let spec = Spec::named("cifar100").unwrap();
        let pixels = vec![7u8; spec.image_bytes()];
        let record = [vec![9, 42], pixels.clone()].concat();
        let mut samples = Samples::of_side(spec.side);
        read(&spec, &record, &mut samples).unwrap();
        assert_eq!(samples.get(0), (42, pixels.as_slice()));
        let message = read(&spec, &record[1..], &mut samples).unwrap_err().to_string();
        assert_eq!(message, "3073 bytes are not a multiple of 3074, the length of a record");
    }
}
