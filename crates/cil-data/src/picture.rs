//! One picture of a file: decoded, upright, opaque, in three colours of 8 bits.
//!
//! A file's format is recognised by its content, never by its name, and a damaged file is refused, never filled up with
//! grey. The decoders are those of the `image` crate; the memory they may use is bounded before they begin, for one
//! file and for all files decoded at a time.

mod gate;
mod jpeg;

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, bail};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

/// Pixels of a side, at most.
pub const LONGEST_SIDE: u32 = 20_000;
/// Pixels of an image, at most (where Pillow refuses one as a decompression bomb).
pub const MOST_PIXELS: u64 = 178_956_970;
/// Bytes of a file, at most.
const MOST_BYTES: u64 = 1 << 28;
/// Bytes that a decoder may hold for each pixel, and besides.
const BYTES_PER_PIXEL: u64 = 12;
const BYTES_BESIDES: u64 = 1 << 24;
/// The formats that are read, for error messages.
const READ: &str = "JPEG, PNG, WebP, BMP and GIF are read";

/// A decoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `[height][width][3]`: red, green and blue of every pixel.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// Of `[3][height][width]`.
    pub(crate) fn of_planes(height: usize, width: usize, planes: &[u8]) -> Self {
        let plane = height * width;
        let pixels =
            (0..plane).flat_map(|at| [planes[at], planes[plane + at], planes[2 * plane + at]]).collect();
        Self { height, width, pixels }
    }
}

/// Decodes a file.
///
/// The picture is turned as its EXIF orientation says; what is transparent shows white; of a GIF the first frame is
/// taken; 16 bits are rounded to 8.
///
/// # Errors
/// If the file cannot be read, is none of the kinds that are read, is damaged or cut off, has a side above
/// [`LONGEST_SIDE`] or more than [`MOST_PIXELS`]. The sentence names the file.
pub fn read(path: &Path) -> Result<Picture> {
    read_unnamed(path).with_context(|| path.display().to_string())
}

/// As [`read`], with a sentence that names no file.
pub(crate) fn read_unnamed(path: &Path) -> Result<Picture> {
    decode(&bytes_of(path)?)
}

/// Decodes the bytes of a file; see [`read`].
///
/// # Errors
/// As [`read`]; the sentence names no file.
pub fn decode(bytes: &[u8]) -> Result<Picture> {
    // A decoder that breaks on a file makes that file a broken one.
    match catch_unwind(AssertUnwindSafe(|| decoded(bytes))) {
        Ok(picture) => picture,
        Err(_) => bail!("its decoder failed on it; the file is damaged"),
    }
}

/// Whether these first bytes of a file are those of an image, of whatever kind.
pub(crate) fn looks_like_one(first: &[u8]) -> bool {
    image::guess_format(first).is_ok()
}

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    let metadata = fs::metadata(path).context("cannot be read")?;
    if !metadata.is_file() {
        bail!("it is not a file");
    }
    if metadata.len() > MOST_BYTES {
        bail!("it has {} bytes; at most {MOST_BYTES} are read", metadata.len());
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes))
        .context("cannot be read")?;
    Ok(bytes)
}

fn decoded(bytes: &[u8]) -> Result<Picture> {
    if bytes.is_empty() {
        bail!("it is empty");
    }
    let format = format(bytes)?;
    if format == ImageFormat::Jpeg {
        jpeg::check(bytes)?;
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits(MOST_PIXELS));
    let mut decoder = reader.into_decoder().map_err(decoding_error)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if width == 0 || height == 0 || width.max(height) > LONGEST_SIDE || pixels > MOST_PIXELS {
        bail!(
            "it has {width}x{height} pixels; sides of 1 to {LONGEST_SIDE} and at most {MOST_PIXELS} pixels are read"
        );
    }
    decoder.set_limits(limits(pixels)).map_err(decoding_error)?;
    let _held = gate::enter(pixels * BYTES_PER_PIXEL + bytes.len() as u64);
    // EXIF that cannot be read is no reason to refuse an image.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(decoding_error)?;
    image.apply_orientation(orientation);
    Ok(opaque(image))
}

fn format(bytes: &[u8]) -> Result<ImageFormat> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    match image::guess_format(bytes) {
        Ok(format @ (Jpeg | Png | WebP | Bmp | Gif)) => Ok(format),
        Ok(other) => bail!("it is of the kind {other:?}; {READ}"),
        Err(_) => bail!("it is not an image; {READ}"),
    }
}

fn limits(pixels: u64) -> Limits {
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(LONGEST_SIDE), Some(LONGEST_SIDE));
    limits.max_alloc = Some(pixels * BYTES_PER_PIXEL + BYTES_BESIDES);
    limits
}

/// A decoder's message, without the name of its error type.
fn decoding_error(error: image::ImageError) -> anyhow::Error {
    use image::ImageError;
    match error {
        ImageError::Limits(_) => anyhow::anyhow!(
            "it is too large; sides of 1 to {LONGEST_SIDE} and at most {MOST_PIXELS} pixels are read"
        ),
        ImageError::Unsupported(error) => anyhow::anyhow!("it is of a form that is not read: {error}"),
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            anyhow::anyhow!("it is cut off")
        }
        other => anyhow::anyhow!("it is damaged: {other}"),
    }
}

/// Three colours of 8 bits over white.
fn opaque(image: DynamicImage) -> Picture {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if !image.color().has_alpha() {
        return Picture { height, width, pixels: image.into_rgb8().into_raw() };
    }
    let with_alpha = image.into_rgba8();
    let mut pixels = Vec::with_capacity(3 * height * width);
    for pixel in with_alpha.pixels() {
        let [red, green, blue, alpha] = pixel.0;
        let over = |colour: u8| {
            let (colour, alpha) = (u32::from(colour), u32::from(alpha));
            ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
        };
        pixels.extend([over(red), over(green), over(blue)]);
    }
    Picture { height, width, pixels }
}
