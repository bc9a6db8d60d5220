//! The rules for whole registries: mirror files name hosts and paths, not images.
//!
//! This module does not read the rules. It asks the resolver about a name that stands for every image below a path, and
//! splits the answer into host and prefix. The result therefore follows the resolver, even if its rules change.

use std::collections::BTreeSet;

use crate::reference::{DOCKER_HUB_ALIASES, ImageReference, RegistryHost};
use crate::registry_path::API_ROOT;
use crate::resolve::{CandidateKind, Resolver};
use crate::settings::{ImageRole, PrimaryKind, RulePrefix, Settings};

/// The name that stands for every repository below a path.
const ANY: &str = "landfall-any/image";

/// Sources of the images of one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoutes {
    /// The registry that images are named after.
    pub host: RegistryHost,
    /// The route for all repositories that no path below covers.
    pub general: PathRoute,
    /// Routes for repositories below a path, if they differ from `general`.
    pub paths: Vec<PathRoute>,
}

/// The sources of the repositories below one path, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRoute {
    /// The path without slashes at its ends; empty for the whole host.
    pub path: String,
    /// At least one source.
    pub sources: Vec<RouteSource>,
}

/// One source: `host/path/<rest>` is at `source.host/source.prefix/<rest>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSource {
    pub kind: CandidateKind,
    /// The registry to ask.
    pub host: RegistryHost,
    /// The replacement of the route's path.
    pub prefix: String,
    /// The index into [`Settings::registries`] for login and trust.
    pub registry: Option<usize>,
}

impl HostRoutes {
    /// Returns true if no image of this registry is redirected.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        let own =
            |route: &PathRoute| matches!(&route.sources[..], [source] if source.is_origin_of(&self.host, &route.path));
        own(&self.general) && self.paths.iter().all(own)
    }
}

impl RouteSource {
    /// Returns the path of this endpoint in a mirror file: empty, or the API's root and the prefix.
    pub(super) fn endpoint_path(&self) -> String {
        match self.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{API_ROOT}{prefix}"),
        }
    }

    /// Returns true if this is the registry itself, under the image's own name.
    #[must_use]
    pub fn is_origin_of(&self, host: &RegistryHost, path: &str) -> bool {
        self.host == *host && self.prefix == path
    }
}

/// Protocol of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// TLS with verification.
    Https,
    /// TLS without verification: the user marked the registry `insecure`.
    HttpsUnverified,
    Http,
}

impl Scheme {
    /// Returns the scheme of a URL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Https | Scheme::HttpsUnverified => "https",
            Scheme::Http => "http",
        }
    }
}

/// Returns the schemes of a registry, in order of attempts [spec:resolution.insecure]. Plain HTTP is the last, and is
/// allowed only if the user marked the registry `insecure`, or if it is our own on loopback.
#[must_use]
pub fn schemes(settings: &Settings, host: &RegistryHost, registry: Option<usize>) -> Vec<Scheme> {
    let own = settings
        .primary
        .as_ref()
        .filter(|primary| primary.kind == PrimaryKind::Embedded && primary.endpoint == *host);
    if own.is_some_and(|primary| !settings.primary_speaks_tls(primary)) {
        return vec![Scheme::Http];
    }
    match registry.is_some_and(|index| settings.registries[index].insecure) {
        true => vec![Scheme::HttpsUnverified, Scheme::Http],
        false => vec![Scheme::Https],
    }
}

/// Returns the registries that images are named after: those of the profiles' images, of the rules, and of the user's
/// list, without those that images are redirected to.
#[must_use]
pub fn source_hosts(settings: &Settings) -> BTreeSet<RegistryHost> {
    let of_rules = settings.rules.iter().filter_map(|rule| match &rule.from {
        RulePrefix::Path { host, .. } => Some(host.clone()),
        RulePrefix::All => None,
    });
    let mut hosts: BTreeSet<RegistryHost> = settings
        .images
        .iter()
        .map(|image| image.reference.host.clone())
        .chain(of_rules)
        .chain(settings.landfall.mirror.hosts.iter().cloned())
        .collect();
    for target in target_hosts(settings) {
        hosts.remove(&target);
    }
    hosts
}

/// Returns the names under which a container runtime looks for the file of a registry. It takes the name in the image
/// [spec:mirror-files.names]: the aliases of Docker Hub are names of their own, and capitals are kept. Of the names with
/// capitals, those in the profiles and in the user's list are known.
#[must_use]
pub fn names_at_runtime(settings: &Settings, host: &RegistryHost) -> BTreeSet<String> {
    let aliases = host.is_docker_hub().then_some(DOCKER_HUB_ALIASES).into_iter().flatten();
    let sources = settings.images.iter().map(|image| image.source.as_str());
    let written = sources.chain(settings.landfall.mirror.spellings.iter().map(String::as_str));
    [host.as_str()]
        .into_iter()
        .chain(aliases)
        .chain(written.filter_map(|text| host.spelling_in(text)))
        .map(ToOwned::to_owned)
        .collect()
}

/// Returns the registries that images are redirected to.
#[must_use]
pub fn target_hosts(settings: &Settings) -> BTreeSet<RegistryHost> {
    use crate::settings::RegistryRole::External;
    let externals = settings.registries.iter().filter(|registry| registry.role == External);
    externals
        .map(|registry| registry.host.clone())
        .chain(settings.rules.iter().map(|rule| rule.to_host.clone()))
        .chain(settings.primary.iter().map(|primary| primary.endpoint.clone()))
        .collect()
}

/// Asks the resolver for the sources of a registry's images: of all images, and of those below each path that has a
/// rule.
#[must_use]
pub fn routes_of(resolver: &Resolver<'_>, host: &RegistryHost) -> Option<HostRoutes> {
    let general = route(resolver, host, "")?;
    let paths: BTreeSet<&str> = resolver
        .settings()
        .rules
        .iter()
        .filter_map(|rule| match &rule.from {
            RulePrefix::Path { host: of, path } if of == host && !path.is_empty() => Some(path.as_str()),
            _ => None,
        })
        .collect();
    let paths = paths.into_iter().filter_map(|path| route(resolver, host, path));
    Some(HostRoutes {
        host: host.clone(),
        paths: paths.filter(|route| !follows_from_general(route, &general)).collect(),
        general,
    })
}

fn route(resolver: &Resolver<'_>, host: &RegistryHost, path: &str) -> Option<PathRoute> {
    let name = join(path, ANY);
    let image: ImageReference = format!("{host}/{name}").parse().ok()?;
    let image = image.in_repository(host, &name).ok()?;
    let resolution = resolver.resolve_on_node(&image, ImageRole::Application);
    let sources = resolution.candidates.iter().map(|candidate| {
        let prefix = candidate.reference.repository.as_str().strip_suffix(ANY)?;
        Some(RouteSource {
            kind: candidate.kind,
            host: candidate.reference.host.clone(),
            prefix: prefix.trim_end_matches('/').to_owned(),
            registry: candidate.registry,
        })
    });
    Some(PathRoute {
        path: path.to_owned(),
        sources: sources.collect::<Option<Vec<_>>>()?,
    })
}

/// Returns true if a path's route follows from the general route.
fn follows_from_general(route: &PathRoute, general: &PathRoute) -> bool {
    route.sources.len() == general.sources.len()
        && route
            .sources
            .iter()
            .zip(&general.sources)
            .all(|(source, general)| source.host == general.host && source.prefix == join(&general.prefix, &route.path))
}

/// Joins two parts of a path; either may be empty.
#[must_use]
pub(super) fn join(left: &str, right: &str) -> String {
    match (left, right) {
        ("", only) | (only, "") => only.to_owned(),
        (left, right) => format!("{left}/{right}"),
    }
}

/// Removes `suffix` (whole segments) from `path`; `None` if `path` does not end with it.
#[must_use]
pub(super) fn without_suffix<'a>(path: &'a str, suffix: &str) -> Option<&'a str> {
    if suffix.is_empty() {
        return Some(path);
    }
    let rest = path.strip_suffix(suffix)?;
    rest.is_empty().then_some(rest).or_else(|| rest.strip_suffix('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_whole_segments() {
        for (path, suffix, expected) in [
            ("a/b/c", "b/c", Some("a")),
            ("b/c", "b/c", Some("")),
            ("ab/c", "b/c", None),
            ("a", "", Some("a")),
            ("a", "b", None),
        ] {
            assert_eq!(without_suffix(path, suffix), expected, "{path} without {suffix}");
        }
    }
}
