//! Images made of other images: with other labels, and of two sets one.

use std::sync::Arc;

use candle_core::{Error, Result, bail};

use super::Images;

impl Images {
    /// The same images with the label `to[label]` for each `label`.
    ///
    /// # Errors
    /// If a label has no other.
    pub fn relabelled(&self, to: &[u16]) -> Result<Self> {
        let label = |label: &u16| match to.get(usize::from(*label)) {
            Some(label) => Ok(*label),
            None => bail!("label {label} has no other; there are {}", to.len()),
        };
        let labels = self.labels.iter().map(label).collect::<Result<Vec<_>>>()?;
        Ok(Self { labels: Arc::new(labels), ..self.clone() })
    }

    /// These images and `others` of the same size behind them.
    ///
    /// # Errors
    /// If they are of another size.
    pub fn joined(&self, others: &Self) -> Result<Self> {
        if self.size != others.size {
            bail!("images of {:?} and of {:?} do not go together", self.size, others.size);
        }
        let mut pixels = Vec::with_capacity((self.len() + others.len()) * self.size.values());
        for (images, at) in [self, others].into_iter().flat_map(|it| (0..it.len()).map(move |at| (it, at))) {
            pixels.extend_from_slice(&images.read(at).map_err(|error| Error::Msg(format!("{error:#}")))?);
        }
        let labels = [self.labels.as_slice(), others.labels.as_slice()].concat();
        Ok(Self {
            size: self.size,
            pixels: Arc::new(pixels),
            labels: Arc::new(labels),
            device_copy: None,
            packed: None,
        })
    }
}
