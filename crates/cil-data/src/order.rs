//! The order in which classes are learned.
//!
//! An order is data, not a seed; published orders are a file of the repository, built into the program.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use cil_random::Draw;
use serde::Deserialize;

/// Published orders: data set, then name.
const PUBLISHED: &str = include_str!("../../../datasets/class_orders.json");

/// Labels of a data set in the order of learning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassOrder(Vec<usize>);

#[derive(Deserialize)]
struct Published {
    order: Vec<usize>,
}

fn published(dataset: &str) -> Result<BTreeMap<String, Published>> {
    let mut file: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(PUBLISHED).context("the class orders built into the program are no JSON")?;
    match file.remove(dataset) {
        Some(orders) => serde_json::from_value(orders).context("the class orders built into the program"),
        None => Ok(BTreeMap::new()),
    }
}

impl ClassOrder {
    /// The published order of that name.
    ///
    /// # Errors
    /// If the data set has none; the error lists the existing names.
    pub fn published(dataset: &str, name: &str) -> Result<Self> {
        let mut orders = published(dataset)?;
        if let Some(found) = orders.remove(name) {
            return Ok(Self(found.order));
        }
        let names: Vec<&str> = orders.keys().map(String::as_str).collect();
        match names.as_slice() {
            [] => bail!("{dataset} has no published order; use {{ seed = N }} or a list of labels"),
            names => bail!("{dataset} has no order {name:?}; it has {}", names.join(", ")),
        }
    }

    /// Names of a data set's published orders.
    ///
    /// # Errors
    /// If the file built into the program is broken.
    pub fn names(dataset: &str) -> Result<Vec<String>> {
        Ok(published(dataset)?.into_keys().collect())
    }

    /// A random order of `classes` classes.
    pub fn seeded(classes: usize, seed: u64) -> Self {
        let mut order: Vec<usize> = (0..classes).collect();
        Draw::new(seed, "class order").stream("labels").shuffle(&mut order);
        Self(order)
    }

    /// The given labels, each below `classes`.
    ///
    /// # Errors
    /// Naming a label that is too large or there twice, or if there is none.
    pub fn from_labels(labels: Vec<usize>, classes: usize) -> Result<Self> {
        let mut seen = vec![false; classes];
        for label in &labels {
            match seen.get_mut(*label) {
                None => bail!("it holds label {label}; labels are 0 to {}", classes.saturating_sub(1)),
                Some(true) => bail!("it holds label {label} twice; each class is learned once"),
                Some(seen) => *seen = true,
            }
        }
        if labels.is_empty() {
            bail!("it holds no label");
        }
        Ok(Self(labels))
    }

    /// The first `n` classes.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn take(mut self, n: usize) -> Result<Self> {
        if n > self.0.len() {
            bail!("{n} classes of an order of {}", self.0.len());
        }
        self.0.truncate(n);
        Ok(self)
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no class; never of an order that was checked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels.
    pub fn labels(&self) -> &[usize] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NumPy's legacy generator (MT19937), whose shuffle made the published order.
    struct Mersenne {
        state: [u32; 624],
        next: usize,
    }

    impl Mersenne {
        fn new(seed: u32) -> Self {
            let mut state = [seed; 624];
            for at in 1..624 {
                let before = state[at - 1];
                state[at] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(at as u32);
            }
            Self { state, next: 624 }
        }

        fn word(&mut self) -> u32 {
            if self.next == 624 {
                for at in 0..624 {
                    let joined = (self.state[at] & 0x8000_0000) | (self.state[(at + 1) % 624] & 0x7fff_ffff);
                    let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                    self.state[at] = self.state[(at + 397) % 624] ^ (joined >> 1) ^ odd;
                }
                self.next = 0;
            }
            let mut word = self.state[self.next];
            self.next += 1;
            word ^= word >> 11;
            word ^= (word << 7) & 0x9d2c_5680;
            word ^= (word << 15) & 0xefc6_0000;
            word ^ (word >> 18)
        }

        fn shuffled(seed: u32, n: usize) -> Vec<usize> {
            let mut generator = Self::new(seed);
            let mut order: Vec<usize> = (0..n).collect();
            for last in (1..n).rev() {
                let mask = u32::MAX >> (last as u32).leading_zeros();
                let mut drawn = generator.word() & mask;
                while drawn > last as u32 {
                    drawn = generator.word() & mask;
                }
                order.swap(last, drawn as usize);
            }
            order
        }
    }

    #[test]
    fn the_order_of_lucir_is_numpys_shuffle() {
        for (dataset, name, classes) in [
            ("cifar100", "lucir_1993", 100),
            ("imagenet100", "podnet", 100),
            ("imagenet1000", "lucir_1993", 1000),
            ("tiny-imagenet", "numpy_1993", 200),
        ] {
            let order = ClassOrder::published(dataset, name).unwrap();
            assert_eq!(order.labels(), Mersenne::shuffled(1993, classes), "{dataset}");
        }
    }

    #[test]
    fn published_orders_are_permutations_and_a_wrong_name_is_refused() {
        for name in ClassOrder::names("cifar100").unwrap() {
            let order = ClassOrder::published("cifar100", &name).unwrap();
            assert_eq!(ClassOrder::from_labels(order.labels().to_vec(), 100).unwrap().len(), 100, "{name}");
        }
        let message = ClassOrder::published("cifar100", "lucir").unwrap_err().to_string();
        assert!(message.contains("no order \"lucir\"") && message.contains("lucir_1993"), "{message}");
        assert!(
            ClassOrder::published("cifar10", "a").unwrap_err().to_string().contains("no published order")
        );
    }

    #[test]
    fn labels_are_checked() {
        let message = |labels: &[usize]| ClassOrder::from_labels(labels.to_vec(), 4).unwrap_err().to_string();
        assert!(message(&[0, 4]).contains("label 4"));
        assert!(message(&[0, 1, 0]).contains("label 0 twice"));
        assert!(message(&[]).contains("no label"));
        let order = ClassOrder::from_labels(vec![3, 1], 4).unwrap();
        assert_eq!(order.clone().take(1).unwrap().labels(), [3]);
        assert!(order.take(3).is_err());
        assert_eq!(ClassOrder::seeded(9, 1), ClassOrder::seeded(9, 1));
        assert_ne!(ClassOrder::seeded(9, 1), ClassOrder::seeded(9, 2));
    }
}
