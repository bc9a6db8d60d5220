//! Decompression of gzip, zstd, xz, bzip2, lz4 or plain bytes, recognised by their first bytes, with a limit for the
//! output. No other module decompresses.

pub(crate) mod seekable;

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use landfall_core::bundle::frame;
use landfall_core::failure::Hint;
use lz4_flex::frame::FrameDecoder;
use lzma_rust2::XzReader;

/// Number of first bytes that tell all compressions apart.
pub const SNIFF_LENGTH: usize = 10;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
/// A zstd stream may begin with a skippable frame (RFC 8878 section 3.1.2): `0x184D2A50` to `0x184D2A5F`.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
const BZIP2_MAGIC: &[u8] = b"BZh";
/// Marks behind bzip2's magic number and one digit: of a block, and of the end of an empty stream.
const BZIP2_MARKS: [[u8; 6]; 2] = [
    [0x31, 0x41, 0x59, 0x26, 0x53, 0x59],
    [0x17, 0x72, 0x45, 0x38, 0x50, 0x90],
];
/// A frame, and a frame of the format before 2014.
const LZ4_MAGICS: [[u8; 4]; 2] = [[0x04, 0x22, 0x4d, 0x18], [0x02, 0x21, 0x4c, 0x18]];
/// Largest window of a zstd stream, as a power of two: 128 MiB (RFC 8878 section 3.1.1.1.2 advises at least 8).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// zstd's text for a window above the limit (`ZSTD_error_frameParameter_windowTooLarge`).
const ZSTD_WINDOW_REFUSED: &str = "Frame requires too much memory for decoding";
/// Memory limit of the xz decoder, in KiB. `xz -9` needs 65 MiB; a header can announce 4 GiB.
const XZ_MEMORY_MAX: u32 = 132 * 1024;
const BUFFER_SIZE: usize = 256 * 1024;
/// Bytes of one read of a first frame: its beginning is often enough.
const FIRST_FRAME_BUFFER_SIZE: usize = 64 * 1024;

/// First bytes of compressed files that are recognised, but not read.
const UNREAD: [(&[u8], &str); 8] = [
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!\x1a\x07", "rar"),
    (b"LZIP\x01", "lzip"),
    (&[0x89, b'L', b'Z', b'O', 0], "lzop"),
    (&[0x1f, 0x9d], "compress"),
    (&[0x1f, 0xa0], "compress"),
    (&[0x5d, 0, 0], "lzma"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
    /// One or more xz streams.
    Xz,
    /// One or more bzip2 streams.
    Bzip2,
    /// One or more lz4 frames.
    Lz4,
}

/// Recognises the compression by the first [`SNIFF_LENGTH`] bytes, or by all if there are fewer.
#[must_use]
pub fn sniff_compression(first: &[u8]) -> Compression {
    let skippable = first.first().is_some_and(|byte| byte & 0xf0 == 0x50) && first.get(1..4) == Some(&ZSTD_SKIPPABLE);
    let is_bzip2 = || {
        let mark = first.strip_prefix(BZIP2_MAGIC).and_then(|rest| rest.get(1..7));
        mark.is_some_and(|mark| BZIP2_MARKS.iter().any(|known| known == mark))
    };
    if first.starts_with(GZIP_MAGIC) {
        Compression::Gzip
    } else if first.starts_with(&frame::MAGIC) || skippable {
        Compression::Zstd
    } else if first.starts_with(XZ_MAGIC) {
        Compression::Xz
    } else if LZ4_MAGICS.iter().any(|magic| first.starts_with(magic)) {
        Compression::Lz4
    } else if is_bzip2() {
        Compression::Bzip2
    } else {
        Compression::None
    }
}

/// Returns the name of a compression that [`sniff_compression`] does not know, by the first bytes of a file.
pub(crate) fn name_unread_compression(first: &[u8]) -> Option<&'static str> {
    let found = UNREAD.iter().find(|(magic, _)| first.starts_with(magic));
    found.map(|(_, name)| *name)
}

/// A zstd stream needs a larger window than is given to it: `zstd --long` or `--ultra` wrote it.
#[derive(Debug, thiserror::Error)]
#[error(
    "it needs a window of more than {} MiB to be decompressed, and so as much memory",
    1_u32 << (ZSTD_WINDOW_LOG_MAX - 20)
)]
pub struct WindowTooLarge;

impl Hint for WindowTooLarge {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(
            "compress it again with a smaller window, on a machine with enough memory: `zstd -dc --long=31 FILE | zstd -T0 -o NEW`",
        ))
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
        reader.by_ref().take(SNIFF_LENGTH as u64).read_to_end(&mut first)?;
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
            Compression::Xz => Box::new(XzReader::new_mem_limit(buffered, true, XZ_MEMORY_MAX)),
            Compression::Bzip2 => Box::new(MultiBzDecoder::new(buffered)),
            Compression::Lz4 => Box::new(Lz4Frames(FrameDecoder::new(buffered))),
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

/// A reader of the first zstd frame of a file, which other frames follow.
pub(crate) struct SingleFrame<R: Read> {
    decoder: zstd::stream::read::Decoder<'static, Counted<BufReader<R>>>,
    left: u64,
}

impl<R: Read> SingleFrame<R> {
    /// Returns a reader of at most `limit` bytes.
    pub(crate) fn new(reader: R, limit: u64) -> io::Result<SingleFrame<R>> {
        let counted = Counted {
            inner: BufReader::with_capacity(FIRST_FRAME_BUFFER_SIZE, reader),
            count: 0,
        };
        let mut decoder = zstd::stream::read::Decoder::with_buffer(counted)?.single_frame();
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        Ok(SingleFrame { decoder, left: limit })
    }

    /// Returns the length of the frame in bytes, if at most `rest` bytes of its content are left. They are read.
    pub(crate) fn end_of_frame(&mut self, rest: u64) -> io::Result<Option<u64>> {
        let read = io::copy(&mut self.take(rest + 1), &mut io::sink())?;
        Ok((read <= rest).then_some(self.decoder.get_ref().count))
    }
}

impl<R: Read> Read for SingleFrame<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

/// Counts the bytes that are taken from a buffer.
struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.count += count as u64;
        self.inner.consume(count);
    }
}

/// Decoder of several lz4 frames. The decoder of one reports the end of each. A stream that was cut between two blocks
/// ends without an error; the tar in it has an end mark of its own.
struct Lz4Frames<R: Read>(FrameDecoder<R>);

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.0.read(buffer)?;
            if read > 0 || buffer.is_empty() || self.0.get_mut().fill_buf()?.is_empty() {
                return Ok(read);
            }
        }
    }
}

impl Read for CappedDecoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).map_err(explain)?;
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

/// Gives an error that has advice in place of zstd's own text.
fn explain(error: io::Error) -> io::Error {
    match error.to_string().contains(ZSTD_WINDOW_REFUSED) {
        true => io::Error::new(io::ErrorKind::OutOfMemory, WindowTooLarge),
        false => error,
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
    use std::io::Write as _;

    use landfall_testkit::image_builder::gzip;

    use super::*;

    fn decode(bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        CappedDecoder::new(bytes, limit)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = bzip2::read::BzEncoder::new(bytes, bzip2::Compression::best());
        encoder.read_to_end(&mut out).unwrap();
        out
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn lz4(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    type Compress = fn(&[u8]) -> Vec<u8>;

    const FORMS: [(&str, Compress); 5] = [
        ("gzip", gzip),
        ("zstd", |bytes| zstd::encode_all(bytes, 0).unwrap()),
        ("xz", xz),
        ("bzip2", bzip2),
        ("lz4", lz4),
    ];

    #[test]
    fn every_compression_is_read_also_in_several_parts() {
        for (form, compress) in FORMS {
            let parts = [compress(b"hel"), compress(b""), compress(b"lo")].concat();
            for bytes in [compress(b"hello"), parts] {
                assert_eq!(decode(&bytes, 5).unwrap(), b"hello", "{form}");
            }
        }
        let zstd = zstd::encode_all(b"hello".as_slice(), 0).unwrap();
        let skippable = [b"\x5e\x2a\x4d\x18\x02\x00\x00\x00ab".as_slice(), &zstd].concat();
        assert_eq!(decode(&skippable, 5).unwrap(), b"hello");
        for plain in [b"hello".as_slice(), b"", b"\x1f", b"BZh9 is a name", b"7z"] {
            assert_eq!(decode(plain, 20).unwrap(), plain);
        }
    }

    /// Streams of `hello\n` that the programs `xz`, `bzip2` and `lz4` wrote.
    #[test]
    fn streams_of_other_programs_are_read() {
        let xz = "fd377a585a000004e6d6b4460200210116000000742fe5a301000568656c6c6f0a000000a56097f194f6fde000011e06c12f\
                  a41d1fb6f37d010000000004595a";
        let bzip2 = "425a6839314159265359c1c080e2000001410000100244a00030cd00c3462997177245385090c1c080e2";
        let lz4 = "04224d186440a70600008068656c6c6f0a00000000f95b6b94";
        for (form, hex) in [("xz", xz), ("bzip2", bzip2), ("lz4", lz4)] {
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            let bytes: Vec<u8> = hex.as_bytes().chunks(2).map(byte).collect();
            assert_eq!(decode(&bytes, 6).unwrap(), b"hello\n", "{form}");
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let zeros = vec![0; 1 << 20];
        let bombs = FORMS.iter().map(|(_, compress)| compress(&zeros));
        for bomb in bombs.chain([zeros.clone()]) {
            let error = decode(&bomb, 1000).unwrap_err();
            assert_eq!(error.to_string(), "more than 1000 bytes come out of the decompression");
        }
    }

    #[test]
    fn a_stream_that_is_cut_short_ends_unexpectedly_and_a_changed_one_is_an_error() {
        let content: Vec<u8> = (0..9000_u32).flat_map(u32::to_le_bytes).collect();
        for (form, compress) in FORMS {
            let whole = compress(&content);
            for kept in [whole.len() / 2, whole.len() - 3] {
                match decode(&whole[..kept], 1 << 20) {
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{form}, {kept}: {error}"),
                    Ok(_) => assert!(
                        form == "lz4" && kept + 3 == whole.len(),
                        "{form}, {kept}: only the end mark is cut"
                    ),
                }
            }
            let mut changed = whole.clone();
            changed[whole.len() / 2] ^= 0x10;
            assert!(decode(&changed, 1 << 20).ok() != Some(content.clone()), "{form}");
        }
    }

    #[test]
    fn an_xz_stream_that_announces_a_dictionary_of_gibibytes_is_refused() {
        let mut bytes = xz(&vec![7; 100_000]);
        // Stream header 12 bytes; block header: size, flags, filter 0x21, size of its properties, dictionary size.
        assert_eq!(bytes[14..16], [0x21, 1]);
        // 40 stands for 4 GiB (The .xz File Format, section 5.3.1).
        bytes[16] = 40;
        let length = (usize::from(bytes[12]) + 1) * 4;
        let sum = crc32(&bytes[12..12 + length - 4]);
        bytes[12 + length - 4..12 + length].copy_from_slice(&sum.to_le_bytes());
        let error = decode(&bytes, 1 << 20).unwrap_err();
        assert!(error.to_string().contains("mem_limit"), "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }

    #[test]
    fn a_zstd_stream_that_wants_too_large_a_window_is_refused_with_advice() {
        for (log, is_read) in [(27, true), (28, false), (31, false)] {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 0).unwrap();
            encoder.window_log(log).unwrap();
            std::io::Write::write_all(&mut encoder, &[0; 100]).unwrap();
            let bytes = encoder.finish().unwrap();
            // A small frame before it does not hide the window.
            for bytes in [bytes.clone(), [zstd::encode_all(&b"a"[..], 0).unwrap(), bytes].concat()] {
                match decode(&bytes, 1000) {
                    Ok(_) => assert!(is_read, "{log}"),
                    Err(error) => {
                        assert!(!is_read, "{log}: {error}");
                        let hint = landfall_core::failure::find_hint(&error, crate::hints::hint_of);
                        assert!(hint.unwrap().starts_with("compress it again"), "{log}");
                    }
                }
            }
        }
    }

    /// The header claims 2^63 bytes, and the block that follows has two.
    #[test]
    fn a_zstd_frame_that_claims_exbibytes_takes_no_memory() {
        let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0x38];
        bytes.extend((1_u64 << 63).to_le_bytes());
        bytes.extend([(2 << 3) | 1, 0, 0, b'a', b'b']);
        let error = decode(&bytes, 1000).unwrap_err();
        assert!(!error.to_string().is_empty(), "{error}");
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
