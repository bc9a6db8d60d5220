//! The table of a file in zstd's seekable format (version 0.1.0): the last frame, which decoders skip. It lists the
//! frames before it, so that one read at the end shows if a file is complete.

/// First bytes of the frame with the table.
const MAGIC: [u8; 4] = [0x5e, 0x2a, 0x4d, 0x18];
/// Last bytes of a file with a table.
const FOOTER_MAGIC: [u8; 4] = [0xb1, 0xea, 0x92, 0x8f];
/// Length of the frame's header in bytes: magic and size.
const HEADER_LENGTH: usize = 8;
/// Length of the footer in bytes: number of frames, descriptor and magic.
pub const FOOTER_LENGTH: usize = 9;
/// Largest number of frames that the format allows.
const FRAMES_MAX: u32 = 0x800_0000;
/// Bit of the descriptor: entries have checksums.
const CHECKSUMS: u8 = 0x80;
/// Bits of the descriptor that must be zero.
const RESERVED: u8 = 0x7c;

/// One frame of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeekEntry {
    /// Length of the frame in bytes.
    pub compressed: u32,
    /// Length of its content in bytes.
    pub content: u32,
    /// Low 32 bits of the content's XXH64, if the table has checksums.
    pub checksum: Option<u32>,
}

/// The footer of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeekFooter {
    frames: u32,
    has_checksums: bool,
}

/// Bytes at the end of a file that are no seek table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeekTableError {
    #[error("it does not end with a seek table")]
    None,
    #[error("its seek table is damaged")]
    Damaged,
    #[error("its seek table lists {0} frames; at most {FRAMES_MAX} are allowed")]
    Frames(u32),
    #[error("its seek table accounts for {listed} bytes before it, and there are {found}")]
    Sum {
        /// Sum of the listed frames in bytes.
        listed: u64,
        /// Bytes before the table.
        found: u64,
    },
}

impl SeekFooter {
    /// Reads the last [`FOOTER_LENGTH`] bytes of a file.
    ///
    /// # Errors
    /// If they are no footer of a table.
    pub fn parse(bytes: [u8; FOOTER_LENGTH]) -> Result<SeekFooter, SeekTableError> {
        let [a, b, c, d, descriptor, magic @ ..] = bytes;
        if magic != FOOTER_MAGIC {
            return Err(SeekTableError::None);
        }
        let frames = u32::from_le_bytes([a, b, c, d]);
        match (descriptor & RESERVED, frames) {
            (0, 0..=FRAMES_MAX) => Ok(SeekFooter {
                frames,
                has_checksums: descriptor & CHECKSUMS != 0,
            }),
            (0, _) => Err(SeekTableError::Frames(frames)),
            _ => Err(SeekTableError::Damaged),
        }
    }

    /// Returns the length of the whole table in bytes: with its header, and with this footer.
    #[must_use]
    pub fn table_length(self) -> u64 {
        table_length(u64::from(self.frames), self.has_checksums)
    }
}

fn table_length(frames: u64, has_checksums: bool) -> u64 {
    let entry = if has_checksums { 12 } else { 8 };
    (HEADER_LENGTH + FOOTER_LENGTH) as u64 + frames * entry
}

/// Returns the length of a table with checksums in bytes.
#[must_use]
pub fn rendered_length(frames: u64) -> u64 {
    table_length(frames, true)
}

/// Reads a whole table, from its magic to its footer. `before` is the number of bytes of the file before the table.
///
/// # Errors
/// If the bytes are no table, or its frames are not exactly the bytes before it.
pub fn parse_seek_table(bytes: &[u8], before: u64) -> Result<Vec<SeekEntry>, SeekTableError> {
    let footer = bytes.last_chunk().ok_or(SeekTableError::None)?;
    let footer = SeekFooter::parse(*footer)?;
    let (header, entries) = bytes[..bytes.len() - FOOTER_LENGTH]
        .split_first_chunk::<HEADER_LENGTH>()
        .ok_or(SeekTableError::Damaged)?;
    let [a, b, c, d, size @ ..] = *header;
    let is_whole = bytes.len() as u64 == footer.table_length();
    if [a, b, c, d] != MAGIC || !is_whole || u32::from_le_bytes(size) as usize != bytes.len() - HEADER_LENGTH {
        return Err(SeekTableError::Damaged);
    }
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte))
    };
    let entry_length = if footer.has_checksums { 12 } else { 8 };
    let listed: Vec<SeekEntry> = entries
        .chunks_exact(entry_length)
        .map(|entry| SeekEntry {
            compressed: number(&entry[..4]),
            content: number(&entry[4..8]),
            checksum: footer.has_checksums.then(|| number(&entry[8..])),
        })
        .collect();
    let sum = listed.iter().map(|entry| u64::from(entry.compressed)).sum();
    match sum == before {
        true => Ok(listed),
        false => Err(SeekTableError::Sum {
            listed: sum,
            found: before,
        }),
    }
}

/// Returns the bytes of a table. Every entry has a checksum, or none has.
#[must_use]
pub fn render_seek_table(entries: &[SeekEntry]) -> Vec<u8> {
    let has_checksums = entries.iter().all(|entry| entry.checksum.is_some());
    let length = table_length(entries.len() as u64, has_checksums);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    bytes.extend(MAGIC);
    // The format's limit of frames keeps the size below 2^32.
    bytes.extend(
        u32::try_from(length - HEADER_LENGTH as u64)
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    for entry in entries {
        bytes.extend(entry.compressed.to_le_bytes());
        bytes.extend(entry.content.to_le_bytes());
        bytes.extend(
            entry
                .checksum
                .filter(|_| has_checksums)
                .iter()
                .flat_map(|sum| sum.to_le_bytes()),
        );
    }
    bytes.extend(u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.push(if has_checksums { CHECKSUMS } else { 0 });
    bytes.extend(FOOTER_MAGIC);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mk_entries(sizes: &[(u32, u32)], checksums: bool) -> Vec<SeekEntry> {
        let entry = |&(compressed, content)| SeekEntry {
            compressed,
            content,
            checksum: checksums.then_some(content ^ 0x5555_5555),
        };
        sizes.iter().map(entry).collect()
    }

    #[test]
    fn a_table_has_the_bytes_of_the_format() {
        let table = render_seek_table(&mk_entries(&[(0x0102, 3)], true));
        assert_eq!(
            table,
            [
                0x5e, 0x2a, 0x4d, 0x18, 21, 0, 0, 0, // skippable frame of 21 bytes
                2, 1, 0, 0, 3, 0, 0, 0, 0x56, 0x55, 0x55, 0x55, // frame, content, checksum
                1, 0, 0, 0, 0x80, 0xb1, 0xea, 0x92, 0x8f, // footer
            ]
        );
        assert_eq!(table.len() as u64, rendered_length(1));
    }

    #[test]
    fn a_damaged_table_is_refused_and_says_why() {
        let good = render_seek_table(&mk_entries(&[(100, 300), (7, 9)], true));
        assert!(parse_seek_table(&good, 107).is_ok());
        for (at, error) in [
            (0, SeekTableError::Damaged),
            (4, SeekTableError::Damaged),
            (
                8,
                SeekTableError::Sum {
                    listed: 108,
                    found: 107,
                },
            ),
            (good.len() - 9, SeekTableError::Damaged),
            (good.len() - 1, SeekTableError::None),
        ] {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            assert_eq!(parse_seek_table(&bytes, 107), Err(error), "byte {at}");
        }
        let mut reserved = good.clone();
        let at = reserved.len() - 5;
        reserved[at] |= 4;
        assert_eq!(parse_seek_table(&reserved, 107), Err(SeekTableError::Damaged));
        let mut many = good.clone();
        let at = many.len() - 6;
        many[at] = 0xff;
        assert_eq!(parse_seek_table(&many, 107), Err(SeekTableError::Frames(0xff00_0002)));
        for cut in 0..good.len() {
            assert!(parse_seek_table(&good[cut..], 107).is_err() || cut == 0, "{cut}");
        }
        let sum = SeekTableError::Sum {
            listed: 107,
            found: 106,
        };
        assert_eq!(parse_seek_table(&good, 106), Err(sum));
    }

    proptest! {
        #[test]
        fn parsing_undoes_rendering(
            sizes in proptest::collection::vec((0..1_u32 << 30, 0..1_u32 << 30), 0..40),
            checksums in proptest::bool::ANY,
        ) {
            // A table without frames has no sign of checksums, and a rendered one says that it has.
            let entries = mk_entries(&sizes, checksums);
            let before = sizes.iter().map(|(compressed, _)| u64::from(*compressed)).sum();
            prop_assert_eq!(parse_seek_table(&render_seek_table(&entries), before), Ok(entries));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100), before: u64) {
            drop(parse_seek_table(&bytes, before));
        }
    }
}
