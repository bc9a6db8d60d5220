//! A file that is uploaded.

use std::io::{Read as _, Seek as _, SeekFrom};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::bundle::pieces::find_pieces;
use landfall_core::bundle::upload::UploadName;
use landfall_core::failure::Explanation;
use landfall_core::reference::Digest;
use landfall_net::durable::directory_of;
use landfall_oci::bundle::BundleFile;
use landfall_oci::bundle::signature::detached_name;
use landfall_oci::digest::{Algorithm, Digester};

use crate::commands::bundle::BundleKeyArgs;

/// A file that is uploaded: a bundle, a piece of one, or its detached signature.
#[derive(Debug)]
pub(super) struct LocalFile {
    pub(super) path: Utf8PathBuf,
    pub(super) name: UploadName,
    pub(super) size: u64,
    /// Id of the bundle that it is, or is a piece of.
    pub(super) bundle: Option<Digest>,
}

/// Returns the files of a bundle: all pieces, and first a signature that lies beside it.
pub(super) fn files_of(path: &Utf8Path, keys: &BundleKeyArgs) -> anyhow::Result<Vec<LocalFile>> {
    let bundle = BundleFile::open(path)?;
    keys.trust(&bundle)?;
    let name = path.file_name().with_context(|| format!("`{path}` has no file name"))?;
    let directory = directory_of(path);
    let listing = directory
        .read_dir_utf8()?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_owned()));
    let listing: Vec<String> = listing.collect();
    let pieces = find_pieces(name, listing.iter().map(String::as_str))?;
    let names = pieces.map_or_else(
        || vec![name.to_owned()],
        |set| set.description.into_iter().chain(set.pieces).collect(),
    );
    let mut files = Vec::new();
    let signature = Utf8PathBuf::from(detached_name(path.as_str()));
    if signature.is_file() {
        files.push(LocalFile::describe(&signature, None)?);
    }
    for name in names {
        files.push(LocalFile::describe(
            &path.with_file_name(name),
            Some(bundle.id().clone()),
        )?);
    }
    Ok(files)
}

impl LocalFile {
    fn describe(path: &Utf8Path, bundle: Option<Digest>) -> anyhow::Result<LocalFile> {
        let name: UploadName = path.file_name().unwrap_or_default().parse()?;
        let size = fs::metadata(path)?.len();
        Ok(LocalFile {
            path: path.to_owned(),
            name,
            size,
            bundle,
        })
    }

    /// Returns the name of the file among the blobs of the progress.
    pub(super) fn progress_name(&self) -> String {
        self.name.to_string()
    }

    /// Returns the place and the length of a range.
    pub(super) fn span(&self, number: u64, range_size: u64) -> (u64, u64) {
        let start = number.saturating_mul(range_size).min(self.size);
        (start, range_size.min(self.size - start))
    }

    /// Returns the SHA-256 of a range.
    pub(super) async fn hash_range(&self, number: u64, range_size: u64) -> anyhow::Result<Digest> {
        let path = self.path.clone();
        let (start, length) = self.span(number, range_size);
        let hash = move || {
            let mut file = fs::File::open(&path)?;
            file.seek(SeekFrom::Start(start))?;
            let mut digester = Digester::new(Algorithm::Sha256);
            digester.read_all(&mut file.take(length), |_| ())?;
            if digester.length() != length {
                bail!(Explanation::new(
                    format!("`{path}` became shorter while it was uploaded"),
                    "upload it again once it is complete",
                ));
            }
            Ok(digester.finish())
        };
        tokio::task::spawn_blocking(hash).await?
    }
}

#[cfg(test)]
mod tests {
    use landfall_oci::digest::digest_of;

    use super::*;

    #[tokio::test]
    async fn a_followed_hint_about_a_file_that_became_shorter_ends_its_message() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("site.tar.zst");
        let content = [7; 300];
        fs::write(&path, content).unwrap();
        let file = LocalFile::describe(&path, None).unwrap();
        fs::write(&path, &content[..200]).unwrap();
        assert_eq!(file.hash_range(0, 100).await.unwrap(), digest_of(&content[..100]));
        let error = file.hash_range(2, 100).await.unwrap_err();
        assert_eq!(
            crate::error_chain(&error),
            format!(
                "error: `{path}` became shorter while it was uploaded\n  hint: upload it again once it is complete"
            )
        );
        fs::write(&path, content).unwrap();
        let again = LocalFile::describe(&path, None).unwrap();
        assert_eq!(again.hash_range(2, 100).await.unwrap(), digest_of(&content[200..]));
    }
}
