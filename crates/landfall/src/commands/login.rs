//! `landfall login` and `landfall logout`: store a login where docker, podman and Landfall find it, or remove it.

use std::io::Read as _;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use landfall_core::credential_file::{CredentialFile, parse_docker_config, registry_key, remove_login, set_login};
use landfall_core::failure::{Explanation, FailureKind};
use landfall_core::reference::RegistryHost;
use landfall_core::settings::TokenServer;
use landfall_host::files::write_atomic;
use landfall_net::output_path::{OutputPath, OutputPathError, look_at_file};
use landfall_oci::client::{AmbientAccess, Endpoint, Login, RegistryClient};
use landfall_oci::keychain::{HelperAction, docker_config_path, run_helper};
use secrecy::{ExposeSecret as _, SecretString};

use crate::context::Context;
use crate::exit::ExitStatus;
use crate::runtime;
use crate::terminal;

/// Longest password that is accepted, in bytes. A longer input is a wrong file: a service account's key has a few
/// kilobytes.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;
/// Mode of the file with the logins: only its owner reads them.
const FILE_MODE: u32 = 0o600;

/// Log in to a registry.
///
/// The login is tried at the registry first. It is then stored in docker's `config.json` (in `$DOCKER_CONFIG`, or
/// `~/.docker/config.json`), or by the credential helper that this file names. Everything else in the file stays
/// unchanged. Every command that uses registries finds the login there.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  landfall login registry.example.com --username ann --password-stdin < password"
)]
pub struct LoginArgs {
    /// Registry, as `host[:port]`.
    #[arg(value_name = "REGISTRY")]
    pub registry: RegistryHost,
    /// User name [default: ask on the terminal].
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,
    /// Read the password from stdin [default: ask on the terminal].
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
    /// Accept any certificate of the registry, and plain HTTP if it speaks no TLS.
    #[arg(long)]
    pub insecure: bool,
    /// Send the login to this token server outside of the registry's domain [repeatable; default: none].
    #[arg(long = "token-server", value_name = "REGISTRY=SERVER")]
    pub token_servers: Vec<TokenServer>,
}

/// Remove the login of a registry.
///
/// Removes it from docker's `config.json`, and from the credential helper that the file names.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall logout registry.example.com")]
pub struct LogoutArgs {
    /// Registry, as `host[:port]`.
    #[arg(value_name = "REGISTRY")]
    pub registry: RegistryHost,
}

pub(crate) fn run_login(args: &LoginArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let login = match read_login(args) {
        Err(error) if is_interrupted(&error) => return Ok(ExitStatus::Interrupted),
        login => login?,
    };
    let runtime = runtime::current_thread()?;
    let mut endpoint = Endpoint {
        login: Some(login.clone()),
        token_servers: TokenServer::of_registry(&args.token_servers, &args.registry).collect(),
        ..Endpoint::new(args.registry.clone())
    };
    endpoint.tls.insecure = args.insecure;
    // Without other login files, no other login of this machine can be used in place of the one that is tried.
    let ambient = AmbientAccess {
        login_files: Vec::new(),
        ..AmbientAccess::of_environment()
    };
    let keychain = Arc::new(ambient.keychain(None));
    let client = RegistryClient::new(ambient.complete(endpoint, &keychain))?;
    if let Err(error) = runtime.block_on(client.ping()) {
        let is_no = matches!(error.kind(), FailureKind::Unauthorized | FailureKind::Forbidden);
        ensure!(is_no, anyhow::Error::new(error));
        let (host, cause) = (&args.registry, &error.fault);
        context.printer.problem(format_args!(
            "error: registry `{host}` was reached, and does not let this login in\n  because: {cause}"
        ));
        return Ok(ExitStatus::AnswerIsNo);
    }
    let file = DockerFile::load()?;
    let helper = file.helper(&args.registry)?;
    let password = match &helper {
        None => Some((login.username.as_str(), &login.password)),
        Some(name) => {
            let server = registry_key(&args.registry);
            let store = HelperAction::Store {
                server: &server,
                username: &login.username,
                password: &login.password,
            };
            runtime.block_on(run_helper(name, store, None))?;
            None
        }
    };
    let text = set_login(&file.text, &args.registry, password).with_context(|| file.unusable())?;
    file.write(&text)?;
    let keeper = match helper {
        None => format!("in `{}`", file.path),
        Some(name) => format!("with `docker-credential-{name}`"),
    };
    context.printer.note(format_args!(
        "logged in to `{}` as `{}`: kept {keeper}",
        args.registry, login.username
    ));
    Ok(ExitStatus::Done)
}

pub(crate) fn run_logout(args: &LogoutArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let file = DockerFile::load()?;
    if let Some(name) = file.helper(&args.registry)? {
        let server = registry_key(&args.registry);
        runtime::current_thread()?.block_on(run_helper(&name, HelperAction::Erase { server: &server }, None))?;
    }
    let removed = remove_login(&file.text, &args.registry).with_context(|| file.unusable())?;
    let Some(text) = removed else {
        context
            .printer
            .note(format_args!("no login for `{}` in `{}`", args.registry, file.path));
        return Ok(ExitStatus::Done);
    };
    file.write(&text)?;
    context.printer.note(format_args!(
        "logged out of `{}`: taken out of `{}`",
        args.registry, file.path
    ));
    Ok(ExitStatus::Done)
}

fn read_login(args: &LoginArgs) -> anyhow::Result<Login> {
    let username = match &args.username {
        Some(username) => username.clone(),
        None => terminal::ask("Username: ")
            .context(Explanation::new("cannot ask for the user name", "give `--username`"))?,
    };
    let password = if args.password_stdin {
        read_password(std::io::stdin().lock())?
    } else {
        terminal::ask_secret("Password: ").context(Explanation::new(
            "cannot ask for the password",
            "give `--password-stdin`",
        ))?
    };
    ensure!(!username.is_empty(), "the user name is empty");
    ensure!(!username.contains(':'), "a user name holds no `:` (RFC 7617)");
    ensure!(!password.expose_secret().is_empty(), "the password is empty");
    Ok(Login { username, password })
}

/// Returns true if the user interrupted a question.
fn is_interrupted(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::Interrupted)
}

/// Reads a password, without the one line end that `echo` and editors add.
fn read_password(input: impl std::io::Read) -> anyhow::Result<SecretString> {
    let mut text = String::new();
    let read = input.take(PASSWORD_BYTES_MAX + 1).read_to_string(&mut text);
    read.context("cannot read the password from stdin")?;
    if text.len() as u64 > PASSWORD_BYTES_MAX {
        bail!("the password on stdin is larger than {PASSWORD_BYTES_MAX} bytes");
    }
    let password = text.strip_suffix('\n').unwrap_or(&text);
    Ok(password.strip_suffix('\r').unwrap_or(password).into())
}

/// Docker's `config.json` and its present text.
struct DockerFile {
    path: Utf8PathBuf,
    text: String,
}

impl DockerFile {
    fn load() -> anyhow::Result<DockerFile> {
        let path = docker_config_path(&|name| std::env::var(name).ok());
        let path = path
            .ok_or_else(|| Explanation::new("cannot find docker's `config.json`", "set `HOME` or `DOCKER_CONFIG`"))?;
        // A symbolic link stays a link: its target is replaced. A missing directory is made later.
        let path = match look_at_file(&path) {
            Ok(OutputPath::File(target)) => target,
            Err(OutputPathError::DirectoryMissing { .. } | OutputPathError::DirectoryClosed { .. }) => path,
            Ok(OutputPath::Stream(_) | OutputPath::Stdout) => {
                bail!("`{path}` is a device or a pipe, which is never replaced")
            }
            Err(problem) => return Err(problem).context("cannot use the logins"),
        };
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).context("cannot read the logins"),
        };
        Ok(DockerFile { path, text })
    }

    fn unusable(&self) -> String {
        format!("cannot use `{}`", self.path)
    }

    /// Returns the credential helper that keeps the login of this registry.
    fn helper(&self, registry: &RegistryHost) -> anyhow::Result<Option<String>> {
        if self.text.trim().is_empty() {
            return Ok(None);
        }
        let parsed = parse_docker_config(&self.text).with_context(|| self.unusable())?;
        Ok(match parsed {
            CredentialFile::Docker(file) => file.helper(registry).map(str::to_owned),
            CredentialFile::Palette(_) => None,
        })
    }

    fn write(&self, text: &SecretString) -> anyhow::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        let directory = self.path.parent().unwrap_or(Utf8Path::new("."));
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| format!("cannot make `{directory}`"))?;
        write_atomic(&self.path, FILE_MODE, text.expose_secret().as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_not_part_of_a_password() {
        for (text, expected) in [
            ("a b", "a b"),
            ("x\n", "x"),
            ("x\r\n", "x"),
            ("x\n\n", "x\n"),
            (" x ", " x "),
        ] {
            assert_eq!(read_password(text.as_bytes()).unwrap().expose_secret(), expected);
        }
        assert!(read_password(std::io::repeat(b'x')).is_err());
    }
}
