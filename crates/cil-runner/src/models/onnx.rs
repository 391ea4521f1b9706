//! A classifier as an ONNX file.
//!
//! The file is complete and needs nothing else to run: it takes RGB in [0, 1], normalises them,
//! and its metadata name the classes. Batch norms are folded into the convolutions before them, unless they are to
//! stay.

mod cells;
mod proto;

use anyhow::{Result, bail};
use candle_core::{DType, Tensor};
use cil_backbone::head::{SCALE, normalized};
use cil_backbone::{HeadKind, POOLED, Snapshot};
use cil_engine::{Graph, Op, Shape};
use prost::Message as _;

use proto::{Attribute, FLOAT, INT64};

/// The operator set that the file is written for.
pub const OPSET: i64 = 17;
/// The version of the format that has it.
const IR_VERSION: i64 = 8;
/// Name of the input, `[N, 3, side, side]`.
pub const INPUT: &str = "images";
/// Name of the output, `[N, classes]`.
pub const OUTPUT: &str = "logits";

/// The metadata of a file.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// Class names in the order of the logits.
    pub classes: &'a [String],
    /// Subtracted from pixels.
    pub mean: &'a [f32],
    /// Divided by afterwards.
    pub deviation: &'a [f32],
    /// Whether batch norms stay nodes of their own.
    pub keep_batch_norms: bool,
}

/// The bytes of an ONNX file of a classifier; equal models give equal bytes.
///
/// # Errors
/// If the network has a node that no classifier here has.
pub fn to_bytes(snapshot: &Snapshot, about: &About<'_>) -> Result<Vec<u8>> {
    let read = cil_backbone::cells::taps(&snapshot.head.stages);
    let taps: Vec<&str> = match read.as_slice() {
        [] => vec![POOLED],
        read => read.iter().map(String::as_str).collect(),
    };
    let graph = snapshot.backbone.graph(snapshot.images)?.with_taps(&taps)?;
    let mut writer = Writer { snapshot, nodes: Vec::new(), values: Vec::new() };
    let colours = |name: &str, values: &[f32]| tensor(name, &[1, values.len(), 1, 1], values);
    writer.values.push(colours("mean", about.mean));
    writer.values.push(colours("deviation", about.deviation));
    writer.node("Sub", "centred", &[INPUT, "mean"], Vec::new());
    writer.node("Div", "input", &["centred", "deviation"], Vec::new());
    let mut features = writer.backbone(&graph, about.keep_batch_norms)?;
    if !snapshot.head.stages.is_empty() {
        features = vec![writer.cells(&graph, &features)?];
    }
    let [features] = features.as_slice() else { bail!("the network has no features") };
    writer.head(features)?;
    let Shape::Map { channels, height, width } = snapshot.images else {
        bail!("the network takes no images")
    };
    let metadata = [
        ("classes", serde_json::to_string(about.classes)?),
        ("input", "RGB in [0, 1], not normalised".to_owned()),
    ];
    let model = proto::Model {
        ir_version: IR_VERSION,
        producer_name: "cil-runner".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        opset_import: vec![proto::Opset { domain: String::new(), version: OPSET }],
        metadata_props: metadata
            .into_iter()
            .map(|(key, value)| proto::Entry { key: key.to_owned(), value })
            .collect(),
        graph: Some(proto::Graph {
            node: writer.nodes,
            name: snapshot.backbone.to_string(),
            initializer: writer.values,
            input: vec![value_info(INPUT, &[channels, height, width])],
            output: vec![value_info(OUTPUT, &[snapshot.head.classes()])],
        }),
    };
    Ok(model.encode_to_vec())
}

struct Writer<'a> {
    snapshot: &'a Snapshot,
    nodes: Vec<proto::Node>,
    values: Vec<proto::Tensor>,
}

impl Writer<'_> {
    fn node(&mut self, op: &str, output: &str, inputs: &[&str], attribute: Vec<Attribute>) {
        self.nodes.push(proto::Node {
            input: inputs.iter().map(|it| (*it).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op.to_owned(),
            attribute,
        });
    }

    fn value(&mut self, name: &str, values: &Tensor) -> Result<()> {
        let flat = values.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        self.values.push(tensor(name, values.dims(), &flat));
        Ok(())
    }

    fn integers(&mut self, name: &str, values: &[i64]) {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let dims = vec![values.len() as i64];
        self.values.push(proto::Tensor { dims, data_type: INT64, name: name.to_owned(), raw_data });
    }

    fn parameter(&self, node: &str, suffix: &str) -> Result<Tensor> {
        Ok(self.snapshot.parameters.get(&format!("{node}.{suffix}"))?.clone())
    }

    /// The nodes up to the graph's taps; the names of their outputs.
    fn backbone(&mut self, graph: &Graph, keep_batch_norms: bool) -> Result<Vec<String>> {
        let nodes = graph.nodes();
        let mut readers = vec![0; nodes.len()];
        nodes.iter().flat_map(|node| &node.inputs).for_each(|id| readers[id.index()] += 1);
        // The node whose output stands for each node's.
        let mut names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        for (at, node) in nodes.iter().enumerate() {
            let folded = |norm: &cil_engine::Node| {
                let source = norm.inputs[0].index();
                !keep_batch_norms
                    && readers[source] == 1
                    && matches!(nodes[source].op, Op::Conv2d { bias: false, .. })
            };
            let inputs: Vec<String> = node.inputs.iter().map(|id| names[id.index()].clone()).collect();
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            match &node.op {
                Op::Conv2d { .. } => {
                    let norm = nodes[at + 1..]
                        .iter()
                        .find(|it| matches!(it.op, Op::BatchNorm { .. }) && it.inputs[0].index() == at);
                    self.convolution(node, &inputs, norm.filter(|norm| folded(norm)))?;
                }
                Op::BatchNorm { .. } if folded(node) => {
                    names[at] = names[node.inputs[0].index()].clone();
                }
                _ => self.plain(node, &inputs)?,
            }
        }
        Ok(graph.taps().iter().map(|(_, id)| names[id.index()].clone()).collect())
    }

    fn convolution(
        &mut self,
        node: &cil_engine::Node,
        inputs: &[&str],
        norm: Option<&cil_engine::Node>,
    ) -> Result<()> {
        let Op::Conv2d { kernel, stride, padding, bias, .. } = node.op else { bail!("no convolution") };
        let name = &node.name;
        let (mut weight, mut shift) = (self.parameter(name, "weight")?, None);
        if bias {
            shift = Some(self.parameter(name, "bias")?);
        }
        if let Some(norm) = norm {
            let (scale, added) = self.folded(norm)?;
            let channels = scale.dim(0)?;
            weight = weight.to_dtype(DType::F64)?.broadcast_mul(&scale.reshape((channels, 1, 1, 1))?)?;
            shift = Some(added);
        }
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        self.value(&weight_name, &weight)?;
        let mut all = vec![inputs[0], &weight_name];
        if let Some(shift) = shift {
            self.value(&bias_name, &shift)?;
            all.push(&bias_name);
        }
        let attributes = vec![
            Attribute::ints("kernel_shape", &[kernel; 2]),
            Attribute::ints("strides", &[stride; 2]),
            Attribute::ints("pads", &[padding; 4]),
        ];
        self.node("Conv", name, &all, attributes);
        Ok(())
    }

    /// Factor and offset of a batch norm, in f64.
    fn folded(&self, norm: &cil_engine::Node) -> Result<(Tensor, Tensor)> {
        let Op::BatchNorm { affine, epsilon } = norm.op else { bail!("no batch norm") };
        let of = |suffix: &str| -> Result<Tensor> {
            Ok(self.parameter(&norm.name, suffix)?.to_dtype(DType::F64)?)
        };
        let mut scale = (of("running_var")? + epsilon)?.sqrt()?.recip()?;
        if affine {
            scale = (scale * of("weight")?)?;
        }
        let mut added = (of("running_mean")? * &scale)?.neg()?;
        if affine {
            added = (added + of("bias")?)?;
        }
        Ok((scale, added))
    }

    /// A node that is one of ONNX's, or two.
    fn plain(&mut self, node: &cil_engine::Node, inputs: &[&str]) -> Result<()> {
        let name = node.name.as_str();
        match &node.op {
            Op::Input => {}
            Op::BatchNorm { affine: true, epsilon } => {
                let parts = ["weight", "bias", "running_mean", "running_var"];
                let mut all = vec![inputs[0].to_owned()];
                for part in parts {
                    let own = format!("{name}.{part}");
                    self.value(&own, &self.parameter(name, part)?)?;
                    all.push(own);
                }
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                self.node(
                    "BatchNormalization",
                    name,
                    &all,
                    vec![Attribute::float("epsilon", *epsilon as f32)],
                );
            }
            Op::Relu => self.node("Relu", name, inputs, Vec::new()),
            Op::Add => self.node("Add", name, inputs, Vec::new()),
            Op::MaxPool { kernel, stride, padding } => {
                let attributes = vec![
                    Attribute::ints("kernel_shape", &[*kernel; 2]),
                    Attribute::ints("strides", &[*stride; 2]),
                    Attribute::ints("pads", &[*padding; 4]),
                ];
                self.node("MaxPool", name, inputs, attributes);
            }
            Op::GlobalAvgPool => {
                let map = format!("{name}.map");
                self.node("GlobalAveragePool", &map, inputs, Vec::new());
                self.node("Flatten", name, &[&map], vec![Attribute::int("axis", 1)]);
            }
            Op::SubsamplePad { stride, out_channels } => {
                self.subsampled(node, inputs[0], *stride, *out_channels)?;
            }
            other => bail!("node {name} is {other:?}, which no classifier of this program has"),
        }
        Ok(())
    }

    /// Every `stride`-th pixel, and channels of zeros behind.
    fn subsampled(
        &mut self,
        node: &cil_engine::Node,
        input: &str,
        stride: usize,
        out_channels: usize,
    ) -> Result<()> {
        let name = &node.name;
        let part = |part: &str| format!("{name}.{part}");
        let channels =
            self.snapshot.backbone.graph(self.snapshot.images)?.node(node.inputs[0]).shape.channels();
        self.integers(&part("starts"), &[0, 0]);
        self.integers(&part("ends"), &[i64::MAX, i64::MAX]);
        self.integers(&part("axes"), &[2, 3]);
        self.integers(&part("steps"), &[stride as i64; 2]);
        let inputs = [input, &part("starts"), &part("ends"), &part("axes"), &part("steps")];
        self.node("Slice", &part("slice"), &inputs, Vec::new());
        self.integers(&part("pads"), &[0, 0, 0, 0, 0, (out_channels - channels) as i64, 0, 0]);
        self.node("Pad", name, &[&part("slice"), &part("pads")], Vec::new());
        Ok(())
    }

    /// From the features to the logits.
    fn head(&mut self, features: &str) -> Result<()> {
        let head = &self.snapshot.head;
        let weights = head.weights(&self.snapshot.parameters)?;
        let weight = Tensor::cat(&weights.weights, 0)?;
        let scale = match head.kind.is_scaled() {
            true => f64::from(self.snapshot.parameters.get(SCALE)?.to_vec1::<f32>()?[0]),
            false => 1.0,
        };
        let linear = vec![Attribute::int("transB", 1)];
        match head.kind {
            HeadKind::Linear | HeadKind::WithoutBias => {
                self.value("head.weight", &weight)?;
                self.with_bias(features, &weights.biases, linear)?;
            }
            HeadKind::LinearOfDirections => {
                let features = self.powers(features, weights.power.as_ref())?;
                let features = self.directions(&features);
                self.value("head.weight", &weight)?;
                self.with_bias(&features, &weights.biases, linear)?;
            }
            HeadKind::Mahalanobis => {
                let features = self.powers(features, weights.power.as_ref())?;
                let features = self.directions(&features);
                self.value("head.weight", &weight)?;
                self.value("head.bias", &Tensor::cat(&weights.biases, 0)?)?;
                self.node("Gemm", "head.flat", &[&features, "head.weight", "head.bias"], linear);
                self.integers("head.shape", &[-1, head.classes() as i64, head.width as i64]);
                self.node("Reshape", "head.apart", &["head.flat", "head.shape"], Vec::new());
                self.node("Mul", "head.squares", &["head.apart", "head.apart"], Vec::new());
                self.integers("head.last", &[2]);
                let flat = vec![Attribute::int("keepdims", 0)];
                self.node("ReduceSum", "head.distances", &["head.squares", "head.last"], flat);
                self.values.push(tensor("head.half", &[1], &[-0.5]));
                self.node("Mul", OUTPUT, &["head.distances", "head.half"], Vec::new());
            }
            HeadKind::Cosine => {
                let features = self.directions(features);
                self.value("head.weight", &(normalized(&weight.to_dtype(DType::F64)?)? * scale)?)?;
                self.with_bias(&features, &[], linear)?;
            }
            HeadKind::MultiProxy { proxies } => {
                let features = self.directions(features);
                // Scores of proxies, 2 cos - 2, each weighted by their softmax.
                self.value("head.weight", &(normalized(&weight.to_dtype(DType::F64)?)? * 2.0)?)?;
                self.values.push(tensor("head.two", &[1], &[2.0]));
                self.values.push(tensor("head.scale", &[1], &[scale as f32]));
                self.node("Gemm", "head.twice", &[&features, "head.weight"], linear);
                self.node("Sub", "head.flat", &["head.twice", "head.two"], Vec::new());
                self.integers("head.shape", &[-1, head.classes() as i64, proxies as i64]);
                self.node("Reshape", "head.scores", &["head.flat", "head.shape"], Vec::new());
                self.node("Exp", "head.weights", &["head.scores"], Vec::new());
                self.node("Mul", "head.weighted", &["head.weights", "head.scores"], Vec::new());
                self.integers("head.last", &[2]);
                let flat = || vec![Attribute::int("keepdims", 0)];
                self.node("ReduceSum", "head.sum", &["head.weighted", "head.last"], flat());
                self.node("ReduceSum", "head.total", &["head.weights", "head.last"], flat());
                self.node("Div", "head.similarities", &["head.sum", "head.total"], Vec::new());
                self.node("Mul", OUTPUT, &["head.similarities", "head.scale"], Vec::new());
            }
        }
        Ok(())
    }

    /// Tukey's transform of features, where the head has one.
    fn powers(&mut self, features: &str, power: Option<&Tensor>) -> Result<String> {
        let Some(power) = power else { return Ok(features.to_owned()) };
        self.value("head.power", power)?;
        self.node("Pow", "features.powers", &[features, "head.power"], Vec::new());
        Ok("features.powers".to_owned())
    }

    fn with_bias(&mut self, features: &str, biases: &[Tensor], linear: Vec<Attribute>) -> Result<()> {
        let mut inputs = vec![features, "head.weight"];
        if !biases.is_empty() {
            self.value("head.bias", &Tensor::cat(biases, 0)?)?;
            inputs.push("head.bias");
        }
        self.node("Gemm", OUTPUT, &inputs, linear);
        Ok(())
    }

    /// Features divided by their length, as `cil_backbone::head::normalized` does.
    fn directions(&mut self, features: &str) -> String {
        self.directions_of(features, "features")
    }

    /// The same by nodes whose names begin with `prefix`.
    fn directions_of(&mut self, features: &str, prefix: &str) -> String {
        let part = |what: &str| format!("{prefix}.{what}");
        let (axis, least) = (part("axis"), part("least"));
        let [squares, sum, added, length] = ["squares", "sum", "added", "length"].map(part);
        let directions = part("directions");
        self.integers(&axis, &[1]);
        self.values.push(tensor(&least, &[1], &[1e-24]));
        self.node("Mul", &squares, &[features, features], Vec::new());
        let keep = vec![Attribute::int("keepdims", 1)];
        self.node("ReduceSum", &sum, &[&squares, &axis], keep);
        self.node("Add", &added, &[&sum, &least], Vec::new());
        self.node("Sqrt", &length, &[&added], Vec::new());
        self.node("Div", &directions, &[features, &length], Vec::new());
        directions
    }
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> proto::Tensor {
    proto::Tensor {
        dims: dims.iter().map(|it| *it as i64).collect(),
        data_type: FLOAT,
        name: name.to_owned(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

/// A float tensor of any number of rows.
fn value_info(name: &str, dims: &[usize]) -> proto::ValueInfo {
    let rows = proto::Dimension { dim_param: Some("N".to_owned()), dim_value: None };
    let sides = dims.iter().map(|it| proto::Dimension { dim_value: Some(*it as i64), dim_param: None });
    let shape = proto::Shape { dim: [rows].into_iter().chain(sides).collect() };
    let tensor_type = Some(proto::TensorType { elem_type: FLOAT, shape: Some(shape) });
    proto::ValueInfo { name: name.to_owned(), kind: Some(proto::Type { tensor_type }) }
}
