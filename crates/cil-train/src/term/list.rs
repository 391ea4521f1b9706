//! The enum of all terms, from a list.
//!
//! Each variant holds the settings that the term's own file defines. What is asked of a spec is asked of these, so no
//! other place names every term. `cargo xtask keys` reads the list as the enum that it looks like, and each variant's
//! description from its settings.

/// Makes the enum of the terms in the list, and `Custom` for those of a program that uses this library.
macro_rules! terms {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident { $($kind:ident($file:ident::$settings:ident),)* }
    ) => {
        $(pub use $file::$settings;)*

        $(#[$attribute])*
        pub enum $name {
            $(#[doc = concat!("[`", stringify!($settings), "`].")] $kind($settings),)*
            /// A term of a program that uses this library. No file can name it: a recipe with one cannot be written.
            #[serde(skip)]
            Custom(CustomTerm),
        }

        impl $name {
            /// Its kind as a configuration has it, such as `cross-entropy`.
            pub fn kind(&self) -> String {
                let kind = match self {
                    $(Self::$kind(_) => stringify!($kind),)*
                    Self::Custom(_) => "Custom",
                };
                list::kebab_case(kind)
            }

            /// Every kind of the list.
            #[cfg(test)]
            pub(crate) fn kinds() -> Vec<String> {
                [$(stringify!($kind),)*].map(list::kebab_case).into()
            }

            /// The settings of its kind.
            pub fn settings(&self) -> &dyn Settings {
                match self {
                    $(Self::$kind(settings) => settings,)*
                    Self::Custom(settings) => settings,
                }
            }
        }

        $(impl From<$settings> for $name {
            fn from(settings: $settings) -> Self {
                Self::$kind(settings)
            }
        })*

        impl From<CustomTerm> for $name {
            fn from(term: CustomTerm) -> Self {
                Self::Custom(term)
            }
        }
    };
}

pub(super) use terms;

/// `VeryFast` as `very-fast`, as serde has it.
pub(super) fn kebab_case(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_uppercase() && at > 0 {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}
