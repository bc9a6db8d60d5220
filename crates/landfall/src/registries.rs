//! The registries that a command talks to: one client each, so that connections and tokens are shared. What the settings
//! do not say of a registry comes from this machine: the logins of docker and podman, certificates, proxies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Args;
use landfall_core::reference::RegistryHost;
use landfall_core::settings::{Settings, TokenServer};
use landfall_oci::client::{Endpoint, MachineAccess, RegistryClient, RegistryError, Timeouts, UploadJournal};
use landfall_oci::keychain::Keychain;

/// How registries are reached.
#[derive(Debug, Clone, Default, Args)]
pub struct AccessArgs {
    /// A file with logins, in docker's form or Palette's (`{"image": [...]}`). It is asked before those of docker and
    /// podman; what the user-data and the profiles say counts more.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<Utf8PathBuf>,
    /// A registry whose certificate is not verified, and that may speak plain HTTP; give it again for more.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure: Vec<RegistryHost>,
    /// A token server outside of a registry's own domain that may see the login of that registry; give it again for more.
    #[arg(long = "token-server", value_name = "REGISTRY=SERVER")]
    pub token_servers: Vec<TokenServer>,
    /// A transfer slower than this has stalled: it is cut, and goes on over a new connection. In bytes a second, either
    /// way; 256 without. 0 is a transfer that does not move at all.
    #[arg(long, value_name = "BYTES")]
    pub stall_below: Option<u64>,
    /// For how many seconds it has to be that slow; 30 without.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub stall_after: Option<u64>,
}

impl AccessArgs {
    /// Logins and trust as words of another command line.
    pub(crate) fn repeated(&self) -> Vec<String> {
        let credentials = self.credentials.iter().map(|file| ("--credentials", file.to_string()));
        let insecure = self.insecure.iter().map(|host| ("--insecure", host.to_string()));
        let servers = self.token_servers.iter();
        let servers = servers.map(|server| ("--token-server", server.to_string()));
        let pairs = credentials.chain(insecure).chain(servers);
        pairs.flat_map(|(option, value)| [option.to_owned(), value]).collect()
    }

    fn timeouts(&self) -> Timeouts {
        let usual = Timeouts::default();
        Timeouts {
            stall: self.stall_after.map_or(usual.stall, Duration::from_secs),
            slowest: self.stall_below.unwrap_or(usual.slowest),
            ..usual
        }
    }
}

/// Clients for the registries of these settings, made when they are first needed.
#[derive(Debug)]
pub(crate) struct Registries<'a> {
    settings: &'a Settings,
    machine: MachineAccess,
    keychain: Arc<Keychain>,
    /// Registries that the command line says not to verify.
    insecure: Vec<RegistryHost>,
    /// Token servers that the command line lists beside those of the settings.
    token_servers: Vec<TokenServer>,
    timeouts: Timeouts,
    /// The uploads that are to outlive this process.
    pub(crate) journal: Option<UploadJournal>,
    made: Mutex<HashMap<(RegistryHost, Option<usize>), RegistryClient>>,
}

impl<'a> Registries<'a> {
    /// No client yet.
    pub(crate) fn new(settings: &'a Settings, access: &AccessArgs) -> Registries<'a> {
        let machine = MachineAccess::of_environment();
        let named = access.credentials.as_deref();
        let named = named.or(settings.landfall.credentials_file.as_deref());
        Registries {
            settings,
            keychain: Arc::new(machine.keychain(named)),
            machine,
            insecure: access.insecure.clone(),
            token_servers: access.token_servers.clone(),
            timeouts: access.timeouts(),
            journal: None,
            made: Mutex::default(),
        }
    }

    /// The client for a host, with the login and trust of this registry of the settings.
    ///
    /// # Errors
    /// When its certificates or proxies cannot be used.
    pub(crate) fn client(&self, host: &RegistryHost, registry: Option<usize>) -> Result<RegistryClient, RegistryError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.clone(), registry);
        if let Some(client) = made.get(&key) {
            return Ok(client.clone());
        }
        let mut endpoint = Endpoint::of_settings(self.settings, host, registry);
        endpoint.tls.insecure |= self.insecure.contains(host);
        endpoint
            .token_servers
            .extend(TokenServer::of_registry(&self.token_servers, host));
        endpoint.timeouts = self.timeouts.clone();
        let client = RegistryClient::new(self.machine.complete(endpoint, &self.keychain))?;
        made.insert(key, client.clone());
        Ok(client)
    }
}
