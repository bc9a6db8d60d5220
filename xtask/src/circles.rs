//! Finds import circles: modules of a crate that import each other, directly or through others.
//!
//! A file and its folder are one unit: a module may call its children, and they may use the types that it defines. So
//! an import of a module from its own children closes no circle. An import between siblings, or into another folder,
//! does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::imports::{Imports, ModulePath, is_below};

/// Modules that can all reach each other by imports.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    pub(crate) modules: Vec<ModulePath>,
    /// A shortest way round, as importing module, imported module and line.
    pub(crate) way: Vec<(ModulePath, ModulePath, usize)>,
    /// Number of imports between the modules of the circle.
    pub(crate) imports: usize,
}

/// Returns the circles of more than one module, in the order of their first modules.
pub(crate) fn find_circles(imports: &Imports) -> Vec<Circle> {
    let mut targets: BTreeMap<&ModulePath, Vec<&ModulePath>> = BTreeMap::new();
    for (from, to) in imports.keys().filter(|(from, to)| !is_below(to, from)) {
        targets.entry(from).or_default().push(to);
    }
    let reached: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> =
        targets.keys().map(|start| (*start, reach(start, &targets))).collect();
    let reaches = |from: &ModulePath, to: &ModulePath| reached.get(from).is_some_and(|set| set.contains(to));
    let mut circles = Vec::new();
    let mut done: BTreeSet<&ModulePath> = BTreeSet::new();
    for start in targets.keys().copied() {
        if done.contains(start) || !reaches(start, start) {
            continue;
        }
        let members: BTreeSet<&ModulePath> = targets
            .keys()
            .copied()
            .filter(|other| reaches(start, other) && reaches(other, start))
            .collect();
        done.extend(&members);
        let shortest = members
            .iter()
            .map(|member| shortest_way_round(member, &targets))
            .min_by_key(Vec::len);
        let way = shortest.unwrap_or_default();
        circles.push(Circle {
            way: way
                .into_iter()
                .map(|(from, to)| (from.clone(), to.clone(), imports[&(from.clone(), to.clone())]))
                .collect(),
            imports: imports
                .keys()
                .filter(|(from, to)| members.contains(from) && members.contains(to))
                .count(),
            modules: members.into_iter().cloned().collect(),
        });
    }
    circles
}

fn reach<'a>(
    start: &'a ModulePath,
    targets: &BTreeMap<&'a ModulePath, Vec<&'a ModulePath>>,
) -> BTreeSet<&'a ModulePath> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![start];
    while let Some(from) = waiting.pop() {
        waiting.extend(targets.get(from).into_iter().flatten().filter(|to| found.insert(**to)));
    }
    found
}

/// Returns the shortest way from a module back to itself. There is one.
fn shortest_way_round<'a>(
    start: &'a ModulePath,
    targets: &BTreeMap<&'a ModulePath, Vec<&'a ModulePath>>,
) -> Vec<(&'a ModulePath, &'a ModulePath)> {
    let mut came_from: BTreeMap<&ModulePath, &ModulePath> = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(from) = waiting.pop_front() {
        for to in targets.get(from).into_iter().flatten().copied() {
            if !came_from.contains_key(to) {
                came_from.insert(to, from);
                waiting.push_back(to);
            }
        }
    }
    let mut way = Vec::new();
    let mut to = start;
    while let Some(from) = came_from.get(to) {
        way.push((*from, to));
        to = from;
        if to == start {
            break;
        }
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(edges: &[(&str, &str)]) -> Vec<(String, String, usize)> {
        let path = |name: &str| vec![name.to_owned()];
        let imports = edges
            .iter()
            .enumerate()
            .map(|(at, (from, to))| ((path(from), path(to)), at + 1))
            .collect();
        let join = |paths: &[ModulePath]| paths.concat().join(" ");
        find_circles(&imports)
            .into_iter()
            .map(|circle| {
                let way: Vec<_> = circle
                    .way
                    .iter()
                    .map(|(from, to, line)| format!("{}:{line}:{}", from[0], to[0]))
                    .collect();
                (join(&circle.modules), way.join(" "), circle.imports)
            })
            .collect()
    }

    #[test]
    fn modules_in_layers_form_no_circle() {
        assert!(find(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]).is_empty());
    }

    #[test]
    fn a_circle_is_found_with_a_shortest_way_round_and_its_lines() {
        let found = find(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "b"), ("x", "a"), ("c", "y")]);
        assert_eq!(found, [("a b c".to_owned(), "b:2:c c:4:b".to_owned(), 4)]);
    }

    #[test]
    fn a_module_and_its_children_form_no_circle_but_siblings_do() {
        let path = |name: &str| name.split("::").map(str::to_owned).collect::<Vec<_>>();
        let circles = |edges: &[(&str, &str)]| {
            find_circles(&edges.iter().map(|(from, to)| ((path(from), path(to)), 1)).collect()).len()
        };
        assert_eq!(
            circles(&[("a", "a::b"), ("a::b", "a"), ("a::b::c", "a"), ("a", "a::b::c")]),
            0
        );
        assert_eq!(circles(&[("a::b", "a::c"), ("a::c", "a::b")]), 1);
        assert_eq!(circles(&[("a::b", "a"), ("a", "d"), ("d", "a")]), 1);
    }

    #[test]
    fn circles_that_do_not_touch_are_told_apart() {
        let found = find(&[("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "c")]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].0, "c d");
    }
}
