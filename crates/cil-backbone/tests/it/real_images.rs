//! LUCIR's ResNet-32 on real images against PyTorch in double precision: loss, and gradients of all weights and of the
//! images. `golden/real_images.py` made the numbers from sixteen training images of CIFAR-100.
//!
//! The images are not ours to keep here: where `cargo xtask fetch-data cifar100` has not been run, the test says so and
//! checks nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use cil_backbone::{Architecture, POOLED};
use cil_engine::{ExecutorFactory, ForwardSpec, Gradients, Keep, Norm, Shape, Upstream};
use serde_json::Value;

use crate::support::{check_summary, cpu, golden_network, noise, reference};

const IMAGES: Shape = Shape::Map { channels: 3, height: 32, width: 32 };

/// `rows` images that lie `step` apart, normalised as LUCIR does; none without the data set.
#[expect(clippy::print_stdout, reason = "what is not tested is said")]
fn images(rows: usize, step: usize) -> Option<Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/cifar100/train.images");
    let Ok(mut file) = File::open(&path) else {
        println!("NOT TESTED, for want of {}: cargo xtask fetch-data cifar100", path.display());
        return None;
    };
    let len = IMAGES.elements();
    let mut bytes = vec![0; rows * len];
    for (row, bytes) in bytes.chunks_exact_mut(len).enumerate() {
        file.seek(SeekFrom::Start((row * step * len) as u64)).unwrap();
        file.read_exact(bytes).unwrap();
    }
    let row = |values: [f64; 3]| Tensor::new(&values, &Device::Cpu)?.reshape((1, 3, 1, 1));
    let normalise = || -> Result<Tensor> {
        let values = bytes.iter().map(|value| f64::from(*value) / 255.0);
        let raw = Tensor::from_iter(values, &Device::Cpu)?.reshape(IMAGES.dims(rows))?;
        raw.broadcast_sub(&row([0.5071, 0.4866, 0.4409])?)?.broadcast_div(&row([0.2009, 0.1984, 0.2023])?)
    };
    Some(normalise().unwrap())
}

fn compare(
    golden: &Value,
    mode: &str,
    executors: &ExecutorFactory,
    dtype: DType,
    tolerance: f64,
) -> Result<()> {
    let labels: Vec<u32> = serde_json::from_value(golden["labels"].clone()).unwrap();
    let step = golden["step"].as_u64().unwrap() as usize;
    let Some(images) = images(labels.len(), step) else { return Ok(()) };
    let network = golden_network(Architecture::lucir(32), IMAGES, executors, dtype)?;
    let norm = if mode == "batch" { Norm::Batch } else { Norm::Running };
    let spec = ForwardSpec { norm, moments: false, keep: Keep::Tape { weights: true, input: true } };
    let pass = network.executor().forward(network.parameters(), &images.to_dtype(dtype)?, spec)?;

    let features = Var::from_tensor(pass.tap(POOLED)?)?;
    let head = Var::from_tensor(&noise("head", &[100, 64])?.to_dtype(dtype)?)?;
    let logits = features.matmul(&head.t()?)?;
    let labels = Tensor::new(labels, &Device::Cpu)?.unsqueeze(1)?;
    let own = logits.gather(&labels, 1)?.squeeze(1)?;
    let loss = (logits.log_sum_exp(D::Minus1)? - own)?.mean_all()?;
    let golden = &golden[mode];
    let (found, expected) =
        (loss.to_dtype(DType::F64)?.to_scalar::<f64>()?, golden["loss"].as_f64().unwrap());
    assert!((found / expected - 1.0).abs() < tolerance, "{mode}: loss {found}, PyTorch has {expected}");

    let grads = loss.backward()?;
    check_summary("head", grads.get(&head).unwrap(), &golden["head"], tolerance);
    let mut upstream = Upstream::default();
    upstream.taps.insert(POOLED.to_owned(), grads.get(&features).unwrap().clone());
    let mut gradients = Gradients::default();
    let tape = pass.tape.expect("a tape was asked for");
    let input = network.executor().backward(network.parameters(), tape, &upstream, &mut gradients)?;
    check_summary("input", &input.expect("asked for"), &golden["input"], tolerance);
    let expected: BTreeMap<String, Value> = serde_json::from_value(golden["gradients"].clone()).unwrap();
    assert_eq!(
        gradients.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (name, gradient) in gradients.iter() {
        check_summary(name, gradient, &expected[name], tolerance);
    }
    Ok(())
}

#[test]
fn resnet_32_equals_pytorch_on_real_images() -> Result<()> {
    let golden: Value = serde_json::from_str(include_str!("../golden/real_images.json")).unwrap();
    // In `f32` a value that rounding moves over a ReLU's edge takes its gradient along, in PyTorch too: with batch
    // statistics that is most of the error. Without, what Winograd's filtering costs shows.
    for (mode, of_pytorchs) in [("batch", 4.0), ("running", 20.0)] {
        compare(&golden, mode, &reference(), DType::F64, 1e-9)?;
        let error = golden[mode]["float_error"].as_f64().unwrap();
        compare(&golden, mode, &cpu(), DType::F32, of_pytorchs * error)?;
    }
    Ok(())
}
