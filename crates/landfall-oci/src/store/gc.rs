//! Garbage collection of blobs.

use std::time::{Duration, SystemTime};

use fs_err as fs;
use landfall_core::reference::Digest;

use crate::store::error::StoreError;
use crate::store::{ALGORITHMS, BLOBS, ContentStore, INGEST, parse_file_name};

/// Age after which a partial file is deleted.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Totals of one collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Blobs and abandoned partial files that were deleted.
    pub deleted: usize,
    /// Bytes of the deleted files.
    pub bytes: u64,
}

/// Content that a collection keeps in addition to the named images of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roots {
    /// Manifests, kept with all content that they reach.
    pub manifests: Vec<Digest>,
    /// Blobs, kept alone.
    pub blobs: Vec<Digest>,
}

impl ContentStore {
    /// Deletes the blobs that no named image, no root of the caller and no lease needs, and partial files unchanged for
    /// a week. `more_roots` is called after the collection has started to remember leases: later roots are safe if
    /// their blobs had a [`ContentStore::lease`].
    ///
    /// # Errors
    /// If the disk fails; the files deleted until then were garbage anyway.
    pub fn gc(
        &self,
        more_roots: impl FnOnce() -> Result<Roots, StoreError>,
        now: SystemTime,
    ) -> Result<GcReport, StoreError> {
        if !self.inner.leased_blobs.begin_collection() {
            return Ok(GcReport::default());
        }
        let report = self.collect(more_roots, now);
        self.inner.leased_blobs.end_collection();
        report
    }

    fn collect(
        &self,
        more_roots: impl FnOnce() -> Result<Roots, StoreError>,
        now: SystemTime,
    ) -> Result<GcReport, StoreError> {
        let Roots { mut manifests, blobs } = more_roots()?;
        manifests.extend(self.images().into_values().map(|descriptor| descriptor.digest));
        let mut reachable = self.reachable(manifests)?.content;
        reachable.extend(blobs);
        let mut report = GcReport::default();
        for digest in self.blobs()? {
            let Some(size) = self.blob_size(&digest)?.filter(|_| !reachable.contains(&digest)) else {
                continue;
            };
            let path = self.blob_path(&digest);
            if let Some(deleted) = self
                .inner
                .leased_blobs
                .delete_unleased(&digest, || fs::remove_file(path))
            {
                deleted?;
                report.deleted += 1;
                report.bytes += size;
            }
        }
        self.inner
            .left_out
            .retain(|index| matches!(self.blob_size(index), Ok(Some(_)) | Err(_)))?;
        self.delete_old_partials(now, &mut report)?;
        Ok(report)
    }

    /// Returns all blobs of the store. Ignores foreign files, whose names are not digests.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn blobs(&self) -> Result<Vec<Digest>, StoreError> {
        let mut blobs = Vec::new();
        for algorithm in ALGORITHMS {
            let entries = match fs::read_dir(self.inner.root.join(BLOBS).join(algorithm)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                blobs.extend(digest_of_file(algorithm, &entry?));
            }
        }
        Ok(blobs)
    }

    /// Returns the bytes of all partial files, with and without a writer.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn unfinished_bytes(&self) -> Result<u64, StoreError> {
        let entries = match fs::read_dir(self.inner.root.join(INGEST)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let mut bytes = 0;
        for entry in entries {
            // A file that has disappeared is finished.
            bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
        }
        Ok(bytes)
    }

    fn delete_old_partials(&self, now: SystemTime, report: &mut GcReport) -> Result<(), StoreError> {
        for (digest, path) in self.partials()? {
            if self.inner.writer_locks.is_locked(&digest) {
                continue;
            }
            let metadata = fs::metadata(&path)?;
            let age = now.duration_since(metadata.modified()?).unwrap_or_default();
            if age > PARTIAL_AGE_MAX {
                fs::remove_file(&path)?;
                report.deleted += 1;
                report.bytes += metadata.len();
            }
        }
        Ok(())
    }

    /// Deletes the files in `ingest` that no writer can resume, after a crash.
    pub(super) fn clean_ingest(&self) -> Result<(), StoreError> {
        let resumable = self.partials()?;
        for entry in fs::read_dir(self.inner.root.join(INGEST))? {
            let path = entry?.path();
            let useful = resumable
                .iter()
                .any(|(digest, partial)| partial.as_std_path() == path && !self.blob_path(digest).exists());
            if !useful {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn partials(&self) -> Result<Vec<(Digest, camino::Utf8PathBuf)>, StoreError> {
        let mut partials = Vec::new();
        for entry in fs::read_dir(self.inner.root.join(INGEST))? {
            if let Some(digest) = parse_file_name(&entry?.file_name()) {
                let path = self.ingest_path(&digest);
                partials.push((digest, path));
            }
        }
        Ok(partials)
    }
}

fn digest_of_file(algorithm: &str, entry: &fs::DirEntry) -> Option<Digest> {
    let name = entry.file_name();
    format!("{algorithm}:{}", name.to_str()?).parse().ok()
}

#[cfg(test)]
mod tests;
