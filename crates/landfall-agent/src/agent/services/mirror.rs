//! The node-local mirror [spec:mirror-files]. The container runtime asks it, because its mirror files name it. The
//! mirror answers from the registries that the resolver names, with logins that stay in this process, and from the
//! bundles on this host.

use std::sync::Arc;

use arc_swap::ArcSwap;
use landfall_core::failure::Explanation;
use landfall_core::reference::{ImageReference, RegistryHost, Repository};
use landfall_core::resolve::Resolver;
use landfall_core::settings::ImageRole;
use landfall_net::serve::transport::Encryption;
use landfall_oci::client::RegistryError;
use landfall_oci::content::places::Places;
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::mirror::{MirrorSource, MirrorSources, mirror_service};
use tokio::net::TcpListener;

use crate::agent::active_config::ActiveConfig;
use crate::agent::clients::Clients;
use crate::agent::host::Host;
use crate::agent::services::server::{Routes, Server, ServerSpec};

/// The node-local mirror.
#[derive(Debug)]
pub(crate) struct MirrorService {
    server: Server,
    rules: Option<Arc<Rules>>,
}

/// The current rules. A new configuration replaces them while the mirror serves.
#[derive(Debug)]
struct Rules {
    resolver: ArcSwap<ActiveResolver>,
    places: Arc<Places>,
}

/// The resolver and the clients of a configuration. Its bundles are left out: a file that is open keeps its stick
/// mounted.
#[derive(Debug)]
struct ActiveResolver {
    resolver: Resolver<'static>,
    clients: Arc<Clients>,
}

impl ActiveResolver {
    fn new(active: &Arc<ActiveConfig>) -> Arc<ActiveResolver> {
        Arc::new(ActiveResolver {
            resolver: Resolver::shared(active.settings.clone()),
            clients: active.clients.clone(),
        })
    }
}

impl MirrorSources for Rules {
    /// A request names a repository and no image, so that the role of the image is unknown. The role makes no
    /// difference: the primary registry holds application images only, and the mirror passes over a registry that lacks
    /// the image.
    fn sources(&self, registry: &RegistryHost, repository: &Repository) -> Result<Vec<MirrorSource>, RegistryError> {
        let compiled = self.resolver.load();
        let source = ImageReference {
            host: registry.clone(),
            repository: repository.clone(),
            tag: None,
            digest: None,
        };
        let resolution = compiled.resolver.resolve_on_node(&source, ImageRole::Application);
        resolution
            .candidates
            .into_iter()
            .map(|candidate| {
                let client = compiled.clients.client(&candidate.reference.host, candidate.registry)?;
                Ok(MirrorSource {
                    client,
                    repository: candidate.reference.repository,
                })
            })
            .collect()
    }

    fn places(&self) -> Option<&Places> {
        Some(&self.places)
    }
}

impl MirrorService {
    pub(crate) fn new(bound: Option<TcpListener>) -> MirrorService {
        MirrorService {
            server: Server::new(bound),
            rules: None,
        }
    }

    /// Serves the mirror with the current rules, or stops it where the settings do not ask for it.
    ///
    /// # Errors
    ///
    /// If its address is not one of this machine alone, or cannot be bound.
    pub(crate) async fn ensure(&mut self, host: &Host, active: &Arc<ActiveConfig>) -> anyhow::Result<()> {
        let wanted = &active.settings.landfall.mirror;
        if !wanted.enable {
            self.server.stop().await;
            self.rules = None;
            return Ok(());
        }
        let address = &wanted.listen;
        if !address.parse().is_ok_and(|host: RegistryHost| host.is_loopback()) {
            anyhow::bail!(Explanation::new(
                format!("the node-local mirror would serve private images to everyone who reaches `{address}`"),
                "set `landfall.mirror.listen` to an address of loopback, e.g. `127.0.0.1:5081`",
            ));
        }
        let compiled = ActiveResolver::new(active);
        let rules = match &self.rules {
            Some(rules) => {
                rules.resolver.store(compiled);
                rules
            }
            None => self.rules.insert(Arc::new(Rules {
                resolver: ArcSwap::new(compiled),
                places: host.places.clone(),
            })),
        };
        let spec = ServerSpec {
            name: "mirror",
            address,
            setting: "`landfall.mirror.listen`",
            fixed: address.clone(),
        };
        let routes = async {
            Ok(Routes {
                http: with_fast_path(mirror_service(rules.clone())),
                encryption: Encryption::Off,
            })
        };
        self.server.ensure(&host.supervisor, spec, routes).await?;
        Ok(())
    }
}
