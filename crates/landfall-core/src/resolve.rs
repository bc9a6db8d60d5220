//! The sources of an image, their order and the reason for each [spec:resolution]. No other module decides this.
//!
//! The rules are compiled once into look-up tables. A resolution then costs a few hash look-ups, independent of the
//! number of rules. The resolver does not know the content of the primary registry: it lists the primary registry as a
//! candidate, and [`Resolution::runtime`] takes that fact from the caller.

mod bundles;
mod explain;
mod peers;
mod prefix;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use serde::Serialize;

use crate::reference::{ImageReference, ReferenceError, RegistryHost};
use crate::settings::{ImageRole, Primary, RegistryRole, RulePrefix, Settings};
use prefix::{PrefixMap, below, join};

pub use bundles::BundleOffers;
pub use peers::PeerOffers;

/// The resolution rules of one [`Settings`], compiled for fast look-up.
#[derive(Debug)]
pub struct Resolver<'a> {
    settings: ResolverSettings<'a>,
    /// Mapping rules by their source prefix.
    rules: PrefixMap<usize>,
    /// The rule with the key `all`.
    all: Option<usize>,
    /// The targets of the mapping rules. An image below one of them keeps its name, whichever rule matches it.
    targets: PrefixMap<()>,
    /// All external registries. An image below one of them needs no rule.
    externals: PrefixMap<()>,
    /// The external registry that is prepended to every image: set if there is exactly one, and no rule.
    single_external: Option<usize>,
    has_external: bool,
    /// Credentials for any image, and those for the provider image only.
    registries: PrefixMap<usize>,
    provider_registries: PrefixMap<usize>,
    /// The role of each image in the profiles, by canonical source.
    roles: HashMap<ImageReference, ImageRole>,
    /// The bundles of this host, and the names of the images in them.
    bundles: Arc<BundleOffers>,
    /// The other hosts of the site, and the images that they have.
    peers: Arc<PeerOffers>,
}

/// The settings that a resolver was compiled from: borrowed for one run, or shared by a long-running role.
#[derive(Debug)]
enum ResolverSettings<'a> {
    Lent(&'a Settings),
    Shared(Arc<Settings>),
}

impl Deref for ResolverSettings<'_> {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        match self {
            ResolverSettings::Lent(settings) => settings,
            ResolverSettings::Shared(settings) => settings,
        }
    }
}

/// The answer: candidates in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// At least one: the primary registry first, then the external or mapped one, then the origin if that is allowed.
    pub candidates: Vec<Candidate>,
    /// A finding for the user, e.g. that no rule matches this image.
    pub warning: Option<Warning>,
}

/// A source of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub kind: CandidateKind,
    /// The reference to pull. Tag and digest are those of the source, as written.
    pub reference: ImageReference,
    pub why: Why,
    /// The index into [`Settings::registries`] of the credentials and trust anchors. `None`: anonymous, with the trust
    /// anchors of the system.
    pub registry: Option<usize>,
}

/// The kind of registry that a candidate names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CandidateKind {
    Primary,
    /// An external registry, by prepending or by a mapping rule.
    External,
    /// The registry written in the profile.
    Origin,
    /// A bundle on this host. Pods pull its images through the primary registry, or from containerd.
    Bundle,
    /// Another host of the site. Pods never pull from it.
    Peer,
}

/// The reason for a candidate. [`Resolver::explain`] says it in words, with file and line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The primary registry holds application images.
    Primary,
    /// The mapping rule with this index in [`Settings::rules`].
    Rule(usize),
    /// The only external registry: its index into [`Settings::registries`].
    Prepend(usize),
    /// The image names its target already.
    AlreadyThere,
    /// There are rules or several registries, and none of them applies to this image.
    NoRule,
    /// The rule or registry for this image gives it a name that no registry accepts.
    NotPossible,
    /// No external registry is configured.
    NoExternal,
    /// `imageRedirectWebhook.enable: false`: nothing is redirected [spec:webhook-off].
    RedirectionOff,
    /// The source as written, tried last: no external registry is configured and sync is allowed.
    SyncFromOrigin,
    /// The bundle with this index in the [`BundleOffers`] has the image.
    Bundle(usize),
    /// The host with this number in the [`PeerOffers`] has the image.
    Peer(usize),
}

/// A finding about one image. [`Resolver::explain_warning`] says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Warning {
    /// Rules exist and none matches.
    NoRuleMatches,
    /// Several registries and no rule.
    SeveralRegistriesNoRule,
    /// The name at the external registry is not a valid repository, mostly because of its length. The image keeps its
    /// name.
    NameNotPossible,
    /// The name at the primary registry is not a valid repository, mostly because of its length. The primary registry
    /// is not used for this image.
    PrimaryNameNotPossible,
}

impl Resolution {
    /// Returns the candidate for a pod: the first one, or the second if the first is a primary registry that does not
    /// hold the image. If only the primary registry may serve the image, it is returned even before it holds it.
    #[must_use]
    pub fn runtime(&self, primary_holds: bool) -> &Candidate {
        // A pod pulls from registries only.
        self.registries()
            .find(|candidate| candidate.why != Why::Primary || primary_holds)
            .or_else(|| self.registries().next())
            .unwrap_or(&self.candidates[0])
    }

    /// Returns the candidates that are registries.
    fn registries(&self) -> impl Iterator<Item = &Candidate> {
        let is_registry =
            |candidate: &&Candidate| !matches!(candidate.kind, CandidateKind::Bundle | CandidateKind::Peer);
        self.candidates.iter().filter(is_registry)
    }

    /// Returns the candidate in the primary registry that the agent fills, if there is one.
    #[must_use]
    pub fn primary(&self) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.why == Why::Primary)
    }
}

/// The result of rules 1 to 5 for a source.
struct Mapped {
    reference: ImageReference,
    why: Why,
    warning: Option<Warning>,
}

impl<'a> Resolver<'a> {
    /// Compiles the rules of settings that outlive the resolver.
    #[must_use]
    pub fn new(settings: &'a Settings) -> Resolver<'a> {
        Resolver::compile(settings, ResolverSettings::Lent(settings))
    }

    /// Compiles the rules of settings that the resolver keeps, for roles that answer many requests with one resolver.
    #[must_use]
    pub fn shared(settings: Arc<Settings>) -> Resolver<'static> {
        Resolver::compile(&settings, ResolverSettings::Shared(Arc::clone(&settings)))
    }

    fn compile(settings: &Settings, compiled: ResolverSettings<'a>) -> Resolver<'a> {
        let external = || {
            settings
                .registries
                .iter()
                .enumerate()
                .filter(|(_, registry)| registry.role == RegistryRole::External)
        };
        let mut resolver = Resolver {
            settings: compiled,
            rules: PrefixMap::new(),
            all: None,
            targets: PrefixMap::new(),
            externals: PrefixMap::new(),
            single_external: None,
            has_external: external().next().is_some(),
            registries: PrefixMap::new(),
            provider_registries: PrefixMap::new(),
            roles: HashMap::with_capacity(settings.images.len()),
            bundles: Arc::default(),
            peers: Arc::default(),
        };
        for (index, rule) in settings.rules.iter().enumerate() {
            match &rule.from {
                RulePrefix::All => resolver.all = resolver.all.or(Some(index)),
                RulePrefix::Path { host, path } => resolver.rules.insert(host.as_str(), path, index),
            }
            resolver.targets.insert(rule.to_host.as_str(), &rule.to_path, ());
        }
        for (_, registry) in external() {
            resolver.externals.insert(registry.host.as_str(), &registry.path, ());
        }
        if settings.rules.is_empty() && external().count() == 1 {
            resolver.single_external = external().next().map(|(index, _)| index);
        }
        resolver.compile_credentials(settings);
        for image in &settings.images {
            resolver.roles.entry(image.reference.canonical()).or_insert(image.role);
        }
        resolver
    }

    /// Orders registries of the same scope: external, primary, pack. The user's registries for pulling beat those of a
    /// pack.
    fn compile_credentials(&mut self, settings: &Settings) {
        for role in [RegistryRole::External, RegistryRole::Primary, RegistryRole::Pack] {
            for (index, registry) in settings.registries.iter().enumerate() {
                if registry.role == role {
                    self.registries.insert(registry.host.as_str(), &registry.path, index);
                }
            }
        }
        for (index, registry) in settings.registries.iter().enumerate() {
            if registry.role == RegistryRole::Provider {
                self.provider_registries
                    .insert(registry.host.as_str(), &registry.path, index);
            }
        }
    }

    /// Returns the resolver with the bundles of this host, unless the settings ignore bundles
    /// [spec:combinations.compat].
    #[must_use]
    pub fn offering(mut self, bundles: Arc<BundleOffers>) -> Resolver<'a> {
        if !self.settings.ignores_bundles() {
            self.bundles = bundles;
        }
        self
    }

    /// Returns the resolver with the other hosts of the site.
    #[must_use]
    pub fn with_peers(mut self, peers: Arc<PeerOffers>) -> Resolver<'a> {
        self.peers = peers;
        self
    }

    /// Returns the bundles that images are taken from.
    #[must_use]
    pub fn bundles(&self) -> &BundleOffers {
        &self.bundles
    }

    /// Returns the name in messages of the bundle that a candidate names.
    #[must_use]
    pub fn bundle_of(&self, candidate: &Candidate) -> Option<&str> {
        match candidate.why {
            Why::Bundle(number) => self.bundles.name(number),
            _ => None,
        }
    }

    /// Returns the sources from which this host fetches an image, in order: bundles, which need no network, other hosts
    /// of the site, which need no uplink, then those of [`Resolver::resolve`] [spec:resolution.bundles]
    /// [spec:resolution.peers]. A bundle may have the image under its own name, or under the
    /// name of one of the other sources.
    #[must_use]
    pub fn resolve_on_host(&self, source: &ImageReference, role: ImageRole) -> Resolution {
        let mut resolution = self.resolve(source, role);
        let names = std::iter::once(source).chain(resolution.candidates.iter().map(|candidate| &candidate.reference));
        let mut offers: Vec<Candidate> = Vec::new();
        for name in names {
            for (bundle, reference) in self.bundles.with_image(name) {
                let why = Why::Bundle(bundle);
                if !offers.iter().any(|offer| offer.why == why) {
                    offers.push(Candidate {
                        kind: CandidateKind::Bundle,
                        reference,
                        why,
                        registry: None,
                    });
                }
            }
        }
        let peers = self.peers.with_image(source).map(|(peer, reference)| Candidate {
            kind: CandidateKind::Peer,
            reference,
            why: Why::Peer(peer),
            // The certificate of the site is the login.
            registry: None,
        });
        offers.extend(peers);
        resolution.candidates.splice(0..0, offers);
        resolution
    }

    /// Returns the settings that the rules were compiled from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the role of an image in the profiles. An image that no profile names belongs to an application.
    #[must_use]
    pub fn role_of(&self, reference: &ImageReference) -> ImageRole {
        self.roles
            .get(&reference.canonical())
            .copied()
            .unwrap_or(ImageRole::Application)
    }

    /// Returns the sources of an image. The cost does not grow with the number of rules. Tag and digest are carried
    /// over unchanged.
    #[must_use]
    pub fn resolve(&self, source: &ImageReference, role: ImageRole) -> Resolution {
        if !self.settings.webhook.enable {
            return self.untouched(source, role, CandidateKind::Origin, Why::RedirectionOff);
        }
        self.resolve_on_node(source, role)
    }

    /// Returns the sources of an image for mirror files and the node-local mirror [spec:mirror-files]. The user asks
    /// for them beside the webhook or in its place, so the switch of the webhook does not count here.
    #[must_use]
    pub fn resolve_on_node(&self, source: &ImageReference, role: ImageRole) -> Resolution {
        if self.is_in_primary(source) {
            return self.untouched(source, role, CandidateKind::Primary, Why::AlreadyThere);
        }
        let mapped = self.map(source);
        let mut warning = mapped.warning;
        let mut candidates = Vec::with_capacity(2);
        match self.in_primary(&mapped.reference, role) {
            None => {}
            Some(Ok(reference)) => {
                candidates.push(self.candidate(CandidateKind::Primary, reference, Why::Primary, role));
            }
            Some(Err(_)) => warning = warning.or(Some(Warning::PrimaryNameNotPossible)),
        }
        // The origin is asked only if no external registry is configured and sync is allowed [spec:resolution.primary].
        let behind_primary = !candidates.is_empty();
        let origin_forbidden = behind_primary && (self.has_external || !self.sync_allowed());
        let kind = match mapped.why {
            Why::Rule(_) | Why::Prepend(_) | Why::AlreadyThere => CandidateKind::External,
            _ => CandidateKind::Origin,
        };
        if mapped.why != Why::NoExternal || !origin_forbidden {
            candidates.push(self.candidate(kind, mapped.reference, mapped.why, role));
        }
        if matches!(mapped.why, Why::Rule(_)) && behind_primary && !origin_forbidden {
            candidates.push(self.candidate(CandidateKind::Origin, source.clone(), Why::SyncFromOrigin, role));
        }
        Resolution { candidates, warning }
    }

    fn untouched(&self, source: &ImageReference, role: ImageRole, kind: CandidateKind, why: Why) -> Resolution {
        Resolution {
            candidates: vec![self.candidate(kind, source.clone(), why, role)],
            warning: None,
        }
    }

    fn sync_allowed(&self) -> bool {
        self.settings.primary.as_ref().is_none_or(|primary| primary.sync)
    }

    /// Returns the reference at which the agent stores an application image in the primary registry:
    /// `<endpoint>/<project>/<result of rules 1 to 5>`. It is the same while redirection is off, because the agent
    /// fills the primary registry then, too [spec:webhook-off]. `None` if there is no primary registry, or the image
    /// does not belong to an application, is served there by its own name, or has no valid name there.
    #[must_use]
    pub fn primary_target(&self, source: &ImageReference, role: ImageRole) -> Option<ImageReference> {
        if self.is_in_primary(source) {
            return None;
        }
        self.in_primary(&self.map(source).reference, role)?.ok()
    }

    /// Returns the index into [`Settings::registries`] of the credentials and trust anchors for a reference: by
    /// `host[:port]` and the longest path prefix of whole segments. Those of the provider registry apply to the
    /// provider image only [spec:resolution.credentials].
    #[must_use]
    pub fn registry_for(&self, reference: &ImageReference, role: ImageRole) -> Option<usize> {
        let (host, path) = (reference.host.as_str(), reference.repository.as_str());
        let general = self.registries.longest(host, path);
        let provider = match role {
            ImageRole::Provider => self.provider_registries.longest(host, path),
            ImageRole::Infrastructure | ImageRole::Application => None,
        };
        match (provider, general) {
            (Some((near, index)), Some((far, _))) if near.len() >= far.len() => Some(*index),
            (Some((_, index)), None) | (_, Some((_, index))) => Some(*index),
            (None, None) => None,
        }
    }

    fn candidate(&self, kind: CandidateKind, reference: ImageReference, why: Why, role: ImageRole) -> Candidate {
        let registry = self.registry_for(&reference, role);
        Candidate {
            kind,
            reference,
            why,
            registry,
        }
    }

    /// Applies rules 1 to 5.
    fn map(&self, source: &ImageReference) -> Mapped {
        let unchanged = |why, warning| Mapped {
            reference: source.clone(),
            why,
            warning,
        };
        let (host, path) = (source.host.as_str(), source.repository.as_str());
        // Rule 4 comes first, so that the next pass leaves the result of a rule unchanged [spec:resolution.idempotent].
        if self.targets.longest(host, path).is_some() {
            return unchanged(Why::AlreadyThere, None);
        }
        let (target, why) = if let Some((prefix, index)) = self.rules.longest(host, path) {
            let rule = &self.settings.rules[*index];
            let rest = below(path, prefix).unwrap_or(path);
            let target = source.in_repository(&rule.to_host, &join(&[&rule.to_path, rest]));
            (target, Why::Rule(*index))
        } else if let Some(index) = self.all {
            let rule = &self.settings.rules[index];
            (prepend(&rule.to_host, &rule.to_path, source), Why::Rule(index))
        } else if self.externals.longest(host, path).is_some() {
            return unchanged(Why::AlreadyThere, None);
        } else if let Some(index) = self.single_external {
            let registry = &self.settings.registries[index];
            (prepend(&registry.host, &registry.path, source), Why::Prepend(index))
        } else if !self.settings.rules.is_empty() {
            return unchanged(Why::NoRule, Some(Warning::NoRuleMatches));
        } else if self.has_external {
            return unchanged(Why::NoRule, Some(Warning::SeveralRegistriesNoRule));
        } else {
            return unchanged(Why::NoExternal, None);
        };
        match target {
            Ok(reference) => Mapped {
                reference,
                why,
                warning: None,
            },
            Err(_) => unchanged(Why::NotPossible, Some(Warning::NameNotPossible)),
        }
    }

    /// Returns the name of rule 6. `None` if the primary registry does not serve this image, or serves it under this
    /// name.
    fn in_primary(&self, mapped: &ImageReference, role: ImageRole) -> Option<Result<ImageReference, ReferenceError>> {
        let primary = self.primary_for(role)?;
        if self.is_in_primary(mapped) {
            return None;
        }
        Some(prepend(&primary.endpoint, &primary.project, mapped))
    }

    /// Returns true for application images. The provider image is pulled before the primary registry runs, and the
    /// primary registry runs on the infrastructure images.
    fn primary_for(&self, role: ImageRole) -> Option<&Primary> {
        match role {
            ImageRole::Application => self.settings.primary.as_ref(),
            ImageRole::Provider | ImageRole::Infrastructure => None,
        }
    }

    fn is_in_primary(&self, reference: &ImageReference) -> bool {
        self.settings.primary.as_ref().is_some_and(|primary| {
            primary.endpoint == reference.host && below(reference.repository.as_str(), &primary.project).is_some()
        })
    }
}

/// Returns `host/path/<original host>/<original path>` (rules 2, 5 and 6).
fn prepend(host: &RegistryHost, path: &str, source: &ImageReference) -> Result<ImageReference, ReferenceError> {
    source.in_repository(host, &join(&[path, &source.path_with_host()]))
}
