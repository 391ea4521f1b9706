//! Losses of rows on the GPU: see `crate::rows`.
//!
//! Each is a node of candle's autograd whose forward pass computes value and gradient together; backward multiplies
//! that gradient by what comes from above. Sums are made in a fixed order, so values are the same every time.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::cuda_backend::{CudaDevice, CudaStorage};
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};

use super::gpu::{Element, launch_on};
use super::launch::{Argument, Grid, arguments};
use super::tensors::{address_on, place_on, tensor_on, unwritten};
use crate::rows::Divisor;

/// One block, which adds what the rows gave.
const ONE: Grid = Grid(1, 1);

pub(crate) fn cross_entropy(
    logits: &Tensor,
    picked: &Tensor,
    weights: Option<&Tensor>,
    divided_by: Divisor,
) -> Result<Option<Tensor>> {
    if !is_matrix_on_gpu(logits) {
        return Ok(None);
    }
    let rows = logits.dim(0)?;
    if picked.dims() != [rows] || picked.dtype() != DType::U32 {
        bail!("the columns are {:?} {:?}, not u32 [{rows}]", picked.dtype(), picked.dims());
    }
    let picked = picked.contiguous()?;
    let weights = weights.map(|it| it.detach().contiguous()).transpose()?;
    let by_weights = divided_by == Divisor::Weights;
    logits
        .contiguous()?
        .apply_op1(CrossEntropy { picked, weights, by_weights, grad: Grad::default() })
        .map(Some)
}

pub(crate) fn divergence(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Option<Tensor>> {
    if !is_matrix_on_gpu(student) {
        return Ok(None);
    }
    let teacher = teacher.detach().contiguous()?;
    student.contiguous()?.apply_op1(Divergence { teacher, temperature, grad: Grad::default() }).map(Some)
}

pub(crate) fn unit_rows(rows: &Tensor, floor: f64) -> Result<Option<Tensor>> {
    if !is_matrix_on_gpu(rows) {
        return Ok(None);
    }
    rows.contiguous()?.apply_op1(UnitRows { floor, inverse: Grad::default() }).map(Some)
}

fn is_matrix_on_gpu(tensor: &Tensor) -> bool {
    let is_matrix = tensor.rank() == 2 && tensor.elem_count() > 0 && tensor.dtype() == DType::F32;
    is_matrix && matches!(tensor.device(), Device::Cuda(_))
}

/// The gradient that forward computes for backward.
#[derive(Debug, Default)]
struct Grad(Mutex<Option<Tensor>>);

impl Grad {
    fn keep(&self, tensor: Tensor) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tensor);
    }

    fn kept(&self) -> Result<Tensor> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kept.ok_or_else(|| candle_core::Error::Msg("backward came before forward".to_owned()))
    }
}

/// A matrix as a custom operation gets it.
struct Matrix<'a> {
    device: &'a CudaDevice,
    address: u64,
    rows: usize,
    columns: usize,
}

impl<'a> Matrix<'a> {
    fn new(storage: &'a CudaStorage, layout: &Layout) -> Result<Self> {
        let (rows, columns) = layout.shape().dims2()?;
        if !layout.is_contiguous() || i32::try_from(rows * columns).is_err() {
            bail!("a matrix of {rows} rows and {columns} columns is not in order, or too large");
        }
        let device = storage.device();
        let start = storage.as_cuda_slice::<f32>()?.device_ptr(&device.cuda_stream()).0;
        let address = start + (layout.start_offset() * size_of::<f32>()) as u64;
        Ok(Self { device, address, rows, columns })
    }

    /// An unwritten matrix of the same size.
    fn another(&self) -> Result<(Tensor, u64)> {
        let (tensor, address) = tensor_on(self.device, self.rows * self.columns)?;
        Ok((tensor.reshape((self.rows, self.columns))?, address))
    }

    /// A block for each row.
    fn run(&self, name: &'static str, arguments: &[Argument<'_>]) -> Result<()> {
        launch_on(self.device, Element::F32, name, Grid(self.rows as u32, 1), arguments)
    }

    /// Unwritten losses of the rows, f64.
    fn losses(&self) -> Result<(Tensor, u64)> {
        let losses = unwritten(self.device, DType::F64, self.rows)?;
        let address = place_on(self.device, &losses)?.address;
        Ok((losses, address))
    }

    /// The scalar that the rows' losses add up to.
    fn sum(&self, losses: u64) -> Result<(CudaStorage, Shape)> {
        let (storage, address) = unwritten_values(self.device, 1)?;
        launch_on(self.device, Element::F32, "sum_of_losses", ONE, arguments![losses, self.rows, address])?;
        Ok((storage, Shape::from(())))
    }
}

/// Storage of `count` values that a kernel will write, and where they lie.
fn unwritten_values(device: &CudaDevice, count: usize) -> Result<(CudaStorage, u64)> {
    let stream = device.cuda_stream();
    // SAFETY: the caller launches a kernel that writes all of them.
    let slice = unsafe { device.alloc::<f32>(count) }?;
    let address = slice.device_ptr(&stream).0;
    Ok((CudaStorage::wrap_cuda_slice(slice, device.clone()), address))
}

fn not_here<T>(name: &str) -> Result<T> {
    bail!("{name} is an operation of the GPU")
}

#[derive(Debug)]
struct CrossEntropy {
    picked: Tensor,
    weights: Option<Tensor>,
    by_weights: bool,
    grad: Grad,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        not_here(self.name())
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let logits = Matrix::new(storage, layout)?;
        let picked = place_on(logits.device, &self.picked)?.address;
        let weights = match &self.weights {
            Some(weights) => address_on(logits.device, weights, "the rows' weights", &[logits.rows])?.1,
            None => 0,
        };
        let ((grad, at_grad), (_losses, at_losses)) = (logits.another()?, logits.losses()?);
        let (rows, columns) = (logits.rows, logits.columns);
        let arguments: &[_] =
            arguments![logits.address, picked, weights, at_grad, at_losses, rows, columns, self.by_weights];
        logits.run("cross_entropy", arguments)?;
        self.grad.keep(grad);
        logits.sum(at_losses)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, from_above: &Tensor) -> Result<Option<Tensor>> {
        self.grad.kept()?.broadcast_mul(from_above).map(Some)
    }
}

#[derive(Debug)]
struct Divergence {
    teacher: Tensor,
    temperature: f64,
    grad: Grad,
}

impl CustomOp1 for Divergence {
    fn name(&self) -> &'static str {
        "divergence"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        not_here(self.name())
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let student = Matrix::new(storage, layout)?;
        let (rows, columns) = (student.rows, student.columns);
        let (_, teacher) =
            address_on(student.device, &self.teacher, "the teacher's logits", &[rows, columns])?;
        let ((grad, at_grad), (_losses, at_losses)) = (student.another()?, student.losses()?);
        let arguments: &[_] =
            arguments![student.address, teacher, at_grad, at_losses, rows, columns, self.temperature];
        student.run("divergence", arguments)?;
        self.grad.keep(grad);
        student.sum(at_losses)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, from_above: &Tensor) -> Result<Option<Tensor>> {
        self.grad.kept()?.broadcast_mul(from_above).map(Some)
    }
}

#[derive(Debug)]
struct UnitRows {
    floor: f64,
    /// One over each row's length, `[rows]`.
    inverse: Grad,
}

impl CustomOp1 for UnitRows {
    fn name(&self) -> &'static str {
        "unit-rows"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        not_here(self.name())
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let given = Matrix::new(storage, layout)?;
        let (inverse, at_inverse) = tensor_on(given.device, given.rows)?;
        let (unit, address) = unwritten_values(given.device, given.rows * given.columns)?;
        given.run("unit_rows", arguments![given.address, address, at_inverse, given.columns, self.floor])?;
        self.inverse.keep(inverse);
        Ok((unit, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, unit: &Tensor, from_above: &Tensor) -> Result<Option<Tensor>> {
        let Device::Cuda(device) = unit.device() else { return not_here(self.name()) };
        let (rows, columns) = unit.dims2()?;
        let (_gradient, gradient) = address_on(device, from_above, "a gradient", unit.dims())?;
        let (_unit, at_unit) = address_on(device, unit, "rows of length 1", unit.dims())?;
        let (_inverse, inverse) = address_on(device, &self.inverse.kept()?, "the rows' lengths", &[rows])?;
        let (of_rows, address) = tensor_on(device, rows * columns)?;
        let arguments: &[_] = arguments![gradient, at_unit, inverse, address, columns];
        launch_on(device, Element::F32, "unit_rows_backward", Grid(rows as u32, 1), arguments)?;
        of_rows.reshape((rows, columns)).map(Some)
    }
}
