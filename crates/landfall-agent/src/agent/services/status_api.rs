//! The status API as a service of the agent.

use std::net::{Ipv4Addr, Ipv6Addr};

use landfall_core::cluster::configuration::webhook_address;
use landfall_core::settings::Settings;
use landfall_net::serve::Http;
use landfall_net::serve::host::{HostNames, require_host};
use tokio::net::TcpListener;

use crate::agent::host::Host;
use crate::agent::services::server::{Ensured, Routes, Server, ServerSpec};
use crate::api::{ApiState, api_router};
use crate::cluster::host_name;
use crate::webhook;

#[derive(Debug)]
pub(crate) struct StatusApi {
    server: Server,
}

impl StatusApi {
    pub(crate) fn new(bound: Option<TcpListener>) -> StatusApi {
        StatusApi {
            server: Server::new(bound),
        }
    }

    /// Serves the status API at the address of the settings.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub(crate) async fn ensure(&mut self, host: &Host, settings: &Settings) -> anyhow::Result<()> {
        let address = match &settings.landfall.listen {
            Some(listen) => listen.clone(),
            None => format!("127.0.0.1:{}", settings.local_ui_port),
        };
        let names = own_names(host, settings, &address);
        let spec = ServerSpec {
            name: "status-api",
            address: &address,
            setting: "`landfall.listen` or `stylus.localUI.port`",
            fixed: format!("{address} {}", names.join(" ")),
        };
        let routes = async {
            let router = api_router(ApiState {
                status: host.status.clone(),
                metrics: host.metrics.clone(),
                events: host.events.clone(),
            });
            Ok(Routes {
                http: Http::Plain(require_host(router, HostNames::addresses_and(names))),
                certificate: None,
            })
        };
        if let (Ensured::Started, Some(address)) = (
            self.server.ensure(&host.supervisor, spec, routes).await?,
            self.server.local_addr(),
        ) {
            tracing::info!(%address, "status API listens");
            let reachable = match (address.ip().is_unspecified(), address.is_ipv4()) {
                (false, _) => address,
                (true, true) => (Ipv4Addr::LOCALHOST, address.port()).into(),
                (true, false) => (Ipv6Addr::LOCALHOST, address.port()).into(),
            };
            host.status
                .update(|status| status.api = Some(format!("http://{reachable}")));
        }
        Ok(())
    }
}

/// Returns the names by which the status API may be asked, besides addresses: that of the setting, of this host, and of
/// the webhook's Service, which may have the port of the status API.
fn own_names(host: &Host, settings: &Settings, address: &str) -> Vec<String> {
    let listens_at = address.rsplit_once(':').map_or(address, |(name, _port)| name);
    let port = settings.webhook.port.unwrap_or(webhook::DEFAULT_PORT);
    let mut names = webhook_address(settings, port).names();
    names.push(listens_at.to_owned());
    names.extend(host_name(&host.root));
    names
}
