//! The `architecture` key: one of the known ResNets, or `{ file = ".." }`, the network of a model file.
//!
//! The file is read once. Its network is written into the configuration that a run records, so that a record can be
//! read and resumed without the file.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::Device;
use cil_backbone::{Architecture, Backbone, Variant, file};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::cli::failure::bad_input;

/// The network.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum NetworkSpec {
    /// One of the known ResNets.
    Resnet(Architecture),
    /// The network of a model file, such as one that a program of your own wrote.
    File(NetworkFile),
}

/// The network of a model file. Its values, its classes and its normalisation are not used: training begins with new
/// weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkFile {
    /// The file.
    pub file: PathBuf,
    /// The network as JSON. It is read from the file where it is not written; where it is, the file is not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

impl NetworkSpec {
    /// The network.
    ///
    /// # Errors
    /// If the file was not read, or what is written is no network.
    pub fn backbone(&self) -> Result<Backbone> {
        let spec = match self {
            Self::Resnet(architecture) => return Ok((*architecture).into()),
            Self::File(spec) => spec,
        };
        let file = spec.file.display();
        let Some(network) = &spec.network else {
            return Err(bad_input(format!(
                "architecture.file: the network of {file} was not read; write architecture.network"
            )));
        };
        serde_json::from_str(network).map_err(|error| {
            bad_input(format!(
                "architecture.network is no network: {error}; leave it out to read {file} again"
            ))
        })
    }

    /// Reads the network of a file, where it is not written.
    pub(super) fn read(&mut self) -> Result<()> {
        let Self::File(NetworkFile { file, network: network @ None }) = self else { return Ok(()) };
        let name = file.display();
        let bytes = std::fs::read(&*file).map_err(|error| {
            bad_input(format!("architecture.file: cannot read {name}: {error}; name a model file"))
        })?;
        let (snapshot, _) = file::from_bytes(&bytes, &Device::Cpu).map_err(|error| {
            bad_input(format!(
                "architecture.file: {name}: {error}; name a model file of this program, or write it again"
            ))
        })?;
        *network = Some(serde_json::to_string(&snapshot.backbone)?);
        Ok(())
    }
}

impl From<Architecture> for NetworkSpec {
    fn from(architecture: Architecture) -> Self {
        Self::Resnet(architecture)
    }
}

/// The keys of both forms, so that an error can name its key.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Either {
    variant: Option<Variant>,
    depth: Option<usize>,
    width: Option<usize>,
    file: Option<PathBuf>,
    network: Option<String>,
}

impl<'de> Deserialize<'de> for NetworkSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Either { variant, depth, width, file, network } = Either::deserialize(deserializer)?;
        let missing = de::Error::missing_field;
        match (file, network) {
            (Some(file), network) if variant.is_none() && depth.is_none() && width.is_none() => {
                Ok(Self::File(NetworkFile { file, network }))
            }
            (None, None) => Ok(Self::Resnet(Architecture {
                variant: variant.ok_or_else(|| missing("variant"))?,
                depth: depth.ok_or_else(|| missing("depth"))?,
                width: width.ok_or_else(|| missing("width"))?,
            })),
            _ => Err(de::Error::custom(
                "a network has either variant, depth and width, or file; leave the other keys out",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use cil_engine::{GraphBuilder, Op, Shape};

    use super::*;
    use crate::config::RunConfig;
    use crate::config::identity::hash;
    use crate::presets::target::configuration;

    fn network(width: usize) -> Backbone {
        let mut net = GraphBuilder::new(Shape::Map { channels: 3, height: 32, width: 32 });
        let op = Op::Conv2d { out_channels: width, kernel: 3, stride: 2, padding: 1, bias: false };
        let conv = net.add("conv", op, &[net.input()]).unwrap();
        net.tap("stage1", conv);
        let pool = net.add("pool", Op::GlobalAvgPool, &[conv]).unwrap();
        net.tap("pooled", pool);
        Backbone::own("tiny-nets", net.build().unwrap()).unwrap()
    }

    fn read(path: &std::path::Path) -> Result<crate::config::Checked> {
        let change = format!("architecture={{ file = {:?} }}", path.display().to_string());
        configuration("demo-fine-tune", &[change], None)
    }

    #[test]
    fn a_network_is_read_once_and_its_file_s_name_and_values_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str, width| {
            let path = folder.path().join(name);
            std::fs::write(&path, file::untrained(&network(width), [3, 32, 32]).unwrap()).unwrap();
            path
        };
        let (one, same, other) = (written("one", 4), written("same", 4), written("other", 5));
        let checked = read(&one).unwrap();
        assert_eq!(*checked.backbone(), network(4));
        let digest = hash(&checked).unwrap();
        assert_eq!(hash(&read(&same).unwrap()).unwrap(), digest);
        assert_ne!(hash(&read(&other).unwrap()).unwrap(), digest);
        std::fs::remove_file(one).unwrap();
        let again: RunConfig = toml::from_str(checked.text()).unwrap();
        assert_eq!(*again.check().unwrap().backbone(), network(4));
    }

    #[test]
    fn what_is_no_network_is_refused_in_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.safetensors");
        let message = || read(&path).unwrap_err().to_string();
        assert!(message().contains("net.safetensors: No such file"), "{}", message());
        assert!(message().ends_with("; name a model file"), "{}", message());
        std::fs::write(&path, "no model").unwrap();
        assert!(message().contains("net.safetensors: not a whole safetensors file"), "{}", message());
        let good = file::untrained(&network(4), [3, 32, 32]).unwrap();
        let changed = |changes: &[(&str, &str)]| {
            let mut bytes = good.clone();
            for (from, to) in changes {
                let at = bytes.windows(from.len()).position(|it| it == from.as_bytes()).unwrap();
                bytes.splice(at..at + from.len(), to.bytes());
            }
            assert_eq!(bytes.len(), good.len());
            std::fs::write(&path, bytes).unwrap();
        };
        changed(&[("pooled", "poolen")]);
        assert!(message().contains("has no features; tap a vector as \"pooled\""), "{}", message());
        changed(&[("tiny-nets", "tiny"), (r#"class-names\":[]"#, r#"class-names\":[\"a\"]"#)]);
        assert!(message().contains("has 1 class names, the model 0 classes"), "{}", message());
        let of = |text: &str| configuration("demo-lwf", &[format!("architecture={text}")], None);
        let message = |text: &str| of(text).unwrap_err().to_string();
        let both = message("{ file = \"a\", depth = 8 }");
        assert!(both.contains("either variant, depth and width, or file"), "{both}");
        assert!(message("{ variant = \"lucir\", depth = 8 }").contains("width"));
        let wrong = message("{ file = \"a\", network = \"{}\" }");
        assert!(wrong.contains("architecture.network is no network"), "{wrong}");
        assert!(wrong.ends_with("leave it out to read a again"), "{wrong}");
    }
}
