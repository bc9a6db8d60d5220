//! Records of pax extension headers (POSIX pax, "pax Extended Header"): `LENGTH KEY=VALUE\n`.

use std::collections::HashMap;

use super::sparse::{SparseContent, number};

/// Records that describe the next entry. Of a key that is there twice, the last value counts.
#[derive(Debug, Default)]
pub(super) struct PaxRecords {
    values: HashMap<&'static str, Vec<u8>>,
    /// Offset and length of each part, in pax form 0.0, where the keys are there many times.
    parts: Vec<Option<u64>>,
}

const PATH: &str = "path";
const TARGET: &str = "linkpath";
const SIZE: &str = "size";
const SPARSE_NAME: &str = "GNU.sparse.name";
const SPARSE_MAJOR: &str = "GNU.sparse.major";
const SPARSE_REAL_SIZE: &str = "GNU.sparse.realsize";
const SPARSE_SIZE: &str = "GNU.sparse.size";
const SPARSE_MAP: &str = "GNU.sparse.map";
const SPARSE_OFFSET: &str = "GNU.sparse.offset";
const SPARSE_LENGTH: &str = "GNU.sparse.numbytes";

/// The keys that are kept.
const KNOWN: [&str; 8] = [
    PATH,
    TARGET,
    SIZE,
    SPARSE_NAME,
    SPARSE_MAJOR,
    SPARSE_REAL_SIZE,
    SPARSE_SIZE,
    SPARSE_MAP,
];

impl PaxRecords {
    /// Adds the records of a header. Returns `None` if they are damaged.
    pub(super) fn add(&mut self, mut records: &[u8]) -> Option<()> {
        while !records.is_empty() {
            // Some writers pad with zeros.
            if records.iter().all(|byte| *byte == 0) {
                break;
            }
            let space = records.iter().position(|byte| *byte == b' ')?;
            let length = usize::try_from(number(&records[..space])?).ok()?;
            let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
            records = &records[length..];
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if [SPARSE_OFFSET, SPARSE_LENGTH]
                .iter()
                .any(|known| known.as_bytes() == key)
            {
                self.parts.push(number(value));
            }
            if let Some(known) = KNOWN.iter().find(|known| known.as_bytes() == key) {
                match value.is_empty() {
                    // An empty value takes the record away.
                    true => drop(self.values.remove(known)),
                    false => drop(self.values.insert(known, value.to_vec())),
                }
            }
        }
        Some(())
    }

    fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }

    pub(super) fn path(&self) -> Option<&[u8]> {
        self.get(PATH)
    }

    pub(super) fn target(&self) -> Option<&[u8]> {
        self.get(TARGET)
    }

    /// Returns the size of the stored data; inside, `None` if it is no number.
    pub(super) fn size(&self) -> Option<Option<u64>> {
        self.get(SIZE).map(number)
    }

    pub(super) fn sparse_name(&self) -> Option<&[u8]> {
        self.get(SPARSE_NAME)
    }

    /// Returns true if the map of a sparse file is stored before its content (pax form 1.0).
    pub(super) fn has_stored_map(&self) -> bool {
        self.get(SPARSE_MAJOR).and_then(number) == Some(1)
    }

    /// Returns the size of a sparse file with its holes.
    pub(super) fn sparse_size(&self) -> Option<u64> {
        self.get(SPARSE_REAL_SIZE)
            .or_else(|| self.get(SPARSE_SIZE))
            .and_then(number)
    }

    /// Returns the map of a sparse file in pax form 0.0 or 0.1, if there is one; inside, `None` if it is damaged.
    pub(super) fn sparse_map(&self) -> Option<Option<SparseContent>> {
        let listed = self.get(SPARSE_MAP);
        if listed.is_none() && self.parts.is_empty() {
            return None;
        }
        Some(self.parse_sparse_map(listed))
    }

    fn parse_sparse_map(&self, listed: Option<&[u8]>) -> Option<SparseContent> {
        let mut content = SparseContent::holes(self.sparse_size()?);
        let numbers: Vec<Option<u64>> = match listed {
            Some(listed) => listed.split(|byte| *byte == b',').map(number).collect(),
            None => self.parts.clone(),
        };
        let (pairs, []) = numbers.as_chunks() else { return None };
        for [offset, length] in pairs {
            content.add((*offset)?, (*length)?)?;
        }
        Some(content)
    }
}
