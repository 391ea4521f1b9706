//! Types that serde reads, from their source.
//!
//! Only what the configuration's types use of serde is understood (`rename_all`, `rename`, `tag`, `untagged`,
//! `transparent`, `default`, `skip`); names are those of the file, not of Rust.

use anyhow::Result;
use syn::{Attribute, Expr, Fields, Lit, Meta, Type};

/// Enums that are read by hand, each variant by its form.
const BY_HAND: [&str; 2] = ["DatasetSpec", "NetworkSpec"];

/// A struct or an enum.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) form: Form,
}

/// Its form.
#[derive(Debug)]
pub(super) enum Form {
    /// Keys.
    Table(Vec<Field>),
    /// One of several: by a key that names the variant (`tag`), by form alone (`untagged`), or by the variant's own
    /// name.
    Choice { tag: Option<String>, untagged: bool, variants: Vec<Variant> },
}

/// A key.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) key: String,
    pub(super) about: String,
    /// The innermost type's name.
    pub(super) of: String,
    pub(super) is_list: bool,
    pub(super) is_optional: bool,
}

/// One of several.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) fields: Vec<Field>,
    /// Whether it is a value behind its name, not keys.
    pub(super) is_plain: bool,
}

impl Item {
    /// Every field of it, of all variants.
    pub(super) fn fields(&self) -> Box<dyn Iterator<Item = &Field> + '_> {
        match &self.form {
            Form::Table(fields) => Box::new(fields.iter()),
            Form::Choice { variants, .. } => Box::new(variants.iter().flat_map(|it| &it.fields)),
        }
    }
}

/// The serde attributes of a type or a field.
#[derive(Default)]
struct Serde {
    rename_all: bool,
    rename_all_fields: bool,
    rename: Option<String>,
    tag: Option<String>,
    untagged: bool,
    default: bool,
    skip: bool,
}

/// The types of a file that serde reads or writes.
pub(super) fn read(text: &str) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for item in syn::parse_file(text)?.items {
        match item {
            syn::Item::Struct(it) if is_serde(&it.attrs) => {
                let options = serde(&it.attrs)?;
                let form = Form::Table(fields(&it.fields, options.rename_all)?);
                items.push(Item { name: it.ident.to_string(), about: about(&it.attrs), form });
            }
            syn::Item::Enum(it) if is_serde(&it.attrs) || BY_HAND.iter().any(|name| it.ident == name) => {
                items.push(choice(&it)?);
            }
            // The list of an objective's terms looks like an enum.
            syn::Item::Macro(it) if it.mac.path.segments.last().is_some_and(|last| last.ident == "terms") => {
                if let Ok(list) = it.mac.parse_body::<syn::ItemEnum>() {
                    items.push(choice(&list)?);
                }
            }
            _ => {}
        }
    }
    Ok(items)
}

fn choice(of: &syn::ItemEnum) -> Result<Item> {
    let mut options = serde(&of.attrs)?;
    options.untagged |= BY_HAND.iter().any(|name| of.ident == name);
    let mut variants = Vec::new();
    for variant in &of.variants {
        let own = serde(&variant.attrs)?;
        if own.skip {
            continue;
        }
        let rust = variant.ident.to_string();
        let name = own.rename.unwrap_or(if options.rename_all { kebab(&rust) } else { rust });
        variants.push(Variant {
            name,
            about: about(&variant.attrs),
            fields: fields(&variant.fields, options.rename_all_fields || own.rename_all)?,
            is_plain: matches!(variant.fields, Fields::Unnamed(_)),
        });
    }
    let form = Form::Choice { tag: options.tag, untagged: options.untagged, variants };
    Ok(Item { name: of.ident.to_string(), about: about(&of.attrs), form })
}

fn fields(fields: &Fields, kebab_case: bool) -> Result<Vec<Field>> {
    let mut read = Vec::new();
    for field in fields {
        let options = serde(&field.attrs)?;
        if options.skip {
            continue;
        }
        let rust = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
        let key = options.rename.unwrap_or(if kebab_case { rust.replace('_', "-") } else { rust });
        let (of, is_list, is_option) = innermost(&field.ty);
        let is_optional = is_option || options.default;
        read.push(Field { key, about: about(&field.attrs), of, is_list, is_optional });
    }
    Ok(read)
}

/// The name of a type within options, lists and arrays; whether it is a list, and whether it may be missing.
fn innermost(of: &Type) -> (String, bool, bool) {
    match of {
        Type::Array(array) => {
            let (name, _, is_option) = innermost(&array.elem);
            (name, true, is_option)
        }
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else { return (String::new(), false, false) };
            let name = last.ident.to_string();
            let inner = match &last.arguments {
                syn::PathArguments::AngleBracketed(of) => of.args.iter().find_map(|it| match it {
                    syn::GenericArgument::Type(of) => Some(innermost(of)),
                    _ => None,
                }),
                _ => None,
            };
            match (name.as_str(), inner) {
                ("Option", Some((name, is_list, _))) => (name, is_list, true),
                ("Vec", Some((name, _, is_option))) => (name, true, is_option),
                ("Box", Some(inner)) => inner,
                _ => (name, false, false),
            }
        }
        _ => (String::new(), false, false),
    }
}

/// Whether serde uses it: derived, or named in an attribute.
fn is_serde(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|it| match &it.meta {
        Meta::List(list) if list.path.is_ident("derive") => {
            let derived = list.tokens.to_string();
            derived.contains("Deserialize") || derived.contains("Serialize")
        }
        meta => meta.path().is_ident("serde"),
    })
}

fn serde(attributes: &[Attribute]) -> Result<Serde> {
    let mut options = Serde::default();
    for attribute in attributes.iter().filter(|it| it.path().is_ident("serde")) {
        attribute.parse_nested_meta(|meta| {
            let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            let value = match meta.value() {
                Ok(value) => match value.parse::<Lit>()? {
                    Lit::Str(text) => Some(text.value()),
                    _ => None,
                },
                Err(_) => None,
            };
            match name.as_str() {
                "rename_all" => options.rename_all = true,
                "rename_all_fields" => options.rename_all_fields = true,
                "rename" => options.rename = value,
                "tag" => options.tag = value,
                "untagged" => options.untagged = true,
                "default" => options.default = true,
                "skip" | "skip_deserializing" => options.skip = true,
                _ => {}
            }
            Ok(())
        })?;
    }
    Ok(options)
}

/// A doc comment as one paragraph.
fn about(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter(|it| it.path().is_ident("doc")).filter_map(|it| match &it.meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(it) => match &it.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    plain(&lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" "))
}

/// Text without links to other items.
fn plain(text: &str) -> String {
    text.replace("[`", "`").replace("`]", "`").replace("crate::", "").replace("Self::", "")
}

/// `VeryFast` as `very-fast`.
fn kebab(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && at > 0 {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}
