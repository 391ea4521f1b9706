//! A method's name: what it is built on and what is added to it. It is parsed and printed here, and nowhere else.
//!
//! `BASE[-eN][-dfgr][-dtid|-dtidkl][-replace][-unshared][-HEAD]`, where `+` may stand for `-`.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use cil_data::exemplars::Budget;
use clap::ValueEnum;

use crate::cli::failure::{bad_input, nearest};

/// The base method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// Cross-entropy on the new classes alone.
    FineTune,
    /// Learning without forgetting.
    Lwf,
    /// Learning without forgetting with cross-entropy over all classes seen.
    LwfSeen,
    /// LUCIR.
    Lucir,
    /// PODNet.
    Podnet,
    /// A network that is trained on the base classes alone.
    Frozen,
    /// Training on all images of all classes seen.
    Joint,
    /// Cross-entropy on new images and exemplars.
    Rehearsal,
    /// iCaRL with sigmoids.
    Icarl,
    /// iCaRL with softmax.
    IcarlSoftmax,
    /// Weight aligning.
    Wa,
    /// Bias correction.
    Bic,
    /// R-DFCIL.
    Rdfcil,
    /// Always be dreaming.
    Abd,
    /// What ABD's table calls `DeepInversion`.
    DeepInversion,
    /// Deep model consolidation on generated images.
    DmcGenerated,
}

/// Bases, the word of each, and what it is.
const BASES: [(Base, &str, &str); 16] = [
    (Base::FineTune, "fine-tune", "cross-entropy on the new classes alone"),
    (
        Base::Lwf,
        "lwf",
        "learning without forgetting: cross-entropy among the new classes, old logits distilled",
    ),
    (Base::LwfSeen, "lwf-seen", "learning without forgetting with cross-entropy over all classes seen"),
    (Base::Lucir, "lucir", "LUCIR: a cosine head, features distilled, margins ranked"),
    (Base::Podnet, "podnet", "PODNet: several proxies a class, maps of all stages distilled"),
    (Base::Frozen, "frozen", "the base model's features, never trained again"),
    (Base::Joint, "joint", "retraining on all images of all classes seen in every task: the upper bound"),
    (
        Base::Rehearsal,
        "rehearsal",
        "cross-entropy over all classes seen, on new images and as many exemplars",
    ),
    (Base::Icarl, "icarl", "iCaRL as its paper: sigmoids; see the nearest mean"),
    (Base::IcarlSoftmax, "icarl-softmax", "iCaRL as mostly run since: softmax; see the nearest mean"),
    (Base::Wa, "wa", "weight aligning"),
    (Base::Bic, "bic", "bias correction (BiC), a tenth of the exemplars held out"),
    (Base::Rdfcil, "rdfcil", "R-DFCIL: inversion, hard and relational distillation, the head refined"),
    (Base::Abd, "abd", "ABD (always be dreaming): inversion, features distilled through the old head"),
    (
        Base::DeepInversion,
        "deepinversion",
        "what ABD's table calls DeepInversion: a generator's images, logits distilled",
    ),
    (
        Base::DmcGenerated,
        "dmc-generated",
        "DMC with generated images and new ones in place of its auxiliary data",
    ),
];

impl Base {
    /// All bases, each with its word and what it is.
    pub fn all() -> impl Iterator<Item = (Self, &'static str, &'static str)> {
        BASES.into_iter()
    }

    /// Its word in a name.
    pub fn word(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (Self, &'static str, &'static str) {
        BASES.into_iter().find(|it| it.0 == self).unwrap_or(BASES[0])
    }

    /// Whether exemplars are part of its name; 20 a class are the published setting of these.
    pub fn names_exemplars(self) -> bool {
        matches!(self, Self::Lucir | Self::Podnet)
    }

    /// Whether schemes can be added, and another head.
    fn is_open(self) -> bool {
        matches!(self, Self::Lwf | Self::Lucir | Self::Podnet)
    }
}

/// The parts of two-teacher distillation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Teachers {
    /// Logits (`dtidkl`).
    Logits,
    /// Logits and maps of stages (`dtid`).
    LogitsAndMaps,
}

/// The classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, ValueEnum)]
pub enum Head {
    /// The trained head.
    #[default]
    Trained,
    /// A linear discriminant of kept statistics of the last feature.
    Statistics,
    /// The same of all stages' features.
    Stages,
    /// Ridge regression on random features of the last one.
    Ridge,
    /// FeCAM with a covariance of each class, on a frozen backbone.
    Fecam,
    /// FeCAM with one covariance, on a frozen backbone.
    FecamShared,
    /// FeTrIL, on a frozen backbone.
    Fetril,
}

/// Words that name what answers; the first of each head is printed.
const HEADS: [(&str, Head); 7] = [
    ("discriminant", Head::Statistics),
    ("statistics", Head::Statistics),
    ("stages", Head::Stages),
    ("ridge", Head::Ridge),
    ("fecam", Head::Fecam),
    ("fecamshared", Head::FecamShared),
    ("fetril", Head::Fetril),
];

/// Exemplars of each class in the published settings of LUCIR and PODNet.
const PUBLISHED_EXEMPLARS: usize = 20;

/// A method by its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MethodName {
    /// The base method.
    pub base: Base,
    /// Exemplars of each class; `None` if the base decides.
    pub exemplars: Option<usize>,
    /// Whether generated images of old classes are in every step (DF-GR).
    pub replay: bool,
    /// The parts of two-teacher distillation, if there are two teachers (DT-ID).
    pub teachers: Option<Teachers>,
    /// Whether the teachers' maps stand in place of the base's own distillation of maps.
    pub replace: bool,
    /// Whether images of a second generator stand in place of the new images.
    pub unshared: bool,
    /// The classifier.
    pub head: Head,
}

impl MethodName {
    /// The method of a base's word and added parts, and of what options say of it.
    ///
    /// # Errors
    /// If a part is unknown or stands twice, an option says something else, or the parts do not go together.
    pub fn with_options(text: &str, exemplars: Option<usize>, head: Option<Head>) -> Result<Self> {
        let mut name = Self::parts(text)?;
        if let Some(count) = exemplars {
            if let Some(typed) = name.exemplars.filter(|typed| *typed != count) {
                return Err(bad_input(format!(
                    "--exemplars {count}: {text} has {typed} a class already; leave one of them out"
                )));
            }
            name.exemplars = Some(count);
        }
        if let Some(head) = head {
            if name.head != Head::Trained && name.head != head {
                return Err(bad_input(format!(
                    "--head: {text} names another head already; leave one of them out"
                )));
            }
            name.head = head;
        }
        name.checked(text)
    }

    /// Parses the parts, before the check whether they can be combined.
    fn parts(text: &str) -> Result<Self> {
        let rest = |word: &str| {
            let rest = text.strip_prefix(word)?;
            (rest.is_empty() || rest.starts_with(['-', '+'])).then_some(rest)
        };
        let found = BASES.iter().filter_map(|it| Some((it, rest(it.1)?))).max_by_key(|(it, _)| it.1.len());
        let Some(((base, ..), rest)) = found else {
            let typed = text.split('+').next().unwrap_or(text);
            return Err(bad_input(match nearest(typed, BASES.iter().map(|it| it.1)) {
                Some(right) => format!("there is no method {text:?}; did you mean {right:?}?"),
                None => format!("there is no method {text:?}; `cil-runner methods` lists them"),
            }));
        };
        let mut name = Self {
            base: *base,
            exemplars: None,
            replay: false,
            teachers: None,
            replace: false,
            unshared: false,
            head: Head::Trained,
        };
        for part in rest.split(['-', '+']).skip(1) {
            name.add(part, text)?;
        }
        Ok(name)
    }

    fn add(&mut self, part: &str, text: &str) -> Result<()> {
        let head = HEADS.iter().find(|it| it.0 == part).map(|it| it.1);
        let exemplars = part.strip_prefix('e').and_then(|count| count.parse().ok());
        let teachers = match part {
            "dtid" => Some(Teachers::LogitsAndMaps),
            "dtidkl" => Some(Teachers::Logits),
            _ => None,
        };
        let is_there = match part {
            "dfgr" => std::mem::replace(&mut self.replay, true),
            "replace" => std::mem::replace(&mut self.replace, true),
            "unshared" => std::mem::replace(&mut self.unshared, true),
            _ if teachers.is_some() => std::mem::replace(&mut self.teachers, teachers).is_some(),
            _ if exemplars.is_some() => std::mem::replace(&mut self.exemplars, exemplars).is_some(),
            _ => match head {
                Some(head) => std::mem::replace(&mut self.head, head) != Head::Trained,
                None => {
                    return Err(bad_input(format!(
                        "{text}: there is no part {part:?}; use e0, e20 (exemplars of each class), dfgr, dtid, dtidkl, \
                         replace, unshared, discriminant, stages, ridge, fecam, fecamshared or fetril"
                    )));
                }
            },
        };
        if is_there {
            return Err(bad_input(format!(
                "{text}: {part} stands beside a part that excludes it; leave one out"
            )));
        }
        Ok(())
    }

    /// Refuses what does not go together, and fills in what the base's published setting says.
    fn checked(mut self, text: &str) -> Result<Self> {
        let refuse = |why: &str| Err(bad_input(format!("{text}: {why}")));
        let base = self.base.word();
        if self.base.names_exemplars() {
            self.exemplars = self.exemplars.or(Some(PUBLISHED_EXEMPLARS));
        } else if let Some(count) = self.exemplars {
            let keeps_none =
                matches!(self.base, Base::FineTune | Base::Lwf | Base::LwfSeen | Base::Frozen | Base::Joint);
            return refuse(&match keeps_none {
                true => format!("{base} keeps no exemplars; leave e{count} out"),
                false => {
                    format!(
                        "what {base} keeps is the protocol's; leave e{count} out, or set recipe.exemplars"
                    )
                }
            });
        }
        if (self.replay || self.teachers.is_some()) && !self.base.is_open() {
            return refuse(&format!(
                "dfgr, dtid and dtidkl are added to lucir, podnet and lwf, and not to {base}; leave them out"
            ));
        }
        if self.replace && (self.base != Base::Podnet || self.teachers != Some(Teachers::LogitsAndMaps)) {
            return refuse(
                "replace puts two teachers' maps in place of POD-spatial; use podnet with dtid, or leave it out",
            );
        }
        if self.unshared && !(self.replay && self.teachers.is_some()) {
            return refuse(
                "unshared replays images of the new teacher's generator; add dfgr and dtid or dtidkl, or leave it out",
            );
        }
        if self.unshared && self.exemplars.is_some_and(|count| count > 0) {
            return refuse(
                "where new images are not shared there are no exemplars; use e0, or leave unshared out",
            );
        }
        if self.unshared && self.head != Head::Trained {
            return refuse(
                "statistics of new classes are of their images, which are not shared; leave unshared or --head out",
            );
        }
        match self.head {
            Head::Trained if self.base == Base::Frozen => refuse(
                "a frozen network has no head of new classes; add discriminant, stages, ridge, fecam or fetril",
            ),
            Head::Trained => Ok(self),
            Head::Fecam | Head::FecamShared | Head::Fetril if self.base != Base::Frozen => refuse(&format!(
                "FeCAM and FeTrIL are of a backbone that stays; use frozen in place of {base}, or another head"
            )),
            _ if self.base.is_open() || self.base == Base::Frozen => Ok(self),
            _ => refuse(&format!(
                "heads of statistics are for lucir, podnet, lwf and frozen, and not for {base}; leave --head out"
            )),
        }
    }

    /// The name without `-e20`, which is the published setting of LUCIR and PODNet.
    pub fn short(self) -> String {
        let hidden = self.exemplars.filter(|count| *count != PUBLISHED_EXEMPLARS);
        Self { exemplars: hidden, ..self }.to_string()
    }

    /// Its description, in a line; `budget`: the exemplars that it keeps in a protocol.
    pub fn about(self, budget: Option<Budget>) -> String {
        let mut about = self.base.row().2.to_owned();
        let mut add = |more: &str| about.push_str(more);
        match budget {
            Some(Budget::PerClass(0)) | None if self.exemplars == Some(0) => add(", without exemplars"),
            Some(Budget::PerClass(0)) | None => {
                if let Some(count) = self.exemplars {
                    add(&format!(", {count} exemplars a class"));
                }
            }
            Some(Budget::PerClass(count)) => add(&format!(", {count} exemplars a class")),
            Some(Budget::Total(count)) => add(&format!(", {count} exemplars in all")),
        }
        if self.replay {
            add(", data-free generative replay");
        }
        match self.teachers {
            Some(Teachers::Logits) => add(", two teachers' logits"),
            Some(Teachers::LogitsAndMaps) if self.replace => {
                add(", two teachers' logits, and their maps in place of POD-spatial");
            }
            Some(Teachers::LogitsAndMaps) => add(", two teachers' logits and maps"),
            None => {}
        }
        if self.unshared {
            add(", a second generator's images in place of the new ones");
        }
        match self.head {
            Head::Trained => {}
            Head::Statistics => {
                add("; the classifier is a discriminant of stored class means and one covariance")
            }
            Head::Stages => add("; the classifier is a discriminant of all stages' features"),
            Head::Ridge => add("; the classifier is ridge regression on 1024 random features (ACIL)"),
            Head::Fecam => add("; the classifier is FeCAM, a covariance of each class"),
            Head::FecamShared => add("; the classifier is FeCAM, one covariance"),
            Head::Fetril => add("; the classifier is FeTrIL, a linear SVM on moved features"),
        }
        about
    }
}

impl FromStr for MethodName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parts(text)?.checked(text)
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.base.word())?;
        if let Some(count) = self.exemplars {
            write!(formatter, "-e{count}")?;
        }
        let teachers = self.teachers.map(|it| match it {
            Teachers::Logits => "dtidkl",
            Teachers::LogitsAndMaps => "dtid",
        });
        let head = HEADS.iter().find(|it| it.1 == self.head).map(|it| it.0);
        let parts = [
            self.replay.then_some("dfgr"),
            teachers,
            self.replace.then_some("replace"),
            self.unshared.then_some("unshared"),
            head,
        ];
        parts.into_iter().flatten().try_for_each(|part| write!(formatter, "-{part}"))
    }
}

#[cfg(test)]
mod tests;
