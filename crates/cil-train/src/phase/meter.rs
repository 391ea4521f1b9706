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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn each_name_has_the_mean_of_its_own_values() -> candle_core::Result<()> {
        let mut meter = Meter::default();
        for (name, value) in [("a", 1f32), ("b", 5.0), ("a", 4.0), ("a", 4.0)] {
            meter.add(name, &Tensor::new(value, &Device::Cpu)?)?;
        }
        assert_eq!(meter.means()?, BTreeMap::from([("a".to_owned(), 3.0), ("b".to_owned(), 5.0)]));
        Ok(())
    }
}
