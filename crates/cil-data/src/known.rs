//! The digests of known data sets.
//!
//! The digest of a published data set stands once, in `datasets/digests.json`, which `cargo xtask` reads too; fetching,
//! verifying and training compare the images with it. A data set that is not in the list has no published digest.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

const DIGESTS: &str = include_str!("../../../datasets/digests.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    train: String,
    test: String,
}

/// Refuses images of `folder` that are called `name` and are not those of the published data set of this name.
pub(crate) fn check(folder: &Path, name: &str, train: &str, test: &str) -> Result<()> {
    let known: BTreeMap<String, Known> =
        serde_json::from_str(DIGESTS).context("datasets/digests.json is broken")?;
    let Some(known) = known.get(name) else { return Ok(()) };
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
    fn other_images_under_a_known_name_are_refused() {
        let known: BTreeMap<String, Known> = serde_json::from_str(DIGESTS).unwrap();
        let Known { train, test } = &known["cifar100"];
        let told = |name: &str, train: &str, test: &str| {
            check(Path::new("data"), name, train, test).map_err(|error| error.to_string())
        };
        assert_eq!(told("cifar100", train, test), Ok(()));
        assert_eq!(told("mine", "0", "1"), Ok(()));
        let wrong = told("cifar100", "0", test).unwrap_err();
        assert!(wrong.starts_with("data is not cifar100") && wrong.contains("training images"), "{wrong}");
        assert!(told("cifar100", train, train).unwrap_err().contains("test images"));
        assert!(known.values().all(|it| it.train.len() == 64 && it.test.len() == 64));
    }
}
