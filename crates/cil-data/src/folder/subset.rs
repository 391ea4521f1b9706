//! ImageNet-100, of which there are two.
//!
//! Both are positions among the 1000 class folders of ImageNet (ILSVRC 2012) sorted by name, so a local copy is all
//! that is needed.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::{Filed, Folder};

/// Which 100 of ImageNet's 1000 classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subset {
    /// The first 100, n01440764 to n01855672: `imagenet_split/val_100.txt` of PODNet's code
    /// (arthurdouillard/incremental_learning.pytorch at 0d61cb2), after iCaRL's.
    #[serde(rename = "first-100")]
    First100,
    /// LUCIR's (hshustc/CVPR19_Incremental_Learning), `seed_1993_subset_100_imagenet`: those that NumPy's legacy
    /// generator chooses of 1000 with the seed 1993.
    #[serde(rename = "lucir-100")]
    Lucir100,
}

/// `np.random.seed(1993); sorted(np.random.choice(1000, 100, replace=False))`.
const LUCIR: [u16; 100] = [
    7, 11, 14, 44, 54, 62, 75, 77, 85, 105, 108, 123, 126, 127, 133, 142, 160, 174, 186, 192, 215, 219, 224,
    238, 240, 260, 262, 274, 275, 279, 284, 288, 289, 303, 312, 323, 324, 337, 390, 391, 394, 400, 413, 419,
    437, 446, 466, 470, 471, 473, 478, 490, 493, 494, 507, 508, 509, 512, 523, 539, 542, 548, 590, 597, 600,
    622, 632, 634, 637, 650, 658, 665, 699, 704, 722, 730, 748, 761, 782, 783, 812, 836, 842, 850, 852, 856,
    859, 886, 894, 906, 911, 912, 928, 959, 966, 979, 988, 989, 990, 999,
];

impl Folder {
    /// The folder with the classes of a subset alone; one of just 100 classes is that subset already.
    ///
    /// # Errors
    /// If it has neither 1000 nor 100 classes.
    pub fn of(self, subset: Subset) -> Result<Self> {
        match self.classes.len() {
            100 => Ok(self),
            1000 => {
                let kept: Vec<usize> = match subset {
                    Subset::First100 => (0..100).collect(),
                    Subset::Lucir100 => LUCIR.map(usize::from).to_vec(),
                };
                Ok(self.with_classes(&kept))
            }
            count => bail!(
                "{} has {count} classes; a subset is taken of the 1000 of ImageNet, or is the 100 that are there",
                self.root.display()
            ),
        }
    }

    /// The folder with these classes alone, given as ascending positions in [`Folder::classes`].
    fn with_classes(self, kept: &[usize]) -> Self {
        let of = |part: Vec<Filed>| -> Vec<Filed> {
            let place =
                |file: Filed| kept.binary_search(&file.label).ok().map(|label| Filed { label, ..file });
            part.into_iter().filter_map(place).collect()
        };
        Self {
            classes: kept.iter().map(|at| self.classes[*at].clone()).collect(),
            train: of(self.train),
            test: of(self.test),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn folder(classes: usize) -> Folder {
        let file = |label| Filed { path: PathBuf::from(format!("{label}.png")), label };
        Folder {
            root: PathBuf::from("imagenet"),
            classes: (0..classes).map(|class| format!("n{class:08}")).collect(),
            train: (0..classes).map(file).collect(),
            test: (0..classes).map(file).collect(),
            passed_over: 0,
        }
    }

    #[test]
    fn both_lists_are_taken_of_a_thousand_classes() {
        let first = folder(1000).of(Subset::First100).unwrap();
        assert_eq!((first.classes.len(), first.classes[99].as_str()), (100, "n00000099"));
        let lucir = folder(1000).of(Subset::Lucir100).unwrap();
        assert_eq!((lucir.classes[0].as_str(), lucir.classes[99].as_str()), ("n00000007", "n00000999"));
        assert_eq!((lucir.train[1].label, lucir.train[1].path.to_str().unwrap()), (1, "11.png"));
        assert!(LUCIR.is_sorted_by(|a, b| a < b));
        assert_eq!(folder(100).of(Subset::Lucir100).unwrap(), folder(100));
        let message = folder(10).of(Subset::First100).unwrap_err().to_string();
        assert!(message.starts_with("imagenet has 10 classes"), "{message}");
    }

    /// The choice is the beginning of the published order of all 1000 classes, which the same generator made.
    #[test]
    fn the_list_is_the_beginning_of_the_published_order() {
        let order = crate::order::ClassOrder::published("imagenet1000", "lucir_1993").unwrap();
        let mut first: Vec<u16> = order.labels()[..100].iter().map(|label| *label as u16).collect();
        first.sort_unstable();
        assert_eq!(first, LUCIR);
    }
}
