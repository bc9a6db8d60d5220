//! The registries that a command talks to: one client each, so that connections and tokens are shared. What the settings
//! do not say of a registry comes from the files in which docker and podman keep their logins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use landfall_core::config::Settings;
use landfall_core::reference::RegistryHost;
use landfall_oci::client::{Endpoint, RegistryClient, RegistryError};
use landfall_oci::keychain::{Keychain, LoginFile, login_file_paths};

/// Clients for the registries of these settings, made when they are first needed.
#[derive(Debug)]
pub(crate) struct Registries<'a> {
    settings: &'a Settings,
    keychain: Arc<Keychain>,
    /// Registries that the command line says not to verify.
    insecure: Vec<RegistryHost>,
    made: Mutex<HashMap<(RegistryHost, Option<usize>), RegistryClient>>,
}

impl<'a> Registries<'a> {
    /// No client yet.
    pub(crate) fn new(settings: &'a Settings, insecure: &[RegistryHost]) -> Registries<'a> {
        let variable = |name: &str| std::env::var(name).ok();
        let paths = login_file_paths(&variable, rustix::process::getuid().as_raw());
        let files = paths.into_iter().map(LoginFile::Usual).collect();
        Registries {
            settings,
            keychain: Arc::new(Keychain::new(files)),
            insecure: insecure.to_vec(),
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
        endpoint.keychain = Some(self.keychain.clone());
        endpoint.tls.insecure |= self.insecure.contains(host);
        let client = RegistryClient::new(endpoint)?;
        made.insert(key, client.clone());
        Ok(client)
    }
}
