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

    /// All of them, by one read.
    pub(super) fn means(self) -> candle_core::Result<BTreeMap<String, f64>> {
        if self.sums.is_empty() {
            return Ok(BTreeMap::new());
        }
        let sums: Vec<&Tensor> = self.sums.values().map(|(sum, _)| sum).collect();
        let sums = Tensor::stack(&sums, 0)?.to_vec1::<f64>()?;
        let mean = |((name, (_, count)), sum): ((&String, &(Tensor, usize)), f64)| {
            (name.clone(), sum / *count as f64)
        };
        Ok(self.sums.iter().zip(sums).map(mean).collect())
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
