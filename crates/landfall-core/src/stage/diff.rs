//! Unified diff of a stage's change to a file, for people (`--dry-run`). Secrets are masked. The content of a file that
//! only its owner may read is not shown.

use std::ops::Range;

use similar::{Algorithm, ChangeTag, DiffOp, capture_diff_slices, group_diff_ops};

use crate::diagnostic::mask::{LineBreaks, secret_ranges};

/// The number of context lines around a change.
const CONTEXT: usize = 3;
/// The maximum number of pairs of differing lines for which a shortest diff is searched. Above it, all lines between
/// the common head and tail are shown as replaced. A limit on time would make the output depend on the machine.
const PAIRS_MAX: usize = 4_000_000;
/// The mode bits of group and others; a file without them is readable by its owner only.
const OTHERS: u32 = 0o077;
const MASK: &str = "****";

/// The present or future state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState<'a> {
    pub mode: u32,
    pub owner: u32,
    pub group: u32,
    pub content: &'a [u8],
}

/// Renders the difference between the present state of a file (`None` if it does not exist) and its future state; empty
/// if they are equal.
#[must_use]
pub fn render_file_diff(path: &str, before: Option<FileState<'_>>, after: FileState<'_>) -> String {
    if before == Some(after) {
        return String::new();
    }
    let old_name = if before.is_some() { path } else { "/dev/null" };
    let mut text = format!("--- {old_name}\n+++ {path}\n");
    let attributes = |state: &FileState<'_>| format!("mode {:04o} owner {}:{}", state.mode, state.owner, state.group);
    let old_attributes = before.as_ref().map(attributes);
    let new_attributes = attributes(&after);
    if old_attributes.as_ref() != Some(&new_attributes) {
        if let Some(old) = old_attributes {
            push_line(&mut text, &format!("old {old}"));
        }
        push_line(&mut text, &format!("new {new_attributes}"));
    }
    let old = before.map(|state| state.content).unwrap_or_default();
    if old == after.content {
        return text;
    }
    let is_private = after.mode & OTHERS == 0 || before.is_some_and(|state| state.mode & OTHERS == 0);
    match (std::str::from_utf8(old), std::str::from_utf8(after.content)) {
        _ if is_private => push_line(&mut text, "(content not shown: only its owner may read it)"),
        (Ok(old), Ok(new)) => text.push_str(&render_hunks(old, new)),
        _ => push_line(&mut text, "(content not shown: it is no text)"),
    }
    text
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn render_hunks(old: &str, new: &str) -> String {
    let (old_shown, new_shown) = (masked_lines(old), masked_lines(new));
    let (old_lines, new_lines) = (split_lines(old), split_lines(new));
    let mut text = String::new();
    for hunk in group_diff_ops(diff_lines(&old_lines, &new_lines), CONTEXT) {
        let (old_range, new_range) = (range(&hunk, DiffOp::old_range), range(&hunk, DiffOp::new_range));
        push_line(&mut text, &format!("@@ -{old_range} +{new_range} @@"));
        for change in hunk.iter().flat_map(|op| op.iter_changes(&old_lines, &new_lines)) {
            let (sign, lines, at) = match change.tag() {
                ChangeTag::Equal => (' ', &old_shown, change.old_index()),
                ChangeTag::Delete => ('-', &old_shown, change.old_index()),
                ChangeTag::Insert => ('+', &new_shown, change.new_index()),
            };
            let Some(line) = at.and_then(|at| lines.get(at)) else {
                continue;
            };
            text.push(sign);
            push_line(&mut text, line.trim_end_matches('\n'));
            if !line.ends_with('\n') {
                push_line(&mut text, "\\ No newline at end of file");
            }
        }
    }
    text
}

/// Returns the operations that turn the old lines into the new ones.
fn diff_lines(old: &[&str], new: &[&str]) -> Vec<DiffOp> {
    let head = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = (old_rest.iter().rev().zip(new_rest.iter().rev()))
        .take_while(|(old, new)| old == new)
        .count();
    let (old_len, new_len) = (old_rest.len() - tail, new_rest.len() - tail);
    if old_len.saturating_mul(new_len) <= PAIRS_MAX {
        return capture_diff_slices(Algorithm::Myers, old, new);
    }
    let equal = |old_index, new_index, len| DiffOp::Equal {
        old_index,
        new_index,
        len,
    };
    vec![
        equal(0, 0, head),
        DiffOp::Replace {
            old_index: head,
            old_len,
            new_index: head,
            new_len,
        },
        equal(head + old_len, head + new_len, tail),
    ]
}

/// Returns `start,count` of a hunk on one side, as diff(1) writes it; a side without lines starts at 0.
fn range(hunk: &[DiffOp], side: fn(&DiffOp) -> Range<usize>) -> String {
    let start = hunk.first().map_or(0, |op| side(op).start);
    let end = hunk.last().map_or(0, |op| side(op).end);
    match end - start {
        0 => "0,0".to_owned(),
        1 => format!("{}", start + 1),
        count => format!("{},{count}", start + 1),
    }
}

fn split_lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Returns the lines with everything masked that looks like a secret.
fn masked_lines(text: &str) -> Vec<String> {
    let secrets = secret_ranges(text, LineBreaks::Real);
    let mut at = 0;
    split_lines(text)
        .into_iter()
        .map(|line| {
            let start = at;
            at += line.len();
            let mut shown = line.to_owned();
            let in_line = secrets.iter().filter(|range| range.start < at && start < range.end);
            let mut cuts: Vec<Range<usize>> = in_line
                .map(|range| range.start.max(start) - start..range.end.min(start + line.trim_end().len()) - start)
                .filter(|range| range.start < range.end)
                .collect();
            cuts.sort_by_key(|range| range.start);
            for cut in cuts.into_iter().rev() {
                // Ranges may overlap: the later cut has shortened the text behind it.
                let end = cut.end.min(shown.len());
                if cut.start < end && shown.is_char_boundary(cut.start) && shown.is_char_boundary(end) {
                    shown.replace_range(cut.start..end, MASK);
                }
            }
            shown
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(mode: u32, content: &str) -> FileState<'_> {
        FileState {
            mode,
            owner: 0,
            group: 0,
            content: content.as_bytes(),
        }
    }

    fn diff(old: &str, new: &str) -> String {
        render_file_diff("/etc/f", Some(state(0o644, old)), state(0o644, new))
    }

    #[test]
    fn a_changed_line_is_shown_between_three_lines_of_context() {
        let old: String = (1..=12).map(|line| format!("line {line}\n")).collect();
        let new = old.replace("line 6\n", "line six\nand a half\n");
        insta::assert_snapshot!(diff(&old, &new), @r"
        --- /etc/f
        +++ /etc/f
        @@ -3,7 +3,8 @@
         line 3
         line 4
         line 5
        -line 6
        +line six
        +and a half
         line 7
         line 8
         line 9
        ");
    }

    #[test]
    fn changes_far_from_each_other_are_hunks_of_their_own() {
        let old: String = (1..=20).map(|line| format!("{line}\n")).collect();
        let new = old.replacen("2\n", "two\n", 1).replace("19\n", "");
        insta::assert_snapshot!(diff(&old, &new), @r"
        --- /etc/f
        +++ /etc/f
        @@ -1,5 +1,5 @@
         1
        -2
        +two
         3
         4
         5
        @@ -16,5 +16,4 @@
         16
         17
         18
        -19
         20
        ");
    }

    #[test]
    fn beyond_the_limit_everything_between_common_head_and_tail_is_replaced() {
        let text = |word: &str| -> String {
            let changed = (0..=2_000).map(|line| match line {
                1_000 => "common\n".to_owned(),
                _ => format!("{word} {line}\n"),
            });
            format!("head\n{}tail\n", changed.collect::<String>())
        };
        let shown = diff(&text("old"), &text("new"));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[2..5], ["@@ -1,2003 +1,2003 @@", " head", "-old 0"]);
        assert_eq!(lines[lines.len() - 2..], ["+new 2000", " tail"]);
        assert!(lines.contains(&"-common") && lines.contains(&"+common"));
    }

    #[test]
    fn without_common_head_and_tail_beyond_the_limit_all_is_replaced() {
        let text = |word: &str| -> String { (0..2_001).map(|line| format!("{word} {line}\n")).collect() };
        let shown = diff(&text("old"), &text("new"));
        assert_eq!(shown.lines().nth(2), Some("@@ -1,2001 +1,2001 @@"));
        assert_eq!(shown.lines().count(), 3 + 2 * 2_001);
    }

    #[test]
    fn a_new_file_is_all_additions_and_a_missing_line_end_is_said() {
        insta::assert_snapshot!(render_file_diff("/etc/f", None, state(0o640, "a\nb")), @r"
        --- /dev/null
        +++ /etc/f
        new mode 0640 owner 0:0
        @@ -0,0 +1,2 @@
        +a
        +b
        \ No newline at end of file
        ");
    }

    #[test]
    fn a_mode_alone_is_a_change_and_nothing_is_none() {
        insta::assert_snapshot!(render_file_diff("/etc/f", Some(state(0o644, "a\n")), state(0o600, "a\n")), @r"
        --- /etc/f
        +++ /etc/f
        old mode 0644 owner 0:0
        new mode 0600 owner 0:0
        ");
        assert_eq!(diff("a\n", "a\n"), "");
    }

    #[test]
    fn secrets_are_masked_and_private_files_are_not_shown() {
        insta::assert_snapshot!(diff("user: a\npassword: old-canary\n", "user: a\npassword: new-canary\n"), @r"
        --- /etc/f
        +++ /etc/f
        @@ -1,2 +1,2 @@
         user: a
        -password: ****
        +password: ****
        ");
        insta::assert_snapshot!(render_file_diff("/etc/f", Some(state(0o644, "canary")), state(0o600, "other")), @r"
        --- /etc/f
        +++ /etc/f
        old mode 0644 owner 0:0
        new mode 0600 owner 0:0
        (content not shown: only its owner may read it)
        ");
    }
}
