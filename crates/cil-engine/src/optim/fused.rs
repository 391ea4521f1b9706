//! An optimiser's rule in one pass over the values, for tensors in the processor's memory.
//!
//! Each value is computed by the very operations of [`super::tensors`], in their order, so both give the same bits,
//! whatever the number of threads.

use candle_core::{CpuStorage, DType, Result, Storage, Tensor, WithDType, bail};
use rayon::prelude::*;

use super::{Move, OptimizerConfig, State};

/// Values that one task of the pool moves.
const CHUNK: usize = 1 << 14;

/// A floating-point type that the rules are written for.
trait Real: WithDType {
    fn root(self) -> Self;
}

impl Real for f32 {
    fn root(self) -> Self {
        self.sqrt()
    }
}

impl Real for f64 {
    fn root(self) -> Self {
        self.sqrt()
    }
}

/// The new value and state, or `None` where the tensors are not this module's to move.
pub(super) fn moved(config: OptimizerConfig, it: &Move<'_>) -> Result<Option<(Tensor, State)>> {
    if !it.value.device().is_cpu() || it.gradient.dtype() != it.value.dtype() {
        return Ok(None);
    }
    match it.value.dtype() {
        DType::F32 => of_type::<f32>(config, it).map(Some),
        DType::F64 => of_type::<f64>(config, it).map(Some),
        _ => Ok(None),
    }
}

fn of_type<T: Real>(config: OptimizerConfig, it: &Move<'_>) -> Result<(Tensor, State)> {
    let before = it.before.map(|state| &state.first);
    let second = it.before.and_then(|state| state.second.as_ref());
    with_slice(Some(it.value), |value: Option<&[T]>| {
        with_slice(Some(it.gradient), |gradient| {
            with_slice(before, |first| {
                with_slice(second, |second| {
                    let (Some(value), Some(gradient)) = (value, gradient) else { bail!("no values") };
                    stepped(config, it, &Slices { value, gradient, first, second })
                })
            })
        })
    })
}

/// Calls `what` with the values of a tensor, if there is one, in row-major order.
fn with_slice<T: WithDType, Out>(
    tensor: Option<&Tensor>,
    what: impl FnOnce(Option<&[T]>) -> Result<Out>,
) -> Result<Out> {
    let Some(tensor) = tensor else { return what(None) };
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(storage), Some((from, to))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("a tensor is not in the processor's memory")
    };
    what(Some(&CpuStorage::as_slice::<T>(storage)?[from..to]))
}

/// What is known of a parameter before the step.
struct Slices<'a, T> {
    value: &'a [T],
    gradient: &'a [T],
    first: Option<&'a [T]>,
    second: Option<&'a [T]>,
}

/// The values that a chunk writes.
struct Written<'a, T> {
    value: &'a mut [T],
    first: &'a mut [T],
    /// Empty for a rule that has no second moment.
    second: &'a mut [T],
}

fn stepped<T: Real>(config: OptimizerConfig, it: &Move<'_>, read: &Slices<'_, T>) -> Result<(Tensor, State)> {
    let count = read.value.len();
    let adam = matches!(config, OptimizerConfig::Adam { .. });
    let mut value = vec![T::zero(); count];
    let mut first = vec![T::zero(); count];
    let mut second = vec![T::zero(); if adam { count } else { 0 }];
    // Chunks of the second moment, or as many empty ones.
    let chunks: Vec<&mut [T]> = match adam {
        true => second.chunks_mut(CHUNK).collect(),
        false => (0..count.div_ceil(CHUNK)).map(|_| Default::default()).collect(),
    };
    let steps = it.steps();
    let chunks = value.par_chunks_mut(CHUNK).zip(first.par_chunks_mut(CHUNK)).zip(chunks);
    chunks.enumerate().for_each(|(chunk, ((value, first), second))| {
        let range = chunk * CHUNK..chunk * CHUNK + value.len();
        let part = Slices {
            value: &read.value[range.clone()],
            gradient: &read.gradient[range.clone()],
            first: read.first.map(|it| &it[range.clone()]),
            second: read.second.map(|it| &it[range]),
        };
        let out = Written { value, first, second };
        match config {
            OptimizerConfig::Sgd { momentum, nesterov } => {
                let rule = Sgd::new(momentum, nesterov, it);
                rule.chunk(&part, out);
            }
            OptimizerConfig::Adam { beta1, beta2, epsilon } => {
                Adam::new(beta1, beta2, epsilon, steps, it).chunk(&part, out);
            }
        }
    });
    let dims = it.value.dims();
    let tensor = |values| Tensor::from_vec(values, dims, it.value.device());
    let second = if adam { Some(tensor(second)?) } else { None };
    Ok((tensor(value)?, State { first: tensor(first)?, second, steps }))
}

/// candle's product with a number, which adds a zero: minus zero becomes zero.
fn times<T: Real>(value: T, by: T) -> T {
    value * by + T::zero()
}

struct Decay<T>(Option<T>);

impl<T: Real> Decay<T> {
    fn new(it: &Move<'_>) -> Self {
        Self((it.weight_decay != 0.0).then(|| T::from_f64(it.weight_decay)))
    }

    fn gradient(&self, value: T, gradient: T) -> T {
        match self.0 {
            Some(decay) => gradient + times(value, decay),
            None => gradient,
        }
    }
}

struct Sgd<T> {
    momentum: T,
    nesterov: bool,
    rate: T,
    decay: Decay<T>,
}

impl<T: Real> Sgd<T> {
    fn new(momentum: f64, nesterov: bool, it: &Move<'_>) -> Self {
        Self {
            momentum: T::from_f64(momentum),
            nesterov,
            rate: T::from_f64(it.learning_rate),
            decay: Decay::new(it),
        }
    }

    fn chunk(&self, read: &Slices<'_, T>, out: Written<'_, T>) {
        let values = read.value.iter().zip(read.gradient).zip(out.value).zip(out.first);
        match read.first {
            Some(before) => values.zip(before).for_each(|((((old, grad), value), first), before)| {
                let grad = self.decay.gradient(*old, *grad);
                self.one(*old, grad, times(*before, self.momentum) + grad, value, first);
            }),
            None => values.for_each(|(((old, grad), value), first)| {
                let grad = self.decay.gradient(*old, *grad);
                self.one(*old, grad, grad, value, first);
            }),
        }
    }

    fn one(&self, old: T, grad: T, velocity: T, value: &mut T, first: &mut T) {
        let direction = if self.nesterov { grad + times(velocity, self.momentum) } else { velocity };
        *first = velocity;
        *value = old - times(direction, self.rate);
    }
}

struct Adam<T> {
    /// Shares of the old and the new in the first moment.
    first: [T; 2],
    /// The same of the second.
    second: [T; 2],
    root_factor: T,
    epsilon: T,
    rate: T,
    decay: Decay<T>,
}

impl<T: Real> Adam<T> {
    fn new(beta1: f64, beta2: f64, epsilon: f64, steps: u32, it: &Move<'_>) -> Self {
        let correction = |beta: f64| 1.0 - beta.powi(steps as i32);
        let shares = |beta: f64| [T::from_f64(beta), T::from_f64(1.0 - beta)];
        Self {
            first: shares(beta1),
            second: shares(beta2),
            root_factor: T::from_f64(1.0 / correction(beta2).sqrt()),
            epsilon: T::from_f64(epsilon),
            rate: T::from_f64(it.learning_rate / correction(beta1)),
            decay: Decay::new(it),
        }
    }

    fn chunk(&self, read: &Slices<'_, T>, out: Written<'_, T>) {
        let values = read.value.iter().zip(read.gradient).zip(out.value).zip(out.first).zip(out.second);
        let new = |grad: T| (times(grad, self.first[1]), times(grad * grad, self.second[1]));
        match (read.first, read.second) {
            (Some(first), Some(second)) => {
                let values = values.zip(first).zip(second);
                values.for_each(|((((((old, grad), value), first), second), mean), square)| {
                    let (new_mean, new_square) = new(self.decay.gradient(*old, *grad));
                    *first = times(*mean, self.first[0]) + new_mean;
                    *second = times(*square, self.second[0]) + new_square;
                    *value = self.one(*old, *first, *second);
                });
            }
            _ => values.for_each(|((((old, grad), value), first), second)| {
                (*first, *second) = new(self.decay.gradient(*old, *grad));
                *value = self.one(*old, *first, *second);
            }),
        }
    }

    fn one(&self, old: T, first: T, second: T) -> T {
        let root = times(second.root(), self.root_factor) + self.epsilon;
        old - times(first / root, self.rate)
    }
}
