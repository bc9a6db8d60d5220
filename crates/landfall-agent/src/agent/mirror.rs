//! The node-local mirror (SPEC section 10.2): the container runtime asks it by its mirror files, and it answers from the
//! places that the resolver names, with logins that stay in this process.

use std::sync::Arc;

use arc_swap::ArcSwap;
use landfall_core::config::{ImageRole, Settings};
use landfall_core::reference::{ImageReference, RegistryHost, Repository};
use landfall_core::resolve::Resolver;
use landfall_oci::client::RegistryError;
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::mirror::{MirrorPlace, MirrorPlaces, mirror_service};

use crate::agent::failure::Explanation;
use crate::agent::listeners::{Server, bind};
use crate::agent::reconciler::{InForce, Reconciler};

/// The mirror while it serves.
#[derive(Debug)]
pub(crate) struct MirrorService {
    server: Server,
    rules: Arc<Rules>,
}

/// The rules of now.
#[derive(Debug)]
struct Rules(ArcSwap<Compiled>);

#[derive(Debug)]
struct Compiled {
    resolver: Resolver<'static>,
    force: Arc<InForce>,
}

impl Compiled {
    fn of(force: &Arc<InForce>) -> Arc<Compiled> {
        Arc::new(Compiled {
            resolver: Resolver::shared(force.settings.clone()),
            force: force.clone(),
        })
    }
}

impl MirrorPlaces for Rules {
    /// A request names a repository and no image, so that its role is not known. It makes no difference: the primary
    /// registry holds application images only, and is passed over for what it does not have.
    fn places(&self, registry: &RegistryHost, repository: &Repository) -> Result<Vec<MirrorPlace>, RegistryError> {
        let compiled = self.0.load();
        let source = ImageReference {
            host: registry.clone(),
            repository: repository.clone(),
            tag: None,
            digest: None,
        };
        let resolution = compiled.resolver.resolve_on_node(&source, ImageRole::Application);
        (resolution.candidates.into_iter())
            .map(|candidate| {
                let client = compiled
                    .force
                    .clients
                    .client(&candidate.reference.host, candidate.registry)?;
                Ok(MirrorPlace {
                    client,
                    repository: candidate.reference.repository,
                })
            })
            .collect()
    }
}

impl Reconciler {
    /// Serves the mirror with the rules of now, or stops it where it is not asked for.
    ///
    /// # Errors
    ///
    /// When its address is not one of this machine alone, or cannot be bound.
    pub(super) async fn serve_mirror(&mut self, force: &Arc<InForce>) -> anyhow::Result<()> {
        let wanted = &force.settings.landfall.mirror;
        if !wanted.enable {
            if let Some(service) = self.mirror.take() {
                service.server.stop().await;
            }
            return Ok(());
        }
        let address = wanted.listen.clone();
        if !address.parse().is_ok_and(|host: RegistryHost| host.is_loopback()) {
            anyhow::bail!(Explanation::new(
                format!("the node-local mirror would serve private images to everybody who reaches `{address}`"),
                "set `landfall.mirror.listen` to an address of loopback, e.g. `127.0.0.1:5081`",
            ));
        }
        let service = match self.mirror.take() {
            Some(service) if service.server.started_with == address => {
                service.rules.0.store(Compiled::of(force));
                service
            }
            other => {
                if let Some(old) = other {
                    old.server.stop().await;
                }
                let listener = match self.listeners.mirror.take() {
                    Some(bound) => bound,
                    None => bind(&address, "`landfall.mirror.listen`").await?,
                };
                let rules = Arc::new(Rules(ArcSwap::new(Compiled::of(force))));
                let router = with_fast_path(mirror_service(rules.clone()));
                let supervisor = &self.host.supervisor;
                let server = Server::start(supervisor, "mirror", address, listener, None, router);
                MirrorService { server, rules }
            }
        };
        self.mirror = Some(service);
        Ok(())
    }

    /// Adds to what the webhook does what the node itself does, where the settings ask for it.
    pub(super) fn tell_node_level(&self, settings: &Settings, webhook: String) -> String {
        let mirror = &settings.landfall.mirror;
        let files: Vec<&str> = mirror.files.iter().map(|dialect| dialect.name()).collect();
        let node = match (mirror.enable, &files[..]) {
            (false, []) => return webhook,
            (true, _) => format!(
                "the node-local mirror at http://{} serves the container runtime",
                mirror.listen
            ),
            (false, files) => format!(
                "the mirror files of {} redirect the pulls of this node",
                files.join(", ")
            ),
        };
        let pods = match settings.webhook.enable {
            true => webhook,
            false => "no pod is changed: `stylus.imageRedirectWebhook.enable` is false".to_owned(),
        };
        let words = format!("{pods}; {node}, as `landfall.mirror` asks");
        self.host.status.update(|status| status.redirect.clone_from(&words));
        words
    }
}
