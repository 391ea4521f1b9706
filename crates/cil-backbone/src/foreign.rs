//! Classifiers that were trained elsewhere: ResNets in the tensor names of torchvision, timm and
//! akamaster/pytorch_resnet_cifar10, from the bytes of a safetensors file.
//!
//! The architecture is recognised by tensor names and shapes; every tensor is then compared with it, and what is
//! missing, too many or of another shape is refused by name. Class names and normalisation come from [`Hints`], the
//! file's metadata or a `config.json` (see [`about`]). [`to_torch`] is the way back.
//!
//! One thing differs from the source: akamaster's shortcuts pad channels with zeros on both sides, [`Op::SubsamplePad`]
//! behind the input's alone. So the channels of a stage are stored in another order, the input's first, and
//! [`channel_order`] gives it; the network computes the same logits.
//!
//! [`Op::SubsamplePad`]: cil_engine::Op::SubsamplePad

pub mod about;
mod names;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Error, Result, Tensor, bail};
use cil_engine::{Parameters, Shape};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorInfo};

pub use about::Hints;
use names::{Layout, foreign_name};

use crate::file::{Model, ModelCard};
use crate::head::{Head, HeadKind};
use crate::network::Snapshot;
use crate::resnet::{Architecture, Variant};

/// The classifier in a safetensors file of another program. `config` is the text of the repository's `config.json`, if
/// there is one.
///
/// # Errors
/// If the bytes are not a whole safetensors file, a tensor does not fit the architecture (named with its shape), or the
/// class names or the normalisation are missing or do not fit.
pub fn from_bytes(bytes: &[u8], config: Option<&str>, hints: &Hints, device: &Device) -> Result<Model> {
    let (header_bytes, header) = match SafeTensors::read_metadata(bytes) {
        Ok(read) => read,
        Err(error) => bail!("not a whole safetensors file: {error}"),
    };
    let data = &bytes[size_of::<u64>() + header_bytes..];
    let infos = renamed(header.tensors().into_iter())?;
    let layout = Layout::of(&infos.iter().map(|(name, (_, info))| (name.as_str(), &*info.shape)).collect())?;
    let gathered = about::gather(header.metadata().as_ref(), config, hints)?;
    let side = gathered.side.unwrap_or(layout.usual_side());
    let images = Shape::Map { channels: layout.channels, height: side, width: side };
    let architecture = layout.architecture;
    let graph = architecture.graph(images)?;
    let (kind, head_names) = layout.head_names();
    let mut head = Head::new(kind, architecture.feature_width());
    head.blocks = vec![layout.classes];
    head.check()?;

    let specs = graph.parameter_specs().into_iter().map(|spec| (foreign_name(&spec.name), spec));
    let heads = head_names.iter().map(|name| (*name).to_owned()).zip(head.specs());
    let (mut left, mut tensors) = (infos, BTreeMap::new());
    for (foreign, spec) in specs.chain(heads) {
        let Some((own, info)) = left.remove(&foreign) else {
            bail!("tensor {foreign} is missing; {architecture} has one of {:?}", spec.dims);
        };
        if info.shape != spec.dims {
            bail!("tensor {own} is {:?}, {architecture} needs {:?}", info.shape, spec.dims);
        }
        let value = read(&own, &info, data)?;
        tensors.insert(spec.name.clone(), reordered(architecture, &spec.name, &value, false)?);
    }
    if let Some((own, info)) = left.values().next() {
        bail!(
            "tensor {own} {:?} is too many: {architecture} with this head has none of that name",
            info.shape
        );
    }
    let tensors = tensors.into_iter().map(|(name, value)| Ok((name, value.to_device(device)?)));
    let parameters = Parameters::from_tensors(tensors.collect::<Result<_>>()?);
    let card = gathered.card(layout.channels, layout.classes)?;
    Ok(Model::new(Snapshot { backbone: architecture.into(), images, head, parameters }, card))
}

/// A network's tensors in the names and the order of channels that torchvision and timm, or akamaster's code for
/// [`Variant::He`], load.
///
/// # Errors
/// If the network is of another family, or its head is not linear in the features.
pub fn to_torch(snapshot: &Snapshot) -> Result<BTreeMap<String, Tensor>> {
    let Some(architecture) = snapshot.backbone.architecture() else {
        bail!("{} has no counterpart in torchvision or timm; use --onnx", snapshot.backbone)
    };
    match architecture.variant {
        Variant::He | Variant::Torchvision | Variant::TorchvisionSmall => {}
        _ => bail!(
            "{architecture} has no counterpart in torchvision or timm: it has no ReLU after its last block; use --onnx"
        ),
    }
    if !matches!(snapshot.head.kind, HeadKind::Linear | HeadKind::WithoutBias) {
        bail!(
            "the head is {:?}, which normalises the features first; torchvision's is linear, so use --onnx",
            snapshot.head.kind
        );
    }
    if !snapshot.head.stages.is_empty() {
        bail!("the head reads several stages of the network, which torchvision's does not; use --onnx");
    }
    let mut tensors = BTreeMap::new();
    for spec in architecture.graph(snapshot.images)?.parameter_specs() {
        let value = reordered(architecture, &spec.name, snapshot.parameters.get(&spec.name)?, true)?;
        tensors.insert(foreign_name(&spec.name), value);
    }
    let head = snapshot.head.weights(&snapshot.parameters)?;
    let name = if architecture.variant == Variant::He { "linear" } else { "fc" };
    let weight = reordered(architecture, "head.0.weight", &Tensor::cat(&head.weights, 0)?, true)?;
    tensors.insert(format!("{name}.weight"), weight);
    if !head.biases.is_empty() {
        tensors.insert(format!("{name}.bias"), Tensor::cat(&head.biases, 0)?);
    }
    Ok(tensors)
}

/// The card of a model whose file says nothing of its classes but these hints.
pub(crate) fn card(class_names: Vec<String>, mean: Vec<f32>, deviation: Vec<f32>) -> ModelCard {
    ModelCard { class_names, mean, deviation, trained_on: None }
}

/// Tensors by name without the prefix `module.`, which saving from several GPUs leaves, and without the counters of
/// batch norms; with their own name.
fn renamed<'a>(
    tensors: impl Iterator<Item = (String, &'a TensorInfo)>,
) -> Result<BTreeMap<String, (String, TensorInfo)>> {
    let mut renamed = BTreeMap::new();
    for (own, info) in tensors {
        let name = own.strip_prefix("module.").unwrap_or(&own).to_owned();
        if name.ends_with(".num_batches_tracked") {
            continue;
        }
        if let Some((other, _)) = renamed.insert(name, (own.clone(), info.clone())) {
            bail!(
                "tensors {own} and {other} are one and the same without \"module.\"; leave one of them out"
            );
        }
    }
    Ok(renamed)
}

/// A tensor's values as `f32`.
fn read(name: &str, info: &TensorInfo, data: &[u8]) -> Result<Tensor> {
    let dtype = match info.dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F64 => DType::F64,
        other => bail!("tensor {name} is {other:?}; a classifier's tensors are F32, F16, BF16 or F64"),
    };
    // In range: the header was read, and it is refused unless its tensors are exactly the rest of the file.
    let (from, to) = info.data_offsets;
    let value = Tensor::from_raw_buffer(&data[from..to], dtype, &info.shape, &Device::Cpu)?;
    let value = value.to_dtype(DType::F32)?;
    let values = value.flatten_all()?.to_vec1::<f32>()?;
    match values.iter().find(|value| !value.is_finite()) {
        Some(wrong) => bail!("tensor {name} holds {wrong}; a classifier's values are finite"),
        None => Ok(value),
    }
}

/// For each channel of a stage's output here, which one it is in akamaster's network: the input's channels come first,
/// as
/// [`Op::SubsamplePad`](cil_engine::Op::SubsamplePad) has them. `stage` counts from 0.
///
/// # Errors
/// If `width` is odd, so that as many zeros on both sides do not make twice as many channels.
pub fn channel_order(width: usize, stage: usize) -> Result<Vec<u32>> {
    if !width.is_multiple_of(2) {
        bail!("a network of width {width} cannot pad as many channels on both sides; its width is even");
    }
    let mut order: Vec<u32> = (0..width as u32).collect();
    for _ in 0..stage {
        let inputs = order.len() as u32;
        let before = inputs / 2;
        let padded = (0..before).chain(before + inputs..2 * inputs);
        order = order.iter().map(|channel| before + channel).chain(padded).collect();
    }
    Ok(order)
}

/// A tensor of [`Variant::He`] with its channels in the order of this program, or with `back` in akamaster's; others
/// as they are.
fn reordered(architecture: Architecture, name: &str, value: &Tensor, back: bool) -> Result<Tensor> {
    if architecture.variant != Variant::He {
        return Ok(value.clone());
    }
    let mut value = value.clone();
    for (axis, stage) in names::reordered_axes(name) {
        let mut order = channel_order(architecture.width, stage)?;
        if back {
            let mut inverse = vec![0; order.len()];
            order.iter().enumerate().for_each(|(own, theirs)| inverse[*theirs as usize] = own as u32);
            order = inverse;
        }
        let order = Tensor::new(order, value.device())?;
        value = value.contiguous()?.index_select(&order, axis)?;
    }
    Ok(value)
}

/// A complaint with what came before it.
pub(crate) fn unreadable(place: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Msg(format!("{place}: {error}"))
}
