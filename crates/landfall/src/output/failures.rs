//! Failures of images below a table: one paragraph for each reason, with the number of its images.

use landfall_core::wording::{counted, quoted};

/// Images that a paragraph names. The table above it has all of them.
const NAMES_MAX: usize = 3;

/// An image with something wrong.
pub(crate) struct FailedImage<'r> {
    /// The state in a word, e.g. `failed`.
    pub(crate) state: &'static str,
    pub(crate) name: &'r str,
    pub(crate) problem: Option<&'r str>,
    /// The problem without the image's name, by which images are grouped.
    pub(crate) reason: Option<String>,
    pub(crate) fix: Option<&'r str>,
}

/// Renders the failures, each reason once, in the order of its first image.
pub(crate) fn render_failures<'r>(failed: impl IntoIterator<Item = FailedImage<'r>>) -> String {
    let groups = group_by(failed, |image| (image.state, image.reason.clone(), image.fix));
    groups.iter().map(|group| render_group(group)).collect()
}

/// Groups items by a key, in the order of the first of each group. No group is empty.
pub(crate) fn group_by<T, K: PartialEq>(items: impl IntoIterator<Item = T>, key_of: impl Fn(&T) -> K) -> Vec<Vec<T>> {
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    for item in items {
        let key = key_of(&item);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(item),
            None => groups.push((key, vec![item])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn render_group(group: &[FailedImage<'_>]) -> String {
    let first = &group[0];
    let (who, why) = match group {
        [only] => (only.name.to_owned(), only.problem),
        _ => (
            name_images(group.iter().map(|image| image.name)),
            first.reason.as_deref(),
        ),
    };
    let mut text = format!("\n{}: {who}\n", first.state);
    for (word, line) in [("why", why), ("fix", first.fix)] {
        if let Some(line) = line {
            text.push_str(&format!("  {word}: {line}\n"));
        }
    }
    text
}

/// Returns the number of images and the first of their names; of one image, its name.
pub(crate) fn name_images<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> String {
    let count = names.len();
    let shown = quoted(names.take(NAMES_MAX));
    match (count, count.saturating_sub(NAMES_MAX)) {
        (1, _) => shown,
        (_, 0) => format!("{}: {shown}", counted(count, "image")),
        (_, more) => format!("{}: {shown} and {more} more", counted(count, "image")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_failed<'r>(name: &'r str, problem: &'r str) -> FailedImage<'r> {
        FailedImage {
            state: "failed",
            name,
            problem: Some(problem),
            reason: Some(problem.replace(name, "it")),
            fix: Some("mend it"),
        }
    }

    #[test]
    fn one_reason_of_many_images_is_told_once() {
        let failed = [
            mk_failed("a:1", "no login"),
            mk_failed("b:1", "b:1 is not there"),
            mk_failed("c:1", "no login"),
            mk_failed("d:1", "no login"),
            mk_failed("e:1", "no login"),
        ];
        insta::assert_snapshot!(render_failures(failed), @r"

        failed: 4 images: `a:1`, `c:1`, `d:1` and 1 more
          why: no login
          fix: mend it

        failed: b:1
          why: b:1 is not there
          fix: mend it
        ");
    }
}
