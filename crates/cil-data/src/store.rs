//! Images in memory, split by what they may be used for.
//!
//! Images to train on and images to evaluate on are different types over the same bytes. A [`TrainSet`] counts the
//! classes whose images were read, so that a data-free run can be shown to be one.

mod derived;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device, Error, Result, Tensor, bail};
use cil_random::Draw;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::augment::{Change, Preparation, Size, prepare};
use crate::device_images::DeviceImages;
use crate::fit::{Fit, planes};
use crate::packed::Packed;
use crate::picture::Picture;
use crate::resized_crop::{ResizedCrop, cut};

/// One training image of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SampleId(u32);

impl SampleId {
    pub(crate) fn new(index: u32) -> Self {
        Self(index)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Bytes and labels of a data set's part, in the data set's own order.
#[derive(Clone, Debug)]
pub struct Images {
    pub(crate) size: Size,
    /// `[image][3][height][width]`.
    pub(crate) pixels: Arc<Vec<u8>>,
    /// Label of each image, in the data set's numbering.
    pub(crate) labels: Arc<Vec<u16>>,
    /// The same images where batches of them are needed.
    pub(crate) device_copy: Option<Arc<dyn DeviceImages>>,
    /// Whole pictures in a file, and how they are fitted; `pixels` is empty then.
    pub(crate) packed: Option<(Fit, Arc<Packed>)>,
}

impl Images {
    /// Images of three colours: `pixels` is `[image][3][height][width]`.
    ///
    /// # Errors
    /// If there are not as many pixels as the labels need.
    pub fn new(height: usize, width: usize, pixels: Vec<u8>, labels: Vec<u16>) -> Result<Self> {
        let size = Size { height, width };
        if pixels.len() != labels.len() * size.values() {
            bail!(
                "{} bytes for {} images of 3x{height}x{width}; pass {}",
                pixels.len(),
                labels.len(),
                labels.len() * size.values()
            );
        }
        Ok(Self { size, pixels: Arc::new(pixels), labels: Arc::new(labels), device_copy: None, packed: None })
    }

    /// Pictures in a file.
    pub(crate) fn packed(fit: Fit, packed: Arc<Packed>) -> Self {
        let size = Size { height: fit.side, width: fit.side };
        let labels = Arc::new(packed.labels());
        Self { size, pixels: Arc::default(), labels, device_copy: None, packed: Some((fit, packed)) }
    }

    /// Bytes of one image at the network's size, `[3][height][width]`, wherever it lies; `crop` cuts a part of the
    /// whole picture (of the stored square where there is no more) with the stream of the image's number.
    ///
    /// # Errors
    /// If the file that it lies in cannot be read.
    pub(crate) fn square(
        &self,
        index: usize,
        number: u64,
        crop: Option<(ResizedCrop, Draw<'_>)>,
    ) -> anyhow::Result<Cow<'_, [u8]>> {
        let picture = match &self.packed {
            None if crop.is_none() => return Ok(Cow::Borrowed(self.image(index))),
            None => Picture::of_planes(self.size.height, self.size.width, self.image(index)),
            Some((_, packed)) => packed.read(index)?,
        };
        let mut out = vec![0; self.size.values()];
        match (crop, &self.packed) {
            (Some((crop, draw)), _) => {
                let mut stream = ResizedCrop::stream(draw, number);
                let part = crop.draw(picture.height, picture.width, &mut stream);
                planes(&cut(&picture, part, self.size.height)?, &mut out)?;
            }
            (None, Some((fit, _))) => fit.apply(&picture, &mut out)?,
            (None, None) => {}
        }
        Ok(Cow::Owned(out))
    }

    /// Bytes of one image at the network's size, `[3][height][width]`, wherever it lies.
    ///
    /// # Errors
    /// If the file that it lies in cannot be read.
    pub fn read(&self, index: usize) -> anyhow::Result<Cow<'_, [u8]>> {
        self.square(index, index as u64, None)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image in memory, `[3][height][width]`; [`Self::read`] has those that lie in a file too.
    ///
    /// # Panics
    /// If there is no such image in memory.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.size.values()..][..self.size.values()]
    }

    /// Label of one image, in the data set's numbering.
    pub fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }
}

/// Some images of a part, by class in the order of learning.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    images: Images,
    /// Positions within `images`, class after class.
    positions: Vec<u32>,
    /// Where each class begins in `positions`, and the end.
    starts: Vec<usize>,
    /// Images that came before these and are not here; an image's draws are by its number among all.
    before: u64,
}

impl Selection {
    pub(crate) fn new(images: Images, by_class: &[Vec<u32>]) -> Self {
        let mut starts = vec![0];
        for positions in by_class {
            starts.push(starts[starts.len() - 1] + positions.len());
        }
        Self { images, positions: by_class.concat(), starts, before: 0 }
    }

    /// All images; labels are positions in the class order of `classes` classes, some of which may have no image.
    fn of_all(images: Images, classes: usize, before: u64) -> Result<Self> {
        let mut by_class = vec![Vec::new(); classes];
        for at in 0..images.len() {
            let Some(of_class) = by_class.get_mut(images.label(at)) else {
                bail!("image {at} has label {}, there are {classes} classes", images.label(at));
            };
            of_class.push(at as u32);
        }
        Ok(Self { before, ..Self::new(images, &by_class) })
    }

    fn classes(&self) -> usize {
        self.starts.len() - 1
    }

    fn range(&self, classes: Range<usize>) -> Range<usize> {
        self.starts[classes.start]..self.starts[classes.end]
    }

    fn class_of(&self, index: usize) -> usize {
        self.starts.partition_point(|start| *start <= index) - 1
    }

    fn prepared(
        &self,
        indices: impl Iterator<Item = usize>,
        preparation: &Preparation,
        draw: Option<Draw<'_>>,
        device: &Device,
    ) -> Result<Tensor> {
        let drawn = self.plan_batch(indices, preparation, draw, device)?;
        self.materialize(&drawn, preparation, draw.is_some(), device)
    }

    /// See [`TrainSet::plan_batch`].
    fn plan_batch(
        &self,
        indices: impl Iterator<Item = usize>,
        preparation: &Preparation,
        draw: Option<Draw<'_>>,
        device: &Device,
    ) -> Result<Tensor> {
        let positions: Vec<u32> = indices.map(|index| self.positions[index]).collect();
        if positions.is_empty() {
            bail!("a batch without an image");
        }
        let crop = preparation.augmentation.resized_crop.zip(draw);
        // Augmentation that no table can describe is done here.
        let fits = draw.is_none() || preparation.augmentation.fits_a_table();
        let copy = self.images.device_copy.as_ref().filter(|it| fits && it.device().same_device(device));
        if let Some(there) = copy {
            let change = |position: u32| match draw {
                Some(draw) => {
                    Change::draw(&preparation.augmentation, draw.stream_of(self.before + u64::from(position)))
                }
                None => Change::none(),
            };
            let changes: Vec<_> = positions.par_iter().map(|it| (*it, change(*it))).collect();
            return there.table(&changes);
        }
        let number = |position: u32| self.before + u64::from(position);
        let square = |position: &u32| self.images.square(*position as usize, number(*position), crop);
        let squares: anyhow::Result<Vec<Cow<'_, [u8]>>> = positions.par_iter().map(square).collect();
        let squares = squares.map_err(|error| Error::Msg(format!("{error:#}")))?;
        let image = |(square, position): (_, &u32)| (Cow::as_ref(square), number(*position));
        let images: Vec<(&[u8], u64)> = squares.iter().zip(&positions).map(image).collect();
        prepare(&images, self.images.size, preparation, draw)
    }

    /// See [`TrainSet::materialize`].
    fn materialize(
        &self,
        drawn: &Tensor,
        preparation: &Preparation,
        changed: bool,
        device: &Device,
    ) -> Result<Tensor> {
        match &self.images.device_copy {
            Some(there) if drawn.dtype() == DType::U32 => {
                let padding = if changed { preparation.augmentation.crop_padding } else { 0 };
                there.batch(drawn, padding, &preparation.normalisation)
            }
            _ => drawn.to_device(device),
        }
    }
}

/// Images to train on, of the classes that a run learns.
#[derive(Debug)]
pub struct TrainSet {
    selection: Selection,
    reads: Vec<AtomicU64>,
}

impl TrainSet {
    pub(crate) fn new(selection: Selection) -> Self {
        let reads = (0..selection.classes()).map(|_| AtomicU64::new(0)).collect();
        Self { selection, reads }
    }

    /// Images of classes that are learned after others, whose images are not here. Labels are positions in the order in
    /// which all `classes` are learned, and `before` images came before these: batches and changes are then those of
    /// one run over all images.
    ///
    /// # Errors
    /// If a label is no class.
    pub fn after(images: Images, classes: usize, before: u64) -> Result<Self> {
        Ok(Self::new(Selection::of_all(images, classes, before)?))
    }

    /// Classes that the run learns.
    pub fn classes(&self) -> usize {
        self.selection.classes()
    }

    /// Channels, height and width of an image.
    pub fn image_dims(&self) -> [usize; 3] {
        let Size { height, width } = self.selection.images.size;
        [3, height, width]
    }

    /// Bytes of one stored image.
    pub fn image_bytes(&self) -> usize {
        self.selection.images.size.values()
    }

    /// All samples of `classes` (positions in the class order).
    ///
    /// # Panics
    /// If there are fewer classes.
    pub fn samples(&self, classes: Range<usize>) -> Vec<SampleId> {
        self.selection.range(classes).map(|index| SampleId::new(index as u32)).collect()
    }

    /// Whether `class` is one of the run's, and the sample one of its images.
    pub fn has(&self, sample: SampleId, class: usize) -> bool {
        class < self.classes() && self.selection.range(class..class + 1).contains(&sample.index())
    }

    /// Class of a sample, as position in the class order.
    pub fn class_of(&self, sample: SampleId) -> usize {
        self.selection.class_of(sample.index())
    }

    /// The CPU's part of [`Self::images`], on the CPU: the images themselves, or, if `device` has a copy of them, a
    /// table of their augmentation parameters. Each sample counts as a read of its class.
    ///
    /// # Errors
    /// If there is no sample.
    pub fn plan_batch(
        &self,
        samples: &[SampleId],
        preparation: &Preparation,
        draw: Option<Draw<'_>>,
        device: &Device,
    ) -> Result<Tensor> {
        for sample in samples {
            self.reads[self.class_of(*sample)].fetch_add(1, Ordering::Relaxed);
        }
        self.selection.plan_batch(samples.iter().map(|it| it.index()), preparation, draw, device)
    }

    /// The images that [`Self::plan_batch`] described, on `device`; `changed`: whether there was a draw.
    ///
    /// # Errors
    /// If the device refuses the tensor.
    pub fn materialize(
        &self,
        drawn: &Tensor,
        preparation: &Preparation,
        changed: bool,
        device: &Device,
    ) -> Result<Tensor> {
        self.selection.materialize(drawn, preparation, changed, device)
    }

    /// `[samples, 3, height, width]`, augmented if there is a draw. Each sample counts as a read of its class.
    ///
    /// # Errors
    /// If there is no sample, or the device refuses the tensor.
    pub fn images(
        &self,
        samples: &[SampleId],
        preparation: &Preparation,
        draw: Option<Draw<'_>>,
        device: &Device,
    ) -> Result<Tensor> {
        let drawn = self.plan_batch(samples, preparation, draw, device)?;
        self.materialize(&drawn, preparation, draw.is_some(), device)
    }

    /// How many images of a class were read so far.
    pub fn reads(&self, class: usize) -> u64 {
        self.reads[class].load(Ordering::Relaxed)
    }
}

/// Images to evaluate on; nothing that trains takes one.
#[derive(Debug)]
pub struct TestSet {
    selection: Selection,
}

impl TestSet {
    pub(crate) fn new(selection: Selection) -> Self {
        Self { selection }
    }

    /// All of these images. Labels are positions in the class order of `classes` classes, some of which may have none.
    ///
    /// # Errors
    /// If a label is no class.
    pub fn of(images: Images, classes: usize) -> Result<Self> {
        Ok(Self::new(Selection::of_all(images, classes, 0)?))
    }

    /// Images of the first `classes` classes.
    pub fn len(&self, classes: usize) -> usize {
        self.selection.range(0..classes).len()
    }

    /// The images of the first `classes` classes, class after class, in batches: `[rows, 3, height, width]` and each
    /// row's class, as position in the class order.
    pub fn batches<'a>(
        &'a self,
        classes: usize,
        batch: usize,
        preparation: &'a Preparation,
        device: &'a Device,
    ) -> impl Iterator<Item = Result<(Tensor, Vec<u32>)>> + 'a {
        let end = self.len(classes);
        let batch = batch.max(1);
        (0..end).step_by(batch).map(move |first| {
            let range = first..end.min(first + batch);
            let labels = range.clone().map(|index| self.selection.class_of(index) as u32).collect();
            Ok((self.selection.prepared(range, preparation, None, device)?, labels))
        })
    }
}
