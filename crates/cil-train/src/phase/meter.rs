//! Mean values of an objective's parts over an epoch.
//!
//! One decision: reading a number back would make the device wait in every step, so sums stay where they are made.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

/// Means of losses; they stay on the device until they are asked for.
#[derive(Default)]
pub(super) struct Meter {
    sums: BTreeMap<String, (Tensor, usize)>,
}

impl Meter {
    pub(super) fn add(&mut self, name: &str, value: &Tensor) -> candle_core::Result<()> {
        let value = value.detach().to_dtype(DType::F64)?;
        let (sum, count) = match self.sums.remove(name) {
            Some((sum, count)) => ((sum + value)?, count + 1),
            None => (value, 1),
        };
        self.sums.insert(name.to_owned(), (sum, count));
        Ok(())
    }

    pub(super) fn means(self) -> candle_core::Result<BTreeMap<String, f64>> {
        let mean = |(name, (sum, count)): (String, (Tensor, usize))| {
            Ok((name, sum.to_scalar::<f64>()? / count as f64))
        };
        self.sums.into_iter().map(mean).collect()
    }
}
