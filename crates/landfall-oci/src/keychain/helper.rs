//! Docker's credential helpers: `docker-credential-NAME ACTION`, with the request on stdin and the response on stdout
//! (github.com/docker/docker-credential-helpers). No secret is an argument or in the environment. A helper has a time
//! limit and an output limit; beyond them it is killed with its children.

use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use landfall_core::credential_file::Credential;
use landfall_core::lenient;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Helpers of clouds use the network, and some ask the user.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Largest output of a helper, in bytes; tokens of clouds have some kilobytes.
const OUTPUT_BYTES_MAX: u64 = 256 << 10;
/// Longest message that is repeated, in characters.
const MESSAGE_LENGTH_MAX: usize = 300;
/// The protocol's message for a missing login.
const NOT_FOUND: &str = "credentials not found";

/// A request to a helper.
#[derive(Debug, Clone, Copy)]
pub enum HelperAction<'a> {
    /// Return the login for a server.
    Get {
        /// The registry, in docker's words.
        server: &'a str,
    },
    /// Store a login.
    Store {
        /// The registry, in docker's words.
        server: &'a str,
        username: &'a str,
        password: &'a SecretString,
    },
    /// Remove a login.
    Erase {
        /// The registry, in docker's words.
        server: &'a str,
    },
}

/// A failure of a helper.
#[derive(Debug, thiserror::Error)]
#[error("the credential helper `docker-credential-{name}` failed for `{server}`")]
pub struct HelperError {
    pub name: String,
    /// The registry, in the helper's words.
    pub server: String,
    #[source]
    pub problem: HelperProblem,
}

/// Cause of a helper's failure.
#[derive(Debug, thiserror::Error)]
pub enum HelperProblem {
    /// The name is not that of a helper, e.g. a path.
    #[error("the name of a helper has only letters, digits, `-`, `_` and `.`")]
    Name,
    #[error("it is not installed: no such program in `PATH`")]
    Missing,
    /// The helper could not be started, or its pipes failed.
    #[error("it cannot be run")]
    Run(#[source] io::Error),
    #[error("it gave no answer within {} s and was ended", .0.as_secs())]
    Timeout(Duration),
    #[error("it ended with {status}: {message}")]
    Failed {
        status: ExitStatus,
        /// One line of its stderr.
        message: String,
    },
    #[error("it printed more than {OUTPUT_BYTES_MAX} bytes")]
    OutputTooLarge,
    #[error("its answer is not JSON with `Username` and `Secret`")]
    Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperReply {
    username: Option<String>,
    secret: Option<SecretString>,
}

impl HelperAction<'_> {
    fn verb(&self) -> &'static str {
        match self {
            HelperAction::Get { .. } => "get",
            HelperAction::Store { .. } => "store",
            HelperAction::Erase { .. } => "erase",
        }
    }

    fn server(&self) -> &str {
        match self {
            HelperAction::Get { server } | HelperAction::Store { server, .. } | HelperAction::Erase { server } => {
                server
            }
        }
    }

    fn input(&self) -> Zeroizing<String> {
        Zeroizing::new(match self {
            HelperAction::Get { server } | HelperAction::Erase { server } => (*server).to_owned(),
            HelperAction::Store {
                server,
                username,
                password,
            } => serde_json::json!({
                "ServerURL": server,
                "Username": username,
                "Secret": password.expose_secret(),
            })
            .to_string(),
        })
    }
}

/// Runs a helper and returns its login for [`HelperAction::Get`]. `search` is the search path in the form of `PATH`;
/// `None` stands for the `PATH` of this process.
///
/// # Errors
/// Fails if the helper is missing, fails, or violates the protocol or its limits.
pub async fn run_helper(
    name: &str,
    action: HelperAction<'_>,
    search: Option<&OsStr>,
) -> Result<Option<Credential>, HelperError> {
    run(name, action, search, TIMEOUT).await.map_err(|problem| HelperError {
        name: name.to_owned(),
        server: action.server().to_owned(),
        problem,
    })
}

async fn run(
    name: &str,
    action: HelperAction<'_>,
    search: Option<&OsStr>,
    limit: Duration,
) -> Result<Option<Credential>, HelperProblem> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(HelperProblem::Name);
    }
    let mut command = Command::new(format!("docker-credential-{name}"));
    if let Some(search) = search {
        command.env("PATH", search);
    }
    let child = command
        .arg(action.verb())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => HelperProblem::Missing,
        _ => HelperProblem::Run(error),
    })?;
    let exchanged = timeout(limit, exchange(&mut child, &action.input())).await;
    let (status, output, errors) = match exchanged {
        Ok(Ok(exchanged)) => exchanged,
        Ok(Err(error)) => {
            kill_group(&mut child).await;
            return Err(HelperProblem::Run(error));
        }
        Err(_) => {
            kill_group(&mut child).await;
            return Err(HelperProblem::Timeout(limit));
        }
    };
    if output.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(HelperProblem::OutputTooLarge);
    }
    parse_output(action, status, &output, &errors)
}

fn parse_output(
    action: HelperAction<'_>,
    status: ExitStatus,
    output: &[u8],
    errors: &[u8],
) -> Result<Option<Credential>, HelperProblem> {
    if !status.success() {
        let is_not_found = [output, errors]
            .iter()
            .any(|bytes| String::from_utf8_lossy(bytes).contains(NOT_FOUND));
        return match action {
            HelperAction::Get { .. } | HelperAction::Erase { .. } if is_not_found => Ok(None),
            _ => Err(HelperProblem::Failed {
                status,
                message: message(errors),
            }),
        };
    }
    match action {
        HelperAction::Get { .. } => {
            let login: HelperReply = lenient::from_slice(output).map_err(|_| HelperProblem::Answer)?;
            let secret = login.secret.ok_or(HelperProblem::Answer)?;
            Ok(Credential::from_pair(
                &login.username.unwrap_or_default(),
                secret.expose_secret(),
            ))
        }
        HelperAction::Store { .. } | HelperAction::Erase { .. } => Ok(None),
    }
}

/// Returns the message of a failed helper from its stderr. Its stdout is never repeated: it is the place for secrets. A
/// line that looks like a login is not repeated either.
fn message(errors: &[u8]) -> String {
    let text = String::from_utf8_lossy(errors);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    let line = line.filter(|line| !line.contains(['{', '}']));
    line.unwrap_or("it does not say why on stderr")
        .chars()
        .filter(|character| !character.is_control())
        .take(MESSAGE_LENGTH_MAX)
        .collect()
}

type HelperOutput = (ExitStatus, Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>);

async fn exchange(child: &mut Child, input: &str) -> io::Result<HelperOutput> {
    let mut stdin = child.stdin.take();
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin.take() {
            // A helper that does not read its input reports the reason by its status.
            let _closed_early = stdin.write_all(input.as_bytes()).await;
        }
        Ok(())
    };
    let ((), output, errors) = tokio::try_join!(write, read_to_limit(&mut stdout), read_to_limit(&mut stderr))?;
    Ok((child.wait().await?, output, errors))
}

/// Reads to the end and keeps the beginning, one byte more than the limit. So a helper never blocks on a full pipe.
async fn read_to_limit(pipe: &mut Option<impl AsyncRead + Unpin>) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut kept = Zeroizing::new(Vec::new());
    if let Some(pipe) = pipe {
        (&mut *pipe).take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut kept).await?;
        tokio::io::copy(pipe, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

/// Kills the helper and its children.
async fn kill_group(child: &mut Child) {
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(group) = group {
        // The group may have ended in the meantime.
        let _already_gone = kill_process_group(group, Signal::KILL);
    }
    if let Err(error) = child.wait().await {
        tracing::debug!(%error, "a credential helper that was ended cannot be waited for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a search path with the programs in `tests/data/helpers`, and the shell that they need.
    fn search() -> std::ffi::OsString {
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/helpers");
        format!("{own}:/usr/bin:/bin").into()
    }

    async fn get(name: &str, limit: Duration) -> Result<Option<Credential>, HelperProblem> {
        let action = HelperAction::Get {
            server: "reg.example.com",
        };
        run(name, action, Some(&search()), limit).await
    }

    #[tokio::test]
    async fn a_helper_gives_the_login_for_the_server_that_it_is_asked_for() {
        let Ok(Some(Credential::Password { username, password })) = get("good", TIMEOUT).await else {
            panic!("the helper gave no login");
        };
        assert_eq!(username, "ann at reg.example.com");
        assert_eq!(password.expose_secret(), "canary");
    }

    #[tokio::test]
    async fn a_helper_that_knows_nothing_is_no_failure() {
        assert!(matches!(get("empty", TIMEOUT).await, Ok(None)));
    }

    #[tokio::test]
    async fn a_helper_that_fails_says_why_and_never_a_secret() {
        let cases = [
            ("nowhere", "it is not installed: no such program in `PATH`"),
            (
                "../good",
                "the name of a helper has only letters, digits, `-`, `_` and `.`",
            ),
            ("angry", "it ended with exit status: 3: no session: run `cloud login`"),
            ("leaky", "it ended with exit status: 1: it does not say why on stderr"),
            (
                "blabbing",
                "it ended with exit status: 1: it does not say why on stderr",
            ),
            ("chatty", "it printed more than 262144 bytes"),
            ("garbled", "its answer is not JSON with `Username` and `Secret`"),
        ];
        for (name, expected) in cases {
            let problem = get(name, TIMEOUT).await.err().unwrap();
            assert_eq!(problem.to_string(), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn a_helper_that_hangs_is_ended_with_its_children() {
        let problem = get("slow", Duration::from_millis(300)).await.err().unwrap();
        assert!(matches!(problem, HelperProblem::Timeout(_)), "{problem}");
    }
}
