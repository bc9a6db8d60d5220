//! Clients for the registries of a command: one each, so that connections and tokens are shared. Access that the
//! settings do not give comes from this machine: the logins of docker and podman, certificates, proxies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use camino::Utf8PathBuf;
use landfall_core::reference::RegistryHost;
use landfall_core::settings::{Settings, TokenServer};
use landfall_core::sync::lock;
use landfall_oci::client::{AmbientAccess, Endpoint, RegistryClient, RegistryError, Timeouts, UploadJournal};
use landfall_oci::keychain::Keychain;

/// Access to registries beyond the settings, as the command line gives it.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegistryAccess {
    /// File with logins, which overrides those of docker and podman.
    pub(crate) credentials: Option<Utf8PathBuf>,
    /// Registries whose certificates are not verified.
    pub(crate) insecure: Vec<RegistryHost>,
    /// Token servers beside those of the settings.
    pub(crate) token_servers: Vec<TokenServer>,
    pub(crate) timeouts: Timeouts,
}

impl RegistryAccess {
    /// Returns logins and trust as arguments of another command line.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let credentials = self.credentials.iter().map(|file| ("--credentials", file.to_string()));
        let insecure = self.insecure.iter().map(|host| ("--insecure", host.to_string()));
        let servers = self.token_servers.iter();
        let servers = servers.map(|server| ("--token-server", server.to_string()));
        let pairs = credentials.chain(insecure).chain(servers);
        pairs.flat_map(|(option, value)| [option.to_owned(), value]).collect()
    }
}

/// Clients for registries, each made when it is first needed.
#[derive(Debug)]
pub(crate) struct Registries<'a> {
    settings: &'a Settings,
    ambient: AmbientAccess,
    keychain: Arc<Keychain>,
    access: RegistryAccess,
    /// Journal of uploads that a later process may resume.
    pub(crate) journal: Option<UploadJournal>,
    made: Mutex<HashMap<(RegistryHost, Option<usize>), RegistryClient>>,
}

impl<'a> Registries<'a> {
    /// Reads the logins of this machine; makes no client yet.
    pub(crate) fn new(settings: &'a Settings, access: RegistryAccess) -> Registries<'a> {
        let ambient = AmbientAccess::of_environment();
        let named = access.credentials.as_deref();
        let named = named.or(settings.landfall.credentials_file.as_deref());
        Registries {
            settings,
            keychain: Arc::new(ambient.keychain(named)),
            ambient,
            access,
            journal: None,
            made: Mutex::default(),
        }
    }

    /// Returns the client for a host, with the login and trust of this registry of the settings.
    ///
    /// # Errors
    /// If certificates or proxies cannot be used.
    pub(crate) fn client(&self, host: &RegistryHost, registry: Option<usize>) -> Result<RegistryClient, RegistryError> {
        let mut made = lock(&self.made);
        let key = (host.clone(), registry);
        if let Some(client) = made.get(&key) {
            return Ok(client.clone());
        }
        let mut endpoint = Endpoint::of_settings(self.settings, host, registry);
        endpoint.tls.insecure |= self.access.insecure.contains(host);
        endpoint
            .token_servers
            .extend(TokenServer::of_registry(&self.access.token_servers, host));
        endpoint.timeouts = self.access.timeouts.clone();
        let client = RegistryClient::new(self.ambient.complete(endpoint, &self.keychain))?;
        made.insert(key, client.clone());
        Ok(client)
    }
}
