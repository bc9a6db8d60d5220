//! Fingerprint of a certificate, by which a client may know a server.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

const LENGTH: usize = digest::SHA256_OUTPUT_LEN;

/// SHA-256 of a certificate in DER, as `openssl x509 -fingerprint -sha256` and browsers show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; LENGTH]);

/// Error of a text that is no fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("a fingerprint has 64 hexadecimal digits, e.g. `sha256:0f1e…`")]
pub struct FingerprintError;

impl Fingerprint {
    /// Returns the fingerprint of a certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        let mut bytes = [0; LENGTH];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Fingerprint(bytes)
    }

    /// Returns the fingerprint of the first certificate of a PEM text.
    ///
    /// # Errors
    /// If the text holds no certificate.
    pub fn of_pem(text: &str) -> Result<Fingerprint, pem::Error> {
        Ok(Fingerprint::of(&CertificateDer::from_pem_slice(text.as_bytes())?))
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Parses hexadecimal digits of any case, with or without `sha256:` before them and colons between the bytes.
    fn from_str(text: &str) -> Result<Fingerprint, FingerprintError> {
        let text = text.to_ascii_lowercase();
        let text = text.strip_prefix("sha256:").unwrap_or(&text);
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        if digits.len() != LENGTH * 2 {
            return Err(FingerprintError);
        }
        let value = |digit: u8| {
            char::from(digit)
                .to_digit(16)
                .and_then(|value| u8::try_from(value).ok())
        };
        let mut bytes = [0; LENGTH];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (value(pair[0]), value(pair[1]));
            *byte = high
                .zip(low)
                .map(|(high, low)| high << 4 | low)
                .ok_or(FingerprintError)?;
        }
        Ok(Fingerprint(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_openssl_and_of_our_own_are_read() {
        let hex = "0f".repeat(32);
        let own = format!("sha256:{hex}");
        let colons = vec!["0F"; 32].join(":");
        for text in [&hex, &own, &colons, &format!("SHA256:{colons}")] {
            assert_eq!(text.parse::<Fingerprint>().unwrap().to_string(), own, "{text}");
        }
        let (short, long) = ("0f".repeat(31), "0f".repeat(33));
        for text in ["", "sha256:", &short, &long, &"xy".repeat(32), &"é".repeat(32)] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
