//! containerd: `certs.d/<host>/hosts.toml`, and a drop-in file that makes containerd read them, where one is followed and
//! harmless ([`super::containerd_config`]).
//!
//! containerd asks the `[host]` tables in their order and `server` last; without `server`, the last is the registry
//! itself. If the rules forbid the origin, `server` is therefore the last registry that they allow. A file applies to a
//! whole registry, so a rule for a part of a registry is a gap. Source: `docs/hosts.md` of containerd. containerd reads
//! the files at every pull and needs no restart.
//!
//! containerd 1.x cannot parse a table whose name has a `]` (go-toml v1), and then asks the registry itself. An IPv6
//! address therefore stands in `server` only, unless the release is known to be 2 or later.

use base64::Engine as _;
use camino::{Utf8Path, Utf8PathBuf};
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::containerd_config::{
    CERTS_DIRECTORY, ContainerdFacts, DROP_IN, ReadingState, read_mirror_files, render_config_path,
};
use super::routes::{
    HostRoutes, RouteSource, Scheme, names_at_runtime, routes_of, schemes, source_hosts, target_hosts, without_suffix,
};
use super::{Gap, HEADER, HostFile, Rendering, file_stem};
use crate::reference::RegistryHost;
use crate::resolve::Resolver;
use crate::settings::{ImageRole, Login, PrimaryKind, Settings};

/// The suffix of the certificate files beside `hosts.toml`.
const CERTIFICATES: &str = "landfall-ca.crt";

/// Renders the mirror files, and the drop-in or the lines for containerd's main file that make containerd read them.
#[must_use]
pub fn render_containerd(settings: &Settings, facts: &ContainerdFacts) -> Rendering {
    let context = Context {
        settings,
        reads_brackets: facts.major() >= Some(2),
    };
    let resolver = Resolver::new(settings);
    let mut rendering = Rendering::default();
    if settings.landfall.mirror.enable {
        render_default(&context, &mut rendering);
    } else {
        for host in source_hosts(settings) {
            render_host(&context, &resolver, &host, &mut rendering);
        }
        rendering.gaps.push(super::unnamed_registries());
    }
    for host in target_hosts(settings) {
        render_target(&context, &resolver, &host, &mut rendering);
    }
    let reading = read_mirror_files(facts);
    rendering.files.extend(reading.drop_in.map(render_drop_in));
    rendering.fragments.extend(reading.lines);
    if reading.state != ReadingState::Read {
        rendering.gaps.push(reading.message.into());
    }
    rendering
}

/// The settings, and the reader of the files.
struct Context<'a> {
    settings: &'a Settings,
    /// True if containerd reads a table whose name has brackets.
    reads_brackets: bool,
}

/// Renders the drop-in in this version of containerd's configuration. It is that of the main file: up to containerd 2.2
/// one version counts for all files.
fn render_drop_in(version: u8) -> HostFile {
    let table = render_config_path(version.into(), CERTS_DIRECTORY);
    HostFile {
        path: DROP_IN.into(),
        mode: 0o644,
        content: format!("{HEADER}version = {version}\n\n{table}").into(),
    }
}

/// Renders the `_default` file: all pulls go to the mirror on this node. The registry itself is asked only if the rules
/// allow it.
fn render_default(context: &Context<'_>, rendering: &mut Rendering) {
    let url = format!("http://{}", context.settings.landfall.mirror.listen);
    let mut text = HEADER.to_owned();
    if super::origin_forbidden(context.settings) {
        text.push_str(&format!(
            "server = {}\ncapabilities = [\"pull\", \"resolve\"]\n\n[host]\n",
            quoted(&url)
        ));
    } else if has_brackets(&url) && !context.reads_brackets {
        rendering.gaps.push(Gap {
            text: format!("the node-local mirror at `{url}` is not asked: {NO_BRACKETS}"),
            hint: Some("`landfall.mirror.listen: \"127.0.0.1:5081\"` is read by every release"),
        });
        return;
    } else {
        text.push_str(&format!(
            "\n[host.{}]\n  capabilities = [\"pull\", \"resolve\"]\n",
            quoted(&url)
        ));
    }
    rendering.files.push(HostFile {
        path: hosts_toml("_default"),
        mode: 0o644,
        content: text.into(),
    });
}

fn render_host(context: &Context<'_>, resolver: &Resolver<'_>, host: &RegistryHost, rendering: &mut Rendering) {
    let settings = context.settings;
    let Some(routes) = routes_of(resolver, host) else {
        return;
    };
    if routes.is_untouched() {
        return;
    }
    let Some(sources) = sources_for_whole_host(&routes, &mut rendering.gaps) else {
        return;
    };
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
    context.drop_unreadable(host, &mut tables, &mut rendering.gaps);
    let text = render_tables(&tables);
    let has_login = tables.iter().any(|table| table.login.is_some());
    for name in names_at_runtime(settings, host) {
        rendering
            .files
            .extend(render_certificates(settings, &directory_of(&name), sources.iter()));
        rendering.files.push(HostFile {
            path: hosts_toml(&name),
            mode: if has_login { 0o600 } else { 0o644 },
            content: text.clone().into(),
        });
    }
}

impl Context<'_> {
    /// Removes the tables that this containerd could not parse, with a gap for each host: all of the file would be lost.
    /// The last table stays, because it becomes the `server`. A scheme of the same host counts as asked.
    fn drop_unreadable(&self, host: &RegistryHost, tables: &mut Vec<HostTable<'_>>, gaps: &mut Vec<Gap>) {
        if self.reads_brackets {
            return;
        }
        let Some(last) = tables.pop() else { return };
        let dropped: Vec<HostTable<'_>> = tables.extract_if(.., |table| has_brackets(&table.url)).collect();
        for table in dropped {
            let text = match table.authority() == last.authority() {
                true => format!(
                    "`{}` is asked by {} only for images of `{host}`: {NO_BRACKETS}",
                    table.authority(),
                    last.scheme.name().to_uppercase()
                ),
                false => format!(
                    "`{}` is not asked for images of `{host}`: {NO_BRACKETS}",
                    table.authority()
                ),
            };
            gaps.push(Gap {
                text,
                hint: Some("containerd 2 asks it; on a host where it is not seen, `--containerd-version 2` says so"),
            });
        }
        tables.push(last);
    }
}

const NO_BRACKETS: &str = "containerd 1.x cannot read an IPv6 address in the name of a table";

fn has_brackets(url: &str) -> bool {
    url.contains('[')
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
fn render_target(context: &Context<'_>, resolver: &Resolver<'_>, host: &RegistryHost, rendering: &mut Rendering) {
    let settings = context.settings;
    let Ok(image) = format!("{host}/landfall/image").parse() else {
        return;
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
    let is_plain = schemes == [Scheme::Https]
        && certificates_of(settings, &source).is_empty()
        && own_authority(settings, host).is_none();
    if is_plain && !settings.landfall.mirror.enable {
        return;
    }
    let mut tables: Vec<HostTable<'_>> = schemes
        .into_iter()
        .map(|scheme| HostTable::of_origin(settings, &source, scheme))
        .collect();
    context.drop_unreadable(host, &mut tables, &mut rendering.gaps);
    for name in names_at_runtime(settings, host) {
        rendering
            .files
            .extend(render_certificates(settings, &directory_of(&name), [&source]));
        rendering.files.push(HostFile {
            path: hosts_toml(&name),
            mode: 0o644,
            content: render_tables(&tables).into(),
        });
    }
}

/// Renders a `hosts.toml` that asks exactly these registries, in this order. The last one is the `server`: without it,
/// containerd would ask the registry itself. containerd 1.6 does not read a file without a `[host]` table, so it may be
/// empty.
fn render_tables(tables: &[HostTable<'_>]) -> String {
    let mut text = HEADER.to_owned();
    let Some((server, before)) = tables.split_last() else {
        return text;
    };
    text.push_str(&format!("server = {}\n{}", quoted(&server.url), server.render("")));
    text.extend(server.render_header("header", "").as_deref().map(String::as_str));
    if before.is_empty() {
        text.push_str("\n[host]\n");
    }
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

    /// Returns the URL's host and port.
    fn authority(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
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

fn directory_of(name: &str) -> Utf8PathBuf {
    Utf8Path::new(CERTS_DIRECTORY).join(name)
}

fn hosts_toml(name: &str) -> Utf8PathBuf {
    directory_of(name).join("hosts.toml")
}

/// Quotes a TOML basic string: the escapes of JSON are a subset of those of TOML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
