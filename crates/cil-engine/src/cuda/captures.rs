//! Steps as CUDA graphs.
//!
//! A captured step owns all memory that it takes and takes nothing that others own; between its replays the addresses
//! of inputs and state do not change. Everything else that it reads (frozen networks, stored images) lives as long as
//! it does. So a replay is correct whatever was computed since the capture.

use std::collections::HashMap;
use std::fmt;

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, sys};
use candle_core::{DType, Device, Result, Tensor, bail};

use super::driver::{explain, give_back_graphs_memory};
use super::memory::{Capturing, Held};
use super::pinned::Slots;
use super::tensors::{Place, copy, place_on, unwritten};
use crate::captures::Repeatable;

/// Values between two tensors that lie in one allocation, as in `steps.rs`.
const ALIGNED: usize = 64;
/// Kinds of steps that are captured; where there are more (rows of a batch that vary), these are the first that came
/// twice.
const MOST: usize = 24;

/// Shapes of inputs, and the kind of a step.
type Kind = (Vec<(DType, Vec<usize>)>, Vec<usize>);

/// A captured step; it goes before what it reads.
struct Captured {
    graph: CudaGraph,
    _read: Vec<Held>,
}

/// One kind of step.
struct Known<D> {
    captured: Option<Captured>,
    inputs: Inputs,
    done: D,
}

/// See [`crate::captures::Captures`].
pub(crate) struct Captures<D> {
    device: CudaDevice,
    captures: bool,
    known: HashMap<Kind, Known<D>>,
    home: Option<Home>,
    slots: Slots,
}

impl<D> fmt::Debug for Captures<D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let captured = self.known.values().filter(|it| it.captured.is_some()).count();
        write!(formatter, "{captured} of {} kinds of steps captured", self.known.len())
    }
}

impl<D> Drop for Captures<D> {
    fn drop(&mut self) {
        if self.known.values().any(|it| it.captured.is_some()) {
            self.known.clear();
            give_back_graphs_memory(&self.device);
        }
    }
}

// SAFETY: a graph is used through `&mut` alone, by one thread at a time, and the driver binds its context in every
// call.
unsafe impl<D: Send> Send for Captures<D> {}

impl<D: Clone + PartialEq> Captures<D> {
    pub(crate) fn new(device: &Device, captures: bool) -> Option<Self> {
        let Device::Cuda(device) = device else { return None };
        Some(Self {
            device: device.clone(),
            captures,
            known: HashMap::new(),
            home: None,
            slots: Slots::default(),
        })
    }

    pub(crate) fn step<R: Repeatable<Done = D>>(
        &mut self,
        of: &mut R,
        inputs: &[Tensor],
        kind: &[usize],
    ) -> std::result::Result<D, R::Error> {
        let shapes = inputs.iter().map(|it| (it.dtype(), it.dims().to_vec())).collect();
        let kind = (shapes, kind.to_vec());
        if !self.known.contains_key(&kind) {
            // This step creates everything that steps of the kind share: algorithms, constants, derived weights of
            // frozen networks.
            let brought = Inputs::new(&self.device, inputs)?;
            brought.bring(&self.device, inputs, &mut self.slots)?;
            brought.spread(&self.device)?;
            let done = of.step(&brought.tensors)?;
            if self.captures && self.known.len() < MOST {
                let known = Known { captured: None, inputs: brought, done: done.clone() };
                self.known.insert(kind, known);
            }
            return Ok(done);
        }
        if !self.home.as_ref().is_some_and(|home| home.is_of(&of.state())) {
            self.home = Some(Home::new(&self.device, &of.state())?);
            // They leave the state where it is no longer looked for.
            self.known.values_mut().for_each(|it| it.captured = None);
        }
        let (Some(home), Some(known)) = (&self.home, self.known.get_mut(&kind)) else {
            return Err(candle_core::Error::Msg("a step has no place for its state".into()).into());
        };
        home.take(&self.device, &mut of.state())?;
        of.prepare(&known.done)?;
        known.inputs.bring(&self.device, inputs, &mut self.slots)?;
        if let Some(captured) = &known.captured {
            launch(&captured.graph)?;
            of.repeat(&known.done);
        } else {
            let (captured, done) = capture(&self.device, of, &known.inputs, home)?;
            if done != known.done {
                return Err(candle_core::Error::Msg("two steps of one kind differ on the host".into()).into());
            }
            launch(&captured.graph)?;
            known.captured = Some(captured);
        }
        Ok(known.done.clone())
    }

    pub(crate) fn leave(&mut self, mut state: Vec<&mut Tensor>) -> Result<()> {
        match &self.home {
            Some(home) if home.is_of(&state) => home.leave(&self.device, &mut state),
            _ => Ok(()),
        }
    }
}

fn launch(graph: &CudaGraph) -> Result<()> {
    graph.launch().map_err(|error| explain(error, "replaying a step as a CUDA graph"))
}

/// Captures one step from `inputs` and a state that is at `home`, to a state that is at `home`.
fn capture<R: Repeatable>(
    device: &CudaDevice,
    of: &mut R,
    inputs: &Inputs,
    home: &Home,
) -> std::result::Result<(Captured, R::Done), R::Error> {
    let stream = device.cuda_stream();
    stream
        .begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        .map_err(|error| explain(error, "beginning to capture a step as a CUDA graph"))?;
    let capturing = Capturing::begin();
    let mut captured = || -> std::result::Result<R::Done, R::Error> {
        inputs.spread(device)?;
        let done = of.step(&inputs.tensors)?;
        home.take(device, &mut of.state())?;
        Ok(done)
    };
    let done = captured();
    let (on_loan, read) = capturing.end();
    // A capture ends in any case, and its own error comes first.
    let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0));
    let done = done?;
    let graph = graph.map_err(|error| explain(error, "capturing a step as a CUDA graph"))?;
    if on_loan > 0 {
        let what = format!("{on_loan} buffers of a captured step outlive it: a replay would write into them");
        return Err(candle_core::Error::Msg(what).into());
    }
    let Some(graph) = graph else {
        return Err(candle_core::Error::Msg("nothing of a step was captured".into()).into());
    };
    Ok((Captured { graph, _read: read }, done))
}

/// A step's inputs, always in one place.
struct Inputs {
    /// All of them, as they come from the host.
    _together: Tensor,
    place: Place,
    tensors: Vec<Tensor>,
    places: Vec<Place>,
}

impl Inputs {
    fn new(device: &CudaDevice, inputs: &[Tensor]) -> Result<Self> {
        let mut tensors = Vec::new();
        for input in inputs {
            tensors.push(unwritten(device, input.dtype(), input.elem_count())?.reshape(input.dims())?);
        }
        let words = inputs.iter().map(Tensor::elem_count).sum();
        let together = unwritten(device, DType::U32, words)?;
        let places = tensors.iter().map(|it| place_on(device, it)).collect::<Result<_>>()?;
        Ok(Self { place: place_on(device, &together)?, _together: together, tensors, places })
    }

    /// Brings them by one copy. Never captured.
    fn bring(&self, device: &CudaDevice, inputs: &[Tensor], slots: &mut Slots) -> Result<()> {
        let count = inputs.iter().map(Tensor::elem_count).sum();
        if count == 0 {
            return Ok(());
        }
        slots.bring(device, self.place.address, count, |mut words| {
            for input in inputs {
                let (own, rest) = words.split_at_mut(input.elem_count());
                let input = input.flatten_all()?;
                match input.dtype() {
                    DType::U32 => own.copy_from_slice(&input.to_vec1::<u32>()?),
                    DType::F32 => {
                        let bits = input.to_vec1::<f32>()?.into_iter().map(f32::to_bits);
                        own.iter_mut().zip(bits).for_each(|(word, bits)| *word = bits);
                    }
                    other => bail!("a step's inputs are f32 or u32, not {other:?}"),
                }
                words = rest;
            }
            Ok(())
        })
    }

    /// Puts each where the step reads it.
    fn spread(&self, device: &CudaDevice) -> Result<()> {
        let mut from = self.place.address;
        for place in &self.places {
            copy(device, from, place.address, place.bytes)?;
            from += place.bytes as u64;
        }
        Ok(())
    }
}

/// Where a state is when a captured step begins, and again when it ends.
struct Home {
    tensors: Vec<Tensor>,
    places: Vec<Place>,
}

impl Home {
    /// Room for such a state: tensors that lie in one allocation lie in the same order and distance here, so that few
    /// copies bring them.
    fn new(device: &CudaDevice, state: &[&mut Tensor]) -> Result<Self> {
        let places = state.iter().map(|it| place_on(device, it)).collect::<Result<Vec<_>>>()?;
        let mut order: Vec<usize> = (0..state.len()).collect();
        order.sort_by_key(|at| places[*at].address);
        let mut tensors: Vec<Option<Tensor>> = vec![None; state.len()];
        for dtype in [DType::F32, DType::F64, DType::U32] {
            let of = |at: &&usize| state[**at].dtype() == dtype;
            let count = |at: usize| state[at].elem_count().next_multiple_of(ALIGNED);
            let all = unwritten(device, dtype, order.iter().filter(of).map(|at| count(*at)).sum())?;
            let mut start = 0;
            for at in order.iter().filter(of) {
                let values = all.narrow(0, start, state[*at].elem_count())?;
                tensors[*at] = Some(values.reshape(state[*at].dims())?);
                start += count(*at);
            }
        }
        let tensors: Vec<Tensor> = tensors.into_iter().flatten().collect();
        if tensors.len() != state.len() {
            bail!("a step leaves f32, f64 and u32 only");
        }
        let places = tensors.iter().map(|it| place_on(device, it)).collect::<Result<_>>()?;
        Ok(Self { tensors, places })
    }

    /// Whether a state has the form of what this has room for.
    fn is_of(&self, state: &[&mut Tensor]) -> bool {
        self.tensors.len() == state.len()
            && (self.tensors.iter().zip(state))
                .all(|(own, it)| own.dims() == it.dims() && own.dtype() == it.dtype())
    }

    /// Brings a state here, whatever of it is elsewhere.
    fn take(&self, device: &CudaDevice, state: &mut [&mut Tensor]) -> Result<()> {
        if !self.is_of(state) {
            bail!("a captured step leaves another state than it found");
        }
        let mut held = Vec::new();
        let mut moves = Vec::new();
        for ((own, to), it) in self.tensors.iter().zip(&self.places).zip(state) {
            let from = it.contiguous()?;
            let place = place_on(device, &from)?;
            if place.address != to.address {
                moves.push((place, *to));
                held.push(from);
                **it = own.clone();
            }
        }
        copy_all(device, moves)
    }

    /// Puts copies in the place of what of a state is here.
    fn leave(&self, device: &CudaDevice, state: &mut [&mut Tensor]) -> Result<()> {
        let away = Self::new(device, state)?;
        let mut moves = Vec::new();
        for (at, it) in state.iter_mut().enumerate() {
            if place_on(device, it)?.address == self.places[at].address {
                moves.push((self.places[at], away.places[at]));
                **it = away.tensors[at].clone();
            }
        }
        copy_all(device, moves)
    }
}

/// Copies from place to place, neighbours together.
fn copy_all(device: &CudaDevice, mut moves: Vec<(Place, Place)>) -> Result<()> {
    moves.sort_by_key(|(from, _)| from.address);
    let mut runs: Vec<(Place, Place)> = Vec::new();
    for (from, to) in moves {
        if let Some((run_from, run_to)) = runs.last_mut() {
            let (distance, same) =
                (from.address - run_from.address, from.base == run_from.base && to.base == run_to.base);
            let gap = distance.saturating_sub(run_from.bytes as u64);
            // Between neighbours lies less than their alignment, which nobody reads.
            if same
                && to.address.checked_sub(run_to.address) == Some(distance)
                && gap < (ALIGNED * size_of::<f64>()) as u64
            {
                run_from.bytes = distance as usize + from.bytes;
                continue;
            }
        }
        runs.push((from, to));
    }
    runs.into_iter().try_for_each(|(from, to)| copy(device, from.address, to.address, from.bytes))
}
