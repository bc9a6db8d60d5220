//! Content codings of responses (RFC 9110 section 8.4). The client asks for none, and some servers and proxies send one
//! nonetheless: it is undone within limits.
//!
//! Some servers name a coding although the bytes are those of the content itself: object stores that take a layer's own
//! compression for a coding. The length or the digest then says so, and the bytes stay as they are.

use std::io::{self, Read as _, Write};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::error::Fault;
use super::problem::ProtocolProblem;
use crate::decode::CappedDecoder;

/// Longest name of a coding in a message, in characters.
const NAME_LENGTH_MAX: usize = 40;

/// A content coding that is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentCoding {
    Gzip,
    Deflate,
    Zstd,
}

/// Returns the content coding of a response; `None` if it has none.
///
/// # Errors
/// Fails for a coding that is not known, and for several at once.
pub(super) fn content_coding(headers: &HeaderMap) -> Result<Option<ContentCoding>, Fault> {
    let values = headers.get_all(CONTENT_ENCODING).iter();
    let names: Vec<String> = values
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "identity")
        .collect();
    match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(None),
        ["gzip" | "x-gzip"] => Ok(Some(ContentCoding::Gzip)),
        ["deflate"] => Ok(Some(ContentCoding::Deflate)),
        ["zstd"] => Ok(Some(ContentCoding::Zstd)),
        _ => {
            let name = names.join(", ").chars().take(NAME_LENGTH_MAX).collect();
            Err(Fault::from(ProtocolProblem::ContentCoding(name)))
        }
    }
}

/// Undoes the coding of a whole document. Returns the bytes as they are if they are not coded.
///
/// # Errors
/// Fails if the document is larger than `limit` bytes.
pub(super) fn decode_document(coding: ContentCoding, bytes: Bytes, limit: usize) -> Result<Bytes, Fault> {
    let mut decoded = Vec::new();
    let read = match coding {
        ContentCoding::Gzip | ContentCoding::Zstd => {
            CappedDecoder::new(&*bytes, limit as u64).and_then(|mut decoder| decoder.read_to_end(&mut decoded))
        }
        ContentCoding::Deflate => {
            let mut decoder = BodyDecoder::deflate(limit as u64);
            decoder.decode(&bytes).map(|out| {
                decoded = out;
                decoded.len()
            })
        }
    };
    match read {
        Ok(_) => Ok(decoded.into()),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(Fault::TooLarge { limit }),
        Err(_) => Ok(bytes),
    }
}

/// Undoes the coding of a body that comes in chunks. It gives out a byte more than the limit at most.
pub(super) struct BodyDecoder {
    inner: Inner,
}

enum Inner {
    Gzip(flate2::write::MultiGzDecoder<CappedOutput>),
    Deflate(flate2::write::ZlibDecoder<CappedOutput>),
    Zstd(zstd::stream::write::Decoder<'static, CappedOutput>),
}

impl BodyDecoder {
    /// # Errors
    /// Fails if the decoder cannot be set up.
    pub(super) fn new(coding: ContentCoding, limit: u64) -> io::Result<BodyDecoder> {
        let output = CappedOutput::new(limit);
        Ok(match coding {
            ContentCoding::Gzip => BodyDecoder {
                inner: Inner::Gzip(flate2::write::MultiGzDecoder::new(output)),
            },
            ContentCoding::Deflate => BodyDecoder::deflate(limit),
            ContentCoding::Zstd => BodyDecoder {
                inner: Inner::Zstd(zstd::stream::write::Decoder::new(output)?),
            },
        })
    }

    fn deflate(limit: u64) -> BodyDecoder {
        BodyDecoder {
            inner: Inner::Deflate(flate2::write::ZlibDecoder::new(CappedOutput::new(limit))),
        }
    }

    /// Decodes the next chunk of a body.
    ///
    /// # Errors
    /// Fails if the bytes are not coded in this way, or more comes out than the limit.
    pub(super) fn decode(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        match &mut self.inner {
            Inner::Gzip(decoder) => {
                decoder.write_all(chunk)?;
                decoder.flush()?;
                Ok(decoder.get_mut().take())
            }
            Inner::Deflate(decoder) => {
                decoder.write_all(chunk)?;
                decoder.flush()?;
                Ok(decoder.get_mut().take())
            }
            Inner::Zstd(decoder) => {
                decoder.write_all(chunk)?;
                decoder.flush()?;
                Ok(decoder.get_mut().take())
            }
        }
    }
}

/// The output of a decoder until it is taken. It refuses more bytes than the limit in all, so that a small chunk cannot
/// fill the memory.
struct CappedOutput {
    bytes: Vec<u8>,
    left: u64,
}

impl CappedOutput {
    fn new(limit: u64) -> CappedOutput {
        CappedOutput {
            bytes: Vec::new(),
            left: limit.saturating_add(1),
        }
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Write for CappedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                "more comes out of the content coding than was told",
            )
        })?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn encode(coding: ContentCoding, bytes: &[u8]) -> Vec<u8> {
        match coding {
            ContentCoding::Gzip => landfall_testkit::image_builder::gzip(bytes),
            ContentCoding::Zstd => zstd::encode_all(bytes, 0).unwrap(),
            ContentCoding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    const ALL: [ContentCoding; 3] = [ContentCoding::Gzip, ContentCoding::Deflate, ContentCoding::Zstd];

    #[test]
    fn a_coding_is_undone_in_whatever_chunks_it_comes() {
        let plain: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for coding in ALL {
            let coded = encode(coding, &plain);
            assert_eq!(
                decode_document(coding, coded.clone().into(), plain.len()).unwrap(),
                plain
            );
            for size in [1000, coded.len()] {
                let mut decoder = BodyDecoder::new(coding, plain.len() as u64).unwrap();
                let chunks = coded.chunks(size).map(|chunk| decoder.decode(chunk).unwrap());
                assert_eq!(chunks.collect::<Vec<_>>().concat(), plain, "{coding:?} by {size}");
            }
        }
    }

    #[test]
    fn a_small_body_cannot_become_a_large_one() {
        for coding in ALL {
            let coded = encode(coding, &vec![0; 10_000_000]);
            let document = decode_document(coding, coded.clone().into(), 1000);
            assert!(matches!(document, Err(Fault::TooLarge { limit: 1000 })), "{coding:?}");
            assert!(
                BodyDecoder::new(coding, 1000).unwrap().decode(&coded).is_err(),
                "{coding:?}"
            );
        }
    }

    #[test]
    fn a_document_that_is_not_coded_stays_as_it_is() {
        for coding in ALL {
            let plain = Bytes::from_static(b"{\"schemaVersion\":2}");
            assert_eq!(
                decode_document(coding, plain.clone(), 1000).unwrap(),
                plain,
                "{coding:?}"
            );
        }
    }

    #[test]
    fn a_coding_is_known_or_named() {
        let find = |text: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(text))]);
            content_coding(&headers).map_err(|fault| fault.to_string())
        };
        assert_eq!(content_coding(&HeaderMap::new()).unwrap(), None);
        assert_eq!(find("identity"), Ok(None));
        assert_eq!(find("GZIP"), Ok(Some(ContentCoding::Gzip)));
        assert_eq!(find("deflate"), Ok(Some(ContentCoding::Deflate)));
        assert_eq!(find("zstd"), Ok(Some(ContentCoding::Zstd)));
        let unknown = "the answer breaks the distribution protocol: the answer comes in the content coding `br`, which \
                       was not asked for and cannot be decoded";
        assert_eq!(find("br"), Err(unknown.to_owned()));
        assert!(find("gzip, gzip").is_err());
    }
}
