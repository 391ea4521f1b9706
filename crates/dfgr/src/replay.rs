//! Images from a trained generator.
//!
//! A replay holds no image; it generates a batch from noise with the generator's running statistics and returns its
//! teacher's outputs for it. It is as frozen as the teacher.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use cil_backbone::{Frozen, Outputs};
use cil_engine::{Executor, ExecutorFactory, ForwardSpec, Parameters, uploads};
use cil_random::Draw;

use crate::generator::{GeneratorConfig, IMAGES, generator};

/// Generator input: latent noise and, for a conditional generator, one-hot labels. Sampled and stored on the CPU.
#[derive(Clone, Debug)]
pub struct Code {
    /// `[rows, width]` in `f32`: noise, joined by one-hot labels if there are any.
    pub input: Tensor,
    /// The labels of a conditional generator's one-hot input.
    pub labels: Option<Vec<u32>>,
}

impl Code {
    /// Standard normal noise and uniform labels.
    pub(crate) fn draw(
        config: &GeneratorConfig,
        classes: usize,
        rows: usize,
        draw: Draw<'_>,
    ) -> Result<Self> {
        let noise = draw.stream("noise").normals(rows * config.latent);
        if !config.conditional {
            let input = Tensor::from_vec(noise, (rows, config.latent), &Device::Cpu)?;
            return Ok(Self { input, labels: None });
        }
        let mut stream = draw.stream("labels");
        let labels: Vec<u32> = (0..rows).map(|_| stream.below(classes) as u32).collect();
        let width = config.latent + classes;
        let mut input = vec![0f32; rows * width];
        for ((row, noise), label) in
            input.chunks_exact_mut(width).zip(noise.chunks_exact(config.latent)).zip(&labels)
        {
            row[..config.latent].copy_from_slice(noise);
            row[config.latent + *label as usize] = 1.0;
        }
        Ok(Self { input: Tensor::from_vec(input, (rows, width), &Device::Cpu)?, labels: Some(labels) })
    }
}

/// Class of each generated image.
#[derive(Clone, Debug)]
pub enum Labels {
    /// The labels that a conditional generator received.
    Conditioned(Vec<u32>),
    /// The teacher's most probable classes, u32 `[rows]`, on the teacher's device.
    Predicted(Tensor),
}

impl Labels {
    /// The labels on the host; predicted ones synchronise with the device.
    ///
    /// # Errors
    /// If the device cannot copy them.
    pub fn to_vec(&self) -> Result<Vec<u32>> {
        match self {
            Self::Conditioned(labels) => Ok(labels.clone()),
            Self::Predicted(labels) => labels.to_vec1(),
        }
    }
}

/// A batch of generated images with the teacher's outputs for it.
#[derive(Clone, Debug)]
pub struct Synthetic {
    /// `[rows, channels, height, width]`, normalised as the teacher takes them.
    pub images: Tensor,
    /// Class of each row.
    pub labels: Labels,
    /// The teacher's features and logits.
    pub view: Outputs,
}

/// A trained generator and its teacher; cheap to clone.
#[derive(Clone)]
pub struct Replay {
    config: GeneratorConfig,
    teacher: Frozen,
    executor: Arc<dyn Executor>,
    parameters: Parameters,
    device: Device,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Replay({:?} of {:?})", self.config.kind, self.teacher)
    }
}

impl Replay {
    pub(crate) fn new(
        config: GeneratorConfig,
        teacher: Frozen,
        executor: Arc<dyn Executor>,
        parameters: Parameters,
        device: Device,
    ) -> Self {
        Self { config, teacher, executor, parameters, device }
    }

    /// A generator whose values were saved ([`Self::parameters`]), with its teacher.
    ///
    /// # Errors
    /// If the values are not those of the generator's form.
    pub fn restore(
        config: GeneratorConfig,
        teacher: Frozen,
        executors: &ExecutorFactory,
        values: &Parameters,
        device: &Device,
    ) -> Result<Self> {
        let graph = generator(&config, teacher.classes(), teacher.image_shape())?;
        let mut parameters = Parameters::init(&graph, 0, device)?.to_dtype(teacher.dtype())?;
        parameters.replace(values)?;
        Ok(Self::new(config, teacher, executors(graph)?, parameters, device.clone()))
    }

    /// The teacher that it was inverted from.
    pub fn teacher(&self) -> &Frozen {
        &self.teacher
    }

    /// The same generator with a teacher whose views hold the maps of these taps as well.
    ///
    /// # Errors
    /// If the teacher's backbone has no tap of such a name.
    pub fn with_maps(&self, maps: &[String]) -> Result<Self> {
        Ok(Self { teacher: self.teacher.with_maps(maps)?, ..self.clone() })
    }

    /// The generator's values.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The generator input of `rows` images: a function of the draw.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn code(&self, rows: usize, draw: Draw<'_>) -> Result<Code> {
        Code::draw(&self.config, self.teacher.classes(), rows, draw)
    }

    /// The images of a generator input on any device, and the teacher's outputs for them.
    ///
    /// # Errors
    /// If an executor fails.
    pub fn generate(&self, input: &Tensor) -> Result<(Tensor, Outputs)> {
        let input = match input.device() {
            Device::Cpu if !self.device.is_cpu() => {
                uploads::fresh(input.flatten_all()?.to_vec1::<f32>()?, input.dims(), &self.device)?
            }
            _ => input.clone(),
        };
        let _kept = uploads::keep(&self.device);
        let pass = self.executor.forward(
            &self.parameters,
            &input.to_dtype(self.teacher.dtype())?,
            ForwardSpec::EVAL,
        )?;
        let images = pass.tap(IMAGES)?.clone();
        let view = self.teacher.forward(&images)?;
        Ok((images, view))
    }

    /// `rows` images: a function of the draw.
    ///
    /// # Errors
    /// If an executor fails.
    pub fn sample(&self, rows: usize, draw: Draw<'_>) -> Result<Synthetic> {
        let code = self.code(rows, draw)?;
        let (images, view) = self.generate(&code.input)?;
        let labels = match code.labels {
            Some(labels) => Labels::Conditioned(labels),
            None => Labels::Predicted(predicted_labels(&view)?),
        };
        Ok(Synthetic { images, labels, view })
    }
}

/// The most probable class of each row, u32 `[rows]`.
///
/// # Errors
/// If the device refuses it.
pub fn predicted_labels(view: &Outputs) -> Result<Tensor> {
    view.logits.argmax(1)?.to_dtype(DType::U32)
}
