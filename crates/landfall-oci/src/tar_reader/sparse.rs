//! Maps of sparse files: the stored parts of a file whose other bytes are zeros (GNU tar manual, "Storing Sparse
//! Files").

/// A stored part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Segment {
    /// Offset in the file.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Position in the archive.
    pub(crate) position: u64,
}

/// The next bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Stored {
        /// Position in the archive.
        position: u64,
        length: u64,
    },
    /// Zeros that are not stored.
    Hole { length: u64 },
}

/// Returns the bytes from `offset` on that are read in one way, up to `end`; `None` at the end. `segments` are the stored
/// parts of the file, ascending.
pub(crate) fn part_at(segments: &[Segment], offset: u64, end: u64) -> Option<Part> {
    if offset == end {
        return None;
    }
    let next = segments.partition_point(|segment| segment.offset + segment.length <= offset);
    Some(match segments.get(next) {
        Some(stored) if stored.offset <= offset => {
            let inside = offset - stored.offset;
            Part::Stored {
                position: stored.position + inside,
                length: (stored.length - inside).min(end - offset),
            }
        }
        hole => Part::Hole {
            length: hole.map_or(end, |next| next.offset.min(end)) - offset,
        },
    })
}

/// Content of a file, with holes or without.
#[derive(Debug)]
pub(super) struct SparseContent {
    /// Size in bytes, with the holes.
    pub(super) size: u64,
    /// Offset and length of each stored part, ascending.
    parts: Vec<(u64, u64)>,
    end: u64,
}

impl SparseContent {
    /// Returns the content of a file without holes.
    pub(super) fn whole(size: u64) -> SparseContent {
        SparseContent {
            size,
            parts: if size == 0 { Vec::new() } else { vec![(0, size)] },
            end: size,
        }
    }

    /// Returns the content of a file without stored parts.
    pub(super) fn holes(size: u64) -> SparseContent {
        SparseContent {
            size,
            parts: Vec::new(),
            end: 0,
        }
    }

    /// Adds a stored part. Returns `None` if it is not behind the others, or beyond the end.
    pub(super) fn add(&mut self, offset: u64, length: u64) -> Option<()> {
        let end = offset.checked_add(length)?;
        if offset < self.end || end > self.size {
            return None;
        }
        self.end = end;
        // GNU tar marks the end of the file by an empty part.
        if length > 0 {
            self.parts.push((offset, length));
        }
        Some(())
    }

    /// Adds the parts of a header in GNU tar's old form.
    pub(super) fn add_headers(&mut self, headers: &[tar::GnuSparseHeader]) -> Option<()> {
        for part in headers.iter().filter(|part| !part.is_empty()) {
            self.add(part.offset().ok()?, part.length().ok()?)?;
        }
        Some(())
    }

    /// Returns the positions of the parts, which are stored one after the other from `position` on in `stored` bytes.
    /// Returns `None` if they have another size.
    pub(super) fn locate(&self, position: u64, stored: u64) -> Option<Vec<Segment>> {
        let mut next = position;
        let mut segments = Vec::with_capacity(self.parts.len());
        for (offset, length) in &self.parts {
            segments.push(Segment {
                offset: *offset,
                length: *length,
                position: next,
            });
            next = next.checked_add(*length)?;
        }
        (next - position == stored).then_some(segments)
    }
}

/// The lines of a map in pax form 1.0: the number of parts, then offset and length of each.
#[derive(Debug, Default)]
pub(super) struct MapLines {
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl MapLines {
    fn wanted(&self) -> Option<usize> {
        let parts = usize::try_from(*self.numbers.first()?).ok()?;
        parts.checked_mul(2)?.checked_add(1)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.wanted().is_some_and(|wanted| self.numbers.len() >= wanted)
    }

    /// Adds a block. What follows the last number is padding. Returns `None` if a line is no number.
    pub(super) fn add(&mut self, block: &[u8]) -> Option<()> {
        for byte in block {
            if self.is_complete() {
                break;
            }
            match byte {
                b'\n' => {
                    self.numbers.push(number(&self.line)?);
                    self.line.clear();
                }
                byte => self.line.push(*byte),
            }
        }
        // A number of 64 bits has at most 20 digits.
        (self.line.len() <= 20).then_some(())
    }

    pub(super) fn add_to(&self, content: &mut SparseContent) -> Option<()> {
        let (pairs, []) = self.numbers.get(1..)?.as_chunks() else {
            return None;
        };
        pairs
            .iter()
            .try_for_each(|[offset, length]| content.add(*offset, *length))
    }
}

/// Parses a decimal number.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let is_decimal = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_decimal
        .then(|| std::str::from_utf8(text).ok()?.parse().ok())
        .flatten()
}
