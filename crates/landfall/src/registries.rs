//! The registries that a command talks to: one client each, so that connections and tokens are shared. What the settings
//! do not say of a registry comes from this machine: the logins of docker and podman, certificates, proxies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use landfall_core::config::{Settings, TokenServer};
use landfall_core::reference::RegistryHost;
use landfall_oci::client::{Endpoint, MachineAccess, RegistryClient, RegistryError, Timeouts, UploadJournal};
use landfall_oci::keychain::Keychain;

use crate::args::AccessArgs;

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
