//! The document of all keys, and the list that the program prints comments from.
//!
//! Both describe a type once; the list names the type of each key, so that a reader of a configuration can follow it.

use super::types::{Field, Form, Item, Variant};

/// The beginning of the document.
const HEAD: &str = "\
# Configuration

Every key of a run's configuration, written by `cargo xtask keys` from the doc comments of the types that read it; change
those, not this file. A configuration is complete: no key has a default, but those that may be left out.

- `cil-runner run PRESET --dry-run > my.toml` writes a preset's whole configuration, each key with a comment; edit it, and
  run it with `cil-runner run my.toml`.
- `--set key=value` changes one key by its dotted name, such as `recipe.base.training.epochs`. Entries of lists are named by
  position, `recipe.increment.terms.0.weight`, and `+` appends: `--set 'recipe.increment.terms.+={ .. }'`.
";

/// The document.
pub(super) fn document(items: &[&Item]) -> String {
    let mut text = HEAD.to_owned();
    for item in items {
        match &item.form {
            Form::Table(fields) => {
                text.push_str(&heading(item, items));
                text.push_str(&table(fields, items));
            }
            Form::Choice { tag: Some(tag), variants, .. } => {
                text.push_str(&heading(item, items));
                for variant in variants {
                    text.push_str(&format!("\n**`{tag} = \"{}\"`**: {}\n", variant.name, variant.about));
                    if !variant.fields.is_empty() {
                        text.push_str(&table(&variant.fields, items));
                    }
                }
            }
            // Described where it is used; those with keys of their own have a section.
            Form::Choice { variants, untagged, .. } => {
                if variants.iter().any(|it| !it.fields.is_empty()) {
                    text.push_str(&heading(item, items));
                    text.push_str(&variants_of(variants, *untagged, items));
                }
            }
        }
    }
    text
}

fn heading(item: &Item, items: &[&Item]) -> String {
    let places = places(&item.name, items);
    let places = if places.is_empty() { String::new() } else { format!("\n\nAt {}.", places.join(", ")) };
    format!("\n## {}\n\n{}{places}\n", item.name, escaped(&item.about))
}

/// Keys that hold a value of this type, as `Type.key`; those of the whole configuration by their name alone.
fn places(name: &str, items: &[&Item]) -> Vec<String> {
    let mut places = Vec::new();
    for item in items {
        for field in item.fields().filter(|it| it.of == name && !it.key.is_empty()) {
            let place = match item.name.as_str() {
                super::ROOT => format!("`{}`", field.key),
                other => format!("`{}` of {other}", field.key),
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    places
}

fn table(fields: &[Field], items: &[&Item]) -> String {
    let mut text = "\n| key | value | meaning |\n|---|---|---|\n".to_owned();
    for field in fields {
        let (value, more) = value(field, items);
        let optional = if field.is_optional { "; may be left out" } else { "" };
        let about = escaped(&format!("{}{more}", field.about));
        text.push_str(&format!("| `{}` | {value}{optional} | {about} |\n", field.key));
    }
    text
}

fn variants_of(variants: &[Variant], untagged: bool, items: &[&Item]) -> String {
    let mut text = "\n| form | meaning |\n|---|---|\n".to_owned();
    for variant in variants {
        let inner = match (&variant.fields[..], variant.is_plain) {
            ([], _) => format!("`\"{}\"`", variant.name),
            ([one], true) if untagged => value(one, items).0,
            (all, _) if untagged => {
                let keys: Vec<String> = all.iter().map(|it| format!("{} = ..", it.key)).collect();
                format!("`{{ {} }}`", keys.join(", "))
            }
            ([one], true) => format!("`{{ {} = .. }}` ({})", variant.name, value(one, items).0),
            (all, _) => {
                let keys: Vec<String> = all.iter().map(|it| format!("{} = ..", it.key)).collect();
                format!("`{{ {} = {{ {} }} }}`", variant.name, keys.join(", "))
            }
        };
        let fields = variant.fields.iter().filter(|it| !it.key.is_empty());
        let keys: String = fields.map(|it| format!(" `{}`: {}", it.key, it.about)).collect();
        text.push_str(&format!("| {inner} | {} |\n", escaped(&format!("{}{keys}", variant.about))));
    }
    text
}

/// The type of a field, and the text about its choices.
fn value(field: &Field, items: &[&Item]) -> (String, String) {
    let (one, more) = match field.of.as_str() {
        "u64" | "usize" | "u32" | "u16" | "u8" => ("whole number".to_owned(), String::new()),
        "f64" | "f32" => ("number".to_owned(), String::new()),
        "bool" => ("`true` or `false`".to_owned(), String::new()),
        "String" | "PathBuf" => ("text".to_owned(), String::new()),
        other => match items.iter().find(|it| it.name == other).map(|it| &it.form) {
            Some(Form::Choice { tag: None, untagged: false, variants })
                if variants.iter().all(|it| it.fields.is_empty()) =>
            {
                let names: Vec<String> = variants.iter().map(|it| format!("`\"{}\"`", it.name)).collect();
                let meanings: String =
                    variants.iter().map(|it| format!(" `\"{}\"`: {}", it.name, it.about)).collect();
                (names.join(" or "), meanings)
            }
            Some(_) => (format!("[{other}](#{})", other.to_lowercase()), String::new()),
            None => (other.to_owned(), String::new()),
        },
    };
    if field.is_list { (format!("list of {one}"), more) } else { (one, more) }
}

/// Text that a cell of a table holds as it stands.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<")
}

/// The list: type, key, the type that the key leads to, and the first sentence of its meaning, parted by tabs.
pub(super) fn list(items: &[&Item]) -> String {
    let mut text = "# Written by `cargo xtask keys`: type, key, type of its value, meaning.\n".to_owned();
    let known = |of: &str| items.iter().any(|it| it.name == of);
    let mut line = |of: &str, key: &str, leads: &str, about: &str| {
        let leads = if known(leads) { leads } else { "-" };
        text.push_str(&format!("{of}\t{key}\t{leads}\t{}\n", first_sentence(about)));
    };
    for item in items {
        match &item.form {
            Form::Table(fields) => fields.iter().for_each(|it| line(&item.name, &it.key, &it.of, &it.about)),
            Form::Choice { tag: Some(tag), variants, .. } => {
                for variant in variants {
                    let of = format!("{}{{{}}}", item.name, variant.name);
                    line(&of, tag, "-", &variant.about);
                    variant.fields.iter().for_each(|it| line(&of, &it.key, &it.of, &it.about));
                }
            }
            Form::Choice { tag: None, untagged, variants } => {
                for variant in variants {
                    match (&variant.fields[..], variant.is_plain) {
                        ([], _) => {}
                        ([one], true) if !untagged => {
                            line(&item.name, &variant.name, &one.of, &variant.about)
                        }
                        // A table that is recognised by its form has the keys of its type.
                        ([one], true) => {
                            let inner =
                                items.iter().filter(|it| it.name == one.of).flat_map(|it| it.fields());
                            inner.for_each(|it| line(&item.name, &it.key, &it.of, &it.about));
                        }
                        (_, true) => {}
                        (all, false) if *untagged => {
                            all.iter().for_each(|it| line(&item.name, &it.key, &it.of, &it.about));
                        }
                        (all, false) => {
                            let of = format!("{}.{}", item.name, variant.name);
                            line(&item.name, &variant.name, "-", &variant.about);
                            all.iter().for_each(|it| line(&of, &it.key, &it.of, &it.about));
                        }
                    }
                }
            }
        }
    }
    text
}

/// The first sentence, which ends with a full stop before a capital or the end.
fn first_sentence(text: &str) -> String {
    let text = text.replace('\t', " ");
    let ends = text.match_indices(". ").find(|(at, _)| {
        text[at + 2..].chars().next().is_some_and(char::is_uppercase) && !text[..*at].ends_with("al")
    });
    ends.map_or(text.clone(), |(at, _)| text[..=at].to_owned())
}
