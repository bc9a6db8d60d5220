//! Parsers of `Range` of a download (RFC 9110 section 14) and of `Content-Range` of an upload (OCI distribution
//! specification, "Pushing a blob in chunks"). Their grammars differ.

/// Meaning of a `Range` header for content of a known size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteRange {
    /// The whole content. The header is absent, or RFC 9110 allows to ignore it (other units, several ranges, bad
    /// syntax).
    Full,
    Part {
        offset: u64,
        length: u64,
    },
    /// The range lies outside of the content, or ends before it begins. RFC 9110 section 14.2 allows to reject the
    /// latter, and the conformance suite of the distribution specification requires it.
    Unsatisfiable,
}

/// Parses a `Range` header for content of `size` bytes.
pub(crate) fn parse_range(header: Option<&str>, size: u64) -> ByteRange {
    let Some((first, last)) = header
        .and_then(|header| header.trim().strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
    else {
        return ByteRange::Full;
    };
    let (offset, end) = match (parse_number(first), parse_number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(size)),
        (Some(_), Some(_)) => return ByteRange::Unsatisfiable,
        (Some(first), None) if last.is_empty() => (first, size),
        (None, Some(suffix)) if first.is_empty() => (size.saturating_sub(suffix), size),
        _ => return ByteRange::Full,
    };
    match end.checked_sub(offset) {
        None | Some(0) => ByteRange::Unsatisfiable,
        Some(length) => ByteRange::Part { offset, length },
    }
}

/// Parses the `Content-Range` of an upload, `<first>-<last>`. Returns the first byte and the number of bytes.
pub(crate) fn parse_content_range(header: &str) -> Option<(u64, u64)> {
    let range = header.trim();
    let range = range.strip_prefix("bytes ").unwrap_or(range);
    let range = range.split_once('/').map_or(range, |(range, _total)| range);
    let (first, last) = range.split_once('-')?;
    let (first, last) = (parse_number(first)?, parse_number(last)?);
    let length = last.checked_sub(first)?.checked_add(1)?;
    Some((first, length))
}

/// Parses digits only: Rust's parser also accepts a `+`.
fn parse_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let part = |offset, length| ByteRange::Part { offset, length };
        for (header, expected) in [
            (None, ByteRange::Full),
            (Some("bytes=0-3"), part(0, 4)),
            (Some("bytes=3-"), part(3, 7)),
            (Some("bytes=3-99"), part(3, 7)),
            (Some("bytes=-4"), part(6, 4)),
            (Some("bytes=-40"), part(0, 10)),
            (Some("bytes=10-"), ByteRange::Unsatisfiable),
            (Some("bytes=-0"), ByteRange::Unsatisfiable),
            (Some("bytes=5-3"), ByteRange::Unsatisfiable),
            (Some("bytes=0-1,3-4"), ByteRange::Full),
            (Some("bytes=-"), ByteRange::Full),
            (Some("bytes=+1-2"), ByteRange::Full),
            (Some("bytes=1-x"), ByteRange::Full),
            (Some("items=0-3"), ByteRange::Full),
            (Some("bytes=99999999999999999999-"), ByteRange::Full),
        ] {
            assert_eq!(parse_range(header, 10), expected, "{header:?}");
        }
        assert_eq!(parse_range(Some("bytes=0-"), 0), ByteRange::Unsatisfiable);
    }

    #[test]
    fn chunks_say_their_first_and_last_byte() {
        for (header, expected) in [
            ("0-9", Some((0, 10))),
            ("10-10", Some((10, 1))),
            ("bytes 5-9/10", Some((5, 5))),
            ("9-5", None),
            ("-5", None),
            ("5-", None),
            ("x", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(parse_content_range(header), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_inside_the_content(header in "(bytes=)?[-0-9, +x]{0,24}", size: u64) {
            let _: Option<(u64, u64)> = parse_content_range(&header);
            if let ByteRange::Part { offset, length } = parse_range(Some(&header), size) {
                prop_assert!(length > 0 && offset.checked_add(length).is_some_and(|end| end <= size));
            }
        }
    }
}
