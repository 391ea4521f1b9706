//! Networks as bytes in the safetensors format.
//!
//! One decision: the file's metadata say all that is needed to use the model elsewhere (form, class names,
//! normalisation), and names, types and shapes of all tensors are held against that form before a value is read. Whatever
//! else the bytes are, they are an error. This module opens no file.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Error, Result, Tensor, bail};
use cil_engine::{Parameters, Shape};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::head::Head;
use crate::network::{Snapshot, check_form};
use crate::resnet::Architecture;

/// Version of the metadata.
const FORMAT: u32 = 1;
/// The metadata's key; what other programs write under other keys is left alone.
const KEY: &str = "cil";

/// What a model's user must know beside its values.
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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Metadata {
    format: u32,
    architecture: Architecture,
    /// Channels, height, width.
    image_dims: [usize; 3],
    head: Head,
    card: ModelCard,
}

/// What every version of the metadata has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// The bytes of a model file; equal models give equal bytes.
///
/// # Errors
/// If the snapshot's values are not those of its form or not `f32`, or the card does not suit the model.
pub fn to_bytes(snapshot: &Snapshot, card: &ModelCard) -> Result<Vec<u8>> {
    snapshot.check()?;
    let Shape::Map { channels, height, width } = snapshot.images else { bail!("the model takes no images") };
    card.check(channels, snapshot.head.classes())?;
    let metadata = Metadata {
        format: FORMAT,
        architecture: snapshot.architecture,
        image_dims: [channels, height, width],
        head: snapshot.head.clone(),
        card: card.clone(),
    };
    let metadata = serde_json::to_string(&metadata).map_err(Error::wrap)?;
    let mut buffers = Vec::new();
    for (name, tensor) in snapshot.parameters.iter() {
        if tensor.dtype() != DType::F32 {
            bail!("tensor {name} is {:?}, a model file holds F32", tensor.dtype());
        }
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        buffers.push((name, tensor.dims(), bytes));
    }
    let mut views = Vec::new();
    for (name, dims, bytes) in &buffers {
        views.push((*name, TensorView::new(Dtype::F32, dims.to_vec(), bytes).map_err(Error::wrap)?));
    }
    let metadata = HashMap::from([(KEY.to_owned(), metadata)]);
    safetensors::serialize(views, Some(metadata)).map_err(Error::wrap)
}

/// The model in the bytes of a model file.
///
/// # Errors
/// If the bytes are not a whole model file of this program and version, a tensor is missing, too many, or of another
/// shape or type, or the card does not suit the model.
pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<(Snapshot, ModelCard)> {
    let (header_bytes, header) = match SafeTensors::read_metadata(bytes) {
        Ok(read) => read,
        Err(error) => bail!("not a whole safetensors file: {error}"),
    };
    let Some(text) = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY)) else {
        bail!("a safetensors file without the metadata {KEY:?}: not a model of this program");
    };
    let Metadata { architecture, image_dims: [channels, height, width], head, card, .. } = parse(text)?;
    let images = Shape::Map { channels, height, width };
    let infos: BTreeMap<String, _> = header.tensors().into_iter().collect();
    let dims = infos.iter().map(|(name, info)| (name.as_str(), info.shape.as_slice())).collect();
    check_form(architecture, images, &head, &dims)?;
    card.check(channels, head.classes())?;
    let data = &bytes[size_of::<u64>() + header_bytes..];
    let mut tensors = BTreeMap::new();
    for (name, info) in infos {
        if info.dtype != Dtype::F32 {
            bail!("tensor {name} is {:?}, a model file holds F32", info.dtype);
        }
        // In range: the header was read, and it is refused unless its tensors are exactly the rest of the file.
        let (from, to) = info.data_offsets;
        let values = data[from..to].as_chunks().0.iter().map(|value| f32::from_le_bytes(*value));
        let tensor = Tensor::from_vec(values.collect(), info.shape.as_slice(), device)?;
        tensors.insert(name, tensor);
    }
    let snapshot = Snapshot { architecture, images, head, parameters: Parameters::from_tensors(tensors) };
    Ok((snapshot, card))
}

fn parse(text: &str) -> Result<Metadata> {
    let unreadable = |error| Error::Msg(format!("the metadata {KEY:?} cannot be read: {error}"));
    // First, so that a later version's file is told from a broken one.
    let Version { format } = serde_json::from_str(text).map_err(unreadable)?;
    if format != FORMAT {
        bail!("a model file of format {format}, this program reads {FORMAT}");
    }
    serde_json::from_str(text).map_err(unreadable)
}

impl ModelCard {
    /// Refuses a card that does not suit a model.
    fn check(&self, channels: usize, classes: usize) -> Result<()> {
        if self.class_names.len() != classes {
            bail!("the model card has {} class names, the model {classes} classes", self.class_names.len());
        }
        for (what, values) in [("mean", &self.mean), ("deviation", &self.deviation)] {
            if values.len() != channels {
                bail!("the model card's {what} is of {} channels, the images have {channels}", values.len());
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                bail!("the model card's {what} holds {value}; it should be a number");
            }
        }
        match self.deviation.iter().find(|value| **value <= 0.0) {
            Some(value) => bail!("the model card's deviation holds {value}; pixels are divided by it"),
            None => Ok(()),
        }
    }
}
