//! K3s and RKE2: `registries.yaml`, which is read when the service starts.
//!
//! A mirror applies to a registry. `rewrite` changes the repository name by a regular expression. It is the same for
//! all endpoints of the mirror and does not apply to the registry itself, which is asked last unless the service's
//! configuration forbids it. Source: the private registry pages of K3s and RKE2.
//!
//! The service makes `hosts.toml` files and containerd's main file of it, by templates that escape few of the values
//! (`pkg/agent/templates/templates.go` of K3s at cacc6d6). Endpoints and rewrites stand between quotes as they are. A
//! table that containerd 1.x cannot parse (an IPv6 address in its name) costs the whole file: of `hosts.toml` the mirror,
//! of the main file the node.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::ExposeSecret as _;

use super::containerd::{certificates_of, own_authority};
use super::routes::{
    HostRoutes, PathRoute, RouteSource, Scheme, join, names_at_runtime, routes_of, schemes, source_hosts, target_hosts,
    without_suffix,
};
use super::{Fragment, Gap, HEADER, HostFile, Rendering, file_stem};
use crate::reference::{DOCKER_HUB, RegistryHost};
use crate::resolve::Resolver;
use crate::settings::{Dialect, Settings};

/// Generation of the containerd inside K3s or RKE2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// containerd 1.x.
    One,
    /// containerd 2.x.
    Two,
    Unknown,
}

impl Generation {
    /// Reads the generation from the main file that the service made for its containerd; `Unknown` if there is none.
    #[must_use]
    pub fn of_main_file(text: &str) -> Generation {
        let version = text.lines().find_map(|line| {
            let value = line.trim().strip_prefix("version")?.trim_start().strip_prefix('=')?;
            value.trim().parse::<u32>().ok()
        });
        match version {
            Some(3..) => Generation::Two,
            Some(_) => Generation::One,
            None => Generation::Unknown,
        }
    }
}

/// Returns the main file that K3s or RKE2 makes for its containerd.
#[must_use]
pub fn generated_main_file(dialect: Dialect) -> Utf8PathBuf {
    format!("/var/lib/rancher/{}/agent/etc/containerd/config.toml", dialect.name()).into()
}

/// Returns the directory of `registries.yaml` and of the files that it names.
#[must_use]
pub fn registries_directory(dialect: Dialect) -> Utf8PathBuf {
    format!("/etc/rancher/{}", dialect.name()).into()
}

/// Renders `registries.yaml`.
#[must_use]
pub fn render_registries(settings: &Settings, dialect: Dialect, generation: Generation) -> Rendering {
    let unreadable = |name: &str| name.contains('[') && generation != Generation::Two;
    let directory = registries_directory(dialect);
    let resolver = Resolver::new(settings);
    let mut rendering = Rendering::default();
    let mut targets: BTreeMap<RegistryHost, RouteSource> = BTreeMap::new();
    let mut mirrors = String::new();
    // Registries of which some images have a rule, and the others have no other place than the registry itself.
    let mut needed: Vec<RegistryHost> = Vec::new();
    if settings.landfall.mirror.enable {
        let url = format!("http://{}", settings.landfall.mirror.listen);
        if unreadable(&url) {
            rendering.gaps.push(Gap {
                text: format!("the node-local mirror at `{url}` is not asked: {NO_BRACKETS}"),
                hint: Some("`landfall.mirror.listen: \"127.0.0.1:5081\"` is read by every release"),
            });
        } else {
            mirrors.push_str(&format!("  \"*\":\n    endpoint:\n      - {}\n", quoted(&url)));
        }
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
            let Some(mut mirror) = mirror_of(&routes, &mut rendering.gaps) else {
                continue;
            };
            for source in mirror
                .endpoints
                .extract_if(.., |source| unreadable(source.host.as_str()))
            {
                rendering.gaps.push(Gap {
                    text: format!("`{}` is not asked for images of `{host}`: {NO_BRACKETS}", source.host),
                    hint: Some(
                        "on a host with a release that has containerd 2, the agent and `redirect apply` write it",
                    ),
                });
            }
            if mirror.endpoints.is_empty() {
                continue;
            }
            if routes
                .general
                .sources
                .iter()
                .all(|source| source.is_origin_of(&host, ""))
            {
                needed.push(host.clone());
            }
            let text = render_mirror(settings, &mirror);
            for name in names_at_runtime(settings, &host) {
                mirrors.push_str(&format!("  {}:\n{text}", quoted(&name)));
            }
            targets.extend(mirror.endpoints.into_iter().map(|source| (source.host.clone(), source)));
        }
        rendering.gaps.push(super::unnamed_registries());
    }
    let configs = render_configs(settings, &directory, targets.values(), &mut rendering);
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
            rewrites.push((pattern_below(&route.path), join(name, "$1")));
        }
    }
    Some(Mirror {
        endpoints: endpoints?,
        rewrites,
    })
}

/// Returns the expression for all names below a path. Metacharacters are escaped by a class (`[.]`) and never by a
/// backslash: the template of K3s puts the expression unescaped between the quotes of a TOML string.
fn pattern_below(path: &str) -> String {
    let escaped = |character: char| match character {
        character if character.is_ascii_alphanumeric() || "/_-".contains(character) => character.to_string(),
        other => format!("[{other}]"),
    };
    match path {
        "" => "^(.*)$".to_owned(),
        path => format!("^{}/(.*)$", path.chars().map(escaped).collect::<String>()),
    }
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

fn render_mirror(settings: &Settings, mirror: &Mirror) -> String {
    let mut text = "    endpoint:\n".to_owned();
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
    rendering: &mut Rendering,
) -> String {
    let mut text = String::new();
    for source in sources {
        let mut entry = String::new();
        if let Some(login) = source
            .registry
            .and_then(|index| settings.registries[index].login.as_ref())
        {
            if survives_go_quoting(&login.username) && survives_go_quoting(login.password.expose_secret()) {
                entry.push_str(&format!(
                    "    auth:\n      username: {}\n      password: {}\n",
                    quoted(&login.username),
                    quoted(login.password.expose_secret())
                ));
            } else {
                rendering.gaps.push(Gap::from(format!(
                    "the login for `{}` is left out: it has a control character, and the service would write a main file \
                     that its containerd cannot read",
                    source.host
                )));
            }
        }
        let pem = certificates_of(settings, source);
        let unverified = schemes(settings, &source.host, source.registry).contains(&Scheme::HttpsUnverified);
        if unverified {
            entry.push_str("    tls:\n      insecure_skip_verify: true\n");
        } else if !pem.is_empty() {
            let path = directory.join(format!("landfall-{}-ca.crt", file_stem(&source.host)));
            entry.push_str(&format!("    tls:\n      ca_file: {}\n", quoted(path.as_str())));
            rendering.files.push(HostFile {
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

const NO_BRACKETS: &str =
    "containerd 1.x, which older releases have, cannot read an IPv6 address in the name of a table";

/// Returns true if a text is a TOML string after Go's `%q`, by which the service quotes logins. Go writes other control
/// characters as `\a`, `\v` or `\x1f`, which TOML 1.0 does not have.
fn survives_go_quoting(text: &str) -> bool {
    text.bytes()
        .all(|byte| !byte.is_ascii_control() || matches!(byte, b'\t' | b'\n' | b'\r' | 0x08 | 0x0c))
}

/// Quotes a YAML double-quoted string: JSON strings are a subset of YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backslash in the pattern would not survive the template of K3s.
    #[test]
    fn an_expression_has_no_backslash_and_matches_its_path_alone() {
        let pattern = pattern_below("google.com/tool_a-b");
        assert_eq!(pattern, "^google[.]com/tool_a-b/(.*)$");
        let pattern = regex::Regex::new(&pattern).unwrap();
        assert!(pattern.is_match("google.com/tool_a-b/x") && !pattern.is_match("googleXcom/tool_a-b/x"));
    }

    #[test]
    fn the_generation_is_that_of_the_service_s_own_file() {
        for (text, expected) in [
            (
                "# File generated by k3s. DO NOT EDIT.\nversion = 3\nroot = \"/var\"\n",
                Generation::Two,
            ),
            (
                "# File generated by rke2. DO NOT EDIT.\n\nversion = 2\n",
                Generation::One,
            ),
            ("", Generation::Unknown),
        ] {
            assert_eq!(Generation::of_main_file(text), expected, "{text}");
        }
    }

    #[test]
    fn a_login_that_the_service_could_not_quote_is_left_out() {
        for (text, expected) in [
            ("pa\"ss\\wörd", true),
            ("tab\there", true),
            ("bell\u{7}", false),
            ("\u{1b}", false),
        ] {
            assert_eq!(survives_go_quoting(text), expected, "{text:?}");
        }
    }
}
