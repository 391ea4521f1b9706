//! `presets`: protocols and methods joined, by name.

use anyhow::Result;

use crate::cli::args::Presets;
use crate::cli::failure::{bad_input, nearest};
use crate::cli::output::Output;
use crate::presets::{self, Preset, protocols};
use crate::render::table::aligned;

/// Lists how many presets each protocol has, the presets of one or those with a part of a name, or one whole.
///
/// # Errors
/// If no name fits.
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
        (None, _) => counts(&all),
        (Some(_), [one]) => whole(one),
        (Some(_), several) => table(several),
    })
}

/// The presets of a protocol or of a part of names, else the one of that name.
fn named<'a>(all: &'a [Preset], name: &str) -> Result<Vec<&'a Preset>> {
    let exact: Vec<&Preset> = all.iter().filter(|it| it.name == name || it.protocol == name).collect();
    if !exact.is_empty() {
        return Ok(exact);
    }
    let part: Vec<&Preset> = all.iter().filter(|it| it.name.contains(name)).collect();
    if !part.is_empty() {
        return Ok(part);
    }
    let protocols = protocols();
    let names = protocols.iter().map(|it| it.name.as_str()).chain(all.iter().map(|it| it.name.as_str()));
    Err(bad_input(match nearest(name, names) {
        Some(right) => format!("there is no protocol or preset {name:?}; did you mean {right:?}?"),
        None => format!("there is no protocol or preset {name:?}; `cil-runner protocols` lists protocols"),
    }))
}

fn counts(all: &[Preset]) -> String {
    let mut rows = vec![["protocol", "presets", ""].map(str::to_owned).to_vec()];
    for protocol in protocols() {
        let count = all.iter().filter(|it| it.protocol == protocol.name).count();
        rows.push(vec![protocol.name, count.to_string(), protocol.about]);
    }
    format!(
        "A preset is PROTOCOL-METHOD, such as cifar100-10c-lucir-e0-dfgr.\n\n{}\n\
         `cil-runner presets cifar100-10c` lists those of a protocol, `cil-runner methods` the methods, \
         `cil-runner presets --all` tells all.\n",
        aligned(&rows)
    )
}

fn table(presets: &[&Preset]) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(vec!["preset".to_owned(), "meaning".to_owned()])
        .chain(presets.iter().map(|it| vec![it.name.clone(), it.about.clone()]))
        .collect();
    aligned(&rows)
}

/// One preset with its source and what to expect.
pub(super) fn whole(preset: &Preset) -> String {
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
    fn the_list_leads_to_every_preset() {
        let first = shown(None, false).unwrap();
        assert!(first.lines().count() < 40, "{} lines", first.lines().count());
        let all = presets::all();
        assert!(all.len() > 250);
        for preset in all {
            assert!(first.contains(&preset.protocol), "{first}");
            assert!(shown(Some(&preset.protocol), false).unwrap().contains(&preset.name));
        }
        assert!(shown(Some("-icarl"), false).unwrap().contains("cifar100-t5-icarl"), "a part of a name");
        assert!(shown(Some("cifar100-10c-lwf"), false).unwrap().contains("expected: "));
        assert!(shown(None, true).unwrap().matches("    source: ").count() > 250);
        let message = shown(Some("demoo"), false).unwrap_err().to_string();
        assert_eq!(message, "there is no protocol or preset \"demoo\"; did you mean \"demo\"?");
    }
}
