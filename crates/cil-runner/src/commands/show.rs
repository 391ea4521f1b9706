//! `protocols`, `methods` and `show`: what can be run, and what is published and measured of it.

use anyhow::Result;
use cil_train::methods::{self, Exemplars, Heads, Method, heads};
use serde::Serialize;

use super::presets::whole;
use crate::cli::args::Show;
use crate::cli::failure::{bad_input, nearest};
use crate::cli::output::Output;
use crate::presets::method::{MethodName, either, words};
use crate::presets::numbers::{self, Kind, Number};
use crate::presets::protocol::Protocol;
use crate::presets::{self, protocols as all_protocols};
use crate::render::table::aligned;

/// Parts that are added to a base, and what each does.
fn parts() -> Vec<Listed> {
    let with = either(words(|it| it.exemplars == Exemplars::InName), "and");
    let maps = |it: &Method| it.schemes.as_ref().is_some_and(|it| it.own_maps.is_some());
    let frozen = either(words(|it| it.heads == Heads::Required), "or");
    let schemes = [
        ("e20, e0, eN", format!("exemplars of each class, with {with}: 20, none, N (--exemplars N)")),
        ("apr", "with a head of statistics: adversarial images of old classes in every step".to_owned()),
        ("dfgr", "data-free generative replay: generated images of old classes in every step".to_owned()),
        ("dtidkl", "two teachers' logits".to_owned()),
        ("dtid", "two teachers' logits and maps of stages".to_owned()),
        (
            "replace",
            format!(
                "with {} and dtid: the teachers' maps in place of the method's own distillation of maps",
                either(words(maps), "or")
            ),
        ),
        ("unshared", "with dfgr and dtid: a second generator's images in place of the new ones".to_owned()),
    ];
    let heads = heads::ALL.iter().map(|it| {
        let only = if it.frozen_only { format!("with {frozen}: ") } else { String::new() };
        (it.word, format!("{only}the classifier is {} (--head {})", it.about, it.option))
    });
    schemes.into_iter().chain(heads).map(|(name, about)| Listed { name: name.to_owned(), about }).collect()
}

/// The line of a protocol or a base method.
#[derive(Serialize)]
struct Listed {
    name: String,
    about: String,
}

/// Lists protocols.
///
/// # Errors
/// If the output cannot be written.
pub fn protocols(output: &mut Output<'_>) -> Result<()> {
    let named = |it: Protocol| Listed { name: it.name, about: it.about };
    let all: Vec<Listed> = all_protocols().into_iter().map(named).collect();
    if output.json {
        return output.value(&all);
    }
    output.text(&format!(
        "{}\nRun one with a method, as in `cil-runner run cifar100-10c lucir+dfgr --exemplars 0`; `cil-runner methods` lists \
         methods, `cil-runner show cifar100-10c` tells numbers.\n",
        list("protocol", &all)
    ))
}

/// Lists methods: bases and parts.
///
/// # Errors
/// If the output cannot be written.
pub fn methods(output: &mut Output<'_>) -> Result<()> {
    let named = |it: &&Method| Listed { name: it.word.to_owned(), about: it.about.to_owned() };
    let bases: Vec<Listed> = methods::ALL.iter().map(named).collect();
    let parts = parts();
    if output.json {
        return output.value(&serde_json::json!({ "bases": bases, "parts": parts }));
    }
    output.text(&format!(
        "{}\n{}\nA method is a base and its parts, such as lucir+dfgr+dtid; in a preset's name `-` stands for `+`. dfgr, \
         dtidkl and dtid go with {}; other heads go with {}, and {} needs one of them. Combinations that do not work are \
         refused.\n",
        list("base", &bases),
        list("part", &parts),
        either(words(|it| it.schemes.is_some()), "and"),
        either(words(|it| it.heads == Heads::OfStatistics), "and"),
        either(words(|it| it.heads == Heads::Required), "or")
    ))
}

fn list(title: &str, all: &[Listed]) -> String {
    let rows = all.iter().map(|it| vec![it.name.clone(), it.about.clone()]);
    aligned(&std::iter::once(vec![title.to_owned(), "meaning".to_owned()]).chain(rows).collect::<Vec<_>>())
}

/// Tells sources, published and measured numbers of a protocol, a method, or both.
///
/// # Errors
/// If there is no such protocol, method or preset, or they do not go together.
pub fn show(arguments: &Show, output: &mut Output<'_>) -> Result<()> {
    let name = &arguments.name;
    let all = all_protocols();
    if let (Some(protocol), None) = (all.iter().find(|it| it.name == *name), &arguments.method) {
        return of_protocol(protocol, output);
    }
    let method = name.parse::<MethodName>();
    let preset = match (&arguments.method, &method) {
        (None, Ok(method)) => return of_method(method, output),
        (Some(method), _) => presets::find(&presets::joined(name, method, None, None)?)?,
        // A word that stands alone may be a method, a protocol or a preset that is spelled wrongly.
        (None, Err(wrong)) => match presets::find(name) {
            Ok(preset) => preset,
            Err(error) if all.iter().any(|it| name.starts_with(&format!("{}-", it.name))) => {
                return Err(error);
            }
            Err(_) => {
                let names = words(|_| true).map(|it: &str| it).chain(all.iter().map(|it| it.name.as_str()));
                return Err(match nearest(name, names) {
                    Some(_) if words(|_| true).any(|it| name.starts_with(it)) => bad_input(wrong.to_string()),
                    Some(right) => bad_input(format!(
                        "there is no protocol, method or preset {name:?}; did you mean {right:?}?"
                    )),
                    None => bad_input(format!(
                        "there is no protocol, method or preset {name:?}; `cil-runner protocols` and `cil-runner methods` \
                         list them"
                    )),
                });
            }
        },
    };
    if output.json {
        return output.value(&preset.listed());
    }
    let numbers = numbers::of(&preset.protocol, &preset.method);
    output.text(&whole(&preset))?;
    output.text(&match numbers.is_empty() {
        true => String::new(),
        false => format!("\n{}", table(&numbers, |it| it.method.clone(), "method")),
    })
}

fn of_protocol(protocol: &Protocol, output: &mut Output<'_>) -> Result<()> {
    let numbers: Vec<&Number> = numbers::all().iter().filter(|it| it.protocol == protocol.name).collect();
    let listed: Vec<String> = protocol.listed.iter().map(ToString::to_string).collect();
    let mut sources = Vec::new();
    for method in &protocol.listed {
        let preset = protocol.preset(method)?;
        match sources.iter_mut().find(|(source, _)| *source == preset.source) {
            Some((_, count)) => *count += 1,
            None => sources.push((preset.source, 1)),
        }
    }
    if output.json {
        return output.value(&serde_json::json!({
            "name": protocol.name, "about": protocol.about, "methods": listed, "numbers": numbers,
            "sources": sources.iter().map(|it| it.0).collect::<Vec<_>>(),
        }));
    }
    output.text(&format!("{}\n    {}\n", protocol.name, protocol.about))?;
    for (source, count) in sources {
        let methods = if count == 1 { "method" } else { "methods" };
        output.text(&format!("    source of {count} {methods}: {source}\n"))?;
    }
    output.text(&match numbers.is_empty() {
        true => "    no published number and no run of ours\n".to_owned(),
        false => format!("\n{}", table(&numbers, |it| it.method.clone(), "method")),
    })?;
    output.text(&format!("\nmethods: {}\n", listed.join(", ")))
}

fn of_method(method: &MethodName, output: &mut Output<'_>) -> Result<()> {
    let name = method.to_string();
    let numbers: Vec<&Number> = numbers::all().iter().filter(|it| it.method == name).collect();
    let about = method.about(None);
    if output.json {
        return output.value(&serde_json::json!({
            "name": name, "about": about, "source": method.base.source, "numbers": numbers,
        }));
    }
    let source = match method.base.source {
        "" => String::new(),
        source => format!("    source: {source}\n"),
    };
    output.text(&format!("{name}\n    {about}\n{source}    docs/methods.md says what it minimises\n"))?;
    output.text(&match numbers.is_empty() {
        true => "    no published number and no run of ours in a listed protocol\n".to_owned(),
        false => format!("\n{}", table(&numbers, |it| it.protocol.clone(), "protocol")),
    })
}

/// Numbers in rows, each with its source.
fn table(numbers: &[&Number], named: impl Fn(&Number) -> String, title: &str) -> String {
    let mut rows = vec![[title, "", "average", "last", "source"].map(str::to_owned).to_vec()];
    for number in numbers {
        let kind = match number.kind {
            Kind::Published => "published",
            Kind::Measured => "measured",
        };
        let cell = |it: &Option<String>| it.clone().unwrap_or_default();
        let set = number.set.iter().map(|it| format!("--set {it}; ")).collect::<String>();
        rows.push(vec![
            named(number),
            kind.to_owned(),
            cell(&number.average),
            cell(&number.last),
            format!("{set}{}", number.source),
        ]);
    }
    aligned(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, method: Option<&str>) -> Result<String> {
        let mut bytes = Vec::new();
        let arguments = Show { name: name.to_owned(), method: method.map(str::to_owned) };
        show(&arguments, &mut Output::new(&mut bytes, false))?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn published_and_measured_numbers_stand_beside_each_other() {
        let text = shown("cifar100-b50-t5-lucir", None).unwrap();
        for part in ["63.42", "63.6", "54.8", "Hou et al. 2019", "e5a90ae"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(shown("cifar100-b50-t5", Some("lucir")).unwrap(), text);
        let protocol = shown("cifar100-b50-t5", None).unwrap();
        assert!(protocol.contains("65.9") && protocol.contains("--set recipe.increment"), "{protocol}");
        assert!(shown("lucir", None).unwrap().contains("cifar100-10c "));
    }

    #[test]
    fn both_lists_fit_a_screen_and_a_wrong_name_is_answered() {
        for of in [protocols, methods] {
            let mut bytes = Vec::new();
            of(&mut Output::new(&mut bytes, false)).unwrap();
            let text = String::from_utf8(bytes).unwrap();
            assert!((15..45).contains(&text.lines().count()), "{text}");
        }
        let message = |name: &str| shown(name, None).unwrap_err().to_string();
        assert!(message("lucir+foo").contains("there is no part"), "{}", message("lucir+foo"));
        assert!(message("demoo").contains("did you mean \"demo\""), "{}", message("demoo"));
        assert!(message("cifar100-10c-lwff").contains("did you mean \"cifar100-10c-lwf\""));
    }
}
