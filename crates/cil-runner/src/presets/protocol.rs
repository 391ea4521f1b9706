//! A protocol: which classes come in which tasks, with which network and at which settings.
//!
//! A preset is a protocol and a method; its name is both joined.

use anyhow::Result;
use cil_train::methods::Method;

use super::Preset;
use super::method::MethodName;
use super::numbers;
use crate::cli::failure::bad_input;
use crate::config::RunConfig;

/// The configuration of a method in a protocol, not named yet, and where its settings are from.
pub(super) struct Made {
    /// Where the settings are from.
    pub(super) source: &'static str,
    /// The configuration.
    pub(super) config: RunConfig,
}

type Maker = Box<dyn Fn(&MethodName) -> Option<Made>>;

/// A protocol, and the methods that are listed for it.
pub struct Protocol {
    /// The prefix of its presets' names.
    pub name: String,
    /// The data set and its tasks.
    pub about: String,
    /// Methods that are listed; others of the same bases can be composed.
    pub listed: Vec<MethodName>,
    /// Whether 20 exemplars a class, the published setting of LUCIR and PODNet, are left out of names.
    short: bool,
    make: Maker,
}

impl Protocol {
    pub(super) fn new(
        name: impl Into<String>,
        about: impl Into<String>,
        listed: Vec<MethodName>,
        make: impl Fn(&MethodName) -> Option<Made> + 'static,
    ) -> Self {
        Self { name: name.into(), about: about.into(), listed, short: false, make: Box::new(make) }
    }

    /// The same, where names leave 20 exemplars a class out.
    pub(super) fn short(self) -> Self {
        Self { short: true, ..self }
    }

    /// The preset of a method.
    ///
    /// # Errors
    /// If the protocol has no settings for what the method is built on.
    pub fn preset(&self, method: &MethodName) -> Result<Preset> {
        let Some(Made { source, mut config }) = (self.make)(method) else {
            let word = method.base.word;
            let others = super::protocols().into_iter().filter(|it| it.has(method.base)).map(|it| it.name);
            return Err(bad_input(format!(
                "{} has no settings for {word}; use one of {}",
                self.name,
                others.collect::<Vec<_>>().join(", ")
            )));
        };
        let name = format!("{}-{}", self.name, if self.short { method.short() } else { method.to_string() });
        config.preset = Some(name.clone());
        config.method = method.to_string();
        let about = method.about(Some(config.recipe.exemplars));
        let expected = numbers::expected(&self.name, method);
        Ok(Preset { name, protocol: self.name.clone(), method: *method, about, source, expected, config })
    }

    /// Whether a method on this base is listed.
    fn has(&self, base: &Method) -> bool {
        self.listed.iter().any(|it| it.base == base)
    }

    /// The presets that are listed.
    pub(super) fn presets(&self) -> Vec<Preset> {
        // Every listed method is one that the protocol makes; a test asks all of them.
        self.listed.iter().filter_map(|method| self.preset(method).ok()).collect()
    }
}
