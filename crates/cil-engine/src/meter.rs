//! Mean values of an objective's parts over some steps.
//!
//! Reading a number back would synchronise with the device in every step, so sums stay on the device, as a part of the
//! state that a step returns ([`crate::captures`]).

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor};

/// Means of losses; they stay on the device until they are asked for.
#[derive(Debug, Default)]
pub struct Meter {
    sums: BTreeMap<String, (Tensor, usize)>,
}

impl Meter {
    /// Adds one value, of one element, to a part's.
    ///
    /// # Errors
    /// If the device refuses it.
    pub fn add(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let value = value.detach().to_dtype(DType::F64)?;
        let (sum, count) = match self.sums.remove(name) {
            Some((sum, count)) => ((sum + value)?, count + 1),
            None => (value, 1),
        };
        self.sums.insert(name.to_owned(), (sum, count));
        Ok(())
    }

    /// Counts values that the device added by itself.
    pub fn repeated<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            self.sums.entry(name.to_owned()).and_modify(|(_, count)| *count += 1);
        }
    }

    /// Every sum, in the order of names: what a step replaces.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        self.sums.values_mut().map(|(sum, _)| sum)
    }

    /// Begins again from nothing, with a place for every part that there was.
    ///
    /// # Errors
    /// If the device refuses it.
    pub fn restart(&mut self) -> Result<()> {
        for (sum, count) in self.sums.values_mut() {
            (*sum, *count) = (sum.zeros_like()?, 0);
        }
        Ok(())
    }

    /// The means of all parts that were added since the beginning, by one read.
    ///
    /// # Errors
    /// If the device does not hand them out.
    pub fn means(&self) -> Result<BTreeMap<String, f64>> {
        let counted = || self.sums.iter().filter(|(_, (_, count))| *count > 0);
        let sums: Vec<&Tensor> = counted().map(|(_, (sum, _))| sum).collect();
        if sums.is_empty() {
            return Ok(BTreeMap::new());
        }
        let sums = Tensor::stack(&sums, 0)?.to_vec1::<f64>()?;
        let mean = |((name, (_, count)), sum): ((&String, &(Tensor, usize)), f64)| {
            (name.clone(), sum / *count as f64)
        };
        Ok(counted().zip(sums).map(mean).collect())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn each_name_has_the_mean_of_its_own_values() -> Result<()> {
        let mut meter = Meter::default();
        let value = |value: f32| Tensor::new(value, &Device::Cpu);
        for (name, it) in [("a", 1f32), ("b", 5.0), ("a", 4.0), ("a", 4.0)] {
            meter.add(name, &value(it)?)?;
        }
        assert_eq!(meter.means()?, BTreeMap::from([("a".to_owned(), 3.0), ("b".to_owned(), 5.0)]));
        meter.restart()?;
        assert_eq!(meter.means()?, BTreeMap::new());
        meter.add("b", &value(2.0)?)?;
        // The device doubled it by itself.
        for sum in meter.tensors_mut() {
            *sum = (&*sum * 2.0)?;
        }
        meter.repeated(["b"]);
        assert_eq!(meter.means()?, BTreeMap::from([("b".to_owned(), 2.0)]));
        Ok(())
    }
}
