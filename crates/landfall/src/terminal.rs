//! Questions to the user, on `/dev/tty`, so that stdin and stdout stay free for data.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use zeroize::Zeroizing;

/// Longest answer that is accepted, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

const END_OF_INPUT: u8 = 0x04;
const INTERRUPT: u8 = 0x03;
const ERASE_LINE: u8 = 0x15;

/// Asks for one line.
///
/// # Errors
/// If there is no terminal, or no answer.
pub(crate) fn ask(question: &str) -> io::Result<String> {
    let mut terminal = open()?;
    terminal.write_all(question.as_bytes())?;
    let line = read_line(&mut terminal)?;
    Ok(line.trim().to_owned())
}

/// Asks for one line without echo.
///
/// # Errors
/// If there is no terminal, or the user interrupts.
pub(crate) fn ask_secret(question: &str) -> io::Result<SecretString> {
    let mut terminal = open()?;
    let echo_off = EchoOff::new(terminal.try_clone()?)?;
    terminal.write_all(question.as_bytes())?;
    let line = read_line(&mut terminal);
    drop(echo_off);
    terminal.write_all(b"\n")?;
    Ok(line?.as_str().into())
}

fn open() -> io::Result<std::fs::File> {
    std::fs::File::options().read(true).write(true).open("/dev/tty")
}

/// Guard that turns off echo, until it is dropped. The terminal sends interrupts as bytes: a signal would end the
/// program and leave the echo off.
struct EchoOff<T: AsFd> {
    terminal: T,
    before: Termios,
}

impl<T: AsFd> EchoOff<T> {
    fn new(terminal: T) -> io::Result<EchoOff<T>> {
        let before = tcgetattr(&terminal)?;
        let mut without_echo = before.clone();
        without_echo.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(&terminal, OptionalActions::Flush, &without_echo)?;
        Ok(EchoOff { terminal, before })
    }
}

impl<T: AsFd> Drop for EchoOff<T> {
    fn drop(&mut self) {
        // The terminal itself failed, so no one can be told.
        let _gone = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Reads to the end of a line, with the keys for editing that password prompts have.
fn read_line(input: &mut impl Read) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::new());
    let mut byte = [0];
    loop {
        if input.read(&mut byte)? == 0 {
            break;
        }
        match byte[0] {
            b'\n' | b'\r' => break,
            END_OF_INPUT if line.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            END_OF_INPUT => break,
            INTERRUPT => return Err(io::ErrorKind::Interrupted.into()),
            ERASE_LINE => line.clear(),
            0x08 | 0x7f => erase_character(&mut line),
            byte if line.len() < ANSWER_BYTES_MAX => line.push(byte),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    let text = std::str::from_utf8(&line).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Removes the last character, with all of its UTF-8 bytes.
fn erase_character(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        let goes_on = byte & 0b1100_0000 == 0b1000_0000;
        if !goes_on {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_edited_and_given_up() {
        let cases: [(&str, Result<&str, io::ErrorKind>); 8] = [
            ("secret\nrest", Ok("secret")),
            ("secret\r", Ok("secret")),
            ("wrong\u{15}right\n", Ok("right")),
            ("sé\u{7f}x\u{8}y\n", Ok("sy")),
            ("\u{7f}a\n", Ok("a")),
            ("half\u{4}", Ok("half")),
            ("\u{4}", Err(io::ErrorKind::UnexpectedEof)),
            ("ab\u{3}", Err(io::ErrorKind::Interrupted)),
        ];
        for (typed, expected) in cases {
            let line = read_line(&mut typed.as_bytes()).map_err(|error| error.kind());
            assert_eq!(
                line.as_ref().map(|line| line.as_str()),
                expected.as_ref().map(|text| *text),
                "{typed:?}"
            );
        }
    }
}
