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

use super::routes::{HostRoutes, Scheme, Way, routes_of, schemes, source_hosts, target_hosts, without_suffix};
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
    let Some(ways) = ways_for_the_whole(&routes, &mut rendering.gaps) else {
        return;
    };
    let directory = directory_of(host);
    let mut tables = Vec::new();
    for way in ways.iter().filter(|way| !way.is_origin_of(host, "")) {
        for scheme in schemes(settings, &way.host, way.registry) {
            tables.push(Table::of_way(settings, way, scheme));
        }
    }
    if let Some(origin) = ways.iter().find(|way| way.is_origin_of(host, "")) {
        let scheme = schemes(settings, host, origin.registry).pop();
        tables.extend(scheme.map(|scheme| Table::of_origin(settings, origin, scheme)));
    }
    let text = render_tables(&tables);
    let has_login = tables.iter().any(|table| table.login.is_some());
    rendering
        .files
        .extend(render_certificates(settings, &directory, ways.iter()));
    rendering.files.push(HostFile {
        path: hosts_toml(file_stem(host)),
        mode: if has_login { 0o600 } else { 0o644 },
        content: text.into(),
    });
}

/// Returns the ways that hold for all repositories of a registry; `None`, with a gap, if there are none.
fn ways_for_the_whole(routes: &HostRoutes, gaps: &mut Vec<Gap>) -> Option<Vec<Way>> {
    if routes.paths.is_empty() {
        return Some(routes.general.ways.clone());
    }
    let names = || {
        let names = routes
            .paths
            .iter()
            .map(|route| format!("`{}/{}`", routes.host, route.path));
        names.collect::<Vec<_>>().join(", ")
    };
    let only_origin = matches!(&routes.general.ways[..], [way] if way.is_origin_of(&routes.host, ""));
    // If a rule keeps the path at the end of the new name, the image can be requested by its own name.
    let mut aligned = routes.paths.iter().map(|route| {
        let ways = route.ways.iter().map(|way| {
            let prefix = without_suffix(&way.prefix, &route.path)?.to_owned();
            Some(Way { prefix, ..way.clone() })
        });
        ways.collect::<Option<Vec<_>>>()
    });
    let first = aligned.next().flatten();
    let all_alike = first.is_some() && aligned.all(|ways| ways == first);
    match first.filter(|_| only_origin && all_alike) {
        Some(mut ways) => {
            gaps.push(format!(
                "the rule for {} is for a part of a registry: all of `{}` is asked for at its target first, and at the \
                 registry itself where it is not there",
                names(),
                routes.host
            ).into());
            if !ways.iter().any(|way| way.is_origin_of(&routes.host, "")) {
                ways.extend(routes.general.ways.iter().cloned());
            }
            Some(ways)
        }
        None => {
            gaps.push(Gap { text: format!(
                "the rules for {} are for parts of a registry, and `hosts.toml` knows registries only: images of `{}` \
                 are pulled as they are written",
                names(),
                routes.host
            ), hint: Some("`landfall.mirror.enable` follows every rule") });
            None
        }
    }
}

/// Renders the files of a redirection target, which overrule `_default`: it is asked by its own name, with its
/// certificates.
fn render_target(settings: &Settings, resolver: &Resolver<'_>, host: &RegistryHost) -> Vec<HostFile> {
    let Ok(source) = format!("{host}/landfall/image").parse() else {
        return Vec::new();
    };
    let way = Way {
        place: crate::resolve::CandidateKind::External,
        host: host.clone(),
        prefix: String::new(),
        registry: resolver
            .registry_for(&source, ImageRole::Application)
            .or_else(|| settings.registries.iter().position(|registry| registry.host == *host)),
    };
    let schemes = schemes(settings, host, way.registry);
    let directory = directory_of(host);
    let mut files: Vec<HostFile> = render_certificates(settings, &directory, [&way]).collect();
    let is_plain = schemes == [Scheme::Https] && files.is_empty() && own_authority(settings, host).is_none();
    if is_plain && !settings.landfall.mirror.enable {
        return Vec::new();
    }
    let tables: Vec<Table> = schemes
        .into_iter()
        .map(|scheme| Table::of_origin(settings, &way, scheme))
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
fn render_tables(tables: &[Table<'_>]) -> String {
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
struct Table<'a> {
    url: String,
    scheme: Scheme,
    override_path: bool,
    certificates: Option<Utf8PathBuf>,
    login: Option<&'a Login>,
}

impl<'a> Table<'a> {
    /// Makes a table for another registry, below a path. It carries its own login, because the kubelet's login is for
    /// the registry of the image.
    fn of_way(settings: &'a Settings, way: &Way, scheme: Scheme) -> Table<'a> {
        let path = if way.prefix.is_empty() {
            String::new()
        } else {
            format!("/v2/{}", way.prefix)
        };
        Table {
            url: format!("{}://{}{path}", scheme.name(), way.host),
            override_path: !way.prefix.is_empty(),
            login: way.registry.and_then(|index| settings.registries[index].login.as_ref()),
            ..Table::of_origin(settings, way, scheme)
        }
    }

    /// Makes a table for the registry itself, with the kubelet's login.
    fn of_origin(settings: &'a Settings, way: &Way, scheme: Scheme) -> Table<'a> {
        let name = if way.host.is_docker_hub() {
            "registry-1.docker.io"
        } else {
            way.host.as_str()
        };
        Table {
            url: format!("{}://{name}", scheme.name()),
            scheme,
            override_path: false,
            certificates: match scheme {
                Scheme::Https => certificates_path(settings, way),
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

fn certificates_path(settings: &Settings, way: &Way) -> Option<Utf8PathBuf> {
    if !certificates_of(settings, way).is_empty() {
        // A name beside `hosts.toml`: containerd resolves relative names against its directory.
        return Some(certificates_name(&way.host).into());
    }
    own_authority(settings, &way.host)
}

/// Returns the path of the CA certificate that the agent made for the embedded registry.
pub(super) fn own_authority(settings: &Settings, host: &RegistryHost) -> Option<Utf8PathBuf> {
    let primary = settings.primary.as_ref()?;
    let is_own =
        primary.kind == PrimaryKind::Embedded && primary.endpoint == *host && settings.primary_speaks_tls(primary);
    is_own.then(|| settings.landfall.state_dir.join("primary/ca.crt"))
}

/// Returns the certificates that the user gave for a registry and for all registries, in PEM.
pub(super) fn certificates_of(settings: &Settings, way: &Way) -> String {
    let own = way
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
    ways: impl IntoIterator<Item = &'a Way>,
) -> impl Iterator<Item = HostFile> {
    let mut files: Vec<HostFile> = Vec::new();
    for way in ways {
        let pem = certificates_of(settings, way);
        let path = directory.join(certificates_name(&way.host));
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
