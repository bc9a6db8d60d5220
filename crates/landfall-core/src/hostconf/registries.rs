//! K3s and RKE2: `registries.yaml`, which is read when the service starts.
//!
//! A mirror applies to a registry. `rewrite` changes the repository name by a regular expression. It is the same for
//! all endpoints of the mirror and does not apply to the registry itself, which is asked last unless the service's
//! configuration forbids it. Source: the private registry pages of K3s and RKE2.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::ExposeSecret as _;

use super::containerd::{certificates_of, own_authority};
use super::routes::{
    HostRoutes, PathRoute, RouteSource, Scheme, join, routes_of, schemes, source_hosts, target_hosts, without_suffix,
};
use super::{Fragment, Gap, HEADER, HostFile, Rendering, file_stem};
use crate::reference::{DOCKER_HUB, RegistryHost};
use crate::resolve::Resolver;
use crate::settings::{Dialect, Settings};

#[must_use]
pub fn render_registries(settings: &Settings, dialect: Dialect) -> Rendering {
    let directory = Utf8PathBuf::from(format!("/etc/rancher/{}", dialect.name()));
    let resolver = Resolver::new(settings);
    let mut rendering = Rendering::default();
    let mut targets: BTreeMap<RegistryHost, RouteSource> = BTreeMap::new();
    let mut mirrors = String::new();
    // Registries of which some images have a rule, and the others have no other place than the registry itself.
    let mut needed: Vec<RegistryHost> = Vec::new();
    if settings.landfall.mirror.enable {
        let url = format!("http://{}", settings.landfall.mirror.listen);
        mirrors.push_str(&format!("  \"*\":\n    endpoint:\n      - {}\n", quoted(&url)));
    } else {
        // The distribution's own images are named after Docker Hub, even if no profile names it.
        let hub = DOCKER_HUB
            .parse()
            .ok()
            .filter(|hub| !target_hosts(settings).contains(hub));
        for host in source_hosts(settings)
            .into_iter()
            .chain(hub)
            .collect::<BTreeSet<RegistryHost>>()
        {
            let Some(routes) = routes_of(&resolver, &host) else {
                continue;
            };
            let Some(mirror) = mirror_of(&routes, &mut rendering.gaps) else {
                continue;
            };
            if routes
                .general
                .sources
                .iter()
                .all(|source| source.is_origin_of(&host, ""))
            {
                needed.push(host.clone());
            }
            mirrors.push_str(&render_mirror(settings, &host, &mirror));
            targets.extend(mirror.endpoints.into_iter().map(|source| (source.host.clone(), source)));
        }
        rendering.gaps.push(super::unnamed_registries());
    }
    let configs = render_configs(settings, &directory, targets.values(), &mut rendering.files);
    let mut text = HEADER.to_owned();
    for (key, entries) in [("mirrors", &mirrors), ("configs", &configs)] {
        if !entries.is_empty() {
            text.push_str(&format!("{key}:\n{entries}"));
        }
    }
    rendering.files.push(HostFile {
        path: directory.join("registries.yaml"),
        mode: 0o600,
        content: text.into(),
    });
    if super::origin_forbidden(settings) && needed.is_empty() {
        rendering.gaps.push(Gap {
            text: format!(
                "{} asks the registry itself where no mirror has an image",
                dialect.name()
            ),
            hint: Some("`disable-default-registry-endpoint: true` in its configuration forbids that"),
        });
        rendering.fragments.push(Fragment {
            place: format!(
                "{directory}/config.yaml.d/90-landfall.yaml, where the registries themselves must not be asked"
            ),
            text: "disable-default-registry-endpoint: true\n".to_owned(),
        });
    } else if super::origin_forbidden(settings) {
        rendering.gaps.push(Gap {
            text: format!(
                "{} asks the registry itself where no mirror has an image, and nothing may forbid that: images of {} \
                 without a rule are there only",
                dialect.name(),
                crate::wording::quoted(&needed)
            ),
            hint: None,
        });
    }
    rendering.fragments.extend(super::core_images::render_default_registry(
        settings,
        dialect,
        &mut rendering.gaps,
    ));
    rendering.gaps.push(
        format!(
            "{} reads `registries.yaml` when it starts: restart it after a change",
            dialect.name()
        )
        .into(),
    );
    rendering
}

/// Mirror of a registry: the endpoints, each with its prefix for the rewritten name, and the rewrites (pattern,
/// replacement).
struct Mirror {
    endpoints: Vec<RouteSource>,
    rewrites: Vec<(String, String)>,
}

/// Returns the mirror that is equivalent to the routes; `None` if nothing is redirected or, with a gap, if no mirror is
/// equivalent.
fn mirror_of(routes: &HostRoutes, gaps: &mut Vec<Gap>) -> Option<Mirror> {
    if routes.is_untouched() {
        return None;
    }
    // With a single route, the registry itself is one more endpoint. With several, a rewrite would apply to it too.
    let is_only = routes.paths.is_empty();
    let redirected: Vec<(&PathRoute, Vec<&RouteSource>)> = std::iter::once(&routes.general)
        .chain(&routes.paths)
        .map(|route| {
            let is_origin = |source: &RouteSource| source.is_origin_of(&routes.host, &route.path);
            let sources = route.sources.iter().filter(|source| is_only || !is_origin(source));
            (route, sources.collect::<Vec<_>>())
        })
        .filter(|(_, sources)| !sources.is_empty())
        .collect();
    let mirror = common_endpoints(&redirected).filter(|_| are_apart(&redirected));
    if mirror.is_none() {
        let names = redirected
            .iter()
            .map(|(route, _)| format!("`{}`", join(routes.host.as_str(), &route.path)));
        let text = format!(
            "the rules for {} lead to different registries or overlap, which `rewrite` cannot tell apart: images of `{}` \
             are pulled as they are written",
            names.collect::<Vec<_>>().join(", "),
            routes.host
        );
        gaps.push(Gap {
            text,
            hint: Some("`landfall.mirror.enable` follows every rule"),
        });
        return None;
    }
    let general_is_redirected = redirected.iter().any(|(route, _)| route.path.is_empty());
    if !general_is_redirected {
        gaps.push(format!(
            "the other images of `{}` are asked for at the rules' target as well, under their own names, before the \
             registry itself",
            routes.host
        ).into());
    }
    mirror
}

/// Returns the endpoints that serve all routes. Names are rewritten to the prefix of the last source; the others have
/// an additional prefix.
fn common_endpoints(redirected: &[(&PathRoute, Vec<&RouteSource>)]) -> Option<Mirror> {
    let mut endpoints: Option<Vec<RouteSource>> = None;
    let mut rewrites = Vec::new();
    for (route, sources) in redirected {
        let name = &sources.last()?.prefix;
        let here = sources.iter().map(|source| {
            let prefix = without_suffix(&source.prefix, name)?.to_owned();
            Some(RouteSource {
                prefix,
                ..(*source).clone()
            })
        });
        let here = here.collect::<Option<Vec<_>>>()?;
        if endpoints.get_or_insert_with(|| here.clone()) != &here {
            return None;
        }
        if *name != route.path {
            let pattern = match route.path.as_str() {
                "" => "^(.*)$".to_owned(),
                path => format!("^{}/(.*)$", path.replace('.', "\\.")),
            };
            rewrites.push((pattern, join(name, "$1")));
        }
    }
    Some(Mirror {
        endpoints: endpoints?,
        rewrites,
    })
}

/// Returns true if no two routes cover the same name. The choice between two matching rewrites is undefined.
fn are_apart(redirected: &[(&PathRoute, Vec<&RouteSource>)]) -> bool {
    let paths: Vec<&str> = redirected.iter().map(|(route, _)| route.path.as_str()).collect();
    let covers = |outer: &str, inner: &str| outer.is_empty() || inner.starts_with(&format!("{outer}/"));
    paths.iter().enumerate().all(|(at, path)| {
        paths
            .iter()
            .enumerate()
            .all(|(other, inner)| at == other || !covers(path, inner))
    })
}

fn render_mirror(settings: &Settings, host: &RegistryHost, mirror: &Mirror) -> String {
    let mut text = format!("  {}:\n    endpoint:\n", quoted(host.as_str()));
    for source in &mirror.endpoints {
        let name = match source.host.is_docker_hub() {
            true => "registry-1.docker.io",
            false => source.host.as_str(),
        };
        for scheme in schemes(settings, &source.host, source.registry) {
            let url = format!("{}://{name}{}", scheme.name(), source.endpoint_path());
            text.push_str(&format!("      - {}\n", quoted(&url)));
        }
    }
    if !mirror.rewrites.is_empty() {
        text.push_str("    rewrite:\n");
        for (pattern, name) in &mirror.rewrites {
            text.push_str(&format!("      {}: {}\n", quoted(pattern), quoted(name)));
        }
    }
    text
}

fn render_configs<'a>(
    settings: &Settings,
    directory: &Utf8Path,
    sources: impl Iterator<Item = &'a RouteSource>,
    files: &mut Vec<HostFile>,
) -> String {
    let mut text = String::new();
    for source in sources {
        let mut entry = String::new();
        if let Some(login) = source
            .registry
            .and_then(|index| settings.registries[index].login.as_ref())
        {
            entry.push_str(&format!(
                "    auth:\n      username: {}\n      password: {}\n",
                quoted(&login.username),
                quoted(login.password.expose_secret())
            ));
        }
        let pem = certificates_of(settings, source);
        let unverified = schemes(settings, &source.host, source.registry).contains(&Scheme::HttpsUnverified);
        if unverified {
            entry.push_str("    tls:\n      insecure_skip_verify: true\n");
        } else if !pem.is_empty() {
            let path = directory.join(format!("landfall-{}-ca.crt", file_stem(&source.host)));
            entry.push_str(&format!("    tls:\n      ca_file: {}\n", quoted(path.as_str())));
            files.push(HostFile {
                path,
                mode: 0o644,
                content: format!("{HEADER}{pem}").into(),
            });
        } else if let Some(path) = own_authority(settings, &source.host) {
            entry.push_str(&format!("    tls:\n      ca_file: {}\n", quoted(path.as_str())));
        }
        if !entry.is_empty() {
            text.push_str(&format!("  {}:\n{entry}", quoted(source.host.as_str())));
        }
    }
    text
}

/// Quotes a YAML double-quoted string: JSON strings are a subset of YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
