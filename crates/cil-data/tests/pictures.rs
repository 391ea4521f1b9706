//! Decoding beside Pillow's, and a few hundred damaged, odd and hostile files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cil_data::fit::Fit;
use cil_data::picture::{self, Picture};
use cil_random::{Draw, Stream};
use serde::{Deserialize, Deserializer};

/// `tests/golden/pictures.py`.
#[derive(Deserialize)]
struct Golden {
    files: Vec<Filed>,
    fitted: Vec<Fitted>,
}

#[derive(Deserialize)]
struct Filed {
    name: String,
    tolerance: u8,
    width: usize,
    height: usize,
    #[serde(deserialize_with = "bytes")]
    file: Vec<u8>,
    #[serde(deserialize_with = "bytes")]
    pixels: Vec<u8>,
}

#[derive(Deserialize)]
struct Fitted {
    width: usize,
    height: usize,
    side: usize,
    shorter: usize,
    #[serde(deserialize_with = "bytes")]
    picture: Vec<u8>,
    #[serde(deserialize_with = "bytes")]
    pixels: Vec<u8>,
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/pictures.json")).unwrap()
}

fn file(name: &str) -> Vec<u8> {
    golden().files.into_iter().find(|file| file.name == name).unwrap().file
}

fn furthest(found: &[u8], expected: &[u8]) -> u8 {
    found.iter().zip(expected).map(|(found, expected)| found.abs_diff(*expected)).max().unwrap()
}

#[test]
fn every_kind_is_decoded_as_pillow_does() {
    for Filed { name, tolerance, width, height, file, pixels } in golden().files {
        let found = picture::decode(&file).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_eq!((found.width, found.height, found.pixels.len()), (width, height, pixels.len()), "{name}");
        let apart = furthest(&found.pixels, &pixels);
        assert!(apart <= tolerance, "{name}: {apart} apart");
    }
}

#[test]
fn pictures_are_fitted_as_torchvision_does() {
    for Fitted { width, height, side, shorter, picture, pixels } in golden().fitted {
        let fit = Fit { side, shorter };
        let mut planes = vec![0; fit.bytes()];
        fit.apply(&Picture { height, width, pixels: picture }, &mut planes).unwrap();
        let plane = side * side;
        let found: Vec<u8> =
            (0..plane).flat_map(|at| [0, 1, 2].map(|colour| planes[colour * plane + at])).collect();
        let apart = furthest(&found, &pixels);
        assert!(apart <= 1, "{width}x{height} to {shorter}, {side}: {apart} apart");
    }
}

#[test]
fn a_square_of_the_size_itself_stays_as_it_is() {
    let pixels: Vec<u8> = (0..3 * 32 * 32).map(|at| (at * 7 % 251) as u8).collect();
    let mut planes = vec![0; pixels.len()];
    Fit::of(32).apply(&Picture { height: 32, width: 32, pixels: pixels.clone() }, &mut planes).unwrap();
    for (at, pixel) in pixels.chunks_exact(3).enumerate() {
        assert_eq!(pixel, [0, 1, 2].map(|colour| planes[colour * 1024 + at]));
    }
    assert_eq!((Fit::of(224).shorter, Fit::of(64).shorter), (256, 64));
    assert!(Fit { side: 0, shorter: 0 }.check().is_err() && Fit { side: 64, shorter: 63 }.check().is_err());
}

/// A file that was cut off is refused wherever more than its last bytes are missing.
#[test]
fn what_was_cut_off_is_refused() {
    for Filed { name, file, .. } in golden().files {
        if name.contains("trailing") || name == "gif of two frames" {
            continue;
        }
        for percent in [1, 10, 30, 50, 70, 85] {
            let part = &file[..file.len() * percent / 100];
            assert!(picture::decode(part).is_err(), "{percent} % of {name} were taken for an image");
        }
    }
    let message = |name: &str| {
        let file = file(name);
        picture::decode(&file[..file.len() * 2 / 3]).unwrap_err().to_string()
    };
    assert_eq!(message("jpeg baseline"), "it is cut off: a JPEG without its end marker");
    assert_eq!(message("bmp"), "it is cut off");
    assert_eq!(picture::decode(&[]).unwrap_err().to_string(), "it is empty");
    assert_eq!(
        picture::decode(b"not an image").unwrap_err().to_string(),
        "it is not an image; JPEG, PNG, WebP, BMP and GIF are read"
    );
    assert_eq!(
        picture::decode(b"II*\0\x08\0\0\0\0\0\0\0").unwrap_err().to_string(),
        "it is of the kind Tiff; JPEG, PNG, WebP, BMP and GIF are read"
    );
}

/// The whole of a damaged file's decoding: refused, or an image of the size that its header says; never longer.
fn is_survived(name: &str, file: &[u8]) {
    let begun = Instant::now();
    if let Ok(found) = picture::decode(file) {
        assert_eq!(found.pixels.len(), 3 * found.height * found.width, "{name}");
        let mut planes = vec![0; Fit::of(16).bytes()];
        Fit::of(16).apply(&found, &mut planes).unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{name} took {:?}", begun.elapsed());
}

#[test]
fn damaged_files_are_refused_or_decoded_and_never_worse() {
    let mut tried = 0;
    for Filed { name, file, .. } in golden().files {
        let mut stream = Draw::new(1, "damage").stream(&name);
        for way in 0..15 {
            let (how, damaged) = damaged(&file, way, &mut stream);
            // More than about 10^8 decoded pixels are correct too, but slow in a test.
            if is_small(&damaged) {
                is_survived(&format!("{name}, {how}"), &damaged);
                tried += 1;
            }
        }
    }
    assert!(tried > 400, "{tried}");
}

fn damaged(file: &[u8], way: usize, stream: &mut Stream) -> (String, Vec<u8>) {
    let mut bytes = file.to_vec();
    let at = stream.below(bytes.len());
    match way {
        0..4 => bytes[at] ^= 1 << stream.below(8),
        4..6 => bytes[at] = [0, 0xff][way - 4],
        6 => bytes.truncate(at),
        7 => drop(bytes.splice(at..at, [0xff; 40])),
        8 => drop(bytes.drain(at / 2..at)),
        // Damage to the header: that is where sizes stand.
        9..12 => {
            let at = stream.below(bytes.len().min(40));
            bytes[at] = stream.below(256) as u8;
        }
        12 => (0..20).for_each(|_| {
            let at = stream.below(file.len());
            bytes[at] = stream.below(256) as u8;
        }),
        13 => bytes = [&bytes[..at], &bytes[..]].concat(),
        _ => bytes = (0..bytes.len()).map(|_| stream.below(256) as u8).collect(),
    }
    (format!("way {way} at {at}"), bytes)
}

fn is_small(file: &[u8]) -> bool {
    let reader = image::ImageReader::new(std::io::Cursor::new(file)).with_guessed_format().unwrap();
    reader.into_dimensions().map_or(true, |(width, height)| u64::from(width) * u64::from(height) < 1 << 24)
}

/// A header may say what it likes: memory follows the limits, before anything is decoded.
#[test]
fn sizes_out_of_proportion_are_refused_by_name() {
    for (width, height) in [(20_001u32, 1u32), (1, 65_000), (20_000, 20_000), (u32::MAX >> 1, 9)] {
        let mut png = file("png");
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = picture::decode(&png).unwrap_err().to_string();
        assert!(error.contains("sides of 1 to 20000 and at most 178956970 pixels are read"), "{error}");
    }
    let mut gif = file("gif");
    gif[6..10].fill(0xff);
    assert!(picture::decode(&gif).unwrap_err().to_string().contains("sides of 1 to 20000"));
    let mut bmp = file("bmp");
    bmp[18..22].copy_from_slice(&i32::MAX.to_le_bytes());
    assert!(picture::decode(&bmp).is_err());
}

#[test]
fn a_row_of_twenty_thousand_pixels_is_an_image() {
    let row = image::RgbImage::from_fn(20_000, 1, |x, _| image::Rgb([(x / 79) as u8, 0, 255]));
    let mut file = std::io::Cursor::new(Vec::new());
    row.write_to(&mut file, image::ImageFormat::Png).unwrap();
    let found = picture::decode(file.get_ref()).unwrap();
    assert_eq!((found.height, found.width), (1, 20_000));
    let mut planes = vec![0; Fit::of(32).bytes()];
    Fit::of(32).apply(&found, &mut planes).unwrap();
    assert!(planes[..1024].iter().all(|red| red.abs_diff(126) < 2), "{}", planes[0]);
}

/// A progressive file of thousands of scans takes minutes in decoders that believe it.
#[test]
fn a_jpeg_of_endless_scans_is_refused() {
    let whole = file("jpeg progressive");
    let scan = whole.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
    let last = whole[scan..whole.len() - 2].to_vec();
    let mut endless = whole[..whole.len() - 2].to_vec();
    (0..600).for_each(|_| endless.extend(&last));
    endless.extend([0xff, 0xd9]);
    assert!(picture::decode(&endless).unwrap_err().to_string().contains("more than 500 scans"));
}

/// The checksum of a PNG's chunk.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
