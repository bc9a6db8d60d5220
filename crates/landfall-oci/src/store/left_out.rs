//! Index entries that the store lacks on purpose: the source of the index does not have them either, and the index keeps
//! its digest [spec:agent.sparse]. The list of an index is a small file below `left-out/`, written before the index is.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::reference::Digest;
use landfall_core::sync::lock;
use landfall_net::durable;

use crate::store::error::StoreError;
use crate::store::{file_name_of, parse_file_name};

/// Directory of the lists, named as blobs are.
const DIRECTORY: &str = "left-out";
/// Largest list that is read, in bytes: an index has at most a thousand entries.
const SIZE_MAX: u64 = 1024 * 1024;

/// The lists of all indexes.
#[derive(Debug, Default)]
pub(super) struct LeftOutEntries {
    directory: Option<Utf8PathBuf>,
    by_index: Mutex<HashMap<Digest, HashSet<Digest>>>,
}

impl LeftOutEntries {
    /// Loads the lists of a store. One that is damaged is dropped: its index counts as incomplete, and is copied again.
    pub(super) fn load(root: &Utf8Path) -> Result<LeftOutEntries, StoreError> {
        let directory = root.join(DIRECTORY);
        let mut by_index = HashMap::new();
        if directory.is_dir() {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let digest = parse_file_name(&entry.file_name());
                let Some(digest) = digest.filter(|_| entry.metadata().is_ok_and(|found| found.len() <= SIZE_MAX))
                else {
                    continue;
                };
                match serde_json::from_slice(&fs::read(entry.path())?) {
                    Ok(entries) => drop(by_index.insert(digest, entries)),
                    Err(error) => tracing::warn!(index = %digest, %error, "a list of omitted entries is damaged"),
                }
            }
        }
        Ok(LeftOutEntries {
            directory: Some(directory),
            by_index: Mutex::new(by_index),
        })
    }

    /// Returns true if an index was stored without this entry.
    pub(super) fn omits(&self, index: &Digest, entry: &Digest) -> bool {
        lock(&self.by_index)
            .get(index)
            .is_some_and(|entries| entries.contains(entry))
    }

    /// Returns true if any index was stored without this entry.
    pub(super) fn omits_anywhere(&self, entry: &Digest) -> bool {
        lock(&self.by_index).values().any(|entries| entries.contains(entry))
    }

    /// Records durably that an index is stored without these entries.
    pub(super) fn record(&self, index: &Digest, entries: HashSet<Digest>) -> Result<(), StoreError> {
        let mut by_index = lock(&self.by_index);
        if by_index.get(index) == Some(&entries) {
            return Ok(());
        }
        if let Some(directory) = &self.directory {
            fs::create_dir_all(directory)?;
            let mut listed: Vec<&Digest> = entries.iter().collect();
            listed.sort();
            let text = serde_json::to_vec(&listed).map_err(|error| StoreError::Disk(error.into()))?;
            durable::replace_file(&directory.join(file_name_of(index)), &text)?;
        }
        by_index.insert(index.clone(), entries);
        Ok(())
    }

    /// Deletes the lists of indexes that are gone.
    pub(super) fn retain(&self, is_present: impl Fn(&Digest) -> bool) -> Result<(), StoreError> {
        let mut by_index = lock(&self.by_index);
        let gone: Vec<Digest> = by_index.keys().filter(|index| !is_present(index)).cloned().collect();
        for index in gone {
            if let Some(directory) = &self.directory {
                match fs::remove_file(directory.join(file_name_of(&index))) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    Ok(()) | Err(_) => {}
                }
            }
            by_index.remove(&index);
        }
        Ok(())
    }
}
