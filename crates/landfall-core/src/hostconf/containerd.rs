//! containerd: `certs.d/<host>/hosts.toml`, and the drop-in file that makes containerd read them.
//!
//! containerd asks the `[host]` tables in their order and `server` last; without `server`, the last is the registry
//! itself. If the rules forbid the origin, `server` is therefore the last registry that they allow. A file applies to a
//! whole registry, so a rule for a part of a registry is a gap. Source: `docs/hosts.md` of containerd. containerd reads
//! the files at every pull and needs no restart.

use base64::Engine as _;
use camino::{Utf8Path, Utf8PathBuf};
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::routes::{HostRoutes, RouteSource, Scheme, routes_of, schemes, source_hosts, target_hosts, without_suffix};
use super::{Fragment, Gap, HEADER, HostFile, Rendering, file_stem};
use crate::reference::RegistryHost;
use crate::resolve::Resolver;
use crate::settings::{ImageRole, Login, PrimaryKind, Settings};

/// The directory in which containerd looks for the files, as set by the drop-in.
pub const CERTS_DIRECTORY: &str = "/etc/containerd/certs.d";
/// The drop-in file; `imports` of the main file must cover it.
pub const DROP_IN: &str = "/etc/containerd/conf.d/50-landfall.toml";
/// The path for a user's drop-in with the same setting in the format of containerd 2.
const DROP_IN_OF_USERS: &str = "/etc/containerd/conf.d/60-registry.toml";
/// The suffix of the certificate files beside `hosts.toml`.
const CERTIFICATES: &str = "landfall-ca.crt";

/// Renders the mirror files and the drop-in. The drop-in has version 2: containerd 1 knows no other, and containerd 2
/// accepts it beside a main file of version 2, 3 or 4 (seen with 2.4).
#[must_use]
pub fn render_containerd(settings: &Settings) -> Rendering {
    let resolver = Resolver::new(settings);
    let mut rendering = Rendering::default();
    if settings.landfall.mirror.enable {
        rendering.files.push(render_default(settings));
    } else {
        for host in source_hosts(settings) {
            render_host(settings, &resolver, &host, &mut rendering);
        }
        rendering.gaps.push(super::unnamed_registries());
    }
    for host in target_hosts(settings) {
        rendering.files.extend(render_target(settings, &resolver, &host));
    }
    rendering.files.push(HostFile {
        path: DROP_IN.into(),
        mode: 0o644,
        content: format!("{HEADER}{}", render_drop_in(2)).into(),
    });
    rendering.fragments.push(Fragment {
        place: format!("containerd 2, where a drop-in of version 3 is wanted beside ours: {DROP_IN_OF_USERS}"),
        text: render_drop_in(3),
    });
    rendering.gaps.push(format!(
        "containerd reads `{DROP_IN}` where `imports` of its `config.toml` covers it (containerd 2 does so by itself), and once \
         it was restarted; the mirror files it reads at each pull"
    ).into());
    rendering
}

/// Renders the `config_path` setting for one version of containerd's configuration.
fn render_drop_in(version: u8) -> String {
    let plugin = match version {
        2 => "io.containerd.grpc.v1.cri",
        _ => "io.containerd.cri.v1.images",
    };
    format!("version = {version}\n\n[plugins.\"{plugin}\".registry]\n  config_path = \"{CERTS_DIRECTORY}\"\n")
}

/// Renders the `_default` file: all pulls go to the mirror on this node. The registry itself is asked only if the rules
/// allow it.
fn render_default(settings: &Settings) -> HostFile {
    let url = format!("http://{}", settings.landfall.mirror.listen);
    let mut text = HEADER.to_owned();
    if super::origin_forbidden(settings) {
        text.push_str(&format!("server = {}\n", quoted(&url)));
    }
    text.push_str(&format!(
        "\n[host.{}]\n  capabilities = [\"pull\", \"resolve\"]\n",
        quoted(&url)
    ));
    HostFile {
        path: hosts_toml("_default"),
        mode: 0o644,
        content: text.into(),
    }
}

fn render_host(settings: &Settings, resolver: &Resolver<'_>, host: &RegistryHost, rendering: &mut Rendering) {
    let Some(routes) = routes_of(resolver, host) else {
        return;
    };
    if routes.is_untouched() {
        return;
    }
    let Some(sources) = sources_for_whole_host(&routes, &mut rendering.gaps) else {
        return;
    };
    let directory = directory_of(host);
    let mut tables = Vec::new();
    for source in sources.iter().filter(|source| !source.is_origin_of(host, "")) {
        for scheme in schemes(settings, &source.host, source.registry) {
            tables.push(HostTable::of_source(settings, source, scheme));
        }
    }
    if let Some(origin) = sources.iter().find(|source| source.is_origin_of(host, "")) {
        let scheme = schemes(settings, host, origin.registry).pop();
        tables.extend(scheme.map(|scheme| HostTable::of_origin(settings, origin, scheme)));
    }
    let text = render_tables(&tables);
    let has_login = tables.iter().any(|table| table.login.is_some());
    rendering
        .files
        .extend(render_certificates(settings, &directory, sources.iter()));
    rendering.files.push(HostFile {
        path: hosts_toml(file_stem(host)),
        mode: if has_login { 0o600 } else { 0o644 },
        content: text.into(),
    });
}

/// Returns the sources that hold for all repositories of a registry; `None`, with a gap, if there are none.
fn sources_for_whole_host(routes: &HostRoutes, gaps: &mut Vec<Gap>) -> Option<Vec<RouteSource>> {
    if routes.paths.is_empty() {
        return Some(routes.general.sources.clone());
    }
    let names = || {
        let names = routes
            .paths
            .iter()
            .map(|route| format!("`{}/{}`", routes.host, route.path));
        names.collect::<Vec<_>>().join(", ")
    };
    let only_origin = matches!(&routes.general.sources[..], [source] if source.is_origin_of(&routes.host, ""));
    // If a rule keeps the path at the end of the new name, the image can be requested by its own name.
    let mut aligned = routes.paths.iter().map(|route| {
        let sources = route.sources.iter().map(|source| {
            let prefix = without_suffix(&source.prefix, &route.path)?.to_owned();
            Some(RouteSource {
                prefix,
                ..source.clone()
            })
        });
        sources.collect::<Option<Vec<_>>>()
    });
    let first = aligned.next().flatten();
    let all_alike = first.is_some() && aligned.all(|sources| sources == first);
    match first.filter(|_| only_origin && all_alike) {
        Some(mut sources) => {
            gaps.push(format!(
                "the rule for {} is for a part of a registry: all of `{}` is asked for at its target first, and at the \
                 registry itself where it is not there",
                names(),
                routes.host
            ).into());
            if !sources.iter().any(|source| source.is_origin_of(&routes.host, "")) {
                sources.extend(routes.general.sources.iter().cloned());
            }
            Some(sources)
        }
        None => {
            let text = format!(
                "the rules for {} are for parts of a registry, and `hosts.toml` knows registries only: images of `{}` \
                 are pulled as they are written",
                names(),
                routes.host
            );
            gaps.push(Gap {
                text,
                hint: Some("`landfall.mirror.enable` follows every rule"),
            });
            None
        }
    }
}

/// Renders the files of a redirection target, which overrule `_default`: it is asked by its own name, with its
/// certificates.
fn render_target(settings: &Settings, resolver: &Resolver<'_>, host: &RegistryHost) -> Vec<HostFile> {
    let Ok(image) = format!("{host}/landfall/image").parse() else {
        return Vec::new();
    };
    let source = RouteSource {
        kind: crate::resolve::CandidateKind::External,
        host: host.clone(),
        prefix: String::new(),
        registry: resolver
            .registry_for(&image, ImageRole::Application)
            .or_else(|| settings.registries.iter().position(|registry| registry.host == *host)),
    };
    let schemes = schemes(settings, host, source.registry);
    let directory = directory_of(host);
    let mut files: Vec<HostFile> = render_certificates(settings, &directory, [&source]).collect();
    let is_plain = schemes == [Scheme::Https] && files.is_empty() && own_authority(settings, host).is_none();
    if is_plain && !settings.landfall.mirror.enable {
        return Vec::new();
    }
    let tables: Vec<HostTable> = schemes
        .into_iter()
        .map(|scheme| HostTable::of_origin(settings, &source, scheme))
        .collect();
    let text = render_tables(&tables);
    files.push(HostFile {
        path: hosts_toml(file_stem(host)),
        mode: 0o644,
        content: text.into(),
    });
    files
}

/// Renders a `hosts.toml` that asks exactly these registries, in this order. The last one is the `server`: without it,
/// containerd would ask the registry itself. containerd 1.6 does not read a file without a `[host]` table, so a single
/// registry appears twice.
fn render_tables(tables: &[HostTable<'_>]) -> String {
    let mut text = HEADER.to_owned();
    let (server, before) = match tables {
        [] => return text,
        [only] => (only, tables),
        [before @ .., server] => (server, before),
    };
    text.push_str(&format!("server = {}\n{}", quoted(&server.url), server.render("")));
    text.extend(server.render_header("header", "").as_deref().map(String::as_str));
    for table in before {
        let name = format!("host.{}", quoted(&table.url));
        text.push_str(&format!("\n[{name}]\n{}", table.render("  ")));
        text.extend(
            table
                .render_header(&format!("{name}.header"), "  ")
                .as_deref()
                .map(String::as_str),
        );
    }
    text
}

/// One `[host]` table, or the root table that belongs to `server`.
struct HostTable<'a> {
    url: String,
    scheme: Scheme,
    override_path: bool,
    certificates: Option<Utf8PathBuf>,
    login: Option<&'a Login>,
}

impl<'a> HostTable<'a> {
    /// Makes a table for another registry, below a path. It carries its own login, because the kubelet's login is for
    /// the registry of the image.
    fn of_source(settings: &'a Settings, source: &RouteSource, scheme: Scheme) -> HostTable<'a> {
        HostTable {
            url: format!("{}://{}{}", scheme.name(), source.host, source.endpoint_path()),
            override_path: !source.prefix.is_empty(),
            login: source
                .registry
                .and_then(|index| settings.registries[index].login.as_ref()),
            ..HostTable::of_origin(settings, source, scheme)
        }
    }

    /// Makes a table for the registry itself, with the kubelet's login.
    fn of_origin(settings: &'a Settings, source: &RouteSource, scheme: Scheme) -> HostTable<'a> {
        let name = if source.host.is_docker_hub() {
            "registry-1.docker.io"
        } else {
            source.host.as_str()
        };
        HostTable {
            url: format!("{}://{name}", scheme.name()),
            scheme,
            override_path: false,
            certificates: match scheme {
                Scheme::Https => certificates_path(settings, source),
                Scheme::HttpsUnverified | Scheme::Http => None,
            },
            login: None,
        }
    }

    fn render(&self, indent: &str) -> String {
        let mut text = format!("{indent}capabilities = [\"pull\", \"resolve\"]\n");
        if self.override_path {
            text.push_str(&format!("{indent}override_path = true\n"));
        }
        if let Some(path) = &self.certificates {
            text.push_str(&format!("{indent}ca = {}\n", quoted(path.as_str())));
        }
        if self.scheme == Scheme::HttpsUnverified {
            text.push_str(&format!("{indent}skip_verify = true\n"));
        }
        text
    }

    fn render_header(&self, table: &str, indent: &str) -> Option<Zeroizing<String>> {
        let login = self.login?;
        let pair = Zeroizing::new(format!("{}:{}", login.username, login.password.expose_secret()));
        let encoded = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()));
        Some(format!("\n[{table}]\n{indent}authorization = \"Basic {}\"\n", *encoded).into())
    }
}

fn certificates_path(settings: &Settings, source: &RouteSource) -> Option<Utf8PathBuf> {
    if !certificates_of(settings, source).is_empty() {
        // A name beside `hosts.toml`: containerd resolves relative names against its directory.
        return Some(certificates_name(&source.host).into());
    }
    own_authority(settings, &source.host)
}

/// Returns the path of the CA certificate that the agent made for the embedded registry.
pub(super) fn own_authority(settings: &Settings, host: &RegistryHost) -> Option<Utf8PathBuf> {
    let primary = settings.primary.as_ref()?;
    let is_own =
        primary.kind == PrimaryKind::Embedded && primary.endpoint == *host && settings.primary_speaks_tls(primary);
    is_own.then(|| settings.landfall.state_dir.join("primary/ca.crt"))
}

/// Returns the certificates that the user gave for a registry and for all registries, in PEM.
pub(super) fn certificates_of(settings: &Settings, source: &RouteSource) -> String {
    let own = source
        .registry
        .map_or(&[][..], |index| &settings.registries[index].certificates[..]);
    let all = own.iter().chain(&settings.ca_certificates);
    all.map(|pem| format!("{}\n", pem.trim_end())).collect()
}

fn certificates_name(host: &RegistryHost) -> String {
    format!("{}-{CERTIFICATES}", file_stem(host))
}

fn render_certificates<'a>(
    settings: &Settings,
    directory: &Utf8Path,
    sources: impl IntoIterator<Item = &'a RouteSource>,
) -> impl Iterator<Item = HostFile> {
    let mut files: Vec<HostFile> = Vec::new();
    for source in sources {
        let pem = certificates_of(settings, source);
        let path = directory.join(certificates_name(&source.host));
        if !pem.is_empty() && files.iter().all(|file| file.path != path) {
            files.push(HostFile {
                path,
                mode: 0o644,
                content: format!("{HEADER}{pem}").into(),
            });
        }
    }
    files.into_iter()
}

fn directory_of(host: &RegistryHost) -> Utf8PathBuf {
    Utf8Path::new(CERTS_DIRECTORY).join(file_stem(host))
}

fn hosts_toml(name: &str) -> Utf8PathBuf {
    Utf8Path::new(CERTS_DIRECTORY).join(name).join("hosts.toml")
}

/// Quotes a TOML basic string: the escapes of JSON are a subset of those of TOML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
