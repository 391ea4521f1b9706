//! Shared code of the tests of all executors: networks, random values, and the comparison with the reference in `f64`.

pub(crate) mod networks;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, bail};
use cil_random::{Draw, Stream};

use crate::reference::ReferenceExecutor;
use crate::{
    Executor, ForwardSpec, Gradients, Graph, Keep, MomentGradient, Norm, Op, Parameters, Pass, Upstream,
};

pub(crate) const TRAIN_ALL: ForwardSpec =
    ForwardSpec { norm: Norm::Batch, moments: true, keep: Keep::Tape { weights: true, input: true } };

pub(crate) struct Dice(Stream);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Draw::new(seed, "test").stream("dice"))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn tensor(&mut self, dims: &[usize], low: f64, high: f64) -> Result<Tensor> {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| self.0.between(low, high) as f32).collect();
        Tensor::from_vec(values, dims, &Device::Cpu)
    }
}

pub(crate) fn parameters(graph: &Graph, dice: &mut Dice) -> Result<Parameters> {
    let mut parameters = Parameters::default();
    for spec in graph.parameter_specs() {
        let fan: usize = spec.dims.iter().skip(1).product();
        let bound = if spec.dims.len() > 1 { (3.0 / fan as f64).sqrt() } else { 0.6 };
        let (low, high) = if spec.name.ends_with("running_var") { (0.4, 1.6) } else { (-bound, bound) };
        parameters.set(&spec.name, dice.tensor(&spec.dims, low, high)?);
    }
    Ok(parameters)
}

/// Everything a forward and a backward pass return, by name.
pub(crate) type Outcome = BTreeMap<String, Tensor>;

pub(crate) fn outcome(
    executor: &dyn Executor,
    parameters: &Parameters,
    input: &Tensor,
    spec: ForwardSpec,
    upstream: &Upstream,
) -> Result<Outcome> {
    let Pass { taps, moments, statistics, tape } = executor.forward(parameters, input, spec)?;
    let mut all: Outcome = taps.into_iter().map(|(name, tap)| (format!("tap {name}"), tap)).collect();
    for moment in moments {
        all.insert(format!("mean {}", moment.name), moment.mean);
        all.insert(format!("variance {}", moment.name), moment.variance);
    }
    for norm in statistics.into_iter().flat_map(|update| update.norms) {
        all.insert(format!("statistic {}", norm.name), norm.unbiased_variance);
    }
    if let Some(tape) = tape {
        let mut gradients = Gradients::default();
        let input = executor.backward(parameters, tape, upstream, &mut gradients)?;
        all.extend(input.map(|input| ("input gradient".to_owned(), input)));
        all.extend(gradients.iter().map(|(name, gradient)| (format!("gradient {name}"), gradient.clone())));
    }
    Ok(all)
}

pub(crate) fn norm_of(tensor: &Tensor) -> Result<f64> {
    tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.sqrt()?.to_scalar()
}

/// Whether all values are the reference's; `looser` times the distance that `f32` may have.
pub(crate) fn compare(ours: &Outcome, reference: &Outcome, looser: f64, what: &str) -> Result<()> {
    distance(ours, reference, looser, what).map(|_| ())
}

/// As [`compare`]; the largest distance of a value, of the one it may have.
pub(crate) fn distance(ours: &Outcome, reference: &Outcome, looser: f64, what: &str) -> Result<f64> {
    let mut worst = 0f64;
    // A value that is zero by cancellation is as inexact as its summands.
    let mut largest: f64 = 0.0;
    for (name, tensor) in reference.iter().filter(|(name, _)| name.contains("gradient")) {
        largest = largest.max(norm_of(tensor).map_err(|error| error.context(name.clone()))?);
    }
    for (name, expected) in reference {
        let size = norm_of(expected)?;
        let scale = (expected.elem_count() as f64).sqrt();
        let Some(found) = ours.get(name) else {
            if size == 0.0 {
                continue;
            }
            bail!("{what}: {name} is missing");
        };
        if found.dims() != expected.dims() {
            bail!("{what}: {name} has shape {:?}, not {:?}", found.dims(), expected.dims());
        }
        let distance = norm_of(&(found.to_dtype(DType::F64)? - expected.to_dtype(DType::F64)?)?)?;
        let bound = looser * (3e-4 * size + 3e-5 * scale + 1e-5 * largest);
        if distance.is_nan() || distance > bound {
            bail!(
                "{what}: {name} is {distance:e} from a reference of size {size:e}, {} values",
                expected.elem_count()
            );
        }
        worst = worst.max(distance / bound);
    }
    for (name, found) in ours {
        if !reference.contains_key(name) && norm_of(found)? != 0.0 {
            bail!("{what}: {name} is not in the reference");
        }
    }
    Ok(worst)
}

/// Upstream gradients for some taps and, if moments were asked for, some moments.
pub(crate) fn upstream(graph: &Graph, rows: usize, spec: ForwardSpec, dice: &mut Dice) -> Result<Upstream> {
    let mut upstream = Upstream::default();
    for (at, (name, id)) in graph.taps().iter().enumerate() {
        if at == 0 || dice.below(3) > 0 {
            let dims = graph.node(*id).shape.dims(rows);
            upstream.taps.insert(name.clone(), dice.tensor(&dims, -1.0, 1.0)?);
        }
    }
    for node in graph.nodes().iter().filter(|node| spec.moments && matches!(node.op, Op::BatchNorm { .. })) {
        if dice.below(3) > 0 {
            let (mean, variance) = (
                dice.tensor(&[node.shape.channels()], -2.0, 2.0)?,
                dice.tensor(&[node.shape.channels()], -2.0, 2.0)?,
            );
            upstream.moments.insert(node.name.clone(), MomentGradient { mean, variance });
        }
    }
    Ok(upstream)
}

/// The reference's result in `f64`.
pub(crate) fn expected(
    graph: &Graph,
    parameters: &Parameters,
    input: &Tensor,
    spec: ForwardSpec,
    upstream: &Upstream,
) -> Result<Outcome> {
    let reference = ReferenceExecutor::new(graph.clone());
    let mut wide = upstream.clone();
    for tensor in wide.taps.values_mut() {
        *tensor = tensor.to_dtype(DType::F64)?;
    }
    for moment in wide.moments.values_mut() {
        moment.mean = moment.mean.to_dtype(DType::F64)?;
        moment.variance = moment.variance.to_dtype(DType::F64)?;
    }
    let double = parameters.to_dtype(DType::F64)?;
    outcome(&reference, &double, &input.to_dtype(DType::F64)?, spec, &wide)
}

pub(crate) fn bits(tensor: &Tensor) -> Result<Vec<u32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}

pub(crate) const SPECS: [ForwardSpec; 6] = [
    ForwardSpec::EVAL,
    ForwardSpec::TRAIN,
    ForwardSpec::PROBE,
    TRAIN_ALL,
    ForwardSpec { norm: Norm::Running, moments: false, keep: Keep::Tape { weights: true, input: true } },
    ForwardSpec { norm: Norm::Running, moments: false, keep: Keep::Tape { weights: false, input: true } },
];
