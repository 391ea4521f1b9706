//! The CPU executor's side of a race against PyTorch: one training, evaluation or inversion step per line read.
//!
//! usage: `step [THREADS]`; reads lines `train`, `eval` or `invert`, answers each with `WALL_MS CPU_MS`. The networks
//! and the work are those of the PyTorch server that it races: ResNet-32 on 128 images of 3x32x32 with 100 classes, and
//! a generator looked at through the frozen network and its batch-norm statistics.

#![expect(clippy::print_stdout, reason = "the answer to each line")]

use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::Instant;

use candle_core::{Device, Result, Tensor, bail};
use cil_engine::cpu::CpuExecutor;
use cil_engine::{
    Executor, ForwardSpec, Gradients, Graph, GraphBuilder, Init, MomentGradient, NodeId, Op, Parameters,
    Pass, Shape, Upstream,
};
use cil_random::{Draw, Stream};

const ROWS: usize = 128;
const CLASSES: usize = 100;
const LATENT: usize = 100;

struct Net(GraphBuilder);

impl Net {
    fn conv(&mut self, name: &str, out: usize, kernel: usize, stride: usize, x: NodeId) -> Result<NodeId> {
        let op = Op::Conv2d { out_channels: out, kernel, stride, padding: kernel / 2, bias: false };
        self.0.add_with(name, op, &[x], Init::KaimingNormalFanOut)
    }

    fn norm(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        self.0.add(name, Op::BatchNorm { affine: true, epsilon: 1e-5 }, &[x])
    }

    fn block(&mut self, name: &str, out: usize, stride: usize, x: NodeId) -> Result<NodeId> {
        let y = self.conv(&format!("{name}.conv1"), out, 3, stride, x)?;
        let y = self.norm(&format!("{name}.bn1"), y)?;
        let y = self.0.add(&format!("{name}.relu1"), Op::Relu, &[y])?;
        let y = self.conv(&format!("{name}.conv2"), out, 3, 1, y)?;
        let y = self.norm(&format!("{name}.bn2"), y)?;
        let mut short = x;
        if stride > 1 || self.0.shape(x).channels() != out {
            short = self.conv(&format!("{name}.short"), out, 1, stride, x)?;
            short = self.norm(&format!("{name}.short_bn"), short)?;
        }
        let sum = self.0.add(&format!("{name}.add"), Op::Add, &[y, short])?;
        self.0.add(&format!("{name}.relu2"), Op::Relu, &[sum])
    }
}

fn resnet32() -> Result<Graph> {
    let mut net = Net(GraphBuilder::new(Shape::Map { channels: 3, height: 32, width: 32 }));
    let x = net.conv("stem", 16, 3, 1, net.0.input())?;
    let x = net.norm("stem_bn", x)?;
    let mut x = net.0.add("stem_relu", Op::Relu, &[x])?;
    for (stage, width) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..5 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = net.block(&format!("{stage}.{block}"), width, stride, x)?;
        }
    }
    let x = net.0.add("pool", Op::GlobalAvgPool, &[x])?;
    let x = net.0.add("head", Op::Linear { out_features: CLASSES, bias: true }, &[x])?;
    net.0.tap("logits", x);
    net.0.build()
}

fn generator() -> Result<Graph> {
    let mut builder = GraphBuilder::new(Shape::Vector { width: LATENT });
    let norm = |affine| Op::BatchNorm { affine, epsilon: 1e-5 };
    let conv = |out| Op::Conv2d { out_channels: out, kernel: 3, stride: 1, padding: 1, bias: true };
    let x = builder.add("linear", Op::Linear { out_features: 128 * 64, bias: true }, &[builder.input()])?;
    let x = builder.reshape("map", x, Shape::Map { channels: 128, height: 8, width: 8 })?;
    let mut x = builder.add("bn0", norm(true), &[x])?;
    for (at, width) in [(1, 128), (2, 64)] {
        x = builder.add(&format!("up{at}"), Op::UpsampleNearest { factor: 2 }, &[x])?;
        x = builder.add(&format!("conv{at}"), conv(width), &[x])?;
        x = builder.add(&format!("bn{at}"), norm(true), &[x])?;
        x = builder.add(&format!("act{at}"), Op::LeakyRelu { slope: 0.2 }, &[x])?;
    }
    let x = builder.add("conv3", conv(3), &[x])?;
    let x = builder.add("tanh", Op::Tanh, &[x])?;
    let x = builder.add("bn3", norm(false), &[x])?;
    builder.tap("image", x);
    builder.build()
}

/// Standard normal values.
fn normal(dims: &[usize], stream: &mut Stream) -> Result<Tensor> {
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| stream.normal() as f32).collect();
    Tensor::from_vec(values, dims, &Device::Cpu)
}

/// Gradient of the mean cross-entropy to the logits.
fn cross_entropy_gradient(logits: &Tensor, labels: &[usize]) -> Result<Tensor> {
    let mut rows = logits.to_vec2::<f32>()?;
    for (row, label) in rows.iter_mut().zip(labels) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|value| *value = (*value - largest).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|value| *value /= sum);
        row[*label] -= 1.0;
        row.iter_mut().for_each(|value| *value /= ROWS as f32);
    }
    Tensor::new(rows, &Device::Cpu)
}

/// Moves weights: `rule(weight, gradient, first state, second state)` gives the new weight.
fn step(
    parameters: &mut Parameters,
    gradients: &Gradients,
    state: &mut BTreeMap<String, (Vec<f32>, Vec<f32>)>,
    rule: impl Fn(f32, f32, &mut f32, &mut f32) -> f32,
) -> Result<()> {
    for (name, gradient) in gradients.iter() {
        let weight = parameters.get(name)?;
        let dims = weight.dims().to_vec();
        let mut values = weight.flatten_all()?.to_vec1::<f32>()?;
        let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
        let zeros = || vec![0.0; values.len()];
        let (first, second) = state.entry(name.to_owned()).or_insert_with(|| (zeros(), zeros()));
        for (((value, gradient), first), second) in values.iter_mut().zip(gradient).zip(first).zip(second) {
            *value = rule(*value, gradient, first, second);
        }
        parameters.set(name, Tensor::from_vec(values, dims, &Device::Cpu)?);
    }
    Ok(())
}

struct Work {
    net: CpuExecutor,
    generator: CpuExecutor,
    weights: Parameters,
    generator_weights: Parameters,
    images: Tensor,
    labels: Vec<usize>,
    stream: Stream,
    momentum: BTreeMap<String, (Vec<f32>, Vec<f32>)>,
    adam: BTreeMap<String, (Vec<f32>, Vec<f32>)>,
    steps: i32,
}

impl Work {
    fn new() -> Result<Self> {
        let (net, generator) = (CpuExecutor::new(resnet32()?)?, CpuExecutor::new(generator()?)?);
        let mut stream = Draw::new(0, "race").stream("all");
        Ok(Self {
            weights: Parameters::init(net.graph(), 0, &Device::Cpu)?,
            generator_weights: Parameters::init(generator.graph(), 0, &Device::Cpu)?,
            images: normal(&[ROWS, 3, 32, 32], &mut stream)?,
            labels: (0..ROWS).map(|_| stream.below(CLASSES)).collect(),
            net,
            generator,
            stream,
            momentum: BTreeMap::new(),
            adam: BTreeMap::new(),
            steps: 0,
        })
    }

    fn upstream(&self, pass: &Pass) -> Result<Upstream> {
        let logits = cross_entropy_gradient(pass.tap("logits")?, &self.labels)?;
        Ok(Upstream { taps: BTreeMap::from([("logits".to_owned(), logits)]), moments: BTreeMap::new() })
    }

    fn train(&mut self) -> Result<()> {
        let mut pass = self.net.forward(&self.weights, &self.images, ForwardSpec::TRAIN)?;
        let upstream = self.upstream(&pass)?;
        let (Some(tape), Some(update)) = (pass.tape.take(), pass.statistics.take()) else { bail!("no tape") };
        let mut gradients = Gradients::default();
        self.net.backward(&self.weights, tape, &upstream, &mut gradients)?;
        self.weights.update_statistics(&update, 0.1)?;
        step(&mut self.weights, &gradients, &mut self.momentum, |weight, gradient, velocity, _| {
            *velocity = 0.9 * *velocity + gradient + 5e-4 * weight;
            weight - 0.1 * *velocity
        })
    }

    fn eval(&mut self) -> Result<()> {
        self.net.forward(&self.weights, &self.images, ForwardSpec::EVAL)?;
        Ok(())
    }

    fn invert(&mut self) -> Result<()> {
        let latent = normal(&[ROWS, LATENT], &mut self.stream)?;
        let mut drawn = self.generator.forward(&self.generator_weights, &latent, ForwardSpec::TRAIN)?;
        let mut seen = self.net.forward(&self.weights, drawn.tap("image")?, ForwardSpec::PROBE)?;
        let mut upstream = self.upstream(&seen)?;
        for of in &seen.moments {
            let running_mean = self.weights.get(&format!("{}.running_mean", of.name))?;
            let running_variance = self.weights.get(&format!("{}.running_var", of.name))?;
            // KL((mean - m)^2 + variance) / 2v - log(variance / v) / 2
            let mean = ((&of.mean - running_mean)? / running_variance)?;
            let variance = ((running_variance.recip()? - of.variance.recip()?)? * 0.5)?;
            upstream.moments.insert(of.name.clone(), MomentGradient { mean, variance });
        }
        let (Some(tape), Some(own)) = (seen.tape.take(), drawn.tape.take()) else { bail!("no tape") };
        let mut gradients = Gradients::default();
        let Some(image) = self.net.backward(&self.weights, tape, &upstream, &mut gradients)? else {
            bail!("no gradient of the image");
        };
        let upstream =
            Upstream { taps: BTreeMap::from([("image".to_owned(), image)]), moments: BTreeMap::new() };
        self.generator.backward(&self.generator_weights, own, &upstream, &mut gradients)?;
        if let Some(update) = drawn.statistics.take() {
            self.generator_weights.update_statistics(&update, 0.1)?;
        }
        self.steps += 1;
        let (first, second) = (1.0 - 0.5f32.powi(self.steps), 1.0 - 0.999f32.powi(self.steps));
        step(&mut self.generator_weights, &gradients, &mut self.adam, |weight, gradient, mean, square| {
            *mean = 0.5 * *mean + 0.5 * gradient;
            *square = 0.999 * *square + 0.001 * gradient * gradient;
            weight - 1e-3 * (*mean / first) / ((*square / second).sqrt() + 1e-8)
        })
    }
}

/// Processor time of all threads so far, in milliseconds, to ten.
fn cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks * 10.0
}

fn main() -> Result<()> {
    let threads = std::env::args().nth(1).and_then(|argument| argument.parse().ok()).unwrap_or(2);
    if rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().is_err() {
        bail!("no pool of {threads} threads");
    }
    let mut work = Work::new()?;
    for line in std::io::stdin().lock().lines() {
        let (wall, cpu) = (Instant::now(), cpu_time());
        match line?.trim() {
            "train" => work.train()?,
            "eval" => work.eval()?,
            "invert" => work.invert()?,
            other => bail!("no work is named {other}"),
        }
        println!("{:.3} {:.3}", wall.elapsed().as_secs_f64() * 1e3, cpu_time() - cpu);
    }
    Ok(())
}
