//! The embedded registry, served from the agent's own content store.

use std::sync::Arc;

use jiff::Timestamp;
use landfall_core::failure::Explanation;
use landfall_core::settings::{Login, Primary};
use landfall_net::certificate::PemPair;
use landfall_net::serve::tls::CertificateSlot;
use landfall_registry::admin_socket::serve_admin_socket;
use landfall_registry::directories::RegistryDirs;
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::{Policy, Registry, Users, registry_service};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;

use crate::agent::active_config::ActiveConfig;
use crate::agent::clients::OwnRegistry;
use crate::agent::host::Host;
use crate::agent::services::primary::live::{LivePrimary, ShownImage, ShownImages};
use crate::agent::services::server::{Ensured, Routes, Server, ServerSpec, is_loopback};
use crate::certificates::{Authority, IssuedCertificate, ensure_certificate};
use crate::state_dir::PRIMARY;

/// The embedded registry, which is served or not.
#[derive(Debug)]
pub(crate) struct EmbeddedRegistry {
    server: Server,
    certificate: Option<Arc<CertificateSlot>>,
    login: Option<Login>,
    /// The authority of the last certificate.
    authority: Option<PemPair>,
    /// The registry, once it was opened.
    registry: Option<Arc<Registry>>,
    /// The registry under its address, while it is served.
    live: Option<Arc<LivePrimary>>,
    shown: ShownImages,
}

impl EmbeddedRegistry {
    pub(crate) fn new(bound: Option<TcpListener>) -> EmbeddedRegistry {
        EmbeddedRegistry {
            server: Server::new(bound),
            certificate: None,
            login: None,
            authority: None,
            registry: None,
            live: None,
            shown: ShownImages::default(),
        }
    }

    /// Returns the registry under its address, if it is served.
    pub(crate) fn live(&self) -> Option<Arc<LivePrimary>> {
        self.live.clone()
    }

    /// Serves the registry; moves it when its address changed. Returns its certificate, if it serves TLS.
    ///
    /// # Errors
    ///
    /// If it would be open to everyone in the network, or cannot be served.
    pub(crate) async fn ensure(
        &mut self,
        host: &Host,
        active: &ActiveConfig,
        primary: &Primary,
    ) -> anyhow::Result<Option<IssuedCertificate>> {
        let address = active.settings.primary_address(primary);
        let issued = match active.settings.primary_speaks_tls(primary) {
            true => Some(issue_certificate(host, primary, self.authority.clone()).await?),
            false => None,
        };
        if let Some(issued) = &issued {
            self.authority = Some(issued.authority.clone());
            host.report_aside(&issued.aside).await;
        }
        let login = active
            .primary_registry
            .and_then(|index| active.settings.registries[index].login.clone());
        if login.is_none() && !is_loopback(&address) {
            anyhow::bail!(Explanation::new(
                format!("the embedded registry would let everyone push at `{address}`: it has no login"),
                "add `landfall.primary.username` and `.password` to the user-data, or the credentials of \
                 `inClusterRegistry` to the registry-connect pack",
            ));
        }
        if !is_same_login(self.login.as_ref(), login.as_ref()) {
            self.server.stop().await;
        }
        let spec = ServerSpec {
            name: "primary",
            address: &address,
            setting: "`landfall.primary.endpoint` or `landfall.primary.listen`",
            fixed: format!("{address} {}/ tls={}", primary.project, issued.is_some()),
        };
        let mut certificate = None;
        let routes = async {
            let registry = open(&mut self.registry, &self.shown, host).await?;
            if let Some(issued) = &issued {
                certificate = Some(CertificateSlot::new(&issued.pair)?);
            }
            Ok(Routes {
                http: with_fast_path(registry_service(registry, policy(login.as_ref()))),
                encryption: certificate.clone().into(),
            })
        };
        match self.server.ensure(&host.supervisor, spec, routes).await? {
            Ensured::Started => (self.certificate, self.login) = (certificate, login),
            Ensured::Kept => {
                if let (Some(certificate), Some(issued)) = (&self.certificate, &issued) {
                    certificate.replace(&issued.pair)?;
                }
            }
        }
        let registry = open(&mut self.registry, &self.shown, host).await?;
        self.live = Some(Arc::new(LivePrimary {
            endpoint: primary.endpoint.clone(),
            registry,
        }));
        let shown = active.planned.iter().filter_map(|image| {
            let target = image.primary.clone()?;
            let name = image.canonical.to_string();
            (target.host == primary.endpoint).then_some(ShownImage { name, target })
        });
        self.shown.replace(shown.collect());
        active.clients.trust_own(OwnRegistry {
            host: primary.endpoint.clone(),
            authority: issued.as_ref().map(|issued| issued.authority.certificate.clone()),
        });
        Ok(issued)
    }

    /// Opens the registry, if that was not done before.
    ///
    /// # Errors
    ///
    /// If its records cannot be read.
    pub(crate) async fn open(&mut self, host: &Host) -> anyhow::Result<Arc<Registry>> {
        open(&mut self.registry, &self.shown, host).await
    }

    pub(crate) async fn stop(&mut self) {
        self.live = None;
        self.shown.replace(Vec::new());
        self.server.stop().await;
    }

    /// Returns true while the registry is served.
    pub(crate) fn is_served(&self) -> bool {
        self.server.local_addr().is_some()
    }
}

/// Opens the registry once. From then on the commands `landfall registry gc` and `rm` reach it.
async fn open(opened: &mut Option<Arc<Registry>>, shown: &ShownImages, host: &Host) -> anyhow::Result<Arc<Registry>> {
    if let Some(registry) = opened {
        return Ok(registry.clone());
    }
    let (store, directories) = (host.store.clone(), RegistryDirs::of_agent(&host.state_dir));
    let registry = tokio::task::spawn_blocking(move || Registry::open(store, &directories.records)).await??;
    let registry = Arc::new(registry.with_places(host.places.clone()));
    let served = registry.clone();
    host.supervisor.supervise("registry admin socket", |stop| async move {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            never = serve_admin_socket(served) => match never {},
        }
    });
    let (shown, watched) = (shown.clone(), registry.clone());
    let (status, wake) = (host.status.clone(), host.wake.clone());
    host.supervisor.supervise("registry losses", |stop| async move {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            never = shown.follow_losses(watched, status, wake) => match never {},
        }
    });
    Ok(opened.insert(registry).clone())
}

async fn issue_certificate(
    host: &Host,
    primary: &Primary,
    known: Option<PemPair>,
) -> anyhow::Result<IssuedCertificate> {
    let directory = host.state_dir.join(PRIMARY);
    let name = primary.endpoint.name().trim_matches(['[', ']']).to_owned();
    let make = move || {
        let mut names = vec![name.as_str()];
        names.extend(["localhost", "127.0.0.1"].into_iter().filter(|local| *local != name));
        let authority = Authority::Own {
            name: "Landfall registry",
            known,
        };
        ensure_certificate(&directory, authority, &names, Timestamp::now())
    };
    tokio::task::spawn_blocking(make).await?
}

fn is_same_login(before: Option<&Login>, now: Option<&Login>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => {
            before.username == now.username && before.password.expose_secret() == now.password.expose_secret()
        }
        (before, now) => before.is_none() && now.is_none(),
    }
}

/// Returns the policy of the registry. Pulling needs the login as well: a client that may not push is unknown.
fn policy(login: Option<&Login>) -> Policy {
    Policy {
        login: login.map(|login| Users::User {
            name: login.username.clone(),
            password: login.password.clone(),
        }),
        ..Policy::default()
    }
}
