//! Endpoints from the settings: login, trust and proxies of a registry. The agent and all commands use this one
//! conversion.

use landfall_core::reference::RegistryHost;
use landfall_core::settings::{Settings, TokenServer};
use landfall_net::tls::TlsPolicy;

use crate::client::endpoint::{Endpoint, Proxies};
use crate::client::login::Login;

impl Endpoint {
    /// Returns the endpoint of a host with the credentials and trust of one of [`Settings::registries`]. Without a
    /// registry it is anonymous, and trusts the site's certificates.
    #[must_use]
    pub fn of_settings(settings: &Settings, host: &RegistryHost, registry: Option<usize>) -> Endpoint {
        let registry = registry.and_then(|index| settings.registries.get(index));
        let own_certificates = registry.map_or(&[][..], |registry| &registry.certificates);
        let certificates = settings.ca_certificates.iter().chain(own_certificates);
        let login = registry.and_then(|registry| registry.login.as_ref());
        Endpoint {
            tls: TlsPolicy {
                insecure: registry.is_some_and(|registry| registry.insecure),
                certificates: certificates.map(ToString::to_string).collect(),
            },
            login: login.map(|login| Login {
                username: login.username.clone(),
                password: login.password.clone(),
            }),
            token_servers: TokenServer::of_registry(&settings.landfall.token_servers, host).collect(),
            proxies: Proxies {
                http: settings.network.http_proxy.clone(),
                https: settings.network.https_proxy.clone(),
                no_proxy: settings.network.no_proxy.clone(),
            },
            ..Endpoint::new(host.clone())
        }
    }
}
