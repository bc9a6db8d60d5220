//! An inventory as the text of a QR code, which is photographed where nothing else leaves the site.
//!
//! The text is `LANDFALL1:` and base32 (RFC 4648, without padding) of the length of the site's name in one byte, the
//! name, and the first 8 bytes of each SHA-256, in order. QR codes hold capital letters and digits in 5.5 bits each, and
//! no program on the way changes them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{Inventory, InventoryError, SHORT_LENGTH, short_digest};
use crate::failure::Hint;

/// Beginning of the text.
pub(super) const PREFIX: &str = "LANDFALL1:";
/// Characters in the largest QR code (version 40, correction level L, alphanumeric).
const TEXT_MAX: usize = 4296;
/// Bytes of the site's name, at most.
const SITE_MAX: usize = 40;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// An inventory has more blobs than a QR code can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the site has {blobs} blobs, and a QR code holds {most}")]
pub struct TooManyBlobs {
    pub blobs: usize,
    pub most: usize,
}

impl Hint for TooManyBlobs {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some("carry a file with `--short` instead".into())
    }
}

impl Inventory {
    /// Renders the inventory as the text of a QR code. Blobs of other hashes than SHA-256 are left out: the next bundle
    /// carries them again.
    ///
    /// # Errors
    /// If there are too many blobs.
    pub fn qr_text(&self) -> Result<String, TooManyBlobs> {
        let whole = self.blobs.iter().filter(|digest| digest.algorithm() == "sha256");
        let short: BTreeSet<&str> = whole
            .map(short_digest)
            .chain(self.short.iter().map(String::as_str))
            .collect();
        let mut site = self.site.as_str();
        while site.len() > SITE_MAX {
            site = &site[..site.floor_char_boundary(site.len() - 1)];
        }
        let mut bytes = vec![u8::try_from(site.len()).unwrap_or_default()];
        bytes.extend(site.as_bytes());
        let most = (bytes_max() - bytes.len()) / (SHORT_LENGTH / 2);
        if short.len() > most {
            return Err(TooManyBlobs {
                blobs: short.len(),
                most,
            });
        }
        for digits in short {
            bytes.extend(u64::from_str_radix(digits, 16).unwrap_or_default().to_be_bytes());
        }
        Ok(format!("{PREFIX}{}", encode(&bytes)))
    }

    /// Reads the text of a QR code, behind [`PREFIX`].
    pub(super) fn parse_qr_text(text: &[u8]) -> Result<Inventory, InventoryError> {
        let bytes = decode(text).ok_or(InventoryError::QrText)?;
        let (length, rest) = bytes.split_first().ok_or(InventoryError::QrText)?;
        let (site, digests) = rest
            .split_at_checked(usize::from(*length))
            .ok_or(InventoryError::QrText)?;
        let (digests, left) = digests.as_chunks::<{ SHORT_LENGTH / 2 }>();
        let site = std::str::from_utf8(site).map_err(|_| InventoryError::QrText)?;
        if !left.is_empty() {
            return Err(InventoryError::QrText);
        }
        if digests.is_empty() {
            return Err(InventoryError::NoBlobs);
        }
        let short = digests
            .iter()
            .map(|digest| format!("{:016x}", u64::from_be_bytes(*digest)));
        Ok(Inventory {
            short: short.collect(),
            ..Inventory::new(site.to_owned(), BTreeSet::new())
        })
    }
}

/// Returns the number of bytes that fit into the largest code.
fn bytes_max() -> usize {
    (TEXT_MAX - PREFIX.len()) * 5 / 8
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for group in bytes.chunks(5) {
        let mut bits = 0_u64;
        for position in 0..5 {
            bits = (bits << 8) | u64::from(group.get(position).copied().unwrap_or_default());
        }
        for position in 0..(group.len() * 8).div_ceil(5) {
            let value = (bits >> (35 - 5 * position)) & 31;
            let letter = usize::try_from(value).ok().and_then(|value| ALPHABET.get(value));
            text.extend(letter.copied().map(char::from));
        }
    }
    text
}

/// Decodes base32. Cameras may break lines or change the case.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (mut bits, mut count) = (0_u32, 0);
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    for letter in text.iter().filter(|letter| !letter.is_ascii_whitespace()) {
        let letter = letter.to_ascii_uppercase();
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        bits = (bits << 5) | u32::try_from(value).ok()?;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    // The rest is the padding of the last byte.
    (bits == 0 && count < 5).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reference::Digest;

    fn mk_digest(number: u64) -> Digest {
        format!("sha256:{number:016x}{}", "0".repeat(48)).parse().unwrap()
    }

    fn mk_inventory(site: &str, numbers: impl IntoIterator<Item = u64>) -> Inventory {
        Inventory::new(site.to_owned(), numbers.into_iter().map(mk_digest).collect())
    }

    #[test]
    fn the_text_of_a_code_is_what_rfc_4648_says() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        let text = mk_inventory("a", [1]).qr_text().unwrap();
        assert_eq!(text, "LANDFALL1:AFQQAAAAAAAAAAAB");
    }

    proptest! {
        #[test]
        fn an_inventory_is_read_back_from_its_code(site in "[a-z0-9-]{0,40}", numbers in prop::collection::btree_set(any::<u64>(), 1..60)) {
            let text = mk_inventory(&site, numbers.iter().copied()).qr_text().unwrap();
            // A camera may break lines and change the case.
            let (head, rest) = text.split_at(PREFIX.len() + 3);
            let read = Inventory::parse(format!(" {head}\n{}\n", rest.to_lowercase()).as_bytes()).unwrap();
            prop_assert_eq!(&read.site, &site);
            prop_assert!(numbers.iter().all(|number| read.has(&mk_digest(*number))));
            prop_assert_eq!(read.short.len(), numbers.len());
        }

        #[test]
        fn a_damaged_text_never_panics(text in ".{0,60}") {
            drop(Inventory::parse(format!("{PREFIX}{text}").as_bytes()));
        }
    }

    #[test]
    fn as_many_blobs_as_the_largest_code_holds_are_taken() {
        let most = mk_inventory("s", 0..334);
        assert!(most.qr_text().unwrap().len() <= TEXT_MAX);
        let error = mk_inventory("s", 0..335).qr_text().unwrap_err();
        assert_eq!(error.to_string(), "the site has 335 blobs, and a QR code holds 334");
        let long = mk_inventory(&"ü".repeat(100), [7]).qr_text().unwrap();
        assert_eq!(Inventory::parse(long.as_bytes()).unwrap().site, "ü".repeat(20));
    }

    #[test]
    fn a_text_that_is_not_whole_is_refused() {
        let text = mk_inventory("site", [1, 2]).qr_text().unwrap();
        for (case, text, message) in [
            (
                "cut",
                text[..text.len() - 4].to_owned(),
                "it begins as the text of a QR code, and the rest is not whole",
            ),
            (
                "another letter",
                text.replace('A', "1"),
                "it begins as the text of a QR code, and the rest is not whole",
            ),
            (
                "nothing",
                PREFIX.to_owned(),
                "it begins as the text of a QR code, and the rest is not whole",
            ),
            ("no blobs", format!("{PREFIX}AA"), "it lists no blobs"),
        ] {
            let text = text.replacen("L1NDF1LL1:", PREFIX, 1);
            assert_eq!(
                Inventory::parse(text.as_bytes()).unwrap_err().to_string(),
                message,
                "{case}"
            );
        }
    }
}
