//! Variables in a file of `KEY=value` lines that other programs write too: `/etc/environment` (pam_env(8)) or a
//! service's `EnvironmentFile` (systemd.exec(5)). Other lines stay.

use secrecy::{ExposeSecret as _, SecretString};

/// Returns the file with the variables set: a line of the same name is replaced in place, new ones are added at the
/// end. A second call changes nothing.
#[must_use]
pub fn merge_environment(before: &str, variables: &[(String, SecretString)]) -> String {
    let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
    for (name, value) in variables {
        let line = format!("{name}={}", quoted(value.expose_secret()));
        let mut own = lines.iter_mut().filter(|line| name_of(line) == Some(name));
        match own.next_back() {
            // Of several lines the last one counts.
            Some(last) => *last = line,
            None => lines.push(line),
        }
    }
    let mut after = lines.join("\n");
    if !after.is_empty() {
        after.push('\n');
    }
    after
}

/// Returns true if a shell, pam_env and systemd all accept the text as a variable name.
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(good) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

fn name_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, _) = line.split_once('=')?;
    is_variable_name(name.trim()).then(|| name.trim())
}

/// Quotes a value only if needed: pam_env removes quotes and knows no escapes.
fn quoted(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@,+%=~".contains(&byte);
    if value.bytes().all(is_plain) {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for character in value.chars() {
        if matches!(character, '"' | '\\' | '$' | '`') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(before: &str, variables: &[(&str, &str)]) -> String {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), SecretString::from(*value)))
            .collect();
        merge_environment(before, &variables)
    }

    #[test]
    fn own_lines_are_set_and_those_of_others_stay() {
        let before = "# site\nPATH=/usr/bin\nexport HTTP_PROXY=old\nLANG=C";
        let variables = [
            ("HTTP_PROXY", "http://proxy:3128"),
            ("NO_PROXY", "10.0.0.0/8,localhost"),
            ("MOTTO", "a \"b\" $c"),
        ];
        let after = merge(before, &variables);
        insta::assert_snapshot!(after, @r#"
        # site
        PATH=/usr/bin
        HTTP_PROXY=http://proxy:3128
        LANG=C
        NO_PROXY=10.0.0.0/8,localhost
        MOTTO="a \"b\" \$c"
        "#);
        assert_eq!(merge(&after, &variables), after, "doing it again changes nothing");
    }

    #[test]
    fn of_two_lines_with_one_name_the_one_that_counts_is_set() {
        assert_eq!(merge("A=1\nA=2\n", &[("A", "3")]), "A=1\nA=3\n");
        assert_eq!(merge("", &[("A", "")]), "A=\n");
        assert_eq!(merge("B=A=1\n", &[("A", "2")]), "B=A=1\nA=2\n");
    }

    #[test]
    fn names_are_those_of_a_shell() {
        for (name, is_name) in [
            ("A", true),
            ("_a1", true),
            ("1A", false),
            ("A-B", false),
            ("", false),
            ("A B", false),
        ] {
            assert_eq!(is_variable_name(name), is_name, "{name:?}");
        }
    }
}
