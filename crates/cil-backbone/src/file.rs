//! Networks as bytes in the safetensors format.
//!
//! One decision: the file's metadata say all that is needed to use the model elsewhere (form, class names,
//! normalisation), and every tensor is checked against that form before a network is made of it. This module opens no
//! file.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, bail};
use cil_engine::{Parameters, Shape};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::head::Head;
use crate::network::Snapshot;
use crate::resnet::Architecture;

/// Version of the metadata.
const FORMAT: u32 = 1;
/// The metadata's key.
const KEY: &str = "cil";

/// What a model's user must know beside its values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelCard {
    /// Class names in the order of the logits.
    pub class_names: Vec<String>,
    /// Per channel, subtracted from pixels in `[0, 1]`.
    pub mean: Vec<f32>,
    /// Per channel, divided by afterwards.
    pub deviation: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata {
    format: u32,
    architecture: Architecture,
    image_dims: [usize; 3],
    head: Head,
    card: ModelCard,
}

/// The bytes of a model file.
///
/// # Errors
/// If a value is not `f32`, or the card does not name every class.
pub fn to_bytes(snapshot: &Snapshot, card: &ModelCard) -> Result<Vec<u8>> {
    if card.class_names.len() != snapshot.head.classes() {
        bail!("{} class names for {} classes", card.class_names.len(), snapshot.head.classes());
    }
    let Shape::Map { channels, height, width } = snapshot.images else { bail!("the model takes no images") };
    let metadata = Metadata {
        format: FORMAT,
        architecture: snapshot.architecture,
        image_dims: [channels, height, width],
        head: snapshot.head.clone(),
        card: card.clone(),
    };
    let metadata = serde_json::to_string(&metadata).map_err(candle_core::Error::wrap)?;
    let mut buffers = BTreeMap::new();
    for (name, tensor) in snapshot.parameters.iter() {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        buffers.insert(name, (tensor.dims().to_vec(), bytes));
    }
    let mut views = Vec::new();
    for (name, (dims, bytes)) in &buffers {
        views.push((
            *name,
            TensorView::new(Dtype::F32, dims.clone(), bytes).map_err(candle_core::Error::wrap)?,
        ));
    }
    let metadata = HashMap::from([(KEY.to_owned(), metadata)]);
    safetensors::serialize(views, Some(metadata)).map_err(candle_core::Error::wrap)
}

/// The model in the bytes of a model file.
///
/// # Errors
/// If the bytes are not a model file of ours, or a tensor is missing, too many, or of another shape.
pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<(Snapshot, ModelCard)> {
    let broken = |error: safetensors::SafeTensorError| {
        candle_core::Error::Msg(format!("not a whole safetensors file: {error}"))
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let Some(text) = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY)) else {
        bail!("a safetensors file without the metadata {KEY:?}: not a model of this program");
    };
    let metadata: Metadata = match serde_json::from_str(text) {
        Ok(metadata) => metadata,
        Err(error) => bail!("the metadata {KEY:?} cannot be read: {error}"),
    };
    if metadata.format != FORMAT {
        bail!("a model file of format {}, this program reads {FORMAT}", metadata.format);
    }
    let file = SafeTensors::deserialize(bytes).map_err(broken)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            bail!("tensor {name} is {:?}, models hold F32", view.dtype());
        }
        tensors
            .insert(name.to_owned(), Tensor::from_raw_buffer(view.data(), DType::F32, view.shape(), device)?);
    }
    let [channels, height, width] = metadata.image_dims;
    let snapshot = Snapshot {
        architecture: metadata.architecture,
        images: Shape::Map { channels, height, width },
        head: metadata.head,
        parameters: Parameters::from_tensors(tensors),
    };
    snapshot.check()?;
    if metadata.card.class_names.len() != snapshot.head.classes() {
        bail!("{} class names for {} classes", metadata.card.class_names.len(), snapshot.head.classes());
    }
    Ok((snapshot, metadata.card))
}

impl Snapshot {
    /// Refuses values that are not those of the form.
    ///
    /// # Errors
    /// Naming the tensor that is missing, too many, or of another shape.
    pub fn check(&self) -> Result<()> {
        let graph = self.architecture.graph(self.images)?;
        let mut wanted: BTreeMap<String, Vec<usize>> =
            graph.parameter_specs().into_iter().map(|spec| (spec.name, spec.dims)).collect();
        if self.head.width != self.architecture.feature_width() {
            bail!(
                "the head takes features of {}, {} gives {}",
                self.head.width,
                self.architecture,
                self.architecture.feature_width()
            );
        }
        for (block, classes) in self.head.blocks.iter().enumerate() {
            for name in self.head.block_names(block) {
                let dims =
                    if name.ends_with("weight") { vec![*classes, self.head.width] } else { vec![*classes] };
                wanted.insert(name, dims);
            }
        }
        if self.head.names().iter().any(|name| name == crate::head::SCALE) && !self.head.blocks.is_empty() {
            wanted.insert(crate::head::SCALE.to_owned(), vec![1]);
        }
        for (name, dims) in &wanted {
            if !self.parameters.contains(name) {
                bail!("{} needs a tensor {name}, there is none", self.architecture);
            }
            let found = self.parameters.get(name)?.dims();
            if found != dims {
                bail!("tensor {name} is {found:?}, {} needs {dims:?}", self.architecture);
            }
        }
        match self.parameters.iter().find(|(name, _)| !wanted.contains_key(*name)) {
            Some((name, _)) => bail!("{} has no tensor {name}", self.architecture),
            None => Ok(()),
        }
    }
}
