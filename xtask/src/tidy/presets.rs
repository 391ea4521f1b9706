//! Every preset cites the source of its numbers.
//!
//! Presets are Rust values, so this counts `Preset { .. }` literals and `source:` fields in the text; it does not parse
//! Rust. A reader must judge whether the source supports the preset.

use super::Finding;

const PLACE: &str = "crates/cil-runner/src/presets";

/// Whether `name` is `presets.rs` or lies in a folder whose name begins with `presets`.
pub(super) fn is_preset_file(name: &str) -> bool {
    name.starts_with(PLACE) && name.ends_with(".rs")
}

/// Compares literals and sources of each file.
pub(super) fn check(files: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, text) in files {
        let code: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let (presets, sources) = (count_literals(&code), count_sources(&code));
        if presets != sources {
            let message = format!("{presets} presets, but {sources} that say their `source:`");
            findings.push(Finding::error(*name, message));
        }
    }
    findings
}

/// `Preset {`, and `Made {` of which a protocol makes one, that is neither a definition, an implementation nor a return
/// type.
fn count_literals(code: &str) -> usize {
    code.match_indices("Preset {")
        .chain(code.match_indices("Made {"))
        .filter(|(at, _)| {
            let before = &code[..*at];
            let glued =
                before.chars().next_back().is_some_and(|before| before.is_alphanumeric() || before == '_');
            let word = before.trim_end().rsplit(char::is_whitespace).next().unwrap_or_default();
            !glued && !["struct", "impl", "for", "->", "enum", "trait", "mod"].contains(&word)
        })
        .count()
}

/// `source:` followed by a string that is not blank, or by a constant; or `source` alone, a value of that name.
fn count_sources(code: &str) -> usize {
    let passed_on = code.split(['{', ',', '}']).filter(|field| field.trim() == "source").count();
    passed_on + count_given(code)
}

fn count_given(code: &str) -> usize {
    code.match_indices("source:")
        .filter(|(at, _)| !code[..*at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
        .filter(|(at, key)| {
            let value = code[at + key.len()..].trim_start();
            match value.strip_prefix('"') {
                Some(text) => text.split('"').next().is_some_and(|text| !text.trim().is_empty()),
                None => {
                    let word =
                        value.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).next();
                    word.is_some_and(|word| word.len() > 1 && word == word.to_uppercase())
                }
            }
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
        /// A preset; `Preset { .. }` values follow.
        pub struct Preset { pub name: &'static str, pub source: &'static str }
        impl Preset { fn new() -> Preset { todo() } }
        const A: Preset = Preset { name: \"a\", source: \"arXiv 1606.09282, table 2\" };
        const B: Preset = Preset {
            name: \"b\",
            source:
                \"https://example.org, options.yaml\",
        };
        const C: Preset = Preset { name: \"c\", source: PAPER };
    ";

    #[test]
    fn cited_presets_pass() {
        assert_eq!(
            count_literals(GOOD),
            4,
            "the literal in the comment is counted before comments are dropped"
        );
        assert!(check(&[("presets.rs", GOOD)]).is_empty());
    }

    #[test]
    fn a_source_that_is_passed_on_counts() {
        let passed = GOOD.replace("source: PAPER }", "source, expected }");
        assert!(check(&[("p", &passed)]).is_empty());
        let other = GOOD.replace("source: PAPER }", "resource, expected }");
        assert_eq!(check(&[("p", &other)]).len(), 1);
    }

    #[test]
    fn what_a_protocol_makes_says_its_source_too() {
        let made = |fields: &str| format!("fn made() -> Made {{ Made {{ {fields} }} }}");
        assert!(check(&[("p", &made("source: PAPER, config"))]).is_empty());
        assert_eq!(check(&[("p", &made("config"))]).len(), 1);
    }

    #[test]
    fn a_missing_or_blank_source_is_found() {
        let blank = GOOD.replace("arXiv 1606.09282, table 2", " ");
        assert_eq!(check(&[("p", &blank)])[0].message, "3 presets, but 2 that say their `source:`");
        let missing = GOOD.replace("source: PAPER", "expected: PAPER");
        assert_eq!(check(&[("p", &missing)]).len(), 1);
    }

    #[test]
    fn preset_files_are_recognised_by_their_folder() {
        assert!(is_preset_file("crates/cil-runner/src/presets.rs"));
        assert!(is_preset_file("crates/cil-runner/src/presets/cifar.rs"));
        assert!(!is_preset_file("crates/cil-runner/src/report.rs"));
    }
}
