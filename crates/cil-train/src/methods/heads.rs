//! Classifiers that stand in place of a method's trained head, each a row of [`ALL`].

use std::hash::{Hash, Hasher};

use cil_backbone::StageCells;

use crate::recipe::{AdversarialImages, Carry, DiscriminantSpec, FecamSpec, Views};

/// A classifier. Two are equal if their words are.
#[derive(Debug)]
pub struct Head {
    /// Its word in a method's name, such as `discriminant` in `lwf-discriminant`.
    pub word: &'static str,
    /// Its name behind `--head`, which a method's name may have too.
    pub option: &'static str,
    /// What it is, as the end of a sentence "the classifier is ...".
    pub about: &'static str,
    /// Whether it is for a backbone that no later task trains.
    pub frozen_only: bool,
    /// What is computed; `None` for the trained head.
    pub spec: Option<fn() -> DiscriminantSpec>,
}

/// The trained head.
pub static TRAINED: Head =
    Head { word: "trained", option: "trained", about: "the trained head", frozen_only: false, spec: None };

/// All of them but [`TRAINED`], in the order in which they are listed.
pub static ALL: &[Head] = &[
    // The shrinkage was chosen on held-out images of another class order (docs/results.md; 0.003 to 0.03 is the same).
    Head {
        word: "discriminant",
        option: "statistics",
        about: "a discriminant of stored class means and one covariance",
        frozen_only: false,
        spec: Some(pooled),
    },
    Head {
        word: "stages",
        option: "stages",
        about: "a discriminant of all stages' features",
        frozen_only: false,
        spec: Some(all_stages),
    },
    // The views were chosen in a sketch on one checkpoint of another class order (docs/results.md).
    Head {
        word: "views",
        option: "views",
        about: "a discriminant of all stages' features, which follows the backbone in many views of the new images",
        frozen_only: false,
        spec: Some(|| DiscriminantSpec {
            views: Some(Views { rotated: true, augmented: 2, pasted: 2 }),
            ..all_stages()
        }),
    },
    // The ridge was not chosen: ACIL's is an absolute one of 0.1.
    Head {
        word: "ridge",
        option: "ridge",
        about: "ridge regression on 1024 random features, as in ACIL",
        frozen_only: false,
        spec: Some(|| DiscriminantSpec { random_features: Some(1024), ridge: true, ..pooled() }),
    },
    // Drift and neighbourhood of SDC's code, on features of length 1.
    Head {
        word: "sdc",
        option: "sdc",
        about: "the nearest class mean, moved by the drift of near images, as in SDC",
        frozen_only: false,
        spec: Some(|| DiscriminantSpec {
            nearest_mean: true,
            carry: Carry::Nearby { sigma: 0.3 },
            ..pooled()
        }),
    },
    // Features after the last ReLU, as those of LDC's and ADC's network.
    Head {
        word: "ldc",
        option: "ldc",
        about: "the nearest class mean, moved by a linear map, as in LDC",
        frozen_only: false,
        spec: Some(|| nearest_mean(Carry::Linear)),
    },
    Head {
        word: "adc",
        option: "adc",
        about: "the nearest class mean, moved by the drift of adversarial images, as in ADC",
        frozen_only: false,
        spec: Some(|| nearest_mean(Carry::Adversarial(AdversarialImages::published()))),
    },
    // Numbers of the released codes (shrinkage is FeCAM's first share, and 1 / C of FeTrIL's SVM), of maps after the
    // last ReLU as theirs are.
    Head {
        word: "fecam",
        option: "fecam",
        about: "FeCAM, a covariance of each class",
        frozen_only: true,
        spec: Some(|| last_relu(Some(FecamSpec::per_class()))),
    },
    Head {
        word: "fecamshared",
        option: "fecam-shared",
        about: "FeCAM, one covariance",
        frozen_only: true,
        spec: Some(|| last_relu(Some(FecamSpec::shared()))),
    },
    Head {
        word: "fetril",
        option: "fetril",
        about: "FeTrIL, a linear SVM on moved features",
        frozen_only: true,
        spec: Some(|| DiscriminantSpec { fetril: true, ..last_relu(None) }),
    },
];

impl Head {
    /// The head of that name behind `--head`.
    pub fn of_option(option: &str) -> Option<&'static Self> {
        std::iter::once(&TRAINED).chain(ALL).find(|it| it.option == option)
    }

    /// The head of that part of a method's name.
    pub fn of_part(part: &str) -> Option<&'static Self> {
        ALL.iter().find(|it| it.word == part || it.option == part)
    }

    /// Whether it is the trained head.
    pub fn is_trained(&self) -> bool {
        self.spec.is_none()
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.word == other.word
    }
}

impl Eq for Head {}

impl Hash for Head {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.word.hash(state);
    }
}

fn pooled() -> DiscriminantSpec {
    DiscriminantSpec::pooled(0.01)
}

fn all_stages() -> DiscriminantSpec {
    let stage = |stage, cells| StageCells { stage, cells, normalised: true };
    let stages = vec![stage(3, 2), stage(2, 4), stage(1, 4)];
    DiscriminantSpec { stages, mirrored: true, ..pooled() }
}

fn nearest_mean(carry: Carry) -> DiscriminantSpec {
    DiscriminantSpec { nearest_mean: true, carry, ..last_relu(None) }
}

/// Pooled features after the last ReLU, whether the network's own ones are or not.
fn last_relu(fecam: Option<FecamSpec>) -> DiscriminantSpec {
    let stages = vec![StageCells { stage: 3, cells: 1, normalised: false }];
    DiscriminantSpec { fecam, stages, ..DiscriminantSpec::pooled(1.0) }
}
