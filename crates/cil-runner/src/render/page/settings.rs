//! Every setting, resolved, and what the runs ran on.
//!
//! Settings that differ between methods come first; those that all share follow.

use maud::{Markup, html};

use super::{run_name, scrolling};
use crate::results::summary::Summary;

/// Settings and machines.
pub(super) fn section(summary: &Summary) -> Markup {
    let differing = summary.differing();
    let table = html! {
        table.wide {
            thead { tr { th { "key" } @for group in &summary.groups { th.text { (group.label) } } } }
            tbody {
                @for key in &differing {
                    tr {
                        th scope="row" { code { (breakable(key)) } }
                        @for group in &summary.groups {
                            td.text { code { (group.settings.get(*key).map_or("–", String::as_str)) } }
                        }
                    }
                }
            }
        }
    };
    html! {
        section {
            h2 { "Settings" }
            @if !differing.is_empty() {
                h3 { "What differs" }
                (scrolling(&table))
            }
            @if let Some(group) = summary.groups.first() {
                h3 { @if differing.is_empty() { "All settings" } @else { "What all share" } }
                dl.settings {
                    @for (key, value) in group.settings.iter().filter(|(key, _)| !differing.contains(&key.as_str())) {
                        div { dt { (breakable(key)) } dd { (value) } }
                    }
                }
            }
            h3 { "Runs" }
            (scrolling(&environments(summary)))
        }
    }
}

/// A dotted key that a narrow page may break behind its dots.
fn breakable(key: &str) -> Markup {
    html! { @for part in key.split_inclusive('.') { (part) wbr; } }
}

fn environments(summary: &Summary) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "run" } th.text { "folder" } th.text { "begun" } th.text { "machine" } th.text { "code" } th.text { "candle" } th.text { "kernels" } th { "threads" } th { "resumed" }
                    th.text { "processor" } th.text { "training images" } th.text { "evaluation images" } th.text { "base model" }
                }
            }
            tbody {
                @for (at, run) in summary.runs.iter().enumerate() {
                    @let it = &run.environment;
                    tr {
                        th scope="row" { (run_name(summary, at)) }
                        td.text { code { (run.folder.display()) } }
                        td.text { (it.made.as_ref().map_or("–", |made| made.started.as_str())) }
                        td.text { (it.made.as_ref().and_then(|made| made.host.as_deref()).unwrap_or("–")) }
                        td.text { (it.code_version) }
                        td.text { (it.candle_version) }
                        td.text { (it.kernels) }
                        td { (it.threads) }
                        td { (it.resumes.len()) }
                        td.text { (it.processor.as_deref().unwrap_or("–")) }
                        td.text { code { (beginning(&it.train_digest)) } }
                        td.text { code { (beginning(&it.test_digest)) } }
                        td.text {
                            @match &it.base_model {
                                Some(base) => code { (beginning(&base.sha256)) },
                                None => "trained here",
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The first digits of a digest.
fn beginning(digest: &str) -> String {
    digest.chars().take(12).collect()
}
