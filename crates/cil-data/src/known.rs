//! Known data sets: their sizes, digests, and the constants that published methods normalise their images with.
//!
//! They stand once, in `datasets/known.json`, which `cargo xtask` reads too; fetching, verifying and training compare
//! images with the digests. A data set that is not in the list says its classes in its own manifest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Result, bail};
use serde::Deserialize;

const TEXT: &str = include_str!("../../../datasets/known.json");

static KNOWN: LazyLock<BTreeMap<String, Known>> = LazyLock::new(|| {
    serde_json::from_str(TEXT).expect("datasets/known.json is compiled in, and a test reads it")
});

/// What is known of a data set, as far as this crate reads it; `cargo xtask` reads the rest.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Known {
    classes: Option<usize>,
    digests: Option<Digests>,
    normalisation: BTreeMap<String, Constants>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Digests {
    train: String,
    test: String,
}

/// Mean and deviation of each colour by which a source normalises images.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Constants {
    pub(crate) mean: [f32; 3],
    pub(crate) deviation: [f32; 3],
}

/// How many classes a known data set has.
pub fn classes(dataset: &str) -> Option<usize> {
    KNOWN.get(dataset)?.classes
}

/// All constants: data set, source and numbers.
pub(crate) fn constants() -> impl Iterator<Item = (&'static str, &'static str, &'static Constants)> {
    KNOWN.iter().flat_map(|(dataset, known)| {
        known.normalisation.iter().map(|(source, constants)| (dataset.as_str(), source.as_str(), constants))
    })
}

/// Refuses images of `folder` that are called `name` and are not those of the published data set of this name.
pub(crate) fn check(folder: &Path, name: &str, train: &str, test: &str) -> Result<()> {
    let Some(known) = KNOWN.get(name).and_then(|it| it.digests.as_ref()) else { return Ok(()) };
    for (part, found, right) in [("training", train, &known.train), ("test", test, &known.test)] {
        if found != right {
            bail!(
                "{} is not {name} as it was published: its {part} images and labels have the digest {found}, not \
                 {right}; run `cargo xtask fetch-data {name} --force`",
                folder.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_constants_are_known_by_name() {
        assert_eq!((classes("cifar100"), classes("imagenet"), classes("mine")), (Some(100), None, None));
        let lucir = constants().find(|it| (it.0, it.1) == ("cifar100", "lucir")).unwrap().2;
        assert_eq!((lucir.mean[0], lucir.deviation[2]), (0.5071, 0.2023));
    }

    #[test]
    fn other_images_under_a_known_name_are_refused() {
        let Digests { train, test } = KNOWN["cifar100"].digests.as_ref().unwrap();
        let error = |name: &str, train: &str, test: &str| {
            check(Path::new("data"), name, train, test).map_err(|error| error.to_string())
        };
        assert_eq!(error("cifar100", train, test), Ok(()));
        assert_eq!(error("mine", "0", "1"), Ok(()));
        let wrong = error("cifar100", "0", test).unwrap_err();
        assert!(wrong.starts_with("data is not cifar100") && wrong.contains("training images"), "{wrong}");
        assert!(error("cifar100", train, train).unwrap_err().contains("test images"));
        let digests = KNOWN.values().filter_map(|it| it.digests.as_ref());
        assert!(digests.into_iter().all(|it| it.train.len() == 64 && it.test.len() == 64));
    }
}
