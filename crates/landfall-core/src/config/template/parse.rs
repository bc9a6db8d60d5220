//! Parser of the text between `{{` and `}}`: a pipeline of Go's `text/template`, as far as published packs use it.
//!
//! A pipeline is commands with `|` between them. A command is one operand, or a function with operands. Operands are
//! look-ups (`.spectro.…`), strings in quotes or backquotes, whole numbers, booleans and pipelines in parentheses.

use std::iter::Peekable;
use std::str::CharIndices;

/// The levels of parentheses that a pipeline may have.
const PARENTHESES_MAX: usize = 20;
/// Words with which Go begins a control structure.
const CONTROL_WORDS: [&str; 12] = [
    "if", "else", "end", "range", "with", "define", "template", "block", "break", "continue", "nil", "printf",
];

/// A value that a command names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    /// A look-up: the text after `.spectro.`.
    LookUp(String),
    Text(String),
    Number(i64),
    Boolean(bool),
    Pipeline(Pipeline),
}

/// One operand, or a function with its operands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) function: Option<String>,
    pub(super) operands: Vec<Operand>,
}

/// Commands, each of which gets the value of the one before it as its last operand. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pipeline(pub(super) Vec<Command>);

/// The reason why a text is not a pipeline, in a clause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct ParseError {
    reason: String,
}

/// Parses the text between the braces, without trim markers.
///
/// # Errors
/// If the text is not a pipeline of these operands.
pub(super) fn parse_pipeline(inner: &str) -> Result<Pipeline, ParseError> {
    let mut parser = Parser {
        text: inner,
        characters: inner.char_indices().peekable(),
        depth: 0,
    };
    let pipeline = parser.pipeline()?;
    match parser.characters.peek() {
        None => Ok(pipeline),
        Some((_, character)) => Err(error(format!("`{character}` is not expected here"))),
    }
}

/// Returns true for the characters of a look-up. Names of packs hold hyphens, and keys hold dots and slashes.
pub(super) fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_' | '/')
}

struct Parser<'t> {
    text: &'t str,
    characters: Peekable<CharIndices<'t>>,
    depth: usize,
}

impl Parser<'_> {
    fn pipeline(&mut self) -> Result<Pipeline, ParseError> {
        let mut commands = vec![self.command()?];
        while self.characters.next_if(|(_, character)| *character == '|').is_some() {
            commands.push(self.command()?);
        }
        Ok(Pipeline(commands))
    }

    /// Parses a command and the blanks behind it.
    fn command(&mut self) -> Result<Command, ParseError> {
        let mut function = None;
        let mut operands = Vec::new();
        loop {
            while self
                .characters
                .next_if(|(_, character)| character.is_whitespace())
                .is_some()
            {}
            let Some((at, character)) = self.characters.peek().copied() else {
                break;
            };
            match character {
                '|' | ')' => break,
                '(' => operands.push(self.parentheses()?),
                '"' => operands.push(Operand::Text(self.quoted()?)),
                '`' => operands.push(Operand::Text(self.raw_string()?)),
                '.' => operands.push(Operand::LookUp(self.look_up()?)),
                '-' | '+' | '0'..='9' => {
                    let word = self.word(at);
                    let number = word
                        .parse()
                        .map_err(|_| error(format!("`{word}` is not a whole number")))?;
                    operands.push(Operand::Number(number));
                }
                'a'..='z' | 'A'..='Z' | '_' => {
                    let word = self.word(at);
                    match word {
                        "true" => operands.push(Operand::Boolean(true)),
                        "false" => operands.push(Operand::Boolean(false)),
                        word if CONTROL_WORDS.contains(&word) => {
                            return Err(error(format!("`{word}` of Go's templates is not evaluated")));
                        }
                        word if function.is_none() && operands.is_empty() => function = Some(word.to_owned()),
                        word => return Err(error(format!("the function `{word}` stands in the place of a value"))),
                    }
                }
                other => return Err(error(format!("`{other}` is not expected here"))),
            }
        }
        match (&function, operands.len()) {
            (None, 0) => Err(error("a value or a function is missing".to_owned())),
            (None, 2..) => Err(error("a function is missing in front of several values".to_owned())),
            _ => Ok(Command { function, operands }),
        }
    }

    fn parentheses(&mut self) -> Result<Operand, ParseError> {
        self.characters.next();
        self.depth += 1;
        if self.depth > PARENTHESES_MAX {
            return Err(error("the parentheses are nested too deeply".to_owned()));
        }
        let pipeline = self.pipeline()?;
        self.depth -= 1;
        match self.characters.next() {
            Some((_, ')')) => Ok(Operand::Pipeline(pipeline)),
            _ => Err(error("a `)` is missing".to_owned())),
        }
    }

    /// Parses a string in double quotes, with Go's escapes.
    fn quoted(&mut self) -> Result<String, ParseError> {
        self.characters.next();
        let mut text = String::new();
        loop {
            match self.characters.next() {
                Some((_, '"')) => return Ok(text),
                Some((_, '\\')) => match self.characters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    _ => return Err(error("a string holds an escape that is not evaluated".to_owned())),
                },
                None | Some((_, '\n')) => return Err(error("a string has no closing quote".to_owned())),
                Some((_, character)) => text.push(character),
            }
        }
    }

    fn raw_string(&mut self) -> Result<String, ParseError> {
        self.characters.next();
        let mut text = String::new();
        loop {
            match self.characters.next() {
                Some((_, '`')) => return Ok(text),
                None => return Err(error("a string has no closing backquote".to_owned())),
                Some((_, character)) => text.push(character),
            }
        }
    }

    fn look_up(&mut self) -> Result<String, ParseError> {
        let at = self.characters.peek().map_or(0, |(at, _)| *at);
        let word = self.word(at);
        match word.strip_prefix(".spectro.") {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => Err(error(format!("`{word}` is not a look-up of Palette"))),
        }
    }

    /// Takes the characters of a name or number.
    fn word(&mut self, at: usize) -> &str {
        let mut end = at;
        while let Some((start, character)) = self
            .characters
            .next_if(|(start, character)| is_name_character(*character) || (*start == at && *character == '+'))
        {
            end = start + character.len_utf8();
        }
        &self.text[at..end]
    }
}

fn error(reason: String) -> ParseError {
    ParseError { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(inner: &str) -> String {
        match parse_pipeline(inner) {
            Ok(pipeline) => shown(&pipeline),
            Err(error) => error.to_string(),
        }
    }

    fn shown(pipeline: &Pipeline) -> String {
        let operand = |operand: &Operand| match operand {
            Operand::LookUp(name) => format!("<{name}>"),
            Operand::Text(text) => format!("{text:?}"),
            Operand::Number(number) => number.to_string(),
            Operand::Boolean(value) => value.to_string(),
            Operand::Pipeline(inner) => format!("({})", shown(inner)),
        };
        let command = |command: &Command| {
            let words = command.function.iter().cloned();
            words
                .chain(command.operands.iter().map(operand))
                .collect::<Vec<_>>()
                .join(" ")
        };
        pipeline.0.iter().map(command).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn pipelines_are_commands_with_operands() {
        for (inner, expected) in [
            (".spectro.macro.a-b", "<macro.a-b>"),
            (
                ".spectro.system.kubernetes.version | substr 0 4",
                "<system.kubernetes.version> | substr 0 4",
            ),
            (
                r#"default "a \"b\"" .spectro.var.x|quote"#,
                r#"default "a \"b\"" <var.x> | quote"#,
            ),
            ("trunc -3 (lower .spectro.var.x)", "trunc -3 (lower <var.x>)"),
            ("default true `raw\\n`", r#"default true "raw\\n""#),
            (".spectro.pack.p.a.io/b", "<pack.p.a.io/b>"),
        ] {
            assert_eq!(parsed(inner), expected, "{inner}");
        }
    }

    #[test]
    fn other_texts_are_named() {
        for (inner, expected) in [
            (".spectro.var.x |", "a value or a function is missing"),
            (".spectro.", "`.spectro.` is not a look-up of Palette"),
            (
                ".Values.x | default .spectro.var.x",
                "`.Values.x` is not a look-up of Palette",
            ),
            (
                ".spectro.var.x .spectro.var.y",
                "a function is missing in front of several values",
            ),
            ("if .spectro.var.x", "`if` of Go's templates is not evaluated"),
            ("quote \"x", "a string has no closing quote"),
            ("(quote .spectro.var.x", "a `)` is missing"),
            ("quote .spectro.var.x)", "`)` is not expected here"),
            ("quote 1.5", "`1.5` is not a whole number"),
            ("$x := .spectro.var.x", "`$` is not expected here"),
        ] {
            assert_eq!(parsed(inner), expected, "{inner}");
        }
        assert_eq!(parsed(&"(".repeat(100_000)), "the parentheses are nested too deeply");
    }
}
