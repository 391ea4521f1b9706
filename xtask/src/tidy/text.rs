//! Rules on the text of single files.
//!
//! Lines are counted as they are, tests included, since a reader scrolls past all of them. Style that rustfmt or clippy
//! check is left to them.

use super::Finding;

const SOFT_LINES: usize = 300;
const HARD_LINES: usize = 400;
/// Columns of a comment line; rustfmt holds code to fewer.
const COMMENT_COLUMNS: usize = 120;

/// Beginnings of paths that exist on one person's machine only; spelled in two parts so as not to be found here.
const PRIVATE_FOLDERS: [&str; 4] =
    [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// Length and header of a Rust file.
pub(super) fn rust_file(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(Finding::error(name, "the file does not begin with `//!` module documentation"));
    }
    for (index, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        if line.trim_start().starts_with("//") && columns > COMMENT_COLUMNS {
            let message = format!("a comment of {columns} columns, {COMMENT_COLUMNS} is the most");
            findings.push(Finding::error(format!("{name}:{}", index + 1), message));
        }
    }
    let lines = text.lines().count();
    if lines > HARD_LINES {
        findings.push(Finding::error(name, format!("{lines} lines, {HARD_LINES} is the most")));
    } else if lines > SOFT_LINES {
        findings.push(Finding::warning(name, format!("{lines} lines, {SOFT_LINES} is the aim")));
    }
    findings
}

/// White space at ends of lines and private paths, in any text.
pub(super) fn any_file(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", index + 1);
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(Finding::error(&place, "trailing white space"));
        }
        if let Some(folder) = PRIVATE_FOLDERS.iter().find(|folder| begins_path(line, folder)) {
            findings.push(Finding::error(&place, format!("an absolute path below {folder}")));
        }
    }
    findings
}

/// Whether `folder` occurs where a path begins: not inside a longer path or an address.
fn begins_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || "._-~/}$)*".contains(before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_and_header() {
        assert!(rust_file("a.rs", "//! Good.\n").is_empty());
        assert!(rust_file("a.rs", "use std;\n")[0].is_error);
        let lines = |count: usize| format!("//! Long.\n{}", "\n".repeat(count - 1));
        assert!(rust_file("a.rs", &lines(SOFT_LINES)).is_empty());
        assert!(!rust_file("a.rs", &lines(SOFT_LINES + 1))[0].is_error);
        assert!(!rust_file("a.rs", &lines(HARD_LINES))[0].is_error);
        assert_eq!(rust_file("a.rs", &lines(HARD_LINES + 1))[0].message, "401 lines, 400 is the most");
    }

    #[test]
    fn comments_fit_the_page() {
        let of = |columns: usize| format!("//! A.\n    // {}\n", "x".repeat(columns - 7));
        assert!(rust_file("a.rs", &of(120)).is_empty());
        assert_eq!(
            rust_file("a.rs", &of(121))[0].to_string(),
            "error: a.rs:2: a comment of 121 columns, 120 is the most"
        );
        assert!(rust_file("a.rs", &format!("//! A.\nlet a = \"{}\"; // b\n", "x".repeat(120))).is_empty());
    }

    #[test]
    fn trailing_white_space() {
        assert!(any_file("a.md", "one\n\ntwo\n").is_empty());
        assert_eq!(any_file("a.md", "one\ntwo \n")[0], Finding::error("a.md:2", "trailing white space"));
        assert!(any_file("a.md", "one\t").len() == 1);
    }

    #[test]
    fn private_paths() {
        for folder in PRIVATE_FOLDERS {
            assert_eq!(any_file("a.toml", &format!("path = \"{folder}someone/data\"")).len(), 1, "{folder}");
            assert!(any_file("a.md", &format!("https://example.org{folder}page")).is_empty());
            assert!(any_file("a.md", &format!("see notes{folder}page and ../notes{folder}page")).is_empty());
        }
    }
}
