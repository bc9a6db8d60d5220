//! The registry clients of one configuration. Credentials, trust and proxies of each come from one table.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use landfall_core::reference::RegistryHost;
use landfall_core::settings::Settings;
use landfall_core::sync::lock;
use landfall_oci::client::{AmbientAccess, Endpoint, RegistryClient, RegistryError};
use landfall_oci::keychain::Keychain;

/// The clients. Each is made when it is first needed and kept, so that its connections and tokens are shared.
#[derive(Debug)]
pub(crate) struct Clients {
    settings: Arc<Settings>,
    ambient: AmbientAccess,
    keychain: Arc<Keychain>,
    /// The trust for the embedded registry, which only this process knows.
    own: Mutex<Option<OwnRegistry>>,
    made: Mutex<HashMap<(RegistryHost, Option<usize>), RegistryClient>>,
}

/// The registry that this process serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnRegistry {
    pub(crate) host: RegistryHost,
    /// The certificate of its authority in PEM; `None` if it speaks plain HTTP, on loopback.
    pub(crate) authority: Option<String>,
}

impl Clients {
    pub(crate) fn new(settings: Arc<Settings>, ambient: AmbientAccess) -> Clients {
        let named = settings.landfall.credentials_file.as_deref();
        Clients {
            keychain: Arc::new(ambient.keychain(named)),
            ambient,
            settings,
            own: Mutex::default(),
            made: Mutex::default(),
        }
    }

    /// Sets the trust for the registry that this process serves.
    pub(crate) fn trust_own(&self, own: OwnRegistry) {
        let mut known = lock(&self.own);
        if known.as_ref() != Some(&own) {
            lock(&self.made).retain(|(host, _), _| *host != own.host);
            *known = Some(own);
        }
    }

    /// Returns the client for a host, with the credentials of the given registry of the settings.
    ///
    /// # Errors
    ///
    /// If its certificates or proxies cannot be used.
    pub(crate) fn client(&self, host: &RegistryHost, registry: Option<usize>) -> Result<RegistryClient, RegistryError> {
        let key = (host.clone(), registry);
        let mut made = lock(&self.made);
        if let Some(client) = made.get(&key) {
            return Ok(client.clone());
        }
        let client = RegistryClient::new(self.ambient.complete(self.endpoint(host, registry), &self.keychain))?;
        made.insert(key, client.clone());
        Ok(client)
    }

    /// Returns the rest of the wait that a registry asked for; `None` if it may be asked now.
    pub(crate) fn not_before(&self, host: &RegistryHost, registry: Option<usize>) -> Option<Duration> {
        let made = lock(&self.made);
        made.get(&(host.clone(), registry)).and_then(RegistryClient::not_before)
    }

    /// Returns true while a registry asks for no request.
    pub(crate) fn any_waits(&self) -> bool {
        lock(&self.made).values().any(|client| client.not_before().is_some())
    }

    fn endpoint(&self, host: &RegistryHost, registry: Option<usize>) -> Endpoint {
        let mut endpoint = Endpoint::of_settings(&self.settings, host, registry);
        let own = lock(&self.own);
        if let Some(own) = own.as_ref().filter(|own| own.host == *host) {
            endpoint.tls.certificates.extend(own.authority.clone());
            endpoint.tls.insecure |= own.authority.is_none();
        }
        endpoint
    }
}
