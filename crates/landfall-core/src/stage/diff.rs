//! Unified diff of a stage's change to a file, for people (`--dry-run`). Secrets are masked. The content of a file that
//! only its owner may read is not shown.

use std::fmt::Write as _;
use std::ops::Range;

use crate::diagnostic::mask::{LineBreaks, secret_ranges};

/// The number of context lines around a change.
const CONTEXT: usize = 3;
/// The limit on pairs of differing lines. Above it, the whole middle is shown as replaced, because a person would not
/// read a better diff of that size.
const PAIRS_MAX: usize = 4_000_000;
/// The mode bits of group and others; a file without them is readable by its owner only.
const OTHERS: u32 = 0o077;
const MASK: &str = "****";

/// The present or future state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState<'a> {
    pub mode: u32,
    /// The numeric owner.
    pub owner: u32,
    /// The numeric group.
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

/// One line of a diff: an index into the old lines, the new lines, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    Keep(usize, usize),
    Remove(usize),
    Add(usize),
}

fn render_hunks(old: &str, new: &str) -> String {
    let (old_lines, new_lines) = (split_lines(old), split_lines(new));
    let (old_shown, new_shown) = (masked_lines(old), masked_lines(new));
    let edits = edits(&old_lines, &new_lines);
    let mut text = String::new();
    for hunk in hunks(&edits) {
        let edits = &edits[hunk];
        let (old_range, new_range) = (range(edits, Edit::in_old), range(edits, Edit::in_new));
        let _a_string_takes_everything = writeln!(text, "@@ -{old_range} +{new_range} @@");
        for edit in edits {
            let (sign, line) = match *edit {
                Edit::Keep(at, _) => (' ', &old_shown[at]),
                Edit::Remove(at) => ('-', &old_shown[at]),
                Edit::Add(at) => ('+', &new_shown[at]),
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

impl Edit {
    fn in_old(self) -> Option<usize> {
        match self {
            Edit::Keep(old, _) | Edit::Remove(old) => Some(old),
            Edit::Add(_) => None,
        }
    }

    fn in_new(self) -> Option<usize> {
        match self {
            Edit::Keep(_, new) | Edit::Add(new) => Some(new),
            Edit::Remove(_) => None,
        }
    }
}

/// Renders `start,count` of a hunk on one side, as diff(1) does. A side without lines starts at 0.
fn range(edits: &[Edit], side: fn(Edit) -> Option<usize>) -> String {
    let mut lines = edits.iter().filter_map(|edit| side(*edit));
    match lines.next() {
        None => "0,0".to_owned(),
        Some(first) => match lines.count() + 1 {
            1 => format!("{}", first + 1),
            count => format!("{},{count}", first + 1),
        },
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

/// Returns the edits that turn `old` into `new`. They keep the common beginning and end, and a longest common
/// subsequence of the rest.
fn edits(old: &[&str], new: &[&str]) -> Vec<Edit> {
    let shared = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| pairs.take_while(|(old, new)| old == new).count();
    let head = shared(&mut old.iter().zip(new));
    let tail = shared(&mut old[head..].iter().rev().zip(new[head..].iter().rev()));
    let (old_middle, new_middle) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut edits: Vec<Edit> = (0..head).map(|at| Edit::Keep(at, at)).collect();
    edits.extend(middle_edits(old_middle, new_middle).into_iter().map(|edit| match edit {
        Edit::Keep(old, new) => Edit::Keep(old + head, new + head),
        Edit::Remove(old) => Edit::Remove(old + head),
        Edit::Add(new) => Edit::Add(new + head),
    }));
    edits.extend((0..tail).map(|at| Edit::Keep(old.len() - tail + at, new.len() - tail + at)));
    edits
}

fn middle_edits(old: &[&str], new: &[&str]) -> Vec<Edit> {
    if old.len().saturating_mul(new.len()) > PAIRS_MAX {
        let removed = (0..old.len()).map(Edit::Remove);
        return removed.chain((0..new.len()).map(Edit::Add)).collect();
    }
    // The cell length[i][j] holds the length of the longest common subsequence of old[i..] and new[j..].
    let width = new.len() + 1;
    let mut length = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            length[i * width + j] = if old[i] == new[j] {
                length[(i + 1) * width + j + 1] + 1
            } else {
                length[(i + 1) * width + j].max(length[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut edits = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            edits.push(Edit::Keep(i, j));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || length[(i + 1) * width + j] >= length[i * width + j + 1]) {
            edits.push(Edit::Remove(i));
            i += 1;
        } else {
            edits.push(Edit::Add(j));
            j += 1;
        }
    }
    edits
}

/// Groups edits into hunks: changes belong to one hunk if their contexts touch.
fn hunks(edits: &[Edit]) -> Vec<Range<usize>> {
    let mut hunks: Vec<Range<usize>> = Vec::new();
    let changes = (edits.iter().enumerate()).filter(|(_, edit)| !matches!(edit, Edit::Keep(..)));
    for (at, _) in changes {
        let (start, end) = (at.saturating_sub(CONTEXT), (at + 1 + CONTEXT).min(edits.len()));
        match hunks.last_mut() {
            Some(last) if start <= last.end => last.end = end,
            _ => hunks.push(start..end),
        }
    }
    hunks
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

    #[test]
    fn every_edit_leads_from_the_old_text_to_the_new() {
        let texts = [
            "",
            "a\n",
            "a\nb\nc\n",
            "b\nc\nd\n",
            "c\nb\na\n",
            "a\na\nb\nb\n",
            "x\na\ny\nc\nz",
        ];
        for old in texts {
            for new in texts {
                let (old_lines, new_lines) = (split_lines(old), split_lines(new));
                let edits = edits(&old_lines, &new_lines);
                let kept_old: String = edits
                    .iter()
                    .filter_map(|edit| edit.in_old())
                    .map(|at| old_lines[at])
                    .collect();
                let kept_new: String = edits
                    .iter()
                    .filter_map(|edit| edit.in_new())
                    .map(|at| new_lines[at])
                    .collect();
                assert_eq!((kept_old.as_str(), kept_new.as_str()), (old, new));
            }
        }
    }
}
