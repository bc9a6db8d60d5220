//! DNS for hosts that a registry redirects to. Their names must not lead to this machine, nor to the link or a metadata
//! service (`169.254.169.254` holds a cloud's secrets). The check applies to the address of the connection, so that a second look-up cannot return
//! another one. Private addresses are allowed: an on-premises registry has one.

use std::io;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

use crate::client::endpoint::{Endpoint, proxy_url};
use crate::client::redirect_policy::{is_forbidden_address, is_local_address};

/// Resolves names to addresses outside of this machine.
pub(super) struct ForeignDns {
    /// A registry on this machine may redirect to another one on it.
    registry: String,
    /// The user chooses the proxies. They may be on this machine.
    proxies: Vec<String>,
}

impl ForeignDns {
    pub(super) fn new(endpoint: &Endpoint) -> ForeignDns {
        let proxies = [&endpoint.proxies.http, &endpoint.proxies.https].into_iter().flatten();
        ForeignDns {
            registry: endpoint.host.name().to_owned(),
            proxies: proxies
                .filter_map(|proxy| Some(proxy_url(proxy)?.host_str()?.to_owned()))
                .collect(),
        }
    }
}

impl Resolve for ForeignDns {
    fn resolve(&self, name: Name) -> Resolving {
        let trusted = self.proxies.iter().any(|proxy| proxy == name.as_str());
        let registry = self.registry.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            if trusted {
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            if found.iter().any(|address| is_forbidden_address(address.ip())) {
                return Err(
                    io::Error::other("the name leads to an address of the link or of a metadata service").into(),
                );
            }
            if found.iter().any(is_inside) && !is_here(&registry).await {
                return Err(io::Error::other("the name leads to an address of this machine").into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn is_inside(address: &SocketAddr) -> bool {
    is_local_address(address.ip())
}

async fn is_here(registry: &str) -> bool {
    let name = registry.trim_start_matches('[').trim_end_matches(']');
    let found = lookup_host((name, 0)).await;
    found.is_ok_and(|mut found| found.any(|address| is_inside(&address)))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    async fn resolve(registry: &str, name: &str) -> bool {
        let endpoint = Endpoint::new(registry.parse().unwrap());
        ForeignDns::new(&endpoint)
            .resolve(Name::from_str(name).unwrap())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn a_name_leads_to_this_machine_only_from_a_registry_on_it() {
        assert!(!resolve("10.1.2.3:5000", "localhost").await);
        assert!(resolve("localhost:5000", "localhost").await);
        assert!(resolve("127.0.0.1:5000", "localhost").await);
    }
}
