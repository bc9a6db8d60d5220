//! The registries that a command talks to: one client each, so that connections and tokens are shared.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use landfall_core::config::Settings;
use landfall_core::reference::RegistryHost;
use landfall_oci::client::{Endpoint, RegistryClient, RegistryError};

/// Clients for the registries of these settings, made when they are first needed.
#[derive(Debug)]
pub(crate) struct Registries<'a> {
    settings: &'a Settings,
    made: Mutex<HashMap<(RegistryHost, Option<usize>), RegistryClient>>,
}

impl Registries<'_> {
    /// No client yet.
    pub(crate) fn new(settings: &Settings) -> Registries<'_> {
        Registries {
            settings,
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
        let client = RegistryClient::new(Endpoint::of_settings(self.settings, host, registry))?;
        made.insert(key, client.clone());
        Ok(client)
    }
}
