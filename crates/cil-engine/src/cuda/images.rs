//! Images of 8 bits that lie on the GPU, and batches of them, cropped, mirrored and normalised there.
//!
//! The bytes are copied to the GPU once, and a batch is one small table and one launch. The caller decides how each
//! image is augmented; nothing random is drawn here.

use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::{Device, Result, Tensor, bail};

use super::gpu::{Element, Gpu};
use super::launch::{Grid, Map, arguments};
use super::memory::Buffer;
use crate::graph::Shape;
use crate::uploads;

/// Colours of an image.
const COLOURS: usize = 3;

/// Position and augmentation parameters of one stored image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picked {
    image: i32,
    top: i32,
    left: i32,
    mirrored: i32,
    brightness: f32,
}

/// Numbers of a [`Picked`].
const NUMBERS: usize = 5;

impl Picked {
    /// Number `image` of those stored, cropped `top` rows and `left` columns from the padded image's corner.
    ///
    /// # Errors
    /// If a number is larger than a kernel can count.
    pub fn new(image: u32, (top, left): (usize, usize), mirrored: bool, brightness: f32) -> Result<Self> {
        let narrow = |number: usize| i32::try_from(number).map_err(candle_core::Error::wrap);
        let (image, top, left) = (narrow(image as usize)?, narrow(top)?, narrow(left)?);
        Ok(Self { image, top, left, mirrored: i32::from(mirrored), brightness })
    }
}

/// Subtracted from and divided into values from 0 to 1, by colour.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colours {
    /// Subtracted.
    pub mean: [f32; COLOURS],
    /// Divided by afterwards.
    pub deviation: [f32; COLOURS],
}

// SAFETY: a plain C structure of numbers, the same as in kernels/images.cuh.
unsafe impl DeviceRepr for Colours {}

/// Images on a GPU.
#[derive(Debug)]
pub struct StoredImages {
    gpu: Gpu,
    device: Device,
    bytes: Buffer,
    count: usize,
    height: usize,
    width: usize,
}

impl StoredImages {
    /// Brings images of three colours to the GPU: `bytes` is `[image][3][height][width]`.
    ///
    /// # Errors
    /// If they are not whole images, or the GPU has no memory for them.
    pub fn new(gpu: &Gpu, height: usize, width: usize, bytes: &[u8]) -> Result<Self> {
        let size = COLOURS * height * width;
        if size == 0 || bytes.is_empty() || !bytes.len().is_multiple_of(size) {
            bail!("{} bytes are not some images of {COLOURS}x{height}x{width}", bytes.len());
        }
        gpu.bind()?;
        let stored = gpu.take(bytes.len())?;
        gpu.upload(&stored, bytes)?;
        let (gpu, device, count) = (gpu.clone(), gpu.device(), bytes.len() / size);
        Ok(Self { gpu, device, bytes: stored, count, height, width })
    }

    /// Where they lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A table for [`Self::pick`]: u32 `[picked, 5]`, with the processor.
    ///
    /// # Errors
    /// If an image is none of those stored.
    pub fn table(&self, picked: &[Picked]) -> Result<Tensor> {
        if let Some(it) = picked.iter().find(|it| it.image as usize >= self.count) {
            bail!("image {} was asked for; {} are stored, counted from 0", it.image, self.count);
        }
        let words = |it: &Picked| {
            let [image, top, left, mirrored] =
                [it.image, it.top, it.left, it.mirrored].map(i32::cast_unsigned);
            [image, top, left, mirrored, it.brightness.to_bits()]
        };
        let words: Vec<u32> = picked.iter().flat_map(words).collect();
        Tensor::from_vec(words, (picked.len(), NUMBERS), &Device::Cpu)
    }

    /// `[picked, 3, height, width]` of a table, wherever it lies: each with `padding` black pixels on every side,
    /// cropped to its own size, mirrored, times its brightness (the fraction is cut off, as torchvision does), divided
    /// by 255, and normalised. The host does not wait.
    ///
    /// # Errors
    /// If it is no such table, or there is no memory.
    pub fn pick(&self, table: &Tensor, padding: usize, by: Colours) -> Result<Tensor> {
        let (rows, NUMBERS) = table.dims2()? else {
            bail!("a table of images is [rows, {NUMBERS}], not {:?}", table.dims())
        };
        let Self { gpu, height, width, .. } = self;
        gpu.bind()?;
        let table = match table.device() {
            Device::Cpu => {
                uploads::fresh(table.flatten_all()?.to_vec1::<u32>()?, (rows, NUMBERS), &self.device)?
            }
            _ => table.contiguous()?,
        };
        let shape = Shape::Map { channels: COLOURS, height: *height, width: *width };
        let count = Map::new(shape, false).count(rows)?;
        let at = gpu.place(&table)?.address;
        let (tensor, address) = gpu.tensor(count)?;
        let arguments: &[_] = arguments![&self.bytes, at, address, *height, *width, padding, by, count];
        gpu.launch(Element::F32, "pick", Grid::over(count), arguments)?;
        tensor.reshape((rows, COLOURS, *height, *width))
    }
}
