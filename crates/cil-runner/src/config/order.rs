//! The `class-order` key: a published name, `{ seed = N }`, or the labels themselves.
//!
//! It is read by hand, since serde's untagged enums say nothing useful about what was wrong.

use std::fmt;

use anyhow::{Result, anyhow};
use cil_data::order::ClassOrder;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// In which order classes are learned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OrderSpec {
    /// The published order of this name.
    Published(String),
    /// The order of a seed of our own.
    Seeded {
        /// The seed; the run's own seed does not matter.
        seed: u64,
    },
    /// Labels of the data set in the order they are learned.
    Labels(Vec<usize>),
}

impl OrderSpec {
    /// The order itself, over all `classes` of the data set.
    pub fn resolve(&self, dataset: &str, classes: usize) -> Result<ClassOrder> {
        let order = match self {
            Self::Published(name) => ClassOrder::published(dataset, name)?,
            Self::Seeded { seed } => ClassOrder::seeded(classes, *seed),
            Self::Labels(labels) => ClassOrder::from_labels(labels.clone(), classes)?,
        };
        if order.len() > classes {
            return Err(anyhow!("it has {} entries, {dataset} has {classes} classes", order.len()));
        }
        Ok(order)
    }
}

impl std::fmt::Display for OrderSpec {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Published(name) => formatter.write_str(name),
            Self::Seeded { seed } => write!(formatter, "drawn from {seed}"),
            Self::Labels(_) => formatter.write_str("listed"),
        }
    }
}

impl<'de> Deserialize<'de> for OrderSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = OrderSpec;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a published order's name, { seed = N }, or a list of labels")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<OrderSpec, E> {
        Ok(OrderSpec::Published(name.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OrderSpec, A::Error> {
        let mut labels = Vec::new();
        while let Some(label) = items.next_element()? {
            labels.push(label);
        }
        Ok(OrderSpec::Labels(labels))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OrderSpec, A::Error> {
        let mut seed = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != "seed" {
                return Err(de::Error::unknown_field(&key, &["seed"]));
            }
            seed = Some(map.next_value()?);
        }
        let seed = seed.ok_or_else(|| de::Error::missing_field("seed"))?;
        Ok(OrderSpec::Seeded { seed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, Serialize)]
    struct Holder {
        order: OrderSpec,
    }

    fn read(text: &str) -> Result<OrderSpec, String> {
        toml::from_str::<Holder>(&format!("order = {text}"))
            .map(|it| it.order)
            .map_err(|it| it.message().to_owned())
    }

    #[test]
    fn three_forms_go_round_and_others_are_refused() {
        let forms = [
            ("\"lucir_1993\"", OrderSpec::Published("lucir_1993".into())),
            ("{ seed = 3 }", OrderSpec::Seeded { seed: 3 }),
            ("[2, 0, 1]", OrderSpec::Labels(vec![2, 0, 1])),
        ];
        for (text, expected) in forms {
            assert_eq!(read(text).unwrap(), expected);
            let again = toml::to_string(&Holder { order: expected.clone() }).unwrap();
            assert_eq!(toml::from_str::<Holder>(&again).unwrap().order, expected);
        }
        assert_eq!(read("{ sed = 3 }").unwrap_err(), "unknown field `sed`, expected `seed`");
        let message = read("3").unwrap_err();
        assert!(message.ends_with("expected a published order's name, { seed = N }, or a list of labels"));
        assert!(read("[-1]").is_err());
    }
}
