//! The repair of `landfall profile fix`: removes `AlwaysPullImages` and changes no other byte.

use std::ops::Range;

use crate::config::admission_plugins::Plugins;
use crate::config::profile::find_always_pull_in;
use crate::config::report::Report;
use crate::config::text::Span;
use crate::diagnostic::{Diagnostics, NamedText};

/// Returns the profile without `AlwaysPullImages`; `None` if there is nothing to remove. The other plug-ins keep their
/// order. A flag without any other plug-in is removed, with its line if nothing else is on it.
///
/// # Errors
/// Returns the findings if the text is not a profile.
pub fn fix_profile(profile: &NamedText) -> Result<Option<String>, Diagnostics> {
    let mut report = Report::default();
    let Some(found) = find_always_pull_in(profile, &mut report) else {
        return Err(report.finish([profile]));
    };
    let mut edits: Vec<(Range<usize>, &str)> = Vec::new();
    for plugins in found {
        edits.extend(edits_for(&plugins));
    }
    // Edits are applied from the end, so that earlier positions stay valid. An anchor that is used twice gives equal
    // edits.
    edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    edits.dedup();
    let mut fixed = profile.text.to_string();
    let mut changed = false;
    let mut edited_from = fixed.len();
    for (range, replacement) in edits {
        if range.end <= edited_from && fixed.is_char_boundary(range.start) && fixed.is_char_boundary(range.end) {
            edited_from = range.start;
            fixed.replace_range(range, replacement);
            changed = true;
        }
    }
    Ok(changed.then_some(fixed))
}

fn edits_for(plugins: &Plugins) -> Vec<(Range<usize>, &'static str)> {
    if plugins.corrected.is_some() {
        let cuts = plugins.cuts.iter();
        return cuts
            .map(|cut| (in_file(&plugins.node.inner_span(cut.clone())), ""))
            .collect();
    }
    match own_lines(plugins) {
        Some(lines) => vec![(in_file(&lines), "")],
        None => vec![(in_file(&plugins.node.span()), "\"\"")],
    }
}

fn in_file(span: &Span) -> Range<usize> {
    let (_, start) = span.text.slice(span.start..span.start).in_file();
    // The end is the start of the next byte: the last byte may stand for an escape or an indentation.
    let (_, end) = span.text.slice(span.end..span.end).in_file();
    let (_, covered) = span.in_file();
    let end = if span.end < span.text.as_str().len() {
        end.start
    } else {
        covered.end
    };
    start.start..end.max(start.start)
}

/// Returns the lines of the flag, if nothing else is on them.
fn own_lines(plugins: &Plugins) -> Option<Span> {
    let first = plugins.first.span();
    let last = plugins.node.span();
    let content = first.text.as_str();
    let start = content[..first.start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = content[last.end..]
        .find('\n')
        .map_or(content.len(), |newline| last.end + newline + 1);
    let before = content[start..first.start].trim();
    let after = content[last.end..end].trim();
    let alone = (before.is_empty() || before == "-") && (after.is_empty() || after.starts_with('#'));
    alone.then(|| first.text.slice(start..end))
}
