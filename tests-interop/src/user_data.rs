//! User-data for the registries and ports of one test, as a site writes it.

use std::fmt::Write as _;

use crate::docker_registry::Account;

/// `landfall.stateDir`. Like every path in user-data, it is below the directory that stands for the host's
/// root.
pub const STATE_DIR: &str = "/var/lib/landfall-interop";

/// `landfall.containerd.socket`.
pub const CONTAINERD_SOCKET: &str = "/run/landfall-interop/containerd.sock";

/// The values of a user-data file that differ between tests.
#[derive(Debug, Clone, Copy)]
pub struct UserData<'a> {
    /// `stylus.registryCredentials`, if there is an external registry.
    pub external: Option<External<'a>>,
    /// `stylus.site.caCerts`: one authority (PEM).
    pub site_authority: Option<&'a str>,
    pub ports: Ports,
    /// A primary registry that is not the embedded one.
    pub primary: Option<ForeignPrimary<'a>>,
    /// `landfall.bandwidthLimit`, in bytes a second: slow enough for a kill to hit a transfer.
    pub bandwidth_limit: Option<u64>,
    /// More lines of `landfall`, each with its indentation and line break.
    pub more: &'a str,
}

/// Ports on which the agent listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// The embedded primary registry.
    pub primary: u16,
    pub webhook: u16,
    /// Health, metrics and status.
    pub api: u16,
}

#[derive(Debug, Clone, Copy)]
pub struct External<'a> {
    /// `host:port/path`.
    pub domain: &'a str,
    pub account: Account<'a>,
    /// `certificates`: the authority (PEM).
    pub authority: Option<&'a str>,
}

/// `landfall.primary` of kind `registry`.
#[derive(Debug, Clone, Copy)]
pub struct ForeignPrimary<'a> {
    /// `host:port`.
    pub endpoint: &'a str,
    pub account: Account<'a>,
    /// `certificates`: the authority (PEM).
    pub authority: &'a str,
}

impl UserData<'_> {
    /// Returns the text of the file.
    ///
    /// # Panics
    /// Never: writing to a string does not fail.
    #[must_use]
    pub fn render(&self) -> String {
        self.try_render().expect("a string takes everything")
    }

    fn try_render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::from("#cloud-config\nstylus:\n");
        if let Some(pem) = self.site_authority {
            writeln!(text, "  site:\n    caCerts:\n      - |\n{}", indented(pem, 8))?;
        }
        if let Some(external) = self.external {
            writeln!(text, "  registryCredentials:\n    domain: \"{}\"", external.domain)?;
            writeln!(text, "    username: \"{}\"", external.account.user)?;
            writeln!(text, "    password: \"{}\"", external.account.password)?;
            if let Some(pem) = external.authority {
                writeln!(text, "    certificates: |\n{}", indented(pem, 6))?;
            }
        }
        writeln!(text, "  imageRedirectWebhook:\n    port: {}", self.ports.webhook)?;
        writeln!(text, "  localUI:\n    port: {}", self.ports.api)?;
        writeln!(text, "landfall:\n  stateDir: {STATE_DIR}")?;
        writeln!(text, "  containerd:\n    socket: {CONTAINERD_SOCKET}")?;
        match self.primary {
            None => writeln!(text, "  primary:\n    endpoint: 127.0.0.1:{}", self.ports.primary)?,
            Some(primary) => {
                writeln!(
                    text,
                    "  primary:\n    kind: registry\n    endpoint: {}",
                    primary.endpoint
                )?;
                writeln!(text, "    username: \"{}\"", primary.account.user)?;
                writeln!(text, "    password: \"{}\"", primary.account.password)?;
                writeln!(text, "    certificates: |\n{}", indented(primary.authority, 6))?;
            }
        }
        if let Some(limit) = self.bandwidth_limit {
            writeln!(text, "  bandwidthLimit: {limit}")?;
        }
        text.push_str(self.more);
        Ok(text)
    }
}

fn indented(text: &str, by: usize) -> String {
    let margin = " ".repeat(by);
    text.trim_end()
        .lines()
        .map(|line| format!("{margin}{line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_a_block_below_their_key() {
        let user_data = UserData {
            external: Some(External {
                domain: "127.0.0.1:5000/landfall",
                account: Account {
                    user: "admin",
                    password: "secret",
                },
                authority: Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            }),
            site_authority: None,
            ports: Ports {
                primary: 1,
                webhook: 2,
                api: 3,
            },
            primary: None,
            bandwidth_limit: Some(1_000),
            more: "  webhook: {sweepInterval: 1}\n",
        };
        let expected = r#"#cloud-config
stylus:
  registryCredentials:
    domain: "127.0.0.1:5000/landfall"
    username: "admin"
    password: "secret"
    certificates: |
      -----BEGIN CERTIFICATE-----
      AAAA
      -----END CERTIFICATE-----
  imageRedirectWebhook:
    port: 2
  localUI:
    port: 3
landfall:
  stateDir: /var/lib/landfall-interop
  containerd:
    socket: /run/landfall-interop/containerd.sock
  primary:
    endpoint: 127.0.0.1:1
  bandwidthLimit: 1000
  webhook: {sweepInterval: 1}
"#;
        assert_eq!(user_data.render(), expected);
    }
}
