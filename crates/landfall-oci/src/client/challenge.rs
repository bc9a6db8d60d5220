//! Parser for the `WWW-Authenticate` header of a 401 (RFC 9110 section 11.6.1). It is pure, and lenient because the
//! header comes from a stranger: it skips invalid parts.

/// A supported authentication scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password with each request (RFC 7617).
    Basic,
    /// A token from another server (distribution's token specification).
    Bearer {
        /// URL of the token server.
        realm: String,
        /// The token server's name for the registry.
        service: Option<String>,
        /// Requested scope of the token.
        scope: Option<String>,
    },
}

/// Parses one header, which may hold several challenges. It leaves out unknown schemes and a `Bearer` without a realm.
#[must_use]
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut rest = Cursor { text: header };
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    while !rest.text.is_empty() {
        rest.skip_separators();
        let word = rest.take_token();
        if word.is_empty() {
            rest.skip_char();
            continue;
        }
        let after_word = rest.text;
        rest.skip_spaces();
        match (rest.skip_if('='), found.last_mut()) {
            (true, Some((_, parameters))) => parameters.push((word.to_ascii_lowercase(), rest.take_value())),
            (true, None) => {
                rest.take_value();
            }
            (false, _) => {
                rest.text = after_word;
                found.push((word.to_ascii_lowercase(), Vec::new()));
            }
        }
    }
    found.into_iter().filter_map(to_challenge).collect()
}

fn to_challenge((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Challenge> {
    let parameter = |name: &str| {
        let value = parameters.iter().find(|(found, _)| found == name);
        value.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameter("realm")?,
            service: parameter("service"),
            scope: parameter("scope"),
        }),
        _ => None,
    }
}

/// The rest of the header.
struct Cursor<'a> {
    text: &'a str,
}

impl<'a> Cursor<'a> {
    fn skip_spaces(&mut self) {
        self.text = self.text.trim_start_matches([' ', '\t']);
    }

    fn skip_separators(&mut self) {
        self.text = self.text.trim_start_matches([' ', '\t', ',']);
    }

    fn skip_char(&mut self) {
        let mut chars = self.text.chars();
        chars.next();
        self.text = chars.as_str();
    }

    fn skip_if(&mut self, expected: char) -> bool {
        let rest = self.text.strip_prefix(expected);
        self.text = rest.unwrap_or(self.text);
        rest.is_some()
    }

    /// Takes a token (RFC 9110 section 5.6.2).
    fn take_token(&mut self) -> &'a str {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.text.find(|c| !is_token(c)).unwrap_or(self.text.len());
        let (token, rest) = self.text.split_at(end);
        self.text = rest;
        token
    }

    /// Takes a token or a quoted string (RFC 9110 section 5.6.4). An unterminated string ends with the header.
    fn take_value(&mut self) -> String {
        self.skip_spaces();
        if !self.skip_if('"') {
            return self.take_token().to_owned();
        }
        let mut value = String::new();
        let mut chars = self.text.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => value.extend(chars.next()),
                c => value.push(c),
            }
        }
        self.text = chars.as_str();
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn headers_of_real_registries_are_understood() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#;
        let cases = [
            (r#"Basic realm="basic-realm""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                hub,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/nginx:pull"),
                )],
            ),
            (
                r#"BEARER Realm = "https://a/t" , Service=b"#,
                vec![bearer("https://a/t", Some("b"), None)],
            ),
            (
                r#"Negotiate, Basic realm="x", Bearer realm="https://a/t",error="invalid_token""#,
                vec![Challenge::Basic, bearer("https://a/t", None, None)],
            ),
            (r#"Negotiate YWJj=="#, vec![]),
            (
                r#"Bearer realm="https://a/\"t\"""#,
                vec![bearer(r#"https://a/"t""#, None, None)],
            ),
            (r#"Bearer service="no realm""#, vec![]),
            (r#"realm="no scheme""#, vec![]),
            ("", vec![]),
        ];
        for (header, expected) in cases {
            assert_eq!(parse_challenges(header), expected, "{header}");
        }
    }

    fn render_challenge(challenge: &Challenge) -> String {
        match challenge {
            Challenge::Basic => r#"Basic realm="r""#.to_owned(),
            Challenge::Bearer { realm, service, scope } => {
                let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
                let mut text = format!("Bearer realm=\"{}\"", quote(realm));
                for (name, value) in [("service", service), ("scope", scope)] {
                    if let Some(value) = value {
                        text.push_str(&format!(",{name}=\"{}\"", quote(value)));
                    }
                }
                text
            }
        }
    }

    fn any_challenge() -> impl Strategy<Value = Challenge> {
        let text = "[ -~]{1,20}";
        prop_oneof![
            Just(Challenge::Basic),
            (text, proptest::option::of(text), proptest::option::of(text))
                .prop_map(|(realm, service, scope)| { Challenge::Bearer { realm, service, scope } }),
        ]
    }

    proptest! {
        #[test]
        fn parsing_gives_back_what_was_rendered(challenges in proptest::collection::vec(any_challenge(), 0..4)) {
            let header = challenges.iter().map(render_challenge).collect::<Vec<_>>().join(", ");
            prop_assert_eq!(parse_challenges(&header), challenges);
        }

        #[test]
        fn no_header_panics(header in "\\PC{0,60}") {
            prop_assert!(parse_challenges(&header).len() <= header.len());
        }
    }
}
