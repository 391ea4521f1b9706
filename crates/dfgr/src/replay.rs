//! Images from a trained generator.
//!
//! One decision: a replay holds no image; it makes a fresh batch from a draw, with the generator's running statistics,
//! and says what its teacher says of it. It is as frozen as the teacher.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use cil_backbone::{Frozen, View};
use cil_engine::{Executor, ExecutorFactory, ForwardSpec, Parameters, uploads};
use cil_random::Draw;

use crate::generator::{GeneratorConfig, IMAGES, generator};

/// A generator's input.
pub(crate) struct Code {
    /// `[rows, width]`: noise, joined by one-hot labels if there are any.
    pub(crate) input: Tensor,
    /// `[rows, latent]`.
    pub(crate) noise: Tensor,
    /// What a conditional generator is asked for.
    pub(crate) labels: Option<Vec<u32>>,
}

impl Code {
    /// Standard normal noise and uniform labels.
    pub(crate) fn draw(
        config: &GeneratorConfig,
        classes: usize,
        rows: usize,
        draw: Draw<'_>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let mut stream = draw.stream("noise");
        let noise: Vec<f32> = (0..rows * config.latent).map(|_| stream.normal() as f32).collect();
        let noise = uploads::fresh(noise, (rows, config.latent), device)?.to_dtype(dtype)?;
        if !config.conditional {
            return Ok(Self { input: noise.clone(), noise, labels: None });
        }
        let mut stream = draw.stream("labels");
        let labels: Vec<u32> = (0..rows).map(|_| stream.below(classes) as u32).collect();
        let mut one_hot = vec![0f32; rows * classes];
        for (row, label) in labels.iter().enumerate() {
            one_hot[row * classes + *label as usize] = 1.0;
        }
        let one_hot = uploads::fresh(one_hot, (rows, classes), device)?.to_dtype(dtype)?;
        Ok(Self { input: Tensor::cat(&[&noise, &one_hot], 1)?, noise, labels: Some(labels) })
    }
}

/// Class of each generated image.
#[derive(Clone, Debug)]
pub enum Labels {
    /// What a conditional generator was asked for.
    Asked(Vec<u32>),
    /// The teacher's likeliest, u32 `[rows]`, where the teacher is.
    Told(Tensor),
}

impl Labels {
    /// As numbers; waits for the device if the teacher told them.
    ///
    /// # Errors
    /// If the device refuses to hand them out.
    pub fn to_vec(&self) -> Result<Vec<u32>> {
        match self {
            Self::Asked(labels) => Ok(labels.clone()),
            Self::Told(labels) => labels.to_vec1(),
        }
    }
}

/// A batch of generated images, and what the teacher says of it.
#[derive(Clone, Debug)]
pub struct Synthetic {
    /// `[rows, channels, height, width]`, normalised as the teacher takes them.
    pub images: Tensor,
    /// Class of each row.
    pub labels: Labels,
    /// The teacher's features and logits.
    pub view: View,
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

    /// `rows` images: a function of the draw.
    ///
    /// # Errors
    /// If an executor fails.
    pub fn sample(&self, rows: usize, draw: Draw<'_>) -> Result<Synthetic> {
        let classes = self.teacher.classes();
        let code = Code::draw(&self.config, classes, rows, draw, self.teacher.dtype(), &self.device)?;
        let _kept = uploads::keep(&self.device);
        let pass = self.executor.forward(&self.parameters, &code.input, ForwardSpec::EVAL)?;
        let images = pass.tap(IMAGES)?.clone();
        let view = self.teacher.forward(&images)?;
        let labels = match code.labels {
            Some(labels) => Labels::Asked(labels),
            None => Labels::Told(view.logits.argmax(1)?.to_dtype(DType::U32)?),
        };
        Ok(Synthetic { images, labels, view })
    }
}
