//! Password hashes for a shadow file: SHA-512-crypt (`$6$`, crypt(5)), which every Linux reads. The algorithm is that
//! of "Unix crypt using SHA-256 and SHA-512" by Ulrich Drepper, with its 5000 rounds.

use aws_lc_rs::digest::{Context, SHA512};
use secrecy::{ExposeSecret as _, SecretString};

const PREFIX: &str = "$6$";
const ROUNDS: usize = 5000;
const SALT_LENGTH: usize = 16;
const HASH_BYTES: usize = 64;
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Failure to obtain random bytes.
#[derive(Debug)]
pub(super) struct NoRandomness;

/// Hashes a password with a new salt.
pub(super) fn hash_password(password: &SecretString) -> Result<String, NoRandomness> {
    let mut random = [0; SALT_LENGTH];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| NoRandomness)?;
    let salt: String = random.iter().map(|byte| digit(u32::from(*byte))).collect();
    Ok(hash_with_salt(password, &salt))
}

/// Returns true if a hash is one of this password. It recognises only hashes of the form that [`hash_password`] makes.
pub(super) fn is_hash_of(hash: &str, password: &SecretString) -> bool {
    let salt = hash.strip_prefix(PREFIX).and_then(|rest| rest.split_once('$'));
    salt.is_some_and(|(salt, _)| salt.len() <= SALT_LENGTH && hash_with_salt(password, salt) == hash)
}

fn hash_with_salt(password: &SecretString, salt: &str) -> String {
    let (key, salt_bytes) = (password.expose_secret().as_bytes(), salt.as_bytes());
    let inner = digest(&[key, salt_bytes, key]);
    let mut outer = Context::new(&SHA512);
    outer.update(key);
    outer.update(salt_bytes);
    outer.update(&repeated(&inner, key.len()));
    let mut bits = key.len();
    while bits > 0 {
        outer.update(if bits & 1 == 1 { &inner } else { key });
        bits >>= 1;
    }
    let mut state = bytes_of(outer);
    let keys = repeated(&digest_repeated(key, key.len()), key.len());
    let salts = repeated(
        &digest_repeated(salt_bytes, 16 + usize::from(state[0])),
        salt_bytes.len(),
    );
    for round in 0..ROUNDS {
        let odd = round % 2 == 1;
        let mut context = Context::new(&SHA512);
        context.update(if odd { &keys } else { &state });
        if round % 3 != 0 {
            context.update(&salts);
        }
        if round % 7 != 0 {
            context.update(&keys);
        }
        context.update(if odd { &state } else { &keys });
        state = bytes_of(context);
    }
    let mut text = format!("{PREFIX}{salt}$");
    for first in 0..HASH_BYTES / 3 {
        let mut triple = [state[first], state[first + 21], state[first + 42]];
        triple.rotate_left(first % 3);
        push_digits(&mut text, &triple, 4);
    }
    push_digits(&mut text, &[0, 0, state[63]], 2);
    text
}

fn push_digits(text: &mut String, bytes: &[u8; 3], count: u32) {
    let number = bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    text.extend((0..count).map(|at| digit(number >> (6 * at))));
}

fn digit(number: u32) -> char {
    char::from(ALPHABET[(number & 0x3f) as usize])
}

fn digest(parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut context = Context::new(&SHA512);
    parts.iter().for_each(|part| context.update(part));
    bytes_of(context)
}

fn digest_repeated(part: &[u8], times: usize) -> [u8; HASH_BYTES] {
    let mut context = Context::new(&SHA512);
    (0..times).for_each(|_| context.update(part));
    bytes_of(context)
}

fn bytes_of(context: Context) -> [u8; HASH_BYTES] {
    let mut bytes = [0; HASH_BYTES];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

fn repeated(bytes: &[u8], length: usize) -> Vec<u8> {
    bytes.iter().copied().cycle().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected hashes are the output of `openssl passwd -6 -salt SALT PASSWORD`.
    #[test]
    fn hashes_are_those_of_other_programs() {
        let table = [
            (
                "Hello world!",
                "saltstring",
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            ),
            (
                "kairos",
                "abcdefgh",
                "$6$abcdefgh$PajO0NcUUyDLVnsQuRYrsKO/BKf43NXiYtTChwVyhlUABtfwZsNRZDOEjUjW6gBboiVkvkDmIuG7Vm6e5FpLA1",
            ),
            (
                "a very much longer text to encrypt.  This one even stretches over more than one line.",
                "anotherlongsalts",
                "$6$anotherlongsalts$KHHQ/mU8oX.r7W8y/3EHIVSC2XaP7pk2TPSXlE3rXAwRF/ajGpbtM.skNj5MgI99pbZ82PPLkQtJykUQKy2bT/",
            ),
        ];
        for (password, salt, hash) in table {
            assert_eq!(hash_with_salt(&SecretString::from(password), salt), hash, "{password}");
        }
    }

    #[test]
    fn a_hash_is_recognized_and_its_salt_is_new_each_time() {
        let (word, other) = (SecretString::from("word"), SecretString::from("other"));
        let hash = hash_password(&word).expect("there is randomness");
        assert!(is_hash_of(&hash, &word) && !is_hash_of(&hash, &other));
        assert_ne!(hash_password(&word).expect("there is randomness"), hash);
        for foreign in ["!", "", "$6$", "$5$salt$hash", "$6$a-salt-that-is-too-long-for-it$x"] {
            assert!(!is_hash_of(foreign, &word), "{foreign}");
        }
    }
}
