//! A temporary directory as a host's `/`, and its files as a test reads them back.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

use camino::{Utf8Path, Utf8PathBuf};

/// A host's file system below a temporary directory, removed on drop.
#[derive(Debug)]
pub struct HostFixture {
    directory: tempfile::TempDir,
}

/// One file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// The path below the root, with a leading `/`.
    pub path: Utf8PathBuf,
    /// Permission bits.
    pub mode: u32,
    pub owner: u32,
    pub group: u32,
    /// The content as text; `None` for directories.
    pub content: Option<String>,
}

impl std::fmt::Display for FoundFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04o} {}:{} {}", self.mode, self.owner, self.group, self.path)?;
        match &self.content {
            Some(content) => write!(f, " {content:?}"),
            None => write!(f, "/"),
        }
    }
}

impl HostFixture {
    /// Creates an empty root.
    #[must_use]
    pub fn mk() -> Self {
        HostFixture {
            directory: tempfile::tempdir().expect("a temporary directory can be made"),
        }
    }

    /// Returns the directory that stands for `/`.
    #[must_use]
    pub fn root(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).expect("temporary directories have UTF-8 names")
    }

    /// Returns the real path of a path below the root.
    #[must_use]
    pub fn path(&self, inside: &str) -> Utf8PathBuf {
        self.root().join(inside.trim_start_matches('/'))
    }

    /// Writes a file, with its parents.
    pub fn put(&self, inside: &str, mode: u32, content: &str) {
        let path = self.path(inside);
        let parent = path.parent().expect("a file below the root has a parent");
        fs_err::create_dir_all(parent).expect("a directory can be made in the fixture");
        fs_err::write(&path, content).expect("a file can be written in the fixture");
        fs_err::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("our own file's mode can be set");
    }

    /// Creates a symbolic link, with its parents.
    pub fn link(&self, inside: &str, target: &str) {
        let path = self.path(inside);
        let parent = path.parent().expect("a link below the root has a parent");
        fs_err::create_dir_all(parent).expect("a directory can be made in the fixture");
        fs_err::os::unix::fs::symlink(target, &path).expect("a link can be made in the fixture");
    }

    /// Returns one file or directory; panics if it does not exist.
    #[must_use]
    pub fn file(&self, inside: &str) -> FoundFile {
        let path = self.path(inside);
        let metadata = fs_err::symlink_metadata(&path).expect("the file is there");
        let content = metadata
            .is_file()
            .then(|| fs_err::read_to_string(&path).expect("files of a fixture are text"));
        FoundFile {
            path: Utf8PathBuf::from(format!("/{}", inside.trim_start_matches('/'))),
            mode: metadata.permissions().mode() & 0o7777,
            owner: metadata.uid(),
            group: metadata.gid(),
            content,
        }
    }

    /// Returns everything below the root, sorted by path; symbolic links are not followed.
    #[must_use]
    pub fn files(&self) -> Vec<FoundFile> {
        let mut found = Vec::new();
        let mut waiting = vec![self.root().to_owned()];
        while let Some(directory) = waiting.pop() {
            for entry in directory.read_dir_utf8().expect("directories of a fixture can be read") {
                let entry = entry.expect("directories of a fixture can be read");
                let inside = entry.path().strip_prefix(self.root()).expect("it is below the root");
                found.push(self.file(inside.as_str()));
                if entry.file_type().expect("the entry is there").is_dir() {
                    waiting.push(entry.path().to_owned());
                }
            }
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        found
    }
}
