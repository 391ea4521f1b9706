//! Networks as bytes in the safetensors format.
//!
//! The file's metadata say all that is needed to use the model elsewhere (form, class names, normalisation), and names,
//! types and shapes of all tensors are compared with that form before a value is read. Any other bytes are an error.
//! This module opens no file.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Error, Result, Tensor, bail};
use cil_engine::{Parameters, Shape};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorInfo, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::backbone::Backbone;
use crate::head::{Head, HeadKind};
use crate::network::{Snapshot, check_form};

/// Version of the metadata of a network and its card.
const PLAIN: u32 = 1;
/// Version of the metadata that hold anything else as well.
const EXTENDED: u32 = 2;
/// Version of the metadata that hold the graph of a backbone that is no known architecture.
const WITH_GRAPH: u32 = 3;
/// The metadata's key; what other programs write under other keys is left alone.
const KEY: &str = "cil";
/// Begins the names of tensors that are not the network's.
const ATTACHED: &str = "attached.";
/// Largest side that an image may be resized to.
const LARGEST_RESIZE: usize = 8192;

/// The information that a model's user needs beside its values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelCard {
    /// Class names in the order of the logits.
    pub class_names: Vec<String>,
    /// Per channel, subtracted from pixels in `[0, 1]`.
    pub mean: Vec<f32>,
    /// Per channel, divided by afterwards.
    pub deviation: Vec<f32>,
    /// The images that it was trained on; not said by files that were written before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_on: Option<TrainedOn>,
}

/// Images that a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TrainedOn {
    /// The data set's name.
    pub dataset: String,
    /// SHA-256 over labels and pixels of the data set's training images.
    pub train_digest: String,
    /// How many of these were held out of each class.
    pub held_out_per_class: usize,
}

/// A network and all that its file holds beside it.
#[derive(Clone, Debug)]
pub struct Model {
    /// Form and values.
    pub snapshot: Snapshot,
    /// Class names and normalisation.
    pub card: ModelCard,
    /// Pixels of the shorter side that an image is resized to before its centre is taken; the network's own side if
    /// there is none.
    pub resize: Option<usize>,
    /// Where the model comes from, in the words of who wrote it; this crate does not read it.
    pub record: Option<Value>,
    /// Tensors in `f32` or `f64` that belong to the model and not to the network, such as statistics of features.
    /// The reader compares its shape with the expected one.
    pub attached: Parameters,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Metadata {
    format: u32,
    #[serde(rename = "architecture")]
    backbone: Backbone,
    /// Channels, height, width.
    image_dims: [usize; 3],
    head: Head,
    card: ModelCard,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resize: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<Value>,
}

/// The fields of every version of the metadata.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// The bytes of a model file of a network and its card; equal models give equal bytes.
///
/// # Errors
/// As [`Model::to_bytes`].
pub fn to_bytes(snapshot: &Snapshot, card: &ModelCard) -> Result<Vec<u8>> {
    Model::new(snapshot.clone(), card.clone()).to_bytes()
}

/// The bytes of a model file of a backbone for images of these dimensions, with initial values and without classes: a
/// configuration names such a file as `architecture.file`.
///
/// # Errors
/// If the backbone does not suit the images.
pub fn untrained(backbone: &Backbone, [channels, height, width]: [usize; 3]) -> Result<Vec<u8>> {
    let images = Shape::Map { channels, height, width };
    let parameters = Parameters::init(&backbone.graph(images)?, 0, &Device::Cpu)?;
    let head = Head::new(HeadKind::Linear, backbone.feature_width());
    let snapshot = Snapshot { backbone: backbone.clone(), images, head, parameters };
    let (mean, deviation) = (vec![0.0; channels], vec![1.0; channels]);
    let card = ModelCard { class_names: Vec::new(), mean, deviation, trained_on: None };
    to_bytes(&snapshot, &card)
}

/// The network and its card in the bytes of a model file; whatever else the file holds is checked and left out.
///
/// # Errors
/// As [`Model::from_bytes`].
pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<(Snapshot, ModelCard)> {
    let model = Model::from_bytes(bytes, device)?;
    Ok((model.snapshot, model.card))
}

/// Whether the bytes are a safetensors file that this program wrote, of whatever version.
///
/// # Errors
/// If they are not a whole safetensors file.
pub fn is_own(bytes: &[u8]) -> Result<bool> {
    match SafeTensors::read_metadata(bytes) {
        Ok((_, header)) => Ok(header.metadata().as_ref().is_some_and(|it| it.contains_key(KEY))),
        Err(error) => bail!("not a whole safetensors file: {error}"),
    }
}

impl Model {
    /// A network and its card alone.
    pub fn new(snapshot: Snapshot, card: ModelCard) -> Self {
        Self { snapshot, card, resize: None, record: None, attached: Parameters::default() }
    }

    /// The bytes of its file; equal models give equal bytes.
    ///
    /// # Errors
    /// If the snapshot's values are not those of its form or not `f32`, an attached tensor is neither `f32` nor `f64`,
    /// or the card or the resize rule does not suit the model.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let Self { snapshot, card, resize, record, attached } = self;
        snapshot.check()?;
        let Shape::Map { channels, height, width } = snapshot.images else {
            bail!("the model takes no images")
        };
        card.check(channels, snapshot.head.classes())?;
        check_resize(*resize, height.max(width))?;
        let is_plain = resize.is_none() && record.is_none() && attached.iter().next().is_none();
        let metadata = Metadata {
            format: match snapshot.backbone {
                Backbone::Own(_) => WITH_GRAPH,
                Backbone::Resnet(_) if is_plain => PLAIN,
                Backbone::Resnet(_) => EXTENDED,
            },
            backbone: snapshot.backbone.clone(),
            image_dims: [channels, height, width],
            head: snapshot.head.clone(),
            card: card.clone(),
            resize: *resize,
            record: record.clone(),
        };
        let metadata = serde_json::to_string(&metadata).map_err(Error::wrap)?;
        let mut buffers = Vec::new();
        for (name, tensor) in snapshot.parameters.iter() {
            if tensor.dtype() != DType::F32 {
                bail!("tensor {name} is {:?}, a model file holds F32", tensor.dtype());
            }
            buffers.push((name.to_owned(), tensor.dims(), written(name, tensor)?));
        }
        for (name, tensor) in attached.iter() {
            buffers.push((format!("{ATTACHED}{name}"), tensor.dims(), written(name, tensor)?));
        }
        let mut views = Vec::new();
        for (name, dims, (dtype, bytes)) in &buffers {
            views.push((name, TensorView::new(*dtype, dims.to_vec(), bytes).map_err(Error::wrap)?));
        }
        let metadata = HashMap::from([(KEY.to_owned(), metadata)]);
        safetensors::serialize(views, Some(metadata)).map_err(Error::wrap)
    }

    /// The model in the bytes of its file.
    ///
    /// # Errors
    /// If the bytes are not a whole model file of this program and a version that it reads, a tensor is missing, too
    /// many, or of another shape or type, or the card or the resize rule does not suit the model.
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self> {
        let (header_bytes, header) = match SafeTensors::read_metadata(bytes) {
            Ok(read) => read,
            Err(error) => bail!("not a whole safetensors file: {error}"),
        };
        let Some(text) = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY)) else {
            bail!("a safetensors file without the metadata {KEY:?}: not a model of this program");
        };
        let Metadata { format, backbone, image_dims: [channels, height, width], head, card, resize, record } =
            parse(text)?;
        if (format == WITH_GRAPH) != matches!(backbone, Backbone::Own(_)) {
            bail!(
                "a model file of format {format} has another form of network than that format; write it again"
            );
        }
        let images = Shape::Map { channels, height, width };
        let (extra, infos): (BTreeMap<String, _>, BTreeMap<String, _>) =
            header.tensors().into_iter().partition(|(name, _)| name.starts_with(ATTACHED));
        let dims = infos.iter().map(|(name, info)| (name.as_str(), info.shape.as_slice())).collect();
        check_form(&backbone, images, &head, &dims)?;
        card.check(channels, head.classes())?;
        check_resize(resize, height.max(width))?;
        let data = &bytes[size_of::<u64>() + header_bytes..];
        let mut tensors = BTreeMap::new();
        for (name, info) in infos {
            if info.dtype != Dtype::F32 {
                bail!("tensor {name} is {:?}, a model file holds F32", info.dtype);
            }
            tensors.insert(name, read(info, data, device)?);
        }
        let mut attached = BTreeMap::new();
        for (name, info) in extra {
            if !matches!(info.dtype, Dtype::F32 | Dtype::F64) {
                bail!("tensor {name} is {:?}; what is attached to a model is F32 or F64", info.dtype);
            }
            attached.insert(name[ATTACHED.len()..].to_owned(), read(info, data, &Device::Cpu)?);
        }
        let parameters = Parameters::from_tensors(tensors);
        let snapshot = Snapshot { backbone, images, head, parameters };
        Ok(Self { snapshot, card, resize, record, attached: Parameters::from_tensors(attached) })
    }
}

/// A tensor's type and bytes.
fn written(name: &str, tensor: &Tensor) -> Result<(Dtype, Vec<u8>)> {
    let tensor = tensor.flatten_all()?;
    match tensor.dtype() {
        DType::F32 => {
            let values = tensor.to_vec1::<f32>()?;
            Ok((Dtype::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        }
        DType::F64 => {
            let values = tensor.to_vec1::<f64>()?;
            Ok((Dtype::F64, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        }
        other => bail!("tensor {name} is {other:?}; what is attached to a model is F32 or F64"),
    }
}

/// A tensor of F32 or F64.
fn read(info: &TensorInfo, data: &[u8], device: &Device) -> Result<Tensor> {
    // In range: the header was read, and it is refused unless its tensors are exactly the rest of the file.
    let (from, to) = info.data_offsets;
    let dims = info.shape.as_slice();
    if info.dtype == Dtype::F64 {
        let values = data[from..to].as_chunks().0.iter().map(|value| f64::from_le_bytes(*value));
        return Tensor::from_vec(values.collect(), dims, device);
    }
    let values = data[from..to].as_chunks().0.iter().map(|value| f32::from_le_bytes(*value));
    Tensor::from_vec(values.collect(), dims, device)
}

/// Refuses a side that an image's centre cannot be taken from.
fn check_resize(resize: Option<usize>, side: usize) -> Result<()> {
    match resize {
        Some(resize) if !(side..=LARGEST_RESIZE).contains(&resize) => {
            bail!(
                "resize is {resize}; the model takes a side of {side}, so use a value from {side} to {LARGEST_RESIZE}"
            )
        }
        _ => Ok(()),
    }
}

fn parse(text: &str) -> Result<Metadata> {
    let unreadable = |error| Error::Msg(format!("the metadata {KEY:?} cannot be read: {error}"));
    // First, to distinguish a later version's file from a broken one.
    let Version { format } = serde_json::from_str(text).map_err(unreadable)?;
    if !(PLAIN..=WITH_GRAPH).contains(&format) {
        bail!("a model file of format {format}, this program reads {PLAIN} to {WITH_GRAPH}");
    }
    serde_json::from_str(text).map_err(unreadable)
}

impl ModelCard {
    /// Refuses a card that does not suit a model.
    pub(crate) fn check(&self, channels: usize, classes: usize) -> Result<()> {
        if self.class_names.len() != classes {
            bail!("the model card has {} class names, the model {classes} classes", self.class_names.len());
        }
        for (what, values) in [("mean", &self.mean), ("deviation", &self.deviation)] {
            if values.len() != channels {
                bail!("the model card's {what} is of {} channels, the images have {channels}", values.len());
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                bail!("the model card's {what} holds {value}; use a number");
            }
        }
        match self.deviation.iter().find(|value| **value <= 0.0) {
            Some(value) => bail!("the model card's deviation holds {value}; pixels are divided by it"),
            None => Ok(()),
        }
    }
}
