//! Decompression of gzip, zstd or plain bytes, recognised by their first bytes, with a limit for the output. No other
//! module decompresses.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A zstd stream may begin with a skippable frame (RFC 8878 section 3.1.2): `0x184D2A50` to `0x184D2A5F`.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
/// Largest window of a zstd stream, as a power of two: 128 MiB (RFC 8878 section 3.1.1.1.2 advises at least 8).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const BUFFER_SIZE: usize = 256 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
}

/// Recognises the compression by the first four bytes, or by all if there are fewer.
#[must_use]
pub fn sniff_compression(first: &[u8]) -> Compression {
    let skippable = first.first().is_some_and(|byte| byte & 0xf0 == 0x50) && first.get(1..4) == Some(&ZSTD_SKIPPABLE);
    if first.starts_with(&GZIP_MAGIC) {
        Compression::Gzip
    } else if first.starts_with(&ZSTD_MAGIC) || skippable {
        Compression::Zstd
    } else {
        Compression::None
    }
}

/// A reader of decompressed bytes. Reads beyond the limit fail.
pub struct CappedDecoder<'a> {
    inner: Box<dyn Read + Send + 'a>,
    compression: Compression,
    limit: u64,
    left: u64,
}

impl<'a> CappedDecoder<'a> {
    /// Recognises the compression and decompresses at most `limit` bytes.
    ///
    /// # Errors
    /// Fails if the first bytes cannot be read.
    pub fn new(mut reader: impl Read + Send + 'a, limit: u64) -> io::Result<CappedDecoder<'a>> {
        let mut first = Vec::new();
        reader.by_ref().take(4).read_to_end(&mut first)?;
        let compression = sniff_compression(&first);
        let whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(first).chain(reader);
        let buffered = BufReader::with_capacity(BUFFER_SIZE, whole);
        let inner: Box<dyn Read + Send + 'a> = match compression {
            Compression::None => Box::new(buffered),
            Compression::Gzip => Box::new(MultiGzDecoder::new(buffered)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        };
        Ok(CappedDecoder {
            inner,
            compression,
            limit,
            left: limit,
        })
    }

    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

impl Read for CappedDecoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                let limit = self.limit;
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("more than {limit} bytes come out of the decompression"),
                ));
            }
        }
        Ok(read)
    }
}

impl std::fmt::Debug for CappedDecoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CappedDecoder")
            .field("compression", &self.compression)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use landfall_testkit::image_builder::gzip;

    use super::*;

    fn decode(bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        CappedDecoder::new(bytes, limit)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn what_it_is_compressed_with_does_not_matter() {
        let zstd = zstd::encode_all(b"hello".as_slice(), 0).unwrap();
        let two_members = [gzip(b"hel"), gzip(b"lo")].concat();
        let skippable = [b"\x5e\x2a\x4d\x18\x02\x00\x00\x00ab".as_slice(), &zstd].concat();
        for bytes in [b"hello".as_slice(), &gzip(b"hello"), &two_members, &zstd, &skippable] {
            assert_eq!(decode(bytes, 5).unwrap(), b"hello");
        }
        assert_eq!(decode(b"", 5).unwrap(), b"");
        assert_eq!(decode(b"\x1f", 5).unwrap(), b"\x1f");
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let zeros = vec![0; 1 << 20];
        for bomb in [
            gzip(&zeros),
            zstd::encode_all(zeros.as_slice(), 0).unwrap(),
            zeros.clone(),
        ] {
            let error = decode(&bomb, 1000).unwrap_err();
            assert_eq!(error.to_string(), "more than 1000 bytes come out of the decompression");
        }
    }

    #[test]
    fn a_zstd_stream_that_wants_too_large_a_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 0).unwrap();
        encoder.window_log(28).unwrap();
        std::io::Write::write_all(&mut encoder, &[0; 100]).unwrap();
        let bytes = encoder.finish().unwrap();
        assert!(decode(&bytes, 1000).is_err());
    }

    #[test]
    fn damaged_streams_are_errors() {
        let mut bytes = gzip(b"hello");
        let end = bytes.len() - 6;
        bytes[end] ^= 1;
        assert!(decode(&bytes, 100).is_err());
        assert!(decode(&gzip(b"hello")[..12], 100).is_err());
    }
}
