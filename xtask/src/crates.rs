//! Groups the workspace's files into crates and modules.

use std::collections::BTreeMap;

use crate::circles::{Circle, find_circles};
use crate::imports::{Imports, ModulePath, find_imports};
use crate::product::{LineCount, Product, count_lines, select_product};
use crate::sources::{SourceFile, Violation};

/// A crate's product code: its library, or its binary if it has no library.
pub(crate) struct CrateSources<'a> {
    /// Folder below the workspace's root, for example `crates/landfall-core`.
    pub(crate) folder: &'a str,
    modules: BTreeMap<ModulePath, Product<'a>>,
    files: BTreeMap<ModulePath, &'a str>,
    lines: LineCount,
}

/// Groups the product code of every crate.
pub(crate) fn group_crates(files: &[SourceFile]) -> Vec<CrateSources<'_>> {
    let mut roots: BTreeMap<&str, &str> = BTreeMap::new();
    // `lib` comes before `main`.
    for root in ["/src/lib.rs", "/src/main.rs"] {
        for file in files {
            if let Some(folder) = file.path.strip_suffix(root) {
                roots
                    .entry(folder)
                    .or_insert(if root.ends_with("lib.rs") { "lib" } else { "main" });
            }
        }
    }
    roots
        .into_iter()
        .map(|(folder, root)| group_crate(files, folder, root))
        .collect()
}

fn group_crate<'a>(files: &'a [SourceFile], folder: &'a str, root: &str) -> CrateSources<'a> {
    let mut found = CrateSources {
        folder,
        modules: BTreeMap::new(),
        files: BTreeMap::new(),
        lines: LineCount::default(),
    };
    let mut all: Vec<(ModulePath, &'a str, Product<'a>)> = Vec::new();
    for file in files.iter().filter(|file| file.is_our_rust()) {
        let inside = file
            .path
            .strip_prefix(folder)
            .and_then(|path| path.strip_prefix("/src/"));
        if let Some(path) = inside.and_then(|path| path.strip_suffix(".rs")) {
            all.push((module_path(path, root), &file.path, select_product(&file.text)));
        }
    }
    let for_tests: Vec<ModulePath> = all
        .iter()
        .flat_map(|(path, _, product)| {
            product.test_modules.iter().map(|name| {
                let mut path = path.clone();
                path.push((*name).to_owned());
                path
            })
        })
        .collect();
    for (path, file, product) in all {
        if for_tests.iter().any(|test| path.starts_with(test)) {
            continue;
        }
        let lines = count_lines(&product.tokens);
        found.lines.code += lines.code;
        found.lines.comment += lines.comment;
        // Another root, as `main.rs` beside `lib.rs`, is a crate of its own and of one file.
        if !is_other_root(&path, root) {
            found.files.insert(path.clone(), file);
            found.modules.insert(path, product);
        }
    }
    found
}

fn module_path(path: &str, root: &str) -> ModulePath {
    let mut parts: ModulePath = path.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod") || parts == [root] {
        parts.pop();
    }
    parts
}

fn is_other_root(path: &[String], root: &str) -> bool {
    (root == "lib" && path == ["main"]) || path.first().is_some_and(|first| first == "bin")
}

impl<'a> CrateSources<'a> {
    pub(crate) fn name(&self) -> &'a str {
        self.folder.rsplit('/').next().unwrap_or(self.folder)
    }

    pub(crate) fn lines(&self) -> LineCount {
        self.lines
    }

    pub(crate) fn modules(&self) -> &BTreeMap<ModulePath, Product<'a>> {
        &self.modules
    }

    pub(crate) fn file(&self, module: &ModulePath) -> &'a str {
        self.files.get(module).copied().unwrap_or("?")
    }

    pub(crate) fn imports(&self) -> Imports {
        find_imports(&self.modules)
    }
}

/// Returns a violation for each import circle inside a crate, at the first import of a shortest way round.
pub(crate) fn check_circles(crates: &[CrateSources<'_>]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for sources in crates {
        for circle in find_circles(&sources.imports()) {
            violations.push(describe(sources, &circle));
        }
    }
    violations
}

fn describe(sources: &CrateSources<'_>, circle: &Circle) -> Violation {
    let members: Vec<&str> = circle.modules.iter().map(|module| sources.file(module)).collect();
    let way: Vec<String> = circle
        .way
        .iter()
        .map(|(from, to, line)| format!("{}:{line} imports {}", sources.file(from), sources.file(to)))
        .collect();
    let (path, line) = circle
        .way
        .first()
        .map_or(("", 0), |(from, _, line)| (sources.file(from), *line));
    Violation {
        path: path.to_owned(),
        line,
        problem: format!(
            "{} modules import each other: {}\n    one way round: {}",
            members.len(),
            members.join(", "),
            way.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_reported_with_its_files_and_lines() {
        let files = [
            SourceFile::new("crates/x/src/lib.rs", "mod a;\nmod b;"),
            SourceFile::new("crates/x/src/a.rs", "use crate::b::c::D;"),
            SourceFile::new("crates/x/src/b.rs", "pub mod c;"),
            SourceFile::new("crates/x/src/b/c.rs", "pub struct D;\n\nuse crate::a::E;"),
        ];
        let [violation] = check_circles(&group_crates(&files)).try_into().unwrap();
        assert_eq!(
            violation.to_string(),
            "crates/x/src/a.rs:1: 2 modules import each other: crates/x/src/a.rs, crates/x/src/b/c.rs\n    \
             one way round: crates/x/src/a.rs:1 imports crates/x/src/b/c.rs, \
             crates/x/src/b/c.rs:3 imports crates/x/src/a.rs"
        );
    }

    #[test]
    fn modules_of_tests_and_other_binaries_are_no_part_of_the_graph() {
        let files = [
            SourceFile::new("x/src/lib.rs", "#[cfg(test)] mod tests; pub mod a;"),
            SourceFile::new("x/src/tests.rs", "use crate::a::A;"),
            SourceFile::new("x/src/tests/more.rs", "use crate::a::A;"),
            SourceFile::new("x/src/a.rs", "//! A.\n"),
            SourceFile::new("x/src/main.rs", "use crate::a::A;"),
            SourceFile::new("x/tests/all.rs", "use x::a::A;"),
        ];
        let crates = group_crates(&files);
        assert_eq!(crates.len(), 1);
        assert_eq!(crates[0].modules().len(), 2);
        assert_eq!(crates[0].lines(), LineCount { code: 2, comment: 1 });
    }

    #[test]
    fn a_binary_without_a_library_is_a_crate_too() {
        let files = [
            SourceFile::new("bench/src/main.rs", "mod a; mod b;"),
            SourceFile::new("bench/src/a.rs", "use crate::b::B;"),
            SourceFile::new("bench/src/b.rs", "use super::a::A;"),
        ];
        assert_eq!(check_circles(&group_crates(&files)).len(), 1);
    }
}
