//! Classes and normalisation in a file of another program, beside the tensors.
//!
//! Three sources, the first that says it wins: [`Hints`] (what the user said), the safetensors metadata, and the text
//! of a `config.json` as timm and the hub's repositories have it (`label_names`, `id2label`, `pretrained_cfg`).

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, bail};
use serde_json::Value;

use super::{card, unreadable};
use crate::file::ModelCard;

/// Largest side that a file may name; a bound, so that sizes are not multiplied unseen.
const LARGEST_SIDE: u64 = 8192;

/// The user's description of a classifier; `None` leaves it to the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hints {
    /// Class names in the order of the logits.
    pub class_names: Option<Vec<String>>,
    /// Per channel, subtracted from pixels in `[0, 1]`.
    pub mean: Option<Vec<f32>>,
    /// Per channel, divided by afterwards.
    pub deviation: Option<Vec<f32>>,
    /// Height and width of an image; what such networks were mostly trained on otherwise.
    pub side: Option<usize>,
}

impl Hints {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and `other`s where these say nothing.
    fn or(self, other: Self) -> Self {
        Self {
            class_names: self.class_names.or(other.class_names),
            mean: self.mean.or(other.mean),
            deviation: self.deviation.or(other.deviation),
            side: self.side.or(other.side),
        }
    }

    /// The card of a network of that many channels and classes.
    pub(super) fn card(self, channels: usize, classes: usize) -> Result<ModelCard> {
        let Some(class_names) = self.class_names else {
            bail!(
                "the file does not name its {classes} classes; name them with --classes, separated by commas, or \
                 with \
                 a file that has one name a line"
            );
        };
        if class_names.len() != classes {
            bail!(
                "{} class names for a classifier of {classes} classes; give one for each",
                class_names.len()
            );
        }
        let (Some(mean), Some(deviation)) = (self.mean, self.deviation) else {
            bail!(
                "the file does not say what its images were normalised by; say it with --mean and --std, as --mean \
                 0.485,0.456,0.406 --std 0.229,0.224,0.225"
            );
        };
        let card = card(class_names, mean, deviation);
        card.check(channels, classes)?;
        Ok(card)
    }
}

/// All that is said, by the first source that says it.
pub(super) fn gather(
    metadata: Option<&HashMap<String, String>>,
    config: Option<&str>,
    hints: &Hints,
) -> Result<Hints> {
    let of_file = match metadata {
        Some(metadata) => of_metadata(metadata).map_err(|error| unreadable("the file's metadata", &error))?,
        None => Hints::default(),
    };
    let of_config = match config {
        Some(text) => of_config(text).map_err(|error| unreadable("config.json", &error))?,
        None => Hints::default(),
    };
    Ok(hints.clone().or(of_file).or(of_config))
}

/// Of a safetensors file: values are texts, so lists are JSON or separated by commas.
fn of_metadata(metadata: &HashMap<String, String>) -> Result<Hints> {
    let value = |keys: &[&str]| keys.iter().find_map(|key| Some((key.to_string(), metadata.get(*key)?)));
    let list = |text: &str| match serde_json::from_str(text) {
        Ok(value @ Value::Array(_)) => value,
        _ => Value::Array(text.split(',').map(|it| Value::String(it.trim().to_owned())).collect()),
    };
    let of = |keys: &[&str]| value(keys).map(|(key, text)| (key, list(text)));
    Ok(Hints {
        class_names: of(&["class_names", "classes", "label_names"])
            .map(|(key, value)| names(&key, &value))
            .transpose()?,
        mean: of(&["mean", "image_mean"]).map(|(key, value)| numbers(&key, &value)).transpose()?,
        deviation: of(&["std", "image_std"]).map(|(key, value)| numbers(&key, &value)).transpose()?,
        side: value(&["input_size"]).map(|(_, text)| size(text)).transpose()?,
    })
}

fn size(text: &str) -> Result<usize> {
    match serde_json::from_str(text) {
        Ok(value) => side(&value),
        Err(_) => bail!("input_size is {text}; use [channels, side, side]"),
    }
}

/// Of a `config.json`: keys at the top or, as timm has them, in `pretrained_cfg`.
fn of_config(text: &str) -> Result<Hints> {
    let config: Value = match serde_json::from_str(text) {
        Ok(config) => config,
        Err(error) => bail!("it is not JSON: {error}"),
    };
    let find = |keys: &[&str]| {
        let places = [Some(&config), config.get("pretrained_cfg")];
        let at =
            |place: &Value| keys.iter().find_map(|key| Some((key.to_string(), place.get(*key)?.clone())));
        places.into_iter().flatten().find_map(at).filter(|(_, value)| !value.is_null())
    };
    let class_names = match find(&["class_names", "label_names", "labels"]) {
        Some((key, value)) => Some(names(&key, &value)?),
        None => find(&["id2label"]).map(|(_, value)| by_id(&value)).transpose()?,
    };
    Ok(Hints {
        class_names,
        mean: find(&["mean", "image_mean"]).map(|(key, value)| numbers(&key, &value)).transpose()?,
        deviation: find(&["std", "image_std"]).map(|(key, value)| numbers(&key, &value)).transpose()?,
        side: find(&["input_size"]).map(|(_, value)| side(&value)).transpose()?,
    })
}

fn names(key: &str, value: &Value) -> Result<Vec<String>> {
    let texts = value.as_array().map(|it| it.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    match texts {
        Some(Some(texts)) => Ok(texts.into_iter().map(str::to_owned).collect()),
        _ => bail!("{key} is not a list of class names"),
    }
}

/// `{"0": "tench", "1": "goldfish", ...}`, as transformers writes it.
fn by_id(value: &Value) -> Result<Vec<String>> {
    let Some(map) = value.as_object() else { bail!("id2label is not a map from numbers to names") };
    let mut by_id = BTreeMap::new();
    for (id, name) in map {
        let (Ok(id), Some(name)) = (id.parse::<usize>(), name.as_str()) else {
            bail!("id2label holds {id:?}: {name}; use a number and a name");
        };
        by_id.insert(id, name.to_owned());
    }
    match by_id.keys().enumerate().find(|(at, id)| at != *id) {
        Some((at, _)) => bail!("id2label has no name for class {at}"),
        None => Ok(by_id.into_values().collect()),
    }
}

fn numbers(key: &str, value: &Value) -> Result<Vec<f32>> {
    let number = |value: &Value| match value {
        Value::String(text) => text.parse::<f32>().ok(),
        other => other.as_f64().map(|it| it as f32),
    };
    match value.as_array().map(|it| it.iter().map(number).collect::<Option<Vec<_>>>()) {
        Some(Some(values)) => Ok(values),
        _ => bail!("{key} is not a list of numbers"),
    }
}

/// `[channels, height, width]`.
fn side(value: &Value) -> Result<usize> {
    let dims: Option<Vec<u64>> = value.as_array().and_then(|it| it.iter().map(Value::as_u64).collect());
    match dims.as_deref() {
        Some([_, height, width]) if height == width && (1..=LARGEST_SIDE).contains(height) => {
            Ok(*height as usize)
        }
        _ => bail!("input_size is {value}; use [channels, side, side]"),
    }
}
