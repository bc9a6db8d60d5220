//! Detection of credentials in a text by the formats that have them: keys of YAML, JSON, TOML and environment files,
//! `auth` of docker and of `registries.yaml`, headers, `.netrc`, private keys, URLs, hashes of passwords, tokens.
//!
//! One scanner serves the masking of excerpts, the default mode of the files of stages, and the check for readable
//! credentials. Masking takes everything that looks like a secret; the other two count only what [`Secret::is_real`]
//! says: no comment, no placeholder, no reference to a value elsewhere.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::wording::is_near;

/// A key with one of these in its name holds a secret.
const SECRET_WORDS: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "apikey",
    "accesskey",
    "privatekey",
    "jsonkey",
    "clientkeydata",
    "certificatekey",
    "authorization",
    "dockerconfigjson",
    "dockercfg",
];
/// Keys whose last word is one of these hold a secret.
const SECRET_LAST_WORDS: [&str; 3] = ["pass", "pwd", "psk"];
/// Keys that contain such a word but hold no secret: flags, and names of objects that hold the secret.
const HARMLESS_KEYS: [&str; 17] = [
    "encodedpassword",
    "imagepullsecrets",
    "imagepullsecret",
    "pullsecrets",
    "pullsecret",
    "automountserviceaccounttoken",
    "serviceaccounttoken",
    "serviceaccounttokenaudience",
    "tokenservers",
    "tokenattributes",
    "lockpasswd",
    "lockpassword",
    "disablepasswordupdate",
    "passwordauthentication",
    "usepassword",
    "authorizationmode",
    "tokenreview",
];
/// Ends of the names of such keys: what is said about a secret is none.
const HARMLESS_ENDINGS: [&str; 32] = [
    "ref",
    "refs",
    "name",
    "names",
    "namespace",
    "namespaces",
    "file",
    "files",
    "path",
    "dir",
    "attributes",
    "audience",
    "audiences",
    "passwordkey",
    "expiry",
    "expiration",
    "seconds",
    "ttl",
    "timeout",
    "duration",
    "lifetime",
    "length",
    "type",
    "kind",
    "mode",
    "policy",
    "provider",
    "enabled",
    "enable",
    "required",
    "update",
    "rotation",
];
/// Key of docker's and K3s' basic logins: base64 of `user:password`.
const AUTH: &str = "auth";
/// A token of this length, and any with a digit and half of it, is no word of a sentence.
const TOKEN_LENGTH_MIN: usize = 16;
/// Starts of hashes of passwords, as `/etc/shadow` and `htpasswd` have them.
const HASH_STARTS: [&str; 10] = [
    "$1$", "$5$", "$6$", "$y$", "$2a$", "$2b$", "$2y$", "$7$", "$apr1$", "$argon2",
];

/// A piece of a text that looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// False for a comment and for a placeholder, such as `<password>`, `****` or `$PASSWORD`.
    pub is_real: bool,
}

/// Notation of line breaks in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineBreaks {
    /// Newline characters.
    Real,
    /// Newline characters, and also `\n` in the strings of a JSON file.
    Escaped,
}

/// Returns true if the value of such a key is a secret: `password`, `edgeHostToken`, `_json_key`, `client_secret`…
#[must_use]
pub fn is_secret_key(key: &str) -> bool {
    let plain: String = key
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|character| character.to_ascii_lowercase())
        .collect();
    // A misspelt `pasword` is reported as an unknown key, with its line.
    let misspelt = is_near(&plain, "password", 2);
    let last_word = || {
        let start = key
            .rfind(|character: char| !character.is_ascii_alphanumeric())
            .map_or(0, |at| at + 1);
        let word = key.get(start..).unwrap_or_default();
        let hump = word
            .rfind(|character: char| character.is_ascii_uppercase())
            .unwrap_or(0);
        let is_capitals = word.chars().all(|character| !character.is_ascii_lowercase());
        let word = if is_capitals {
            word
        } else {
            word.get(hump..).unwrap_or_default()
        };
        SECRET_LAST_WORDS.contains(&word.to_ascii_lowercase().as_str())
    };
    (misspelt || SECRET_WORDS.iter().any(|word| plain.contains(word)) || last_word())
        && !HARMLESS_KEYS.contains(&plain.as_str())
        // Charts name an object, or a key of it, by `existingSecret…`.
        && !plain.starts_with("existingsecret")
        && !HARMLESS_ENDINGS.iter().any(|ending| plain.ends_with(ending))
}

/// Returns true if a text holds a credential: a key with a real value, a login of docker, of a header, of `.netrc` or of
/// a URL, a private key, a token.
#[must_use]
pub fn holds_credential(text: &str) -> bool {
    find_secrets(text, LineBreaks::Real).iter().any(|secret| secret.is_real)
}

/// Finds everything in a text that looks like a secret, in the order of the lines. Ranges may overlap.
#[must_use]
pub fn find_secrets(text: &str, breaks: LineBreaks) -> Vec<Secret> {
    let mut scanner = Scanner {
        text,
        breaks,
        found: Vec::new(),
        open: Open::Nothing,
        in_netrc: false,
        secret_object: text.contains("Secret") && has_secret_object(text, breaks),
    };
    for line in logical_lines(text, breaks) {
        scanner.line(line);
    }
    scanner.found
}

/// A value that goes on in the next line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Open {
    Nothing,
    PrivateKey {
        is_real: bool,
    },
    /// A block or a value of several lines below a key at this column.
    Block {
        column: usize,
        is_real: bool,
        /// True for a literal block, every line of which belongs to the value.
        is_literal: bool,
        is_auth: bool,
        /// True for the data of a Kubernetes Secret: every value is one.
        is_data: bool,
    },
    /// A quoted value without its closing quote, and the number of backslashes in front of the quote.
    Quoted {
        quote: char,
        escapes: usize,
        is_real: bool,
    },
}

struct Scanner<'t> {
    text: &'t str,
    breaks: LineBreaks,
    found: Vec<Secret>,
    open: Open,
    in_netrc: bool,
    /// True if the text holds a Kubernetes Secret.
    secret_object: bool,
}

/// The end of a value and its properties.
struct Value {
    /// Bytes of the line, without quotes.
    range: Range<usize>,
    /// The byte after the value, with its closing quote.
    end: usize,
    open: Open,
}

impl Scanner<'_> {
    fn push(&mut self, range: Range<usize>, is_real: bool) {
        if !range.is_empty() {
            self.found.push(Secret { range, is_real });
        }
    }

    fn line(&mut self, line: Range<usize>) {
        let content = &self.text[line.clone()];
        let trimmed = content.trim_start();
        let indent = content.len() - trimmed.len();
        let is_comment = trimmed.starts_with('#') || trimmed.starts_with("//") || trimmed.starts_with(';');
        let rest = match self.continued(&line, content, indent, is_comment) {
            Some(rest) => rest,
            None => return,
        };
        self.netrc(&line, content);
        self.keys(&line, content, rest, is_comment);
        for login in url_logins(&content[rest..]) {
            let range = line.start + rest + login.start..line.start + rest + login.end;
            let text = &self.text[range.clone()];
            let is_real = match text.split_once(':') {
                Some((_, password)) => is_real_value(password),
                None => text.len() >= TOKEN_LENGTH_MIN && is_real_value(text),
            };
            self.push(range, is_real && !is_comment);
        }
        self.tokens(&line, content, rest, is_comment);
    }

    /// Takes the part of a line that belongs to the value before it. Returns the start of the rest; `None` if there is
    /// none.
    fn continued(&mut self, line: &Range<usize>, content: &str, indent: usize, is_comment: bool) -> Option<usize> {
        let begins_key = content.contains("-----BEGIN") && content.contains("PRIVATE KEY");
        let (is_real, is_key) = match &self.open {
            Open::PrivateKey { is_real } => (*is_real, true),
            // The block around the key was masked from its first line on.
            Open::Block { is_real, .. } if begins_key => (*is_real, true),
            _ => (!is_comment, begins_key),
        };
        if is_key {
            let start = if begins_key {
                content.find("-----BEGIN").unwrap_or(indent)
            } else {
                indent
            };
            let end = match content.find("-----END") {
                Some(at) => content[at + 5..]
                    .find("-----")
                    .map_or(content.len(), |close| at + close + 10),
                None => content.len(),
            };
            let ends = content.contains("-----END");
            let has_body = !is_placeholder_key(&content[start.min(end)..end]);
            self.push(line.start + start.min(end)..line.start + end, is_real && has_body);
            self.open = if ends {
                Open::Nothing
            } else {
                Open::PrivateKey { is_real }
            };
            return ends.then_some(end);
        }
        match self.open.clone() {
            Open::Nothing | Open::PrivateKey { .. } => Some(0),
            Open::Quoted {
                quote,
                escapes,
                is_real,
            } => {
                let closed = closing_quote(content, indent, quote, escapes);
                let end = closed.map_or(content.len(), |(end, _)| end);
                self.push(line.start + indent..line.start + end.max(indent), is_real);
                let (_, behind) = closed?;
                self.open = Open::Nothing;
                Some(behind)
            }
            Open::Block {
                column,
                is_real,
                is_literal,
                is_auth,
                is_data,
            } => {
                if content.trim().is_empty() {
                    return None;
                }
                let is_below = indent > column || indent == column && content[indent..].starts_with("- ");
                if !is_below {
                    self.open = Open::Nothing;
                    return Some(0);
                }
                let mut start = indent;
                if !is_literal {
                    while content[start..].starts_with("- ") {
                        start += 2;
                    }
                    let item = content[start..].trim_start();
                    start = content.len() - item.len();
                    // A key below the key: its value is hidden, and counts if the whole mapping holds secrets.
                    if let Some(colon) = key_end(item) {
                        let value = self.value(content, start + colon + 1, start, Context::Block);
                        let text = &content[value.range.clone()];
                        if !is_harmless_value(text) && !is_auth {
                            let range = line.start + value.range.start..line.start + value.range.end;
                            let is_real = is_data && is_real && is_real_value(text);
                            self.push(range, is_real);
                        }
                        return Some(0);
                    }
                }
                let value = content[start..].trim_end();
                let bare = value.trim_matches(['"', '\'', ',']);
                if is_auth && !is_basic_login(bare) {
                    return Some(0);
                }
                self.push(
                    line.start + start..line.start + start + value.len(),
                    is_real && is_real_value(bare),
                );
                None
            }
        }
    }

    /// Finds the keys of a line whose values are secrets.
    fn keys(&mut self, line: &Range<usize>, content: &str, from: usize, is_comment: bool) {
        let bytes = content.as_bytes();
        let mut depth = 0_usize;
        let mut at = from;
        let mut key_from = from;
        let comment_at = comment_start(content);
        while at < bytes.len() {
            match bytes[at] {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b':' | b'=' => {
                    let (key_at, key) = key_before(content, key_from, at);
                    let is_auth = key.eq_ignore_ascii_case(AUTH);
                    let is_data = self.secret_object && matches!(key, "data" | "stringData");
                    let is_secret = is_secret_key(key);
                    if is_auth || is_data || is_secret {
                        let is_comment = is_comment || comment_at.is_some_and(|comment| comment < key_at);
                        let behind = content[at + 1..].trim_start();
                        if is_data && behind.starts_with('{') {
                            let start = content.len() - behind.len();
                            self.push(line.start + start..line.start + content.trim_end().len(), !is_comment);
                            return;
                        }
                        let context = match (depth > 0, bytes[at]) {
                            (true, _) => Context::Flow,
                            (false, b'=') if key_at > indent_of(content) && !is_exported(content, key_at) => {
                                Context::Word
                            }
                            (false, _) => Context::Block,
                        };
                        let mut value_at = at + 1;
                        // `=>`, `==`, `:=`.
                        while bytes.get(value_at).is_some_and(|byte| matches!(byte, b'=' | b'>')) {
                            value_at += 1;
                        }
                        let value = self.value(content, value_at, key_at, context);
                        let end = value.end;
                        self.take(line, content, &value, !is_comment, is_auth, is_data);
                        if self.open != Open::Nothing {
                            return;
                        }
                        // A mapping or list as a value is looked at key by key.
                        at = end.max(at + 1);
                        key_from = at;
                        continue;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        self.flags(line, content, from, is_comment);
    }

    /// Records a value, or that it goes on in the next line.
    fn take(&mut self, line: &Range<usize>, content: &str, value: &Value, is_real: bool, is_auth: bool, is_data: bool) {
        let text = &content[value.range.clone()];
        match &value.open {
            Open::Block { column, is_literal, .. } if text.is_empty() => {
                // A JSON file has no blocks, and a key without a value below a deeper one is none.
                self.open = Open::Block {
                    column: *column,
                    is_real,
                    is_literal: *is_literal,
                    is_auth,
                    is_data,
                };
                return;
            }
            open => self.open = open.clone(),
        }
        if let Open::Quoted { is_real: open, .. } | Open::Block { is_real: open, .. } = &mut self.open {
            *open = is_real;
        }
        if is_auth && !matches!(self.open, Open::Quoted { .. }) && !is_basic_login(text) {
            self.open = Open::Nothing;
            return;
        }
        if is_harmless_value(text) {
            return;
        }
        let range = line.start + value.range.start..line.start + value.range.end;
        let is_quoted = content[..value.range.start].ends_with(['"', '\'']);
        let is_comment = text.starts_with('#') && !is_quoted;
        self.push(range, is_real && is_real_value(text) && !is_comment);
    }

    /// Finds the value that begins at a byte of a line.
    fn value(&self, content: &str, from: usize, key_at: usize, context: Context) -> Value {
        let rest = &content[from..];
        let start = from + (rest.len() - rest.trim_start().len());
        let value = content[start..].trim_end();
        let nothing = |open| Value {
            range: start..start,
            end: start,
            open,
        };
        let block = |is_literal| Open::Block {
            column: key_at,
            is_real: true,
            is_literal,
            is_auth: false,
            is_data: false,
        };
        if value.starts_with('#') {
            // The user may have meant it as the value.
            return Value {
                range: start..start + value.len(),
                end: start + value.len(),
                open: if context == Context::Flow {
                    Open::Nothing
                } else {
                    block(false)
                },
            };
        }
        if value.is_empty() {
            return nothing(if context == Context::Flow {
                Open::Nothing
            } else {
                block(false)
            });
        }
        if is_block_header(value) {
            return nothing(block(true));
        }
        let escapes = value.bytes().take_while(|byte| *byte == b'\\').count();
        let first = value[escapes..].chars().next().unwrap_or(' ');
        if matches!(first, '"' | '\'') {
            let inner = start + escapes + 1;
            return match closing_quote(content, inner, first, escapes) {
                Some((end, behind)) => Value {
                    range: inner..end,
                    end: behind,
                    open: Open::Nothing,
                },
                None => Value {
                    range: inner..content.len(),
                    end: content.len(),
                    open: Open::Quoted {
                        quote: first,
                        escapes,
                        is_real: true,
                    },
                },
            };
        }
        let is_template = value.starts_with("{{");
        if matches!(first, '{' | '[') && !is_template {
            // `[secret, …]` is a list of secrets; a mapping has keys of its own.
            if first == '{' {
                return nothing(Open::Nothing);
            }
            let close = content[start..].find(']').map(|close| start + close);
            let end = close.unwrap_or(start + value.len());
            return Value {
                range: start + 1..end,
                end,
                open: if close.is_none() { block(false) } else { Open::Nothing },
            };
        }
        let from = if is_template {
            start + value.find("}}").map_or(0, |at| at + 2)
        } else {
            start
        };
        let ends = |character: char| match context {
            Context::Flow => matches!(character, ',' | '}' | ']'),
            Context::Word => character.is_whitespace() || matches!(character, '&' | ';' | ',' | '"' | '\'' | '`'),
            Context::Block => false,
        };
        let mut end = content[from..]
            .find(ends)
            .map_or(start + value.len(), |at| from + at)
            .min(start + value.len());
        if self.breaks == LineBreaks::Escaped {
            // The end of the JSON string that the value is in.
            end = closing_quote(content, start, '"', 0).map_or(end, |(quote, _)| end.min(quote));
        }
        let open = if context == Context::Block && end == start + value.len() {
            block(false)
        } else {
            Open::Nothing
        };
        Value {
            range: start..end,
            end,
            open,
        }
    }

    /// Finds `--password VALUE` and the like.
    fn flags(&mut self, line: &Range<usize>, content: &str, from: usize, is_comment: bool) {
        let mut at = from;
        while let Some(dashes) = content[at..].find("--").map(|found| at + found) {
            let name_at = dashes + 2;
            let name = content[name_at..]
                .find(|character: char| !(character.is_ascii_alphanumeric() || character == '-'))
                .map_or(&content[name_at..], |end| &content[name_at..name_at + end]);
            at = name_at + name.len();
            if is_secret_key(name) && content[at..].starts_with(' ') {
                let value = self.value(content, at, dashes, Context::Word);
                let text = &content[value.range.clone()];
                if !text.starts_with('-') && !is_harmless_value(text) {
                    let range = line.start + value.range.start..line.start + value.range.end;
                    let is_real = !is_comment && is_real_value(text);
                    self.push(range, is_real);
                }
                at = value.end.max(at);
            }
        }
    }

    /// Finds the passwords of a `.netrc`.
    fn netrc(&mut self, line: &Range<usize>, content: &str) {
        let mut words = words_of(content).peekable();
        let first = words.peek().map(|(_, word)| *word).unwrap_or_default();
        match first {
            "machine" => self.in_netrc = true,
            "default" if content.contains("login") => self.in_netrc = true,
            "login" | "password" | "account" | "macdef" => {}
            _ => self.in_netrc = false,
        }
        if !self.in_netrc {
            return;
        }
        while let Some((_, word)) = words.next() {
            if matches!(word, "password" | "account")
                && let Some((at, value)) = words.next()
            {
                let range = line.start + at..line.start + at + value.len();
                self.push(range, is_real_value(value));
            }
        }
    }

    /// Finds credentials that are known by their own form: schemes of headers, hashes, tokens in three parts.
    fn tokens(&mut self, line: &Range<usize>, content: &str, from: usize, is_comment: bool) {
        let mut scheme = "";
        for (at, word) in words_of(content) {
            let bare = word.trim_matches(['"', '\'', '\\', ',', '[', ']', '{', '}', '`', '(', ')']);
            let offset = word.find(bare).unwrap_or(0);
            let before = std::mem::take(&mut scheme);
            let name = bare.rsplit([':', '=', '"', '\'']).next().unwrap_or_default();
            if ["basic", "bearer"].contains(&name.to_ascii_lowercase().as_str()) {
                scheme = if name.eq_ignore_ascii_case("basic") {
                    "basic"
                } else {
                    "bearer"
                };
            }
            let is_credential = match before {
                "basic" => is_basic_login(bare),
                "bearer" => is_token(bare),
                _ => is_hash(bare) || is_jwt(bare),
            };
            let start = at + offset;
            if is_credential && start >= from {
                self.push(line.start + start..line.start + start + bare.len(), !is_comment);
            }
        }
    }
}

/// The place of a value, which decides its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    /// To the end of the line, and on in deeper lines.
    Block,
    /// In `{…}` or `[…]`.
    Flow,
    /// A word of a command or a URL.
    Word,
}

/// Returns true if a document of the text is a Kubernetes Secret.
fn has_secret_object(text: &str, breaks: LineBreaks) -> bool {
    logical_lines(text, breaks).into_iter().any(|line| {
        let content = &text[line];
        content.match_indices("kind").any(|(at, kind)| {
            let rest = content[at + kind.len()..]
                .trim_start_matches(['\\', '"', '\''])
                .trim_start();
            let value = rest.strip_prefix(':').unwrap_or_default().trim_start();
            let value = value.trim_start_matches(['\\', '"', '\'']);
            value
                .strip_prefix("Secret")
                .is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
        })
    })
}

/// Returns the start and the text of the key that ends in front of a `:` or `=`.
fn key_before(content: &str, from: usize, end: usize) -> (usize, &str) {
    let before = content[from..end].trim_end().trim_end_matches(['"', '\'', '\\']);
    let start = before
        .rfind(|character: char| !(character.is_alphanumeric() || matches!(character, '_' | '-' | '.')))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    (from + start, &before[start..])
}

fn indent_of(content: &str) -> usize {
    let trimmed = content.trim_start().trim_start_matches("- ").trim_start();
    content.len() - trimmed.len()
}

/// Returns the start of a comment behind a value.
fn comment_start(content: &str) -> Option<usize> {
    content.match_indices(" #").map(|(at, _)| at).find(|at| {
        let quotes = |quote| content[..*at].matches(quote).count();
        quotes('"') % 2 == 0 && quotes('\'') % 2 == 0
    })
}

/// Returns true for `export KEY=…` and `Environment="KEY=…"` of a unit.
fn is_exported(content: &str, key_at: usize) -> bool {
    let before = content[..key_at].trim();
    before == "export" || before == "set"
}

/// Returns the end of the key at the start of a line of YAML: the position of its `:`.
fn key_end(item: &str) -> Option<usize> {
    let bare = item.trim_start_matches(['"', '\'']);
    let quotes = item.len() - bare.len();
    let end =
        bare.find(|character: char| !(character.is_alphanumeric() || matches!(character, '_' | '-' | '.' | '/')))?;
    let colon = bare[end..].trim_start_matches(['"', '\'']);
    let at = item.len() - colon.len();
    let is_key = end > 0 && colon.starts_with(':') && matches!(colon.as_bytes().get(1), None | Some(b' ' | b'\r'));
    (is_key && at >= quotes).then_some(at)
}

/// Finds the quote that closes a value: it has as many backslashes in front as the opening one, or fewer. Returns the end
/// of the value and the byte behind the quote.
fn closing_quote(content: &str, from: usize, quote: char, escapes: usize) -> Option<(usize, usize)> {
    let mut at = from;
    while let Some(found) = content[at..].find(quote).map(|found| at + found) {
        let behind = found + quote.len_utf8();
        let before = content[from..found]
            .bytes()
            .rev()
            .take_while(|byte| *byte == b'\\')
            .count();
        let closes = match (quote, escapes) {
            // Two single quotes are one in YAML.
            ('\'', 0) => !content[behind..].starts_with('\''),
            // An even number of backslashes is text.
            (_, 0) => before % 2 == 0,
            _ => before <= escapes,
        };
        if closes {
            return Some((found - before.min(escapes), behind));
        }
        at = if quote == '\'' && escapes == 0 {
            behind + 1
        } else {
            behind
        };
    }
    None
}

fn is_block_header(value: &str) -> bool {
    let value = value.split(" #").next().unwrap_or_default().trim_end();
    let mut characters = value.chars();
    matches!(characters.next(), Some('|' | '>'))
        && characters.all(|character| matches!(character, '+' | '-' | '0'..='9'))
}

/// Returns true for a value that reveals nothing: empty, a boolean, null, a reference to a value elsewhere.
fn is_harmless_value(text: &str) -> bool {
    let bare = text.trim().trim_matches(['"', '\'']);
    let is_word = matches!(
        bare.to_ascii_lowercase().as_str(),
        "" | "null" | "~" | "true" | "false" | "nil" | "none" | "[]" | "{}"
    );
    is_word || is_reference(bare)
}

/// Returns true if a value can be a secret itself: it is no reference and no placeholder.
fn is_real_value(text: &str) -> bool {
    let bare = text.trim().trim_matches(['"', '\'']);
    let is_bracketed = bare.starts_with('<') && bare.ends_with('>');
    let is_masked = bare.len() > 2
        && bare
            .chars()
            .all(|character| matches!(character, '*' | '#' | '…' | '.' | 'x' | 'X' | '-'));
    let is_variable = bare.strip_prefix('$').is_some_and(|name| {
        let good = |character: char| character.is_ascii_uppercase() || character.is_ascii_digit() || character == '_';
        name.starts_with('(') || !name.is_empty() && name.chars().all(good)
    });
    // A shell takes the value from a file or a command.
    let is_command = bare.starts_with("$(") || bare.starts_with('`');
    !is_harmless_value(bare) && !is_bracketed && !is_masked && !is_variable && !is_command
}

/// Returns true if the whole value is one look-up: `{{ .spectro.macro.NAME }}`, `${NAME}`.
pub(super) fn is_reference(value: &str) -> bool {
    let bare = value.trim().trim_matches(['"', '\'']);
    let is_name = |inner: &str, more: &str| {
        !inner.is_empty()
            && inner
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || more.contains(character))
    };
    let template = bare.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    let is_template = template.is_some_and(|inner| {
        let inner = inner.trim_matches('-').trim();
        inner.starts_with('.') && is_name(inner, "._-")
    });
    let variable = bare.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    is_template || variable.is_some_and(|name| is_name(name, "_."))
}

/// Returns true for base64 of `user:password`.
fn is_basic_login(text: &str) -> bool {
    let bare = text.trim().trim_matches(['"', '\'', '\\', ',']);
    if bare.len() < 4 {
        return false;
    }
    let decoded = STANDARD.decode(bare).or_else(|_| STANDARD_NO_PAD.decode(bare));
    decoded.is_ok_and(|bytes| {
        let colon = bytes.iter().position(|byte| *byte == b':');
        colon.is_some_and(|at| {
            bytes[..at]
                .iter()
                .all(|byte| !byte.is_ascii_control() && byte.is_ascii() || *byte > 127)
        })
    })
}

/// Returns true for a token of a header, and not for a word of a sentence.
fn is_token(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let length = text.len();
    text.bytes().all(good) && (length >= TOKEN_LENGTH_MIN || length >= TOKEN_LENGTH_MIN / 2 && has_digit)
}

/// Returns true for a JSON web token: three parts of base64, the first of which begins with `{"`.
fn is_jwt(text: &str) -> bool {
    let text = text.rsplit(['=', ':', '"']).next().unwrap_or_default();
    let parts: Vec<&str> = text.split('.').collect();
    let good = |part: &&str| {
        part.len() >= 10
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    parts.len() == 3 && text.starts_with("eyJ") && parts.iter().all(good)
}

fn is_hash(text: &str) -> bool {
    HASH_STARTS
        .iter()
        .any(|start| text.find(start).is_some_and(|at| text.len() - at > start.len() + 8))
}

/// Returns true for a line of a private key that has no content of one: its first or last line, or dots.
fn is_placeholder_key(content: &str) -> bool {
    let body = content.rsplit("PRIVATE KEY-----").next().unwrap_or_default();
    let body = if content.contains("-----BEGIN") && content.contains("-----END") {
        let behind = content.split("PRIVATE KEY-----").nth(1).unwrap_or_default();
        behind.split("-----END").next().unwrap_or_default()
    } else {
        body
    };
    !body.contains(|character: char| character.is_ascii_alphanumeric())
}

/// Returns the words of a line and their positions.
fn words_of(content: &str) -> impl Iterator<Item = (usize, &str)> {
    content
        .split_ascii_whitespace()
        .map(|word| (word.as_ptr() as usize - content.as_ptr() as usize, word))
}

/// Finds `name:password` in `scheme://name:password@host`. A password may hold a `/`, against the grammar of URLs.
pub(super) fn url_logins(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    text.match_indices("://").filter_map(|(at, separator)| {
        let start = at + separator.len();
        let rest = &text[start..];
        let host = &rest[..rest.find(ends_authority).unwrap_or(rest.len())];
        let has_port = || {
            let port = host.rsplit_once(':').map_or("0", |(_, port)| port);
            port.bytes().all(|byte| byte.is_ascii_digit()) || host.starts_with('[')
        };
        let login = match host.rfind('@') {
            Some(login) => login,
            None if has_port() => return None,
            None => {
                let words = |character: char| character.is_whitespace() || matches!(character, '"' | '\'' | ',');
                rest[..rest.find(words).unwrap_or(rest.len())].rfind('@')?
            }
        };
        (login > 0).then_some(start..start + login)
    })
}

fn ends_authority(character: char) -> bool {
    character == '/' || character.is_whitespace()
}

fn logical_lines(text: &str, breaks: LineBreaks) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let (length, ends) = match bytes[at] {
            b'\n' => (1, true),
            b'\\' if breaks == LineBreaks::Escaped => match bytes.get(at + 1) {
                Some(b'n') => (2, true),
                Some(next) if next.is_ascii() => (2, false),
                _ => (1, false),
            },
            _ => (1, false),
        };
        if ends {
            lines.push(start..at);
            start = at + length;
        }
        at += length;
    }
    lines.push(start..text.len());
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(text: &str, breaks: LineBreaks) -> String {
        let mut masked = text.to_owned();
        for range in crate::diagnostic::mask::secret_ranges(text, breaks).into_iter().rev() {
            masked.replace_range(range, "****");
        }
        masked
    }

    /// Formats with a place for a credential: `USERPASS` is base64 of `user:` and the secret, `SECRET` the secret.
    const FORMATS: &[&str] = &[
        "password: SECRET",
        "password: \"SECRET\" # why",
        "password: 'SECRET'",
        "- {name: a, password: SECRET, x: y}",
        "- {name: a, password: \"SECRET\", x: y}",
        "\"password\" : \"SECRET\"",
        "password:\n  SECRET",
        "password: |\n  one\n\n  SECRET\nnext: 1",
        "passwords:\n  - SECRET",
        "tokens: [\n  \"SECRET\"\n]",
        "client_secret = \"SECRET\"",
        "export TOKEN=SECRET",
        "Environment=\"API_TOKEN=SECRET\"",
        "db_pass: SECRET",
        "curl --password SECRET https://host/",
        "kubeadm join --token SECRET",
        "get https://host/path?token=SECRET&x=1",
        "{\"auths\": {\"registry.example\": {\"auth\": \"USERPASS\"}}}",
        "{\n  \"auths\": {\n    \"registry.example\": {\n      \"auth\": \"USERPASS\"\n    }\n  }\n}",
        "{\"auths\": {\"r\": {\"identitytoken\": \"SECRET\"}}}",
        "{\"auths\": {\"r\": {\"registrytoken\": \"SECRET\"}}}",
        "{\"auths\": {\"r\": {\"username\": \"u\", \"password\": \"SECRET\"}}}",
        "configs: {\"registry.example\": {auth: {auth: USERPASS}}}",
        "configs:\n  registry.example:\n    auth:\n      auth: USERPASS",
        "configs: {\"registry.example\": {auth: {username: u, password: SECRET}}}",
        "[header]\n  authorization = \"Basic USERPASS\"",
        "[header]\n  Authorization = [\"Basic USERPASS\"]",
        "[host.\"https://r\".header]\n  x-header = [\"a\", \"Bearer SECRET\"]",
        "curl -H 'AUTHORIZATION: bearer SECRET' https://host",
        "Proxy-Authorization: Basic USERPASS",
        "machine registry.example login user password SECRET",
        "machine registry.example\n  login user\n  password SECRET",
        "default login user password SECRET",
        "-----BEGIN RSA PRIVATE KEY-----\nSECRET\n-----END RSA PRIVATE KEY-----",
        "tls.key: -----BEGIN PRIVATE KEY----- SECRET -----END PRIVATE KEY-----",
        "key: |\n  -----BEGIN OPENSSH PRIVATE KEY-----\n  SECRET\n  -----END OPENSSH PRIVATE KEY-----",
        "{\"key\": \"-----BEGIN PRIVATE KEY-----\\nSECRET\\n-----END PRIVATE KEY-----\\n\"}",
        "url: https://user:SECRET@host/path",
        "url: \"https://user:SECRET@host:5000\"",
        "users: [{name: a, user: {token: SECRET}}]",
        "users:\n- name: a\n  user:\n    client-key-data: SECRET",
        "apiVersion: v1\nkind: Secret\nstringData:\n  plain: SECRET",
        "kind: \"Secret\"\ndata:\n  tls.key: |\n    SECRET",
        "{\"kind\":\"Secret\",\"data\":{\"a\":\"SECRET\"}}",
        ".dockerconfigjson: SECRET",
        "K3S_TOKEN=SECRET",
        "aws_secret_access_key = SECRET",
        "{\"values\": \"a: 1\\npassword: SECRET\\nimage: x\"}",
        "{\"values\": \"{\\\"password\\\": \\\"SECRET\\\"}\"}",
        "content: \"{\\\"auths\\\": {\\\"r\\\": {\\\"auth\\\": \\\"USERPASS\\\"}}}\"",
        "passwd: $6$salt$SECRET",
        "root:$6$saltsalt$SECRET:19000:0:99999:7:::",
        "user:$2y$05$SECRET",
    ];

    fn with(format: &str, secret: &str) -> String {
        let login = STANDARD.encode(format!("user:{secret}"));
        format.replace("SECRET", secret).replace("USERPASS", &login)
    }

    #[test]
    fn a_credential_of_every_format_is_found_and_hidden() {
        let secret = "canary7f3aCanary";
        let login = STANDARD.encode(format!("user:{secret}"));
        for format in FORMATS {
            let text = with(format, secret);
            assert!(holds_credential(&text), "{text}");
            for breaks in [LineBreaks::Real, LineBreaks::Escaped] {
                let shown = masked(&text, breaks);
                assert!(!shown.contains(secret) && !shown.contains(&login), "{text}\n{shown}");
            }
        }
    }

    #[test]
    fn a_text_without_a_credential_has_none() {
        for text in [
            "tokenAttributes: {}",
            "tokenAttributes:\n  requireServiceAccount: true\n  serviceAccountTokenAudience: registry.example",
            "password: \"\"",
            "password: ''",
            "password:",
            "password: null",
            "# password: x",
            "a: 1 # password: x",
            "  // token: abc",
            "imagePullSecrets: [{name: regcred}]",
            "imagePullSecrets:\n  - name: regcred",
            "volumes:\n  - name: a\n    secret:\n      secretName: tls",
            "secretName: tls",
            "existingSecret: app",
            "existingSecretPasswordKey: password",
            "passwordRef: {kind: Secret, name: a, key: password}",
            "password: ${PASSWORD}",
            "password: \"{{ .spectro.macro.password }}\"",
            "password: {{ .Values.password }}",
            "{password: {{ .Values.password }}, x: y}",
            "export TOKEN=$TOKEN",
            "TOKEN=$(cat /run/token)",
            "password: <yourPassword>",
            "password: \"****\"",
            "proxy: https://${USER}:${PASSWORD}@proxy:3128",
            "repository: ssh://git@github.com/a/b",
            "encodedPassword: true",
            "automountServiceAccountToken: false",
            "lock_passwd: true",
            "tokenFile: /run/token",
            "--token-file=/run/token",
            "docker login --password-stdin",
            "authorization:\n  mode: Webhook",
            "authorization: {mode: Webhook}",
            "--authorization-mode=Node,RBAC",
            "auth: basic",
            "auth: {tls: true}",
            "auth: true",
            "Bearer tokens and Basic authentication are explained below",
            "# machine a login b",
            "machine: edge",
            "this machine has a password",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
            "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
            "ssh_authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA operator]",
            "kind: ConfigMap\ndata:\n  a: b",
            "resources: [\"secrets\"]",
            "kind: SecretProviderClass\ndata:\n  a: b",
            "client-certificate-data: MIIB",
            "image: a/b:1@sha256:00",
            "bypass: 1",
        ] {
            assert!(
                !holds_credential(text),
                "{text}: {:?}",
                find_secrets(text, LineBreaks::Real)
            );
        }
    }

    #[test]
    fn only_the_value_is_hidden() {
        for (text, expected) in [
            ("{password: abc, x: y}", "{password: ****, x: y}"),
            (
                "{\"password\":\"abc\",\"x\":\"y\"}",
                "{\"password\":\"****\",\"x\":\"y\"}",
            ),
            (
                "{\"values\":\"a: {imagePullSecrets: []}\\ncluster: x\"}",
                "{\"values\":\"a: {imagePullSecrets: []}\\ncluster: x\"}",
            ),
            (
                "{\"values\":\"password: abc\\ncluster: x\"}",
                "{\"values\":\"password: ****\\ncluster: x\"}",
            ),
            (
                "{\"values\":\"{\\\"token\\\": \\\"abc\\\", \\\"x\\\": 1}\"}",
                "{\"values\":\"{\\\"token\\\": \\\"****\\\", \\\"x\\\": 1}\"}",
            ),
            ("curl --token abc https://host/", "curl --token **** https://host/"),
            ("https://host/?token=abc&x=1", "https://host/?token=****&x=1"),
            ("machine a login b password c", "machine a login b password ****"),
            ("password: \"it's\" # here", "password: \"****\" # here"),
        ] {
            assert_eq!(masked(text, LineBreaks::Escaped), expected);
        }
    }

    proptest! {
        #[test]
        fn a_planted_secret_is_never_shown(
            secret in "[A-Za-z0-9]{8}[A-Za-z0-9._~/+-]{10,30}[A-Za-z0-9]1",
            format in 0..FORMATS.len(),
            before in "(#|a: 1|\\[x\\]|'|\"|\\{)?",
            indent in 0_usize..6,
        ) {
            let text = with(FORMATS[format], &secret);
            let indented: Vec<String> = text.lines().map(|line| format!("{}{line}", " ".repeat(indent))).collect();
            let text = format!("{before}\n{}\nnext: 1\n", indented.join("\n"));
            let login = STANDARD.encode(format!("user:{secret}"));
            for breaks in [LineBreaks::Real, LineBreaks::Escaped] {
                let shown = masked(&text, breaks);
                prop_assert!(!shown.contains(&secret) && !shown.contains(&login), "{}\n{}", text, shown);
            }
        }

        #[test]
        fn any_text_is_scanned(text in "(?s).{0,200}", marks in "[\"'\\\\{}\\[\\]:=,# |\\n-]{0,60}") {
            let text = format!("{text}password{marks}auth{text}:{marks}token={text}");
            for breaks in [LineBreaks::Real, LineBreaks::Escaped] {
                for secret in find_secrets(&text, breaks) {
                    prop_assert!(text.get(secret.range.clone()).is_some(), "{:?}", secret.range);
                }
            }
        }
    }
}
