//! `presets`: what can be run.
//!
//! One decision: a list that is read by people is one of families, then one of a family's methods; sources and expected
//! numbers stand with a single preset.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::cli::args::Presets;
use crate::cli::failure::{bad_input, nearest};
use crate::cli::output::Output;
use crate::presets::{self, FAMILIES, Preset, family_of};
use crate::render::table::layout;

/// Lists families, the presets of a family, or one preset whole.
///
/// # Errors
/// If there is no such family or preset.
pub fn list(arguments: &Presets, output: &mut Output<'_>) -> Result<()> {
    let all = presets::all();
    let chosen: Vec<&Preset> = match &arguments.name {
        None => all.iter().collect(),
        Some(name) => named(&all, name)?,
    };
    if output.json {
        return output.value(&chosen.iter().map(|it| it.listed()).collect::<Vec<_>>());
    }
    output.text(&match (&arguments.name, &chosen[..]) {
        _ if arguments.all => chosen.iter().map(|it| whole(it)).collect(),
        (None, _) => families(&all),
        (Some(_), [one]) => whole(one),
        (Some(name), several) => methods(name, several),
    })
}

/// The presets of a family or of a part of names, else the one of that name.
fn named<'a>(all: &'a [Preset], name: &str) -> Result<Vec<&'a Preset>> {
    let exact: Vec<&Preset> = all.iter().filter(|it| it.name == name || family_of(it).name == name).collect();
    if !exact.is_empty() {
        return Ok(exact);
    }
    let part: Vec<&Preset> = all.iter().filter(|it| it.name.contains(name)).collect();
    if !part.is_empty() {
        return Ok(part);
    }
    let names = FAMILIES.iter().map(|it| it.name).chain(all.iter().map(|it| it.name.as_str()));
    Err(bad_input(match nearest(name, names) {
        Some(right) => format!("there is no family or preset {name:?}; did you mean {right:?}?"),
        None => format!("there is no family or preset {name:?}; `cil-runner presets` lists families"),
    }))
}

fn families(all: &[Preset]) -> String {
    let mut rows = vec![vec!["family".to_owned(), "presets".to_owned(), String::new()]];
    for family in &FAMILIES {
        let count = all.iter().filter(|it| family_of(it) == family).count();
        if count > 0 {
            rows.push(vec![family.name.to_owned(), count.to_string(), family.about.to_owned()]);
        }
    }
    let method = |preset: &Preset| {
        let family = family_of(preset).name;
        preset.name.strip_prefix(family).map(|it| it.trim_start_matches('-').to_owned())
    };
    let mut methods = vec![vec!["method".to_owned(), "meaning".to_owned()]];
    let mut seen = BTreeSet::new();
    for preset in all.iter().filter(|it| family_of(it).name == "demo") {
        methods.extend(
            method(preset).filter(|it| seen.insert(it.clone())).map(|it| vec![it, preset.about.clone()]),
        );
    }
    let (left, right) = (aligned(&rows), aligned(&methods));
    format!(
        "A preset is FAMILY-METHOD, such as cifar100-10c-lucir-e0-dfgr.\n\n{left}\n{right}\n\
         e0, e20: exemplars kept of each class; dfgr: data-free generative replay; dtid, dtidkl: two teachers, on logits \
         and maps, on logits alone\n\n\
         `cil-runner presets cifar100-10c` lists a family, `cil-runner presets cifar100-10c-lwf` tells source and expected \
         numbers, `cil-runner presets --all` tells all.\n"
    )
}

fn methods(name: &str, presets: &[&Preset]) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(vec!["preset".to_owned(), "meaning".to_owned()])
        .chain(presets.iter().map(|it| vec![it.name.clone(), it.about.clone()]))
        .collect();
    let about = FAMILIES
        .iter()
        .find(|it| it.name == name)
        .map_or(String::new(), |it| format!("{name}: {}\n\n", it.about));
    format!("{about}{}", aligned(&rows))
}

/// A table whose cells all stand left.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|it| it.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let pad = |row: &Vec<String>| -> Vec<String> {
        row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect()
    };
    layout(&rows.iter().map(pad).collect::<Vec<_>>())
}

fn whole(preset: &Preset) -> String {
    let Preset { name, about, source, expected, .. } = preset;
    format!("{name}\n    {about}\n    source: {source}\n    expected: {expected}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: Option<&str>, all: bool) -> Result<String> {
        let mut bytes = Vec::new();
        list(&Presets { name: name.map(str::to_owned), all }, &mut Output::new(&mut bytes, false))?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_list_fits_a_screen_or_two_and_leads_to_every_preset() {
        let first = shown(None, false).unwrap();
        assert!(first.lines().count() < 80, "{} lines", first.lines().count());
        assert!(first.contains("cifar100-b50-t5") && first.contains("frozen-discriminant"), "{first}");
        for preset in presets::all() {
            let family = family_of(&preset).name;
            assert_ne!(family, "other", "{} has no family", preset.name);
            assert!(first.contains(family) && shown(Some(family), false).unwrap().contains(&preset.name));
        }
        assert!(shown(Some("cifar100-10c-lwf"), false).unwrap().contains("expected: "));
        assert!(
            shown(Some("-icarl"), false).unwrap().contains("cifar100-t5-icarl"),
            "a part of names is enough"
        );
        assert!(shown(None, true).unwrap().matches("    source: ").count() > 250);
        let told = shown(Some("demoo"), false).unwrap_err().to_string();
        assert_eq!(told, "there is no family or preset \"demoo\"; did you mean \"demo\"?");
    }
}
