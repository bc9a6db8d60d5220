//! Access to registries that this machine provides beside the settings: logins in docker's files, certificates,
//! proxies. No other module reads the environment for them.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_net::tls::USUAL_CERTIFICATE_ROOTS;

use crate::client::endpoint::{Endpoint, Proxies};
use crate::keychain::{Keychain, LoginFilePath, login_file_paths};

/// Fallback for values that the settings do not give. The default is empty: tests and the demonstration must not depend
/// on the machine.
#[derive(Debug, Clone, Default)]
pub struct AmbientAccess {
    /// Files that may hold logins, in order of precedence.
    pub login_files: Vec<Utf8PathBuf>,
    /// Directories with a subdirectory of certificates for each registry.
    pub certificate_roots: Vec<Utf8PathBuf>,
    pub proxies: Proxies,
}

impl AmbientAccess {
    /// Reads the environment of this process and the standard paths.
    #[must_use]
    pub fn of_environment() -> AmbientAccess {
        let variable = |name: &str| std::env::var(name).ok();
        AmbientAccess {
            login_files: login_file_paths(&variable, rustix::process::geteuid().as_raw()),
            certificate_roots: USUAL_CERTIFICATE_ROOTS.map(Utf8PathBuf::from).to_vec(),
            proxies: Proxies::of_variables(&variable),
        }
    }

    /// Returns the logins of this machine, after those of a file that the user named.
    #[must_use]
    pub fn keychain(&self, named: Option<&Utf8Path>) -> Keychain {
        let named = named.map(|path| LoginFilePath::Named(path.to_owned()));
        let usual = self.login_files.iter().cloned().map(LoginFilePath::Standard);
        Keychain::new(named.into_iter().chain(usual).collect())
    }

    /// Completes an endpoint; its own values take precedence.
    #[must_use]
    pub fn complete(&self, mut endpoint: Endpoint, keychain: &Arc<Keychain>) -> Endpoint {
        endpoint.keychain = Some(Arc::clone(keychain));
        endpoint.certificate_roots.clone_from(&self.certificate_roots);
        if endpoint.proxies.http.is_none() && endpoint.proxies.https.is_none() {
            endpoint.proxies = self.proxies.clone();
        }
        endpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_proxies_count_more_than_the_machines() {
        let ambient = AmbientAccess {
            proxies: Proxies {
                https: Some("http://ambient:1".to_owned().into()),
                ..Proxies::default()
            },
            ..AmbientAccess::default()
        };
        let keychain = Arc::new(ambient.keychain(None));
        let plain = Endpoint::new("reg".parse().unwrap());
        let mut own = plain.clone();
        own.proxies.http = Some("http://settings:1".to_owned().into());
        assert!(ambient.complete(plain, &keychain).proxies.https.is_some());
        assert!(ambient.complete(own, &keychain).proxies.https.is_none());
    }
}
