//! Token servers that may receive a login although they are outside of the registry's own domain.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::reference::RegistryHost;

/// A token server and the registry whose logins it may receive; written `REGISTRY=SERVER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenServer {
    /// The registry that sends its clients to the token server.
    pub registry: RegistryHost,
    pub server: RegistryHost,
}

/// Error of a text that is not `REGISTRY=SERVER`.
#[derive(Debug, thiserror::Error)]
#[error("write it as `REGISTRY=SERVER`, each as `host[:port]`")]
pub struct NotATokenServer;

impl TokenServer {
    /// Returns the token servers of a list that may receive the logins of a registry.
    pub fn of_registry(list: &[TokenServer], registry: &RegistryHost) -> impl Iterator<Item = RegistryHost> {
        list.iter()
            .filter(move |listed| listed.registry == *registry)
            .map(|listed| listed.server.clone())
    }
}

impl FromStr for TokenServer {
    type Err = NotATokenServer;

    fn from_str(text: &str) -> Result<TokenServer, NotATokenServer> {
        let (registry, server) = text.split_once('=').ok_or(NotATokenServer)?;
        let host = |text: &str| text.trim().parse().map_err(|_| NotATokenServer);
        Ok(TokenServer {
            registry: host(registry)?,
            server: host(server)?,
        })
    }
}

impl fmt::Display for TokenServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.registry, self.server)
    }
}

impl Serialize for TokenServer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_server_is_listed_for_one_registry() {
        let listed: TokenServer = "reg.example.com:5000=auth.example.org".parse().unwrap();
        assert_eq!(listed.to_string(), "reg.example.com:5000=auth.example.org");
        let list = [listed];
        let of = |registry: &str| TokenServer::of_registry(&list, &registry.parse().unwrap()).count();
        assert_eq!((of("reg.example.com:5000"), of("reg.example.com")), (1, 0));
        for wrong in ["", "reg.example.com", "=auth.example.org", "reg.example.com=", "a/b=c"] {
            assert!(wrong.parse::<TokenServer>().is_err(), "{wrong}");
        }
    }
}
