//! Finds what each module of a crate imports from the others: by `use`, and by paths written out in code.
//!
//! An import counts for the module that defines the item. A front page, which only hands on what its children define
//! (`pub use child::Item;`), neither imports them nor is imported by their users.

use std::collections::{BTreeMap, BTreeSet};

use crate::product::Product;
use crate::tokens::{Kind, Token};

/// Module path below the crate's root, which is the empty path.
pub(crate) type ModulePath = Vec<String>;

/// Imports of a crate: for each importing and each imported module the line of the first one.
pub(crate) type Imports = BTreeMap<(ModulePath, ModulePath), usize>;

/// Re-exports that lead to each other end here.
const MOST_STEPS: usize = 16;

/// Keywords in front of an item's name.
const DEFINING: [&str; 10] = [
    "const",
    "enum",
    "fn",
    "macro_rules",
    "mod",
    "static",
    "struct",
    "trait",
    "type",
    "union",
];

/// Returns the imports between the modules of one crate, those of a module from its own children among them.
pub(crate) fn find_imports(modules: &BTreeMap<ModulePath, Product<'_>>) -> Imports {
    let crate_names = CrateNames {
        modules: modules
            .iter()
            .map(|(path, product)| (path, read_module(product)))
            .collect(),
    };
    let mut imports = Imports::new();
    for (path, module) in &crate_names.modules {
        for (target, line) in crate_names.imports_of(path, module) {
            if target != **path {
                let first = imports.entry(((*path).clone(), target)).or_insert(line);
                *first = line.min(*first);
            }
        }
    }
    imports
}

/// Names that a module defines, binds and writes.
struct Module<'a> {
    items: BTreeSet<&'a str>,
    uses: Vec<Use<'a>>,
    paths: Vec<WrittenPath<'a>>,
    /// Every name outside of `use`, with its first line.
    mentions: BTreeMap<&'a str, usize>,
}

/// One leaf of a `use` item.
struct Use<'a> {
    path: WrittenPath<'a>,
    /// Name that it binds, or none for `*` and `_`.
    binds: Option<&'a str>,
    is_glob: bool,
    is_public: bool,
}

struct WrittenPath<'a> {
    segments: Vec<&'a str>,
    /// Inline modules around it, from the outside.
    inside: Vec<&'a str>,
    line: usize,
}

struct CrateNames<'a> {
    modules: BTreeMap<&'a ModulePath, Module<'a>>,
}

/// Destination of a path.
struct Destination {
    module: ModulePath,
    /// True when the path names the module itself and no item in it.
    is_module: bool,
}

impl CrateNames<'_> {
    fn imports_of(&self, own: &ModulePath, module: &Module<'_>) -> Vec<(ModulePath, usize)> {
        let mut found = Vec::new();
        // Modules in scope by a `use`: the paths that begin with them tell what is imported.
        let mut modules_in_scope: BTreeMap<&str, ModulePath> = BTreeMap::new();
        for leaf in &module.uses {
            let Some(destination) = self.resolve_written(own, &leaf.path, MOST_STEPS) else {
                continue;
            };
            let handed_on = leaf.is_public && is_below(&destination.module, own);
            match leaf.binds {
                Some(name) if destination.is_module && module.paths.iter().any(|path| path.segments[0] == name) => {
                    modules_in_scope.insert(name, destination.module);
                }
                Some(name) if handed_on => {
                    let used_here = module.mentions.get(name);
                    found.extend(used_here.map(|line| (destination.module, *line)));
                }
                _ if handed_on => {}
                _ => found.push((destination.module, leaf.path.line)),
            }
        }
        for path in &module.paths {
            let destination = match modules_in_scope.get(path.segments[0]) {
                Some(start) => Some(self.resolve(start.clone(), &path.segments[1..], MOST_STEPS)),
                None => self.resolve_written(own, path, MOST_STEPS),
            };
            found.extend(destination.map(|destination| (destination.module, path.line)));
        }
        found
    }

    /// Resolves a path as it is written in a module's file. Returns none for a path into another crate or to a type.
    fn resolve_written(&self, own: &[String], path: &WrittenPath<'_>, steps: usize) -> Option<Destination> {
        let mut start = own.to_vec();
        start.extend(path.inside.iter().map(|name| (*name).to_owned()));
        let mut segments = path.segments.as_slice();
        match *segments.first()? {
            "crate" => start.clear(),
            "self" | "super" => {}
            // A child is in scope in its parent. Other first names are crates, types and what a `use` binds.
            name if self.modules.contains_key(&child(&start, name)) => {
                return Some(self.resolve(start, segments, steps));
            }
            _ => return None,
        }
        while let Some(("crate" | "self" | "super", rest)) = segments.split_first().map(|(first, rest)| (*first, rest))
        {
            if segments[0] == "super" {
                start.pop();
            }
            segments = rest;
        }
        // An inline module is a part of its file.
        while !self.modules.contains_key(&start) {
            start.pop()?;
        }
        Some(self.resolve(start, segments, steps))
    }

    /// Follows a path down from a module, through re-exports, to the module that defines its item.
    fn resolve(&self, mut module: ModulePath, segments: &[&str], steps: usize) -> Destination {
        for (at, segment) in segments.iter().enumerate() {
            let below = child(&module, segment);
            if self.modules.contains_key(&below) {
                module = below;
                continue;
            }
            return match self.follow_binding(&module, segment, steps) {
                Some(bound) if bound.is_module => self.resolve(bound.module, &segments[at + 1..], steps - 1),
                Some(bound) => bound,
                None => Destination {
                    module,
                    is_module: false,
                },
            };
        }
        Destination {
            module,
            is_module: true,
        }
    }

    /// Follows the `use` that binds a name in a module.
    fn follow_binding(&self, own: &ModulePath, name: &str, steps: usize) -> Option<Destination> {
        let steps = steps.checked_sub(1).filter(|steps| *steps > 0)?;
        let module = self.modules.get(own)?;
        if module.items.contains(name) {
            return None;
        }
        let leaves = || module.uses.iter().filter(|leaf| leaf.path.inside.is_empty());
        if let Some(leaf) = leaves().find(|leaf| leaf.binds == Some(name)) {
            return self.resolve_written(own, &leaf.path, steps);
        }
        leaves().filter(|leaf| leaf.is_glob).find_map(|leaf| {
            let from = self.resolve_written(own, &leaf.path, steps)?;
            let defines = |path: &ModulePath| self.modules.get(path).is_some_and(|module| module.items.contains(name));
            if defines(&from.module) {
                return Some(Destination {
                    is_module: false,
                    ..from
                });
            }
            self.follow_binding(&from.module, name, steps)
        })
    }
}

fn child(module: &[String], name: &str) -> ModulePath {
    let mut path = module.to_vec();
    path.push(name.to_owned());
    path
}

/// True for a module in the folder of the other one, at any depth.
pub(crate) fn is_below(module: &[String], ancestor: &[String]) -> bool {
    module.len() > ancestor.len() && module.starts_with(ancestor)
}

/// Reads a module from the product tokens of its file.
fn read_module<'a>(product: &Product<'a>) -> Module<'a> {
    let tokens: Vec<Token<'a>> = product
        .tokens
        .iter()
        .filter(|token| !matches!(token.kind, Kind::Comment | Kind::Doc(..)))
        .copied()
        .collect();
    let mut module = Module {
        items: BTreeSet::new(),
        uses: Vec::new(),
        paths: Vec::new(),
        mentions: BTreeMap::new(),
    };
    // Inline modules around the token, each with the depth of braces outside of it.
    let mut inside: Vec<(&'a str, usize)> = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let names: Vec<&'a str> = inside.iter().map(|(name, _)| *name).collect();
        match token.kind {
            Kind::Punctuation('{') => depth += 1,
            Kind::Punctuation('}') => {
                depth = depth.saturating_sub(1);
                inside.retain(|(_, outside)| *outside < depth);
            }
            // Not the `use<'a>` of a captured lifetime.
            Kind::Name("use") if kind_at(&tokens, at + 1) != Some(Kind::Punctuation('<')) => {
                let (leaves, end) = read_use(&tokens, at + 1);
                let is_public = is_public(&tokens, at);
                module.uses.extend(leaves.into_iter().map(|leaf| Use {
                    is_public,
                    path: WrittenPath {
                        inside: names.clone(),
                        ..leaf.path
                    },
                    ..leaf
                }));
                at = end;
                continue;
            }
            Kind::Name(name) => {
                if let (true, Some(Kind::Name(defined))) = (DEFINING.contains(&name), kind_at(&tokens, at + 1)) {
                    if depth == 0 {
                        module.items.insert(defined);
                    }
                    if name == "mod" && kind_at(&tokens, at + 2) == Some(Kind::Punctuation('{')) {
                        inside.push((defined, depth));
                    }
                }
                let end = end_of_path(&tokens, at);
                if end > at + 1 {
                    let segments = tokens[at..end].iter().filter_map(|token| name_of(token.kind)).collect();
                    module.paths.push(WrittenPath {
                        segments,
                        inside: names,
                        line: token.line,
                    });
                }
                let is_member = at
                    .checked_sub(1)
                    .is_some_and(|before| tokens[before].kind == Kind::Punctuation('.'));
                if !is_member {
                    module.mentions.entry(name).or_insert(token.line);
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    module
}

/// Returns the index behind the path whose first name is at `start`.
fn end_of_path(tokens: &[Token<'_>], start: usize) -> usize {
    let mut end = start + 1;
    while kind_at(tokens, end) == Some(Kind::PathSeparator) && kind_at(tokens, end + 1).and_then(name_of).is_some() {
        end += 2;
    }
    end
}

/// Reads the leaves of a `use` item whose path begins at `start`; returns them and the index behind the `;`.
fn read_use<'a>(tokens: &[Token<'a>], start: usize) -> (Vec<Use<'a>>, usize) {
    let mut leaves = Vec::new();
    let end = read_use_tree(tokens, start, &[], &mut leaves);
    (leaves, end + 1)
}

fn read_use_tree<'a>(tokens: &[Token<'a>], start: usize, prefix: &[&'a str], leaves: &mut Vec<Use<'a>>) -> usize {
    let mut segments = prefix.to_vec();
    let mut is_glob = false;
    let mut alias = None;
    let mut at = start;
    let line = tokens.get(start).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.kind {
            Kind::Name("as") => {
                alias = kind_at(tokens, at + 1).and_then(name_of);
                at += 1;
            }
            Kind::Name("self") if !prefix.is_empty() => {}
            Kind::Name(name) => segments.push(name),
            Kind::Punctuation('*') => is_glob = true,
            Kind::Punctuation('{') => {
                at += 1;
                while !matches!(kind_at(tokens, at), None | Some(Kind::Punctuation('}'))) {
                    at = read_use_tree(tokens, at, &segments, leaves);
                    if kind_at(tokens, at) == Some(Kind::Punctuation(',')) {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Kind::Punctuation(',' | '}' | ';') => break,
            _ => {}
        }
        at += 1;
    }
    let binds = if is_glob {
        None
    } else {
        alias.or(segments.last().copied()).filter(|name| *name != "_")
    };
    leaves.push(Use {
        path: WrittenPath {
            segments,
            inside: Vec::new(),
            line,
        },
        binds,
        is_glob,
        is_public: false,
    });
    at
}

/// True if the item whose keyword is at `keyword` begins with `pub`, also with `pub(crate)` and its like.
fn is_public(tokens: &[Token<'_>], keyword: usize) -> bool {
    let Some(mut at) = keyword.checked_sub(1) else {
        return false;
    };
    if tokens[at].kind == Kind::Punctuation(')') {
        let open = tokens[..at]
            .iter()
            .rposition(|token| token.kind == Kind::Punctuation('('));
        match open.and_then(|open| open.checked_sub(1)) {
            Some(before) => at = before,
            None => return false,
        }
    }
    tokens[at].kind == Kind::Name("pub")
}

fn kind_at<'a>(tokens: &[Token<'a>], at: usize) -> Option<Kind<'a>> {
    tokens.get(at).map(|token| token.kind)
}

fn name_of(kind: Kind<'_>) -> Option<&str> {
    match kind {
        Kind::Name(name) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::select_product;

    /// Imports as `a::b -> c:LINE`.
    fn imports(files: &[(&str, &str)]) -> Vec<String> {
        let path = |name: &str| {
            name.split("::")
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let modules = [("", "")]
            .iter()
            .chain(files)
            .map(|(name, text)| (path(name), select_product(text)))
            .collect();
        find_imports(&modules)
            .into_iter()
            .map(|((from, to), line)| format!("{} -> {}:{line}", from.join("::"), to.join("::")))
            .collect()
    }

    #[test]
    fn uses_are_followed_to_the_deepest_module() {
        let files = [
            ("", "mod a; mod b;"),
            ("a", "use crate::{\n  b::{self, c::D},\n};\nuse std::fmt;"),
            ("b", "pub mod c;"),
            ("b::c", "pub struct D; use super::E; use self::F;"),
        ];
        assert_eq!(imports(&files), ["a -> b:2", "a -> b::c:2", "b::c -> b:1"]);
    }

    #[test]
    fn paths_in_code_count_and_paths_in_texts_do_not() {
        let files = [
            ("", "mod a; mod b; mod c;"),
            ("a", "// crate::c::x\nfn f() { g(\"crate::c\"); vec![crate::b::X]; }"),
            ("b", ""),
            ("c", ""),
        ];
        assert_eq!(imports(&files), ["a -> b:2"]);
    }

    #[test]
    fn a_parent_imports_the_child_that_it_calls_and_not_the_one_that_it_declares() {
        let files = [
            ("a", "mod b; mod c; mod d;\nuse b::X;\nfn f() { c::run() }"),
            ("a::b", ""),
            ("a::c", ""),
            ("a::d", ""),
        ];
        assert_eq!(imports(&files), ["a -> a::b:2", "a -> a::c:3"]);
    }

    #[test]
    fn a_front_page_hands_on_and_its_users_import_the_defining_module() {
        let files = [
            ("a", "mod b; mod c;\npub use b::X;\npub use c::*;\npub(crate) use b::Y;"),
            ("a::b", "pub struct X; pub struct Y;"),
            ("a::c", "pub struct Z;"),
            ("d", "use crate::a::{X, Z};"),
        ];
        assert_eq!(imports(&files), ["d -> a::b:1", "d -> a::c:1"]);
    }

    #[test]
    fn a_front_page_that_uses_what_it_hands_on_imports_it() {
        let files = [("a", "mod b;\npub use b::X;\nfn f(x: X) {}"), ("a::b", "pub struct X;")];
        assert_eq!(imports(&files), ["a -> a::b:3"]);
    }

    #[test]
    fn a_module_in_scope_is_imported_for_what_is_taken_through_it() {
        let files = [
            ("a", "use crate::b;\nfn f() { b::c::run() }"),
            ("b", "pub mod c;"),
            ("b::c", ""),
        ];
        assert_eq!(imports(&files), ["a -> b::c:2"]);
    }

    #[test]
    fn an_inline_module_is_a_part_of_its_file() {
        let files = [("a", "mod inner { use super::X; use super::super::b::Y; }"), ("b", "")];
        assert_eq!(imports(&files), ["a -> b:1"]);
    }

    #[test]
    fn re_exports_that_lead_to_each_other_end() {
        let files = [
            ("a", "pub use crate::b::X;"),
            ("b", "pub use crate::a::X;"),
            ("c", "use crate::a::X;"),
        ];
        assert!(imports(&files).len() <= 3);
    }

    #[test]
    fn tests_import_nothing() {
        let files = [("a", "#[cfg(test)] mod tests { use crate::b::X; }"), ("b", "")];
        assert!(imports(&files).is_empty());
    }
}
