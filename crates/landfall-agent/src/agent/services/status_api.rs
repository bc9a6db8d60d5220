//! The status API as a service of the agent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::bundle::upload::{IDLE_HOURS_MAX, UploadStatus};
use landfall_core::cluster::configuration::webhook_address;
use landfall_core::settings::Settings;
use landfall_core::status::{EventReason, RemoteApiStatus};
use landfall_host::addresses::find_addresses;
use landfall_net::certificate::{PemPair, is_certificate_name};
use landfall_net::serve::Http;
use landfall_net::serve::host::{HostNames, require_host};
use landfall_net::serve::tls::CertificateSlot;
use landfall_net::serve::transport::Encryption;
use landfall_net::tls::Fingerprint;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::DropGuard;

use crate::agent::bundles::receipts_of;
use crate::agent::host::Host;
use crate::agent::services::server::{Ensured, Routes, Server, ServerSpec, is_loopback};
use crate::api::{ApiState, UploadApi, api_router, require_encryption};
use crate::certificates::{Authority, IssuedCertificate, ensure_certificate};
use crate::cluster::host_name;
use crate::options::Role;
use crate::state_dir::STATUS_API;
use crate::uploads::Uploads;
use crate::webhook;

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(crate) struct StatusApi {
    server: Server,
    /// Ends the task that looks after the uploads of the running server.
    uploads: Option<DropGuard>,
    certificate: Option<Arc<CertificateSlot>>,
    /// The authority of the last certificate.
    authority: Option<PemPair>,
}

impl StatusApi {
    pub(crate) fn new(bound: Option<TcpListener>) -> StatusApi {
        StatusApi {
            server: Server::new(bound),
            uploads: None,
            certificate: None,
            authority: None,
        }
    }

    /// Serves the status API at the address of the settings: by plain HTTP on loopback, and with TLS for other machines
    /// [spec:security.status-api].
    ///
    /// # Errors
    ///
    /// If the address cannot be bound, or a certificate cannot be made.
    pub(crate) async fn ensure(&mut self, host: &Arc<Host>, settings: &Settings, role: Role) -> anyhow::Result<()> {
        let address = match &settings.landfall.listen {
            Some(listen) => listen.clone(),
            None => format!("127.0.0.1:{}", settings.local_ui_port),
        };
        let names = own_names(host, settings, &address);
        let issued = match is_loopback(&address) {
            true => None,
            false => Some(issue_certificate(host, &names, self.authority.clone()).await?),
        };
        if let Some(issued) = &issued {
            self.authority = Some(issued.authority.clone());
            host.report_aside(&issued.aside).await;
        }
        let spec = ServerSpec {
            name: "status-api",
            address: &address,
            setting: "`landfall.listen` or `stylus.localUI.port`",
            fixed: format!("{address} {} {}", settings.landfall.bundles.directory, names.join(" ")),
        };
        let mut certificate = None;
        let watched = &mut self.uploads;
        let routes = async {
            let uploads = match role {
                Role::Host => {
                    let (uploads, guard) = open_uploads(host, settings).await?;
                    *watched = Some(guard);
                    Some(uploads)
                }
                _ => None,
            };
            let router = api_router(ApiState {
                status: host.status.clone(),
                metrics: host.metrics.clone(),
                events: host.events.clone(),
                uploads,
                receipts: receipts_of(host),
            });
            let router = require_encryption(require_host(router, HostNames::addresses_and(names.clone())));
            if let Some(issued) = &issued {
                certificate = Some(CertificateSlot::new(&issued.pair)?);
            }
            Ok(Routes {
                http: Http::Plain(router),
                encryption: certificate.clone().map_or(Encryption::Off, Encryption::Detected),
            })
        };
        let ensured = self.server.ensure(&host.supervisor, spec, routes).await?;
        let Some(address) = self.server.local_addr() else {
            return Ok(());
        };
        match ensured {
            Ensured::Started => self.certificate = certificate,
            Ensured::Kept => {
                if let (Some(certificate), Some(issued)) = (&self.certificate, &issued) {
                    certificate.replace(&issued.pair)?;
                }
            }
        }
        let remote = issued
            .map(|issued| describe_remote(&issued, address, &names))
            .transpose()?;
        if host.status.get().remote_api != remote {
            host.status.update(|status| status.remote_api = remote);
        }
        if ensured == Ensured::Started {
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

/// Returns a certificate of the status API's own authority for these names and the addresses of this machine.
async fn issue_certificate(host: &Host, names: &[String], known: Option<PemPair>) -> anyhow::Result<IssuedCertificate> {
    let (directory, root, mut names) = (host.state_dir.join(STATUS_API), host.root.clone(), names.to_vec());
    let make = move || {
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        names.extend(find_addresses(&root).iter().map(ToString::to_string));
        let names = certificate_names(&names);
        let authority = Authority::Own {
            name: "Landfall status API",
            known,
        };
        ensure_certificate(&directory, authority, &names, Timestamp::now())
    };
    tokio::task::spawn_blocking(make).await?
}

/// Returns the names that a certificate can have, each once: the name of a machine may be none of DNS.
fn certificate_names(names: &[String]) -> Vec<&str> {
    let mut usable = Vec::new();
    for name in names {
        let name = name.trim_matches(['[', ']']);
        let is_unspecified = name.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
        if is_certificate_name(name) && !is_unspecified && !usable.contains(&name) {
            usable.push(name);
        }
    }
    usable
}

/// Returns the status API as other machines reach it: under the address of the settings, or the name of this host.
fn describe_remote(
    issued: &IssuedCertificate,
    address: SocketAddr,
    names: &[String],
) -> anyhow::Result<RemoteApiStatus> {
    let host_name = names.last().filter(|name| name.parse::<IpAddr>().is_err());
    let url = match host_name.filter(|_| address.ip().is_unspecified()) {
        Some(name) => format!("https://{name}:{}", address.port()),
        None => format!("https://{address}"),
    };
    Ok(RemoteApiStatus {
        url,
        ca_file: issued.authority_file.to_string(),
        fingerprint: Fingerprint::of_pem(&issued.authority.certificate)?.to_string(),
        certificate_expires: issued.expires,
    })
}

/// Opens the uploads of a host, and looks after them until the guard is dropped.
async fn open_uploads(host: &Arc<Host>, settings: &Settings) -> anyhow::Result<(UploadApi, DropGuard)> {
    let directory = host.root.join(&settings.landfall.bundles.directory)?;
    let (state_dir, status, metrics) = (host.state_dir.clone(), host.status.clone(), host.metrics.clone());
    let open = move || UploadApi::open(&directory, &state_dir, status, metrics);
    let (uploads, published) = tokio::task::spawn_blocking(open).await?;
    let guard = watch_uploads(host, uploads.uploads.clone(), published);
    Ok((uploads, guard))
}

/// Tells of complete uploads, and gives up those that nobody goes on with, until the guard is dropped.
fn watch_uploads(host: &Arc<Host>, uploads: Uploads, mut published: mpsc::Receiver<UploadStatus>) -> DropGuard {
    let stop = host.supervisor.child_token();
    let guard = stop.clone().drop_guard();
    let watched = host.clone();
    host.supervisor.supervise_until("uploads", stop, move |stop| async move {
        let mut hours = interval_at(Instant::now() + HOUR, HOUR);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(upload) = published.recv() => {
                    let path = upload.path.unwrap_or(upload.name);
                    let message = format!("{} bytes were uploaded", upload.size);
                    watched.note(EventReason::BundleUploaded, &path, message).await;
                    watched.wake.notify_one();
                }
                _ = hours.tick() => {
                    let uploads = uploads.clone();
                    for upload in tokio::task::spawn_blocking(move || uploads.pass_hour()).await? {
                        let message = format!(
                            "{} of {} bytes were uploaded, and nothing more came for {IDLE_HOURS_MAX} hours; upload it again",
                            upload.received_bytes, upload.size
                        );
                        watched.warn(EventReason::UploadAbandoned, &upload.name, message).await;
                    }
                }
            }
        }
    });
    guard
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
