//! `export`: a model for other programs.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use candle_core::Tensor;
use cil_backbone::foreign::to_torch;
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;

use crate::cli::args::Global;
use crate::cli::args::models::Export;
use crate::cli::failure::bad_input;
use crate::cli::output::Output;
use crate::engine::Engine;
use crate::folder::files::write_atomic;
use crate::models::{Opened, onnx};

#[derive(Debug, Serialize)]
struct Report {
    file: String,
    format: &'static str,
    bytes: usize,
    opset: Option<i64>,
}

/// Does what `export` says.
///
/// # Errors
/// If the model cannot be read, or the format has nothing like it.
pub(super) fn export(arguments: &Export, global: &Global, output: &mut Output<'_>) -> Result<()> {
    let mut others = vec![(super::READ, arguments.model.as_path())];
    for (option, path) in [("--onnx", &arguments.onnx), ("--torch", &arguments.torch)] {
        if let Some(path) = path {
            super::check_out(option, path, &others)?;
            others.push(("the file of --onnx", path));
        }
    }
    let engine = Engine::new(global)?;
    let opened = Opened::read(&arguments.model, &arguments.about, &engine)?;
    let classifier = opened.classifier(&engine)?;
    let mut reports = Vec::new();
    if let Some(path) = &arguments.onnx {
        let card = &opened.model.card;
        let about = onnx::About {
            classes: &card.class_names,
            mean: &card.mean,
            deviation: &card.deviation,
            keep_batch_norms: arguments.keep_batch_norms,
        };
        let bytes = onnx::to_bytes(classifier.snapshot(), &about)
            .map_err(|error| bad_input(format!("{}: {error:#}", arguments.model.display())))?;
        reports.push(written(path, "onnx", &bytes, Some(onnx::OPSET))?);
    }
    if let Some(path) = &arguments.torch {
        let tensors = to_torch(classifier.snapshot())
            .map_err(|error| bad_input(format!("{}: {error:#}", arguments.model.display())))?;
        let metadata = HashMap::from([
            ("format".to_owned(), "pt".to_owned()),
            ("classes".to_owned(), serde_json::to_string(opened.class_names())?),
            ("mean".to_owned(), serde_json::to_string(&opened.model.card.mean)?),
            ("input_size".to_owned(), format!("[3,{0},{0}]", opened.fit.side)),
            ("std".to_owned(), serde_json::to_string(&opened.model.card.deviation)?),
        ]);
        let named = tensors.into_iter().map(|(name, value)| Ok((name, values(&value)?)));
        let bytes = named.collect::<Result<Vec<_>>>()?;
        let views = bytes
            .iter()
            .map(|(name, (dims, bytes))| Ok((name, TensorView::new(Dtype::F32, dims.clone(), bytes)?)));
        let bytes = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata))?;
        reports.push(written(path, "torch", &bytes, None)?);
    }
    if output.json {
        return output.value(&reports);
    }
    reports.iter().try_for_each(|it| {
        let opset = it.opset.map_or(String::new(), |opset| format!(", opset {opset}"));
        output.text(&format!("{}: {} of {:.2} MB{opset}\n", it.file, it.format, it.bytes as f64 / 1e6))
    })
}

fn written(path: &Path, format: &'static str, bytes: &[u8], opset: Option<i64>) -> Result<Report> {
    write_atomic(path, bytes)?;
    Ok(Report { file: path.display().to_string(), format, bytes: bytes.len(), opset })
}

/// Dimensions and bytes.
fn values(tensor: &Tensor) -> Result<(Vec<usize>, Vec<u8>)> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok((tensor.dims().to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect()))
}
