//! Reads the files that the checks look at.

use std::path::Path;

use anyhow::Context as _;

/// Folders that hold no source of ours.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// A text file below the workspace's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    /// Path relative to the root, with `/` between its parts.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    #[cfg(test)]
    pub(crate) fn new(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// True for Rust that we write. The client of containerd's API is generated.
    pub(crate) fn is_our_rust(&self) -> bool {
        has_ending(&self.path, "rs") && !self.path.contains("/containerd/proto/")
    }
}

/// Loads every text file of the workspace, in the order of their paths: code, documentation, configuration, scripts.
pub(crate) fn load_sources(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    load_folder(root, "", &mut files)?;
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

fn load_folder(root: &Path, folder: &str, files: &mut Vec<SourceFile>) -> anyhow::Result<()> {
    for entry in fs_err::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry
            .file_name()
            .into_string()
            .ok()
            .with_context(|| format!("a name in `{folder}` is no UTF-8"))?;
        let path = if folder.is_empty() {
            name.clone()
        } else {
            format!("{folder}/{name}")
        };
        let kind = entry.file_type()?;
        if kind.is_dir() && !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
            load_folder(root, &path, files)?;
        } else if kind.is_file() && is_text(&path) {
            let text = fs_err::read_to_string(root.join(&path))?;
            files.push(SourceFile { path, text });
        }
    }
    Ok(())
}

fn is_text(path: &str) -> bool {
    path == "Makefile"
        || ["rs", "md", "toml", "yaml", "yml", "json", "sh", "tpl"]
            .iter()
            .any(|ending| has_ending(path, ending))
}

fn has_ending(path: &str, ending: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == ending)
}

/// A line of a file that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) problem: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_from_all_folders_but_skipped_ones() {
        let root = tempfile::tempdir().unwrap();
        for path in [
            "b/c.rs",
            "a.md",
            "target/x.rs",
            ".git/x.md",
            "b/picture.png",
            "Makefile",
        ] {
            let path = root.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "text").unwrap();
        }
        let files = load_sources(root.path()).unwrap();
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["Makefile", "a.md", "b/c.rs"]);
    }

    #[test]
    fn generated_rust_is_not_ours() {
        let file = |path: &str| SourceFile {
            path: path.to_owned(),
            text: String::new(),
        };
        assert!(file("crates/landfall-host/src/containerd/proto.rs").is_our_rust());
        assert!(!file("crates/landfall-host/src/containerd/proto/containerd.types.rs").is_our_rust());
    }
}
