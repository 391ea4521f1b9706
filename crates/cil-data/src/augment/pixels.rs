//! Bytes of an image as Pillow changes them.

/// Height and width of an image of three colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Size {
    /// Values of one image.
    pub(crate) fn values(self) -> usize {
        3 * self.height * self.width
    }
}

/// `from` at factor 0 and `to` at factor 1, and beyond: Pillow computes in `f32` and cuts off the fraction.
pub(super) fn blended(from: u8, to: u8, factor: f64) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + factor as f32 * (to - from)).clamp(0.0, 255.0) as u8
}

/// The mean grey of an image whose bytes `table` has changed, rounded: what Pillow's contrast blends with.
pub(super) fn grey(bytes: &[u8], size: Size, table: &[u8; 256]) -> u8 {
    let pixels = size.height * size.width;
    let weighted = |at: usize| {
        u64::from(luma([0, 1, 2].map(|channel| table[usize::from(bytes[channel * pixels + at])])))
    };
    let sum: u64 = (0..pixels).map(weighted).sum();
    (sum as f64 / pixels as f64 + 0.5) as u8
}

/// The grey of a pixel, by Pillow's weights of ITU-R 601-2, in 65536ths.
pub(super) fn luma(colours: [u8; 3]) -> u8 {
    let [red, green, blue] = colours.map(u32::from);
    ((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16) as u8
}
