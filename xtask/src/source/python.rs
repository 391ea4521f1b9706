//! The Python form: pickled dictionaries with lists of labels and one numpy array of pixels.
//!
//! The array is recognised by its shape in the pickle (`_reconstruct` and its state), not by running numpy's code.
//! Counts are not judged here; see `Collection::check`.

use anyhow::{Context, Result, bail, ensure};

use super::pickle::{Pickle, Ref, Value};
use crate::dataset::{Samples, Spec};

/// Appends the images of one member.
pub(super) fn read(spec: &Spec, bytes: &[u8], samples: &mut Samples) -> Result<()> {
    let pickle = Pickle::parse(bytes)?;
    let labels = list(&pickle, &spec.python_labels)?;
    let rows =
        array(&pickle, entry(&pickle, "data")?, spec.image_bytes()).context("in the entry \"data\"")?;
    ensure!(labels.len() == rows.count, "{} labels for {} rows of pixels", labels.len(), rows.count);
    let mut scratch = vec![0; rows.width];
    for (index, &label) in labels.iter().enumerate() {
        let Value::Int(label) = pickle.get(label) else { bail!("label {index} is not an integer") };
        let label = u16::try_from(*label).with_context(|| format!("label {index} is {label}"))?;
        samples.push(label, rows.get(index, &mut scratch))?;
    }
    Ok(())
}

/// The class names in the `meta` member.
pub(super) fn class_names(spec: &Spec, bytes: &[u8]) -> Result<Vec<String>> {
    let pickle = Pickle::parse(bytes)?;
    let names = list(&pickle, &spec.python_names)?;
    names
        .iter()
        .map(|&name| match pickle.get(name) {
            Value::Bytes(name) => {
                Ok(std::str::from_utf8(name).context("a class name is not UTF-8")?.to_owned())
            }
            other => bail!("a class name is {other:?}, not a string"),
        })
        .collect()
}

/// Pixels of `count` images, by rows or, if numpy stored them in Fortran's order, by columns.
struct Rows<'a> {
    count: usize,
    width: usize,
    fortran: bool,
    pixels: &'a [u8],
}

impl<'a> Rows<'a> {
    fn get<'b>(&'b self, index: usize, scratch: &'b mut [u8]) -> &'b [u8] {
        if !self.fortran {
            return &self.pixels[index * self.width..(index + 1) * self.width];
        }
        for (column, value) in scratch.iter_mut().enumerate() {
            *value = self.pixels[column * self.count + index];
        }
        scratch
    }
}

fn entry(pickle: &Pickle<'_>, key: &str) -> Result<Ref> {
    let Value::Dict(entries) = pickle.root() else { bail!("the pickle is not a dictionary") };
    entries
        .iter()
        .find(|(name, _)| matches!(pickle.get(*name), Value::Bytes(name) if *name == key.as_bytes()))
        .map(|(_, value)| *value)
        .with_context(|| format!("the pickle has no entry {key:?}"))
}

fn list<'p>(pickle: &'p Pickle<'_>, key: &str) -> Result<&'p [Ref]> {
    match pickle.get(entry(pickle, key)?) {
        Value::List(items) => Ok(items),
        _ => bail!("the entry {key:?} is not a list"),
    }
}

/// The array of images of `bytes` bytes each.
fn array<'a>(pickle: &Pickle<'a>, array: Ref, bytes: usize) -> Result<Rows<'a>> {
    let Value::Call { function, state: Some(state), .. } = pickle.get(array) else {
        bail!("there is no numpy array");
    };
    // `numpy.core.multiarray`, or `numpy._core.multiarray` of later versions.
    match pickle.get(*function) {
        Value::Global(module, b"_reconstruct") if module.starts_with(b"numpy.") => {}
        _ => bail!("there is no numpy array"),
    }
    let Value::Tuple(state) = pickle.get(*state) else { bail!("the array's state is not a tuple") };
    let [_, shape, kind, fortran, pixels] = state[..] else {
        bail!("the array's state has {} parts, not 5", state.len());
    };
    let shape = match pickle.get(shape) {
        Value::Tuple(shape) => shape.iter().map(|&length| pickle.get(length)).collect::<Vec<_>>(),
        _ => bail!("the array's shape is not a tuple"),
    };
    let (&Value::Int(count), &Value::Int(width)) = (match shape[..] {
        [count, width] => (count, width),
        _ => bail!("the array has {} dimensions, not 2", shape.len()),
    }) else {
        bail!("the array's shape is not made of integers");
    };
    ensure!(usize::try_from(width) == Ok(bytes), "the array is {width} wide, not {bytes}");
    ensure!(is_bytes(pickle, kind), "the array's elements are not unsigned bytes");
    let Value::Bool(fortran) = *pickle.get(fortran) else { bail!("the array's order is not a truth value") };
    let Value::Bytes(pixels) = *pickle.get(pixels) else { bail!("the array's content is not a byte string") };
    let count = usize::try_from(count).with_context(|| format!("the array has {count} rows"))?;
    if count.checked_mul(bytes) != Some(pixels.len()) {
        bail!("the array has {} bytes, {count} rows of {bytes} are announced", pixels.len());
    }
    Ok(Rows { count, width: bytes, fortran, pixels })
}

/// Whether `kind` is `numpy.dtype("u1")`.
fn is_bytes(pickle: &Pickle<'_>, kind: Ref) -> bool {
    let Value::Call { function, arguments, .. } = pickle.get(kind) else { return false };
    let (Value::Global(b"numpy", b"dtype"), Value::Tuple(arguments)) =
        (pickle.get(*function), pickle.get(*arguments))
    else {
        return false;
    };
    arguments.first().is_some_and(|&name| matches!(pickle.get(name), Value::Bytes(b"u1" | b"|u1")))
}
