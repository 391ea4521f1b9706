//! What is said of a method: its name, what can be added to it, and its presets.

use std::hash::{Hash, Hasher};

use cil_backbone::Architecture;

use super::lengths::Lengths;
use super::published::Published;
use super::schemes::with_dfgr;
use crate::recipe::{Recipe, ReplaySpec};

/// A method that names are built on, such as `lucir` in `lucir-e0-dfgr-dtid`. Two are equal if their words are.
#[derive(Debug)]
pub struct Method {
    /// Its word in a name.
    pub word: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Authors, venue and year of its publication; empty if there is none.
    pub source: &'static str,
    /// Which exemplars it keeps.
    pub exemplars: Exemplars,
    /// How DF-GR and DT-ID are added to it; `None` if they cannot be.
    pub schemes: Option<Schemes>,
    /// Which classifiers can be put in place of the trained head.
    pub heads: Heads,
    /// The network of that depth, for small images, that it was published with.
    pub network: fn(usize) -> Architecture,
    /// Its recipe.
    pub recipe: fn(&Lengths) -> Recipe,
    /// Parts that are added to its word in presets, such as `e0-dfgr`; `""` is the word alone. Every protocol of short
    /// runs (`demo`, `cifar100-10c`, `cifar100-20c`, `cifar10-t5`) lists all of them.
    pub combinations: &'static [&'static str],
    /// Presets in protocols of other families.
    pub presets: &'static [Presets],
}

impl Method {
    /// A method by its word, what it is in a line, and its recipe. Every other field has the most frequent value: no
    /// exemplars, neither schemes nor other heads, LUCIR's network, and one preset in each protocol of short runs.
    pub const fn new(word: &'static str, about: &'static str, recipe: fn(&Lengths) -> Recipe) -> Self {
        Self {
            word,
            about,
            source: "",
            exemplars: Exemplars::None,
            schemes: None,
            heads: Heads::Trained,
            network: Architecture::lucir,
            recipe,
            combinations: &[""],
            presets: &[],
        }
    }

    /// Its presets in a family of protocols; `None` if the family has no settings for it.
    pub fn presets_in(&self, family: Family) -> Option<&'static Presets> {
        self.presets.iter().find(|it| it.family == family)
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.word == other.word
    }
}

impl Eq for Method {}

impl Hash for Method {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.word.hash(state);
    }
}

/// The exemplars that a method keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exemplars {
    /// None.
    None,
    /// As many of each class as its name says, as in `lucir-e20`; 20 if the name says nothing.
    InName,
    /// The budget of the protocol.
    OfProtocol,
}

/// The classifiers of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heads {
    /// The trained head alone.
    Trained,
    /// The trained head, or one that is computed from kept statistics of features ([`super::heads`]).
    OfStatistics,
    /// One that is computed: no later task trains the backbone, or a head for its classes.
    Required,
}

/// How the two schemes of Choi et al. 2021 are added to a method.
#[derive(Debug)]
pub struct Schemes {
    /// Adds replay of generated images (`dfgr`).
    pub replay: fn(Recipe, ReplaySpec) -> Recipe,
    /// Removes what two teachers (`dtid`, `dtidkl`) replace.
    pub before_two_teachers: fn(Recipe) -> Recipe,
    /// The method's own distillation of stage maps, which `replace` removes.
    pub own_maps: Option<OwnMaps>,
}

impl Schemes {
    /// Generated images are labelled and distilled, and two teachers stand beside all terms of the method.
    pub const DEFAULT: Self =
        Self { replay: with_dfgr, before_two_teachers: std::convert::identity, own_maps: None };
}

/// A method's own distillation of stage maps.
#[derive(Debug)]
pub struct OwnMaps {
    /// Its name.
    pub name: &'static str,
    /// Removes it.
    pub without: fn(Recipe) -> Recipe,
}

/// Protocols that list the same methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `demo-cold`.
    ColdStart,
    /// `cifar100-b50-t5`, `-t10` and `-t25`: half of the classes first, at settings of a source.
    HalfFirst,
    /// `cifar100-b50-t50`, one class at a time, at the settings of [`Family::HalfFirst`].
    OneByOne,
    /// `cifar100-strong-b50-*`: LUCIR's settings from a strong base.
    StrongBase,
    /// `cifar100-t5`, `-t10` and `-t20`: equal tasks, at settings of a source.
    EqualTasks,
    /// `tiny-*`, `imagenet100-*` and `imagenet1000-*`.
    ImageNet,
}

/// The presets of a method in the protocols of a family. Combinations that are not listed can be composed.
#[derive(Debug)]
pub struct Presets {
    /// The family.
    pub family: Family,
    /// The settings of a source; `None` where the protocol has its own for every method.
    pub settings: Option<fn() -> Published>,
    /// The combinations that are listed.
    pub listed: Listed,
}

impl Presets {
    /// At the settings of the protocol.
    pub const fn of(family: Family, listed: Listed) -> Self {
        Self { family, settings: None, listed }
    }

    /// At the settings of a source.
    pub const fn at(settings: fn() -> Published, family: Family, listed: Listed) -> Self {
        Self { family, settings: Some(settings), listed }
    }
}

/// Which of a method's combinations a family lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// None: they can be composed.
    Nothing,
    /// All of [`Method::combinations`].
    All,
    /// All of them, and these.
    AllAnd(&'static [&'static str]),
    /// Those with `e0`.
    WithoutExemplars,
    /// These.
    Only(&'static [&'static str]),
}
