//! Looks at the imports between folders: a module counts together with everything in its folder. Folders beside each
//! other should have an order in which each imports only from folders below it.
//!
//! Two folders can import each other although no two files do: `config/checks.rs` from `resolve.rs`, and that one from
//! `config/settings.rs`. The report counts these imports; the check fails on circles of files alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::{Imports, ModulePath};

/// Imports between folders beside each other, with the number of pairs of files behind each.
type FolderImports<'a> = BTreeMap<(&'a str, &'a str), usize>;

/// Returns the fewest imports that a simple ordering of the folders found to go upward. 0 says that there is such an
/// order.
pub(crate) fn count_upward_imports(imports: &Imports) -> usize {
    let mut by_parent: BTreeMap<&[String], FolderImports<'_>> = BTreeMap::new();
    for (from, to) in imports.keys() {
        if let Some((parent, pair)) = folders_of(from, to) {
            *by_parent.entry(parent).or_default().entry(pair).or_default() += 1;
        }
    }
    by_parent.values().map(count_upward).sum()
}

/// Returns the folders of two modules beside each other, and the module around both. None if one is inside of the other.
fn folders_of<'a>(from: &'a ModulePath, to: &'a ModulePath) -> Option<(&'a [String], (&'a str, &'a str))> {
    let shared = from.iter().zip(to).take_while(|(left, right)| left == right).count();
    Some((&from[..shared], (from.get(shared)?, to.get(shared)?)))
}

/// Orders the folders from the top: a folder that no other imports, or else the one that imports the most more than it is
/// imported (the heuristic of Eades, Lin and Smyth for the smallest feedback arc set). Counts what then goes upward.
fn count_upward(imports: &FolderImports<'_>) -> usize {
    let mut left: BTreeSet<&str> = imports.keys().flat_map(|(from, to)| [*from, *to]).collect();
    let mut upward = 0;
    while let Some(next) = choose_next(imports, &left) {
        left.remove(next);
        // The folders that are left lie below, so their imports of this one go upward.
        upward += imports
            .iter()
            .filter(|((from, to), _)| *to == next && left.contains(from))
            .map(|(_, pairs)| pairs)
            .sum::<usize>();
    }
    upward
}

fn choose_next<'a>(imports: &FolderImports<'a>, left: &BTreeSet<&'a str>) -> Option<&'a str> {
    let count = |matches: &dyn Fn(&str, &str) -> bool| -> usize {
        let inside = imports
            .iter()
            .filter(|((from, to), _)| left.contains(from) && left.contains(to));
        inside
            .filter(|((from, to), _)| matches(from, to))
            .map(|(_, pairs)| pairs)
            .sum()
    };
    let imported = |folder: &str| count(&|_, to| to == folder);
    let importing = |folder: &str| count(&|from, _| from == folder);
    let source = left.iter().copied().find(|folder| imported(folder) == 0);
    // A folder that imports nothing belongs at the bottom, so it comes last.
    let others = || left.iter().copied().filter(|folder| importing(folder) > 0);
    let surplus =
        |left: &&str, right: &&str| (importing(left) + imported(right)).cmp(&(importing(right) + imported(left)));
    let heaviest = || others().max_by(surplus);
    source.or_else(heaviest).or_else(|| left.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upward(edges: &[(&str, &str)]) -> usize {
        let path = |name: &str| name.split("::").map(str::to_owned).collect::<Vec<_>>();
        count_upward_imports(&edges.iter().map(|(from, to)| ((path(from), path(to)), 1)).collect())
    }

    #[test]
    fn folders_in_an_order_import_nothing_upward() {
        assert_eq!(
            upward(&[("a", "b"), ("a::x", "c"), ("b", "c"), ("a", "a::x"), ("a::x", "a")]),
            0
        );
    }

    #[test]
    fn folders_import_upward_although_their_files_form_no_circle() {
        assert_eq!(upward(&[("a::x", "b"), ("b", "a::y"), ("a::z", "b")]), 1);
    }

    #[test]
    fn every_folder_is_looked_at() {
        assert_eq!(
            upward(&[
                ("a::x", "a::y"),
                ("a::y", "a::x"),
                ("b::x", "b::y"),
                ("b::y::z", "b::x")
            ]),
            2
        );
    }
}
