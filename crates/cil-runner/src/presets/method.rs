//! A method's name: what it is built on and what is added to it. It is parsed and printed here, and nowhere else.
//!
//! The base methods and the heads, with their words and what goes with each, are those of `cil_train::methods`.
//! `BASE[-eN][-dfgr|-apr][-dtid|-dtidkl][-replace][-unshared][-HEAD]`, where `+` may stand for `-`.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use cil_data::exemplars::Budget;
use cil_train::methods::heads::{self, Head};
use cil_train::methods::{self, Exemplars, Heads, Listed, Method};

use crate::cli::failure::{bad_input, nearest};

/// The parts of two-teacher distillation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Teachers {
    /// Logits (`dtidkl`).
    Logits,
    /// Logits and maps of stages (`dtid`).
    LogitsAndMaps,
}

/// Exemplars of each class in the published settings of LUCIR and PODNet.
const PUBLISHED_EXEMPLARS: usize = 20;

/// A method by its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MethodName {
    /// The base method.
    pub base: &'static Method,
    /// Exemplars of each class; `None` if the base decides.
    pub exemplars: Option<usize>,
    /// Whether generated images of old classes are in every step (DF-GR).
    pub replay: bool,
    /// Whether adversarial images of old classes are in every step (APR).
    pub adversarial: bool,
    /// The parts of two-teacher distillation, if there are two teachers (DT-ID).
    pub teachers: Option<Teachers>,
    /// Whether the teachers' maps stand in place of the base's own distillation of maps.
    pub replace: bool,
    /// Whether images of a second generator stand in place of the new images.
    pub unshared: bool,
    /// The classifier.
    pub head: &'static Head,
}

impl MethodName {
    /// The method of a base's word and added parts, and of what options say of it.
    ///
    /// # Errors
    /// If a part is unknown or stands twice, an option says something else, or the parts do not go together.
    pub fn with_options(text: &str, exemplars: Option<usize>, head: Option<&'static Head>) -> Result<Self> {
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
            if !name.head.is_trained() && name.head != head {
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
        let found = methods::ALL.iter().filter_map(|it| Some((*it, rest(it.word)?)));
        let Some((base, rest)) = found.max_by_key(|(it, _)| it.word.len()) else {
            let typed = text.split('+').next().unwrap_or(text);
            return Err(bad_input(match nearest(typed, methods::ALL.iter().map(|it| it.word)) {
                Some(right) => format!("there is no method {text:?}; did you mean {right:?}?"),
                None => format!("there is no method {text:?}; `cil-runner methods` lists them"),
            }));
        };
        let mut name = Self {
            base,
            exemplars: None,
            replay: false,
            adversarial: false,
            teachers: None,
            replace: false,
            unshared: false,
            head: &heads::TRAINED,
        };
        for part in rest.split(['-', '+']).skip(1) {
            name.add(part, text)?;
        }
        Ok(name)
    }

    fn add(&mut self, part: &str, text: &str) -> Result<()> {
        let head = Head::of_part(part);
        let exemplars = part.strip_prefix('e').and_then(|count| count.parse().ok());
        let teachers = match part {
            "dtid" => Some(Teachers::LogitsAndMaps),
            "dtidkl" => Some(Teachers::Logits),
            _ => None,
        };
        let is_there = match part {
            "dfgr" => self.adversarial || std::mem::replace(&mut self.replay, true),
            "apr" => self.replay || std::mem::replace(&mut self.adversarial, true),
            "replace" => std::mem::replace(&mut self.replace, true),
            "unshared" => std::mem::replace(&mut self.unshared, true),
            _ if teachers.is_some() => std::mem::replace(&mut self.teachers, teachers).is_some(),
            _ if exemplars.is_some() => std::mem::replace(&mut self.exemplars, exemplars).is_some(),
            _ => match head {
                Some(head) => !std::mem::replace(&mut self.head, head).is_trained(),
                None => {
                    return Err(bad_input(format!(
                        "{text}: there is no part {part:?}; use e0, e20 (exemplars of each class), dfgr, apr, dtid, dtidkl, \
                         replace, unshared, {}",
                        either(heads::ALL.iter().map(|it| it.word), "or")
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
        if self.base.exemplars == Exemplars::InName {
            self.exemplars = self.exemplars.or(Some(PUBLISHED_EXEMPLARS));
        }
        let refused = self.refused_exemplars().or_else(|| self.refused_schemes());
        match refused.or_else(|| self.refused_head()) {
            Some(why) => Err(bad_input(format!("{text}: {why}"))),
            None => Ok(self),
        }
    }

    fn refused_exemplars(&self) -> Option<String> {
        let (count, base) = (self.exemplars?, self.base.word);
        match self.base.exemplars {
            Exemplars::InName => None,
            Exemplars::None => Some(format!("{base} keeps no exemplars; leave e{count} out")),
            Exemplars::OfProtocol => Some(format!(
                "what {base} keeps is the protocol's; leave e{count} out, or set recipe.exemplars"
            )),
        }
    }

    fn refused_schemes(&self) -> Option<String> {
        let base = self.base.word;
        let added = self.replay || self.adversarial || self.teachers.is_some();
        if added && self.base.schemes.is_none() {
            return Some(format!(
                "dfgr, apr, dtid and dtidkl are added to {}, and not to {base}; leave them out",
                either(words(|it| it.schemes.is_some()), "and")
            ));
        }
        let own_maps = |it: &Method| it.schemes.as_ref().is_some_and(|it| it.own_maps.is_some());
        if self.replace && !(own_maps(self.base) && self.teachers == Some(Teachers::LogitsAndMaps)) {
            let (with, maps) = match self.base.schemes.as_ref().and_then(|it| it.own_maps.as_ref()) {
                Some(maps) => (base.to_owned(), maps.name),
                None => (either(words(own_maps), "or"), "a method's own distillation of maps"),
            };
            return Some(format!(
                "replace puts two teachers' maps in place of {maps}; use {with} with dtid, or leave it out"
            ));
        }
        if self.adversarial && self.head.spec.is_none_or(|spec| spec().random_features.is_some()) {
            let why = "apr makes images with the class means that a head of statistics keeps; add discriminant, stages or views";
            return Some(why.to_owned());
        }
        if !self.unshared {
            return None;
        }
        let why = if !(self.replay && self.teachers.is_some()) {
            "unshared replays images of the new teacher's generator; add dfgr and dtid or dtidkl, or leave it out"
        } else if self.exemplars.is_some_and(|count| count > 0) {
            "where new images are not shared there are no exemplars; use e0, or leave unshared out"
        } else if !self.head.is_trained() {
            "statistics of new classes are of their images, which are not shared; leave unshared or --head out"
        } else {
            return None;
        };
        Some(why.to_owned())
    }

    fn refused_head(&self) -> Option<String> {
        let (base, head) = (self.base.word, self.head);
        match self.base.heads {
            Heads::Required if head.is_trained() => Some(format!(
                "a frozen network has no head of new classes; add {}",
                either(heads::ALL.iter().map(|it| it.word), "or")
            )),
            Heads::Required => None,
            Heads::Trained | Heads::OfStatistics if head.frozen_only => Some(format!(
                "{} is for a backbone that no later task trains; use {} in place of {base}, or another head",
                head.word,
                either(words(|it| it.heads == Heads::Required), "or")
            )),
            Heads::Trained if !head.is_trained() => Some(format!(
                "heads of statistics are for {}, and not for {base}; leave --head out",
                either(words(|it| it.heads != Heads::Trained), "and")
            )),
            Heads::Trained | Heads::OfStatistics => None,
        }
    }

    /// A method's combinations that are listed, by their parts.
    pub(super) fn listed(base: &'static Method, listed: &Listed) -> Vec<Self> {
        let named = |parts: &&str| match *parts {
            "" => base.word.parse(),
            parts => format!("{}-{parts}", base.word).parse::<Self>(),
        };
        // A test parses all of them.
        let parsed = |parts: &[&str]| parts.iter().filter_map(|it| named(it).ok()).collect::<Vec<_>>();
        let all = || parsed(base.combinations);
        match listed {
            Listed::Nothing => Vec::new(),
            Listed::All => all(),
            Listed::AllAnd(more) => [all(), parsed(more)].concat(),
            Listed::WithoutExemplars => all().into_iter().filter(|it| it.exemplars == Some(0)).collect(),
            Listed::Only(parts) => parsed(parts),
        }
    }

    /// The name without `-e20`, which is the published setting of LUCIR and PODNet.
    pub fn short(self) -> String {
        let hidden = self.exemplars.filter(|count| *count != PUBLISHED_EXEMPLARS);
        Self { exemplars: hidden, ..self }.to_string()
    }

    /// Its description, in a line; `budget`: the exemplars that it keeps in a protocol.
    pub fn about(self, budget: Option<Budget>) -> String {
        let mut about = self.base.about.to_owned();
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
        if self.adversarial {
            add(", adversarial images of old classes");
        }
        match self.teachers {
            Some(Teachers::Logits) => add(", two teachers' logits"),
            Some(Teachers::LogitsAndMaps) if self.replace => {
                let own_maps = self.base.schemes.as_ref().and_then(|it| it.own_maps.as_ref());
                let name = own_maps.map_or("the method's own", |it| it.name);
                add(&format!(", two teachers' logits, and their maps in place of {name}"));
            }
            Some(Teachers::LogitsAndMaps) => add(", two teachers' logits and maps"),
            None => {}
        }
        if self.unshared {
            add(", a second generator's images in place of the new ones");
        }
        if !self.head.is_trained() {
            add(&format!("; the classifier is {}", self.head.about));
        }
        about
    }
}

/// The words of the base methods of which that is true.
pub fn words(is: impl Fn(&Method) -> bool) -> impl Iterator<Item = &'static str> {
    methods::ALL.iter().filter(move |it| is(it)).map(|it| it.word)
}

/// Words as `a, b or c`, with that word before the last.
pub fn either<'a>(words: impl Iterator<Item = &'a str>, before_last: &str) -> String {
    let words: Vec<&str> = words.collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} {before_last} {last}", rest.join(", ")),
        _ => words.concat(),
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
        formatter.write_str(self.base.word)?;
        if let Some(count) = self.exemplars {
            write!(formatter, "-e{count}")?;
        }
        let teachers = self.teachers.map(|it| match it {
            Teachers::Logits => "dtidkl",
            Teachers::LogitsAndMaps => "dtid",
        });
        let head = (!self.head.is_trained()).then_some(self.head.word);
        let parts = [
            self.replay.then_some("dfgr"),
            self.adversarial.then_some("apr"),
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
