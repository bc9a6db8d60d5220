//! `landfall-credential-provider`: the kubelet's exec plug-in [spec:credential-provider]. It is a link of that name to
//! this program.
//!
//! The kubelet runs it at every pull of an image, so it uses no argument parser, asynchronous runtime or log framework.
//! It reads a request on stdin and a file or two, and writes an answer to stdout. `landfall_core::credential` makes the
//! decisions. If a login cannot be read, the plug-in reports that on stderr, which the kubelet logs, and gives a valid
//! empty answer. The pull then continues without a login; if the registry requires one, it fails with the registry's
//! message.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use landfall_core::credential::{
    LoginFile, ParentLookup, ProviderAnswer, ProviderRequest, RequestProblem, lookup_names, parse_login_file,
    parse_request, render_answer,
};
use landfall_core::failure::{Hint, error_chain, line_with_hint};
use zeroize::Zeroizing;

/// Program names under which this program is the credential provider: its own, and that of the program that it
/// replaces.
const NAMES: [&str; 2] = ["landfall-credential-provider", "generic-credential-provider"];

/// Default directory of the login files.
const DEFAULT_CREDROOT: &str = "/etc/kubernetes/registries";

/// Limit for a request or a login file, in bytes; larger than any real one.
const INPUT_MAX: u64 = 1 << 20;

const USAGE: &str = "\
The kubelet's credential provider of Landfall: reads a CredentialProviderRequest on stdin, answers on stdout.

Usage: landfall-credential-provider [OPTIONS]

Options:
  -c, --credroot DIR  Directory with a file HOST.json or HOST:PORT.json for each registry: username, password and,
                      if wanted, duration [default: /etc/kubernetes/registries]
      --any-suffix    Also use files named after a top-level domain (io.json) or a part of an IP address (1.1.json)
  -d, --debug         Say on stderr which files are looked at; never a password
  -v, --version       Print the version
  -h, --help          Print this";

/// Returns true if the program was started under one of the provider's names.
#[must_use]
pub fn is_provider_name(program: Option<&OsStr>) -> bool {
    let name = program.and_then(|program| Path::new(program).file_name());
    name.is_some_and(|name| NAMES.iter().any(|known| name == OsStr::new(known)))
}

/// Runs as the credential provider, with the arguments after the program's name. Exits with 0 and an answer on stdout,
/// or with 1 if the request or the arguments are invalid.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut streams = Streams {
        stdin: &mut io::stdin().lock(),
        stdout: &mut io::stdout().lock(),
        stderr: &mut io::stderr().lock(),
    };
    match serve(arguments, &mut streams) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let text = format!("error: {}", error_chain(&problem));
            streams.report(&line_with_hint(text, problem.hint()));
            ExitCode::FAILURE
        }
    }
}

/// Reason for the lack of an answer.
#[derive(Debug, thiserror::Error)]
enum ProviderError {
    #[error("the argument `{0}` is not known")]
    Argument(String),
    #[error("`{0}` needs a value")]
    Value(&'static str),
    #[error("cannot read the request on stdin")]
    Input(#[source] io::Error),
    #[error(transparent)]
    Request(#[from] RequestProblem),
    #[error("cannot write the answer to stdout")]
    Output(#[source] io::Error),
}

impl Hint for ProviderError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            ProviderError::Argument(_) | ProviderError::Value(_) => {
                Some(Cow::Borrowed("see `landfall-credential-provider --help`"))
            }
            ProviderError::Input(_) | ProviderError::Request(_) | ProviderError::Output(_) => None,
        }
    }
}

struct Streams<'a> {
    stdin: &'a mut dyn Read,
    stdout: &'a mut dyn Write,
    stderr: &'a mut dyn Write,
}

impl Streams<'_> {
    fn report(&mut self, line: &str) {
        // If stderr is closed, no one can be told.
        let _stderr_closed = writeln!(self.stderr, "landfall-credential-provider: {line}");
    }

    fn write(&mut self, text: &str) -> Result<(), ProviderError> {
        self.stdout
            .write_all(text.as_bytes())
            .and_then(|()| self.stdout.flush())
            .map_err(ProviderError::Output)
    }
}

/// Action that the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
enum Invocation {
    Answer(Options),
    Version,
    Help,
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    credroot: PathBuf,
    parents: ParentLookup,
    debug: bool,
}

fn serve(arguments: impl Iterator<Item = OsString>, streams: &mut Streams<'_>) -> Result<(), ProviderError> {
    let options = match parse_arguments(arguments)? {
        Invocation::Answer(options) => options,
        Invocation::Version => {
            return streams.write(concat!(
                "landfall-credential-provider version ",
                env!("CARGO_PKG_VERSION"),
                "\n"
            ));
        }
        Invocation::Help => return streams.write(&format!("{USAGE}\n")),
    };
    let mut text = String::new();
    (&mut *streams.stdin)
        .take(INPUT_MAX)
        .read_to_string(&mut text)
        .map_err(ProviderError::Input)?;
    let request = parse_request(&text)?;
    let file = find_file(&options, &request, streams);
    let answer = match &file {
        Some(file) => ProviderAnswer::Login {
            request: &request,
            file,
        },
        None => ProviderAnswer::Nothing(request.version),
    };
    streams.write(&render_answer(&answer))
}

fn parse_arguments(mut arguments: impl Iterator<Item = OsString>) -> Result<Invocation, ProviderError> {
    let mut options = Options {
        credroot: PathBuf::from(DEFAULT_CREDROOT),
        parents: ParentLookup::Domains,
        debug: false,
    };
    while let Some(argument) = arguments.next() {
        let shown = argument.to_string_lossy();
        match &*shown {
            "-c" | "--credroot" => {
                options.credroot = arguments.next().ok_or(ProviderError::Value("--credroot"))?.into();
            }
            "--any-suffix" => options.parents = ParentLookup::Anything,
            "-d" | "--debug" => options.debug = true,
            "-v" | "--version" => return Ok(Invocation::Version),
            "-h" | "--help" => return Ok(Invocation::Help),
            other => match other.strip_prefix("--credroot=").or_else(|| other.strip_prefix("-c")) {
                Some(directory) if !directory.is_empty() => options.credroot = PathBuf::from(directory),
                _ => return Err(ProviderError::Argument(other.to_owned())),
            },
        }
    }
    Ok(Invocation::Answer(options))
}

/// Finds the most specific login file for this registry. A file that exists and cannot be used ends the search: the
/// login of a less specific file must not be sent in its place.
fn find_file(options: &Options, request: &ProviderRequest, streams: &mut Streams<'_>) -> Option<LoginFile> {
    for name in lookup_names(&request.image.host, options.parents) {
        let path = options.credroot.join(format!("{}.json", name.name));
        let text = match read_file(&path) {
            Ok(Some(text)) => text,
            Ok(None) => {
                if options.debug {
                    streams.report(&format!("there is no `{}`", path.display()));
                }
                continue;
            }
            Err(error) => {
                let message = format!(
                    "cannot read `{}`: {error}; the image is pulled without a login",
                    path.display()
                );
                let hint = "it has to be a file that root can read";
                streams.report(&line_with_hint(message, Some(hint)));
                return None;
            }
        };
        let file = match parse_login_file(&text) {
            Ok(file) => file,
            Err(problem) => {
                let message = format!(
                    "cannot use `{}`: {problem}; the image is pulled without a login",
                    path.display()
                );
                let hint = r#"write {"username": "…", "password": "…"}"#;
                streams.report(&line_with_hint(message, Some(hint)));
                return None;
            }
        };
        if name.is_parent && !file.subdomains {
            if options.debug {
                streams.report(&format!("`{}` is not for subdomains", path.display()));
            }
            continue;
        }
        if let Some(missing) = file.missing {
            let message = format!("`{}` gives no whole login: {missing}", path.display());
            let hint = r#"write {"username": "…", "password": "…"}"#;
            streams.report(&line_with_hint(message, Some(hint)));
        }
        if file.duration_ignored {
            let message = format!(
                "the `duration` in `{}` is no duration that Go can parse",
                path.display()
            );
            streams.report(&line_with_hint(message, Some("write it as `5m0s`, at most `2562047h`")));
        }
        if options.debug {
            let found = match file.login_for(&request.image.repository) {
                Some(login) => format!("has the login of user `{}`", login.username),
                None => "has no login".to_owned(),
            };
            streams.report(&format!("`{}` {found} for `{}`", path.display(), request.image));
        }
        return Some(file);
    }
    streams.report(&format!(
        "no login for `{}`: there is no `{}.json` in `{}`; the image is pulled without a login",
        request.registry,
        request.image.host,
        options.credroot.display()
    ));
    None
}

fn read_file(path: &Path) -> io::Result<Option<Zeroizing<String>>> {
    let file = match fs_err::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(without_path(&error)),
    };
    // The text holds the password: it is read into one allocation, which is wiped afterwards.
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let read = file.take(INPUT_MAX).read_to_string(&mut text);
    read.map(|_| Some(text)).map_err(|error| without_path(&error))
}

/// Returns the system's error without the path, because the caller's message names the file.
fn without_path(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_is_told_by_the_name_that_the_program_is_called_by() {
        for (program, expected) in [
            ("/usr/libexec/kubernetes/landfall-credential-provider", true),
            ("generic-credential-provider", true),
            ("/usr/bin/landfall", false),
            ("", false),
        ] {
            assert_eq!(is_provider_name(Some(OsStr::new(program))), expected, "{program}");
        }
        assert!(!is_provider_name(None));
    }

    #[test]
    fn the_flags_are_those_of_the_program_whose_place_this_takes() {
        let parse = |arguments: &[&str]| parse_arguments(arguments.iter().map(OsString::from));
        let answer = |credroot: &str, parents, debug| {
            Invocation::Answer(Options {
                credroot: PathBuf::from(credroot),
                parents,
                debug,
            })
        };
        for (arguments, expected) in [
            (&[][..], answer(DEFAULT_CREDROOT, ParentLookup::Domains, false)),
            (&["--credroot", "/a", "-d"], answer("/a", ParentLookup::Domains, true)),
            (&["--credroot=/a"], answer("/a", ParentLookup::Domains, false)),
            (
                &["-c", "/a", "--any-suffix"],
                answer("/a", ParentLookup::Anything, false),
            ),
            (&["-c/a"], answer("/a", ParentLookup::Domains, false)),
            (&["-v"], Invocation::Version),
            (&["--debug", "--version"], Invocation::Version),
            (&["-h"], Invocation::Help),
        ] {
            assert_eq!(parse(arguments).unwrap(), expected, "{arguments:?}");
        }
        for arguments in [&["--credroot"][..], &["--credroot="], &["x"], &["-x"]] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
    }
}
