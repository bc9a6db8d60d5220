//! Command lines that a user can paste into a shell.

/// Joins words into a command line, and quotes those that a shell would change.
pub(crate) fn command_line(words: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+…".contains(c);
    let quoted = words.iter().map(|word| match word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}
