//! Sections of PEM files (RFC 7468). Pure.
//!
//! rustls' reader passes over labels that it does not know, so that an encrypted key looks like an empty file, and it
//! leaves a copy of a private key behind in memory.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Bytes of the largest text that is searched for keys.
const TEXT_SIZE_MAX: usize = 64 * 1024;

/// Characters of a line, as OpenSSL writes them.
const LINE_LENGTH: usize = 64;

/// A section of a PEM file.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) label: &'a str,
    /// The lines between the borders.
    body: &'a str,
}

/// Returns the sections of a text, in order. Other lines are comments.
pub(super) fn sections(text: &str) -> impl Iterator<Item = Section<'_>> {
    let mut rest = if text.len() > TEXT_SIZE_MAX { "" } else { text };
    std::iter::from_fn(move || {
        let (section, after) = next_section(rest)?;
        rest = after;
        Some(section)
    })
}

fn next_section(text: &str) -> Option<(Section<'_>, &str)> {
    let (_, begun) = text.split_once("-----BEGIN ")?;
    let (label, begun) = begun.split_once("-----")?;
    let (body, after) = begun.split_once(format!("-----END {label}-----").as_str())?;
    Some((Section { label, body }, after))
}

impl Section<'_> {
    /// Returns true if the key can be read only with a password: PKCS #8, the older form of OpenSSL, or cosign's own.
    pub(super) fn is_encrypted(&self) -> bool {
        self.label.starts_with("ENCRYPTED ") || self.body.contains(",ENCRYPTED")
    }

    /// Returns the DER of the section; `None` if it is not base64.
    pub(super) fn der(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.body.len()));
        text.extend(self.body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        let mut der = Zeroizing::new(vec![0; text.len()]);
        let length = STANDARD.decode_slice(text.as_slice(), &mut der).ok()?;
        der.truncate(length);
        Some(der)
    }
}

/// Returns the PEM text of a section.
pub(super) fn render(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(String::with_capacity(body.len() * 2 + 2 * label.len() + 64));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE_LENGTH));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
