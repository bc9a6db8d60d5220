//! The join token [spec:site.join]: the address of the host that gave it, the hash of the site's certificate authority,
//! a secret for one use, and the end of its validity.
//!
//! A person types it, or scans it as a QR code: letters and digits without those that look alike (Crockford's base32),
//! in groups, with a checksum. The characters are those of a QR code's alphanumeric mode.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretBox};

/// Bytes of the SHA-256 of the authority's certificate that a token has. A second certificate with the same ones costs
/// 2^128 hashes.
pub const AUTHORITY_BYTES: usize = 16;
/// Bytes of the secret. It is valid for minutes, and few wrong ones are answered.
pub const SECRET_BYTES: usize = 10;
/// The version is the first group of the text.
const VERSION: &str = "LF1";
const GROUP: usize = 5;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A token with which one host joins a site.
#[derive(Debug)]
pub struct JoinToken {
    pub address: IpAddr,
    pub port: u16,
    /// The first bytes of the SHA-256 of the authority's certificate (DER).
    pub authority: [u8; AUTHORITY_BYTES],
    pub secret: SecretBox<[u8; SECRET_BYTES]>,
    /// The end of validity by the clock of the host that gave it, in whole minutes. That host decides by its run time.
    pub expires: Timestamp,
}

/// Reason to refuse a text as a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token does not begin with `{VERSION}`: it is none, or of another version")]
    Version,
    #[error("the token has `{0}`, which no token has")]
    Character(char),
    #[error("the token is too short or too long")]
    Length,
    #[error("the token was not typed correctly: its checksum is wrong")]
    Checksum,
}

impl JoinToken {
    /// Returns the text. It has the secret: a command prints it for the person who asked, and nothing else does.
    #[must_use]
    pub fn reveal(&self) -> String {
        let mut bytes = Vec::new();
        match self.address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
        bytes.extend(self.port.to_be_bytes());
        bytes.extend(self.authority);
        bytes.extend(self.secret.expose_secret());
        let minutes = self.expires.as_second().div_euclid(60);
        bytes.extend(
            u32::try_from(minutes)
                .unwrap_or(if minutes < 0 { 0 } else { u32::MAX })
                .to_be_bytes(),
        );
        bytes.extend(checksum(&bytes).to_be_bytes());
        let characters = encode(&bytes);
        let groups: Vec<&str> = (0..characters.len())
            .step_by(GROUP)
            .map(|from| &characters[from..characters.len().min(from + GROUP)])
            .collect();
        format!("{VERSION}-{}", groups.join("-"))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    /// Parses a token as a person types it: in any case, with any spaces and hyphens, and with `O`, `I` and `L` for the
    /// digits that they look like.
    fn from_str(text: &str) -> Result<JoinToken, TokenError> {
        let typed: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        let head = typed.get(..VERSION.len()).ok_or(TokenError::Version)?;
        if !head.chars().map(canonical).eq(VERSION.chars().map(canonical)) {
            return Err(TokenError::Version);
        }
        let bytes = decode(&typed[VERSION.len()..])?;
        const REST: usize = 2 + AUTHORITY_BYTES + SECRET_BYTES + 4 + 2;
        let address_length = bytes.len().checked_sub(REST).ok_or(TokenError::Length)?;
        let (signed, sum) = bytes.split_at(bytes.len() - 2);
        if checksum(signed).to_be_bytes() != sum {
            return Err(TokenError::Checksum);
        }
        let (address, rest) = signed.split_at(address_length);
        let address = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
            (Ok(octets), _) => IpAddr::V4(Ipv4Addr::from(octets)),
            (_, Ok(octets)) => IpAddr::V6(Ipv6Addr::from(octets)),
            _ => return Err(TokenError::Length),
        };
        let (port, rest) = rest.split_at(2);
        let (authority, rest) = rest.split_at(AUTHORITY_BYTES);
        let (secret, minutes) = rest.split_at(SECRET_BYTES);
        let array = |_| TokenError::Length;
        let minutes = u32::from_be_bytes(minutes.try_into().map_err(array)?);
        Ok(JoinToken {
            address,
            port: u16::from_be_bytes(port.try_into().map_err(array)?),
            authority: authority.try_into().map_err(array)?,
            secret: SecretBox::new(Box::new(secret.try_into().map_err(array)?)),
            expires: Timestamp::UNIX_EPOCH
                .checked_add(SignedDuration::from_mins(i64::from(minutes)))
                .map_err(|_| TokenError::Length)?,
        })
    }
}

/// CRC-16/XMODEM: it finds each wrong character and each swap of two neighbours.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum, _| match sum & 0x8000 {
            0 => sum << 1,
            _ => (sum << 1) ^ 0x1021,
        })
    })
}

fn encode(bytes: &[u8]) -> String {
    let bit = |number: usize| bytes.get(number / 8).map_or(0, |byte| byte >> (7 - number % 8) & 1);
    let value = |first: usize| (first..first + 5).fold(0, |value, number| value << 1 | bit(number));
    let values = (0..bytes.len() * 8).step_by(5).map(value);
    values.map(|value| char::from(ALPHABET[usize::from(value)])).collect()
}

/// Returns the upper case, with a digit for each letter that looks like one.
fn canonical(character: char) -> char {
    match character.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    }
}

fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    let value = |character: char| {
        let place = ALPHABET
            .iter()
            .position(|known| char::from(*known) == canonical(character));
        let value = place.and_then(|place| u8::try_from(place).ok());
        value.ok_or(TokenError::Character(character))
    };
    let values: Vec<u8> = text.chars().map(value).collect::<Result<_, _>>()?;
    let bit = |number: usize| values[number / 5] >> (4 - number % 5) & 1;
    let bits = values.len() * 5;
    // The bits that fill the last character are 0.
    if (bits / 8 * 8..bits).any(|number| bit(number) != 0) || bits % 8 >= 5 {
        return Err(TokenError::Length);
    }
    let byte = |number: usize| (number * 8..number * 8 + 8).fold(0, |byte, number| byte << 1 | bit(number));
    Ok((0..bits / 8).map(byte).collect())
}

impl fmt::Display for JoinToken {
    /// Writes all but the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = std::net::SocketAddr::new(self.address, self.port);
        write!(f, "token of {address}, valid until {}", self.expires)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mk_token(address: &str) -> JoinToken {
        JoinToken {
            address: address.parse().unwrap(),
            port: 5082,
            authority: *b"authority-bytes.",
            secret: SecretBox::new(Box::new(*b"one-secret")),
            expires: "2026-11-30T12:10:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn token_is_short_and_is_read_as_a_person_types_it() {
        let token = mk_token("10.0.0.5");
        let text = token.reveal();
        insta::assert_snapshot!(text, @"LF1-18000-18KV9-GQAX3-8DXS6-JX3S5-NH7JX-35ECQ-6YVK5-5NSPA-RVJCN-T03J6-1QAP7-Y");
        let typed = [
            text.clone(),
            text.to_lowercase(),
            text.replace('-', " "),
            text.replace('0', "o").replace('1', "l"),
        ];
        for typed in typed {
            let read: JoinToken = typed.parse().unwrap();
            assert_eq!(read.reveal(), text, "{typed}");
            assert_eq!(read.address, token.address);
            assert_eq!(read.expires, token.expires);
        }
        for shown in [format!("{token:?}"), token.to_string()] {
            assert!(!shown.contains("one-secret") && !shown.contains(&text[40..]), "{shown}");
        }
    }

    #[test]
    fn text_that_is_no_token_is_refused() {
        let text = mk_token("10.0.0.5").reveal();
        let mut swapped: Vec<char> = text.chars().collect();
        swapped.swap(5, 6);
        for (typed, expected) in [
            (String::new(), TokenError::Version),
            (text.replace("LF1", "LF2"), TokenError::Version),
            (text.replacen("LF1-", "LF1-U", 1), TokenError::Character('U')),
            (text[..20].to_owned(), TokenError::Length),
            (swapped.into_iter().collect(), TokenError::Checksum),
        ] {
            assert_eq!(typed.parse::<JoinToken>().unwrap_err(), expected, "{typed}");
        }
    }

    proptest! {
        #[test]
        fn token_is_read_back(address in any::<IpAddr>(), port in any::<u16>(), secret in any::<[u8; SECRET_BYTES]>(), authority in any::<[u8; AUTHORITY_BYTES]>(), minutes in 0..4_000_000_000_u32) {
            let token = JoinToken {
                address,
                port,
                authority,
                secret: SecretBox::new(Box::new(secret)),
                expires: Timestamp::from_second(i64::from(minutes) * 60).unwrap(),
            };
            let read: JoinToken = token.reveal().parse().unwrap();
            prop_assert_eq!(read.reveal(), token.reveal());
            prop_assert_eq!((read.address, read.port, read.authority, read.expires), (address, port, authority, token.expires));
            prop_assert_eq!(read.secret.expose_secret(), &secret);
        }

        #[test]
        fn wrong_character_is_found(place in 4..70_usize, other in 0..32_usize) {
            let text = mk_token("10.0.0.5").reveal();
            let mut typed: Vec<char> = text.chars().collect();
            prop_assume!(place < typed.len() && typed[place] != '-');
            typed[place] = char::from(ALPHABET[other]);
            let typed: String = typed.into_iter().collect();
            prop_assert_eq!(typed.parse::<JoinToken>().is_ok(), typed == text);
        }

        #[test]
        fn no_text_is_a_crash(text in ".{0,200}", tail in "[0-9A-Z]{0,200}") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("LF1{tail}").parse::<JoinToken>();
        }
    }
}
