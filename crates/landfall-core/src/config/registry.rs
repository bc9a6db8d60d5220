//! Readers of a registry (name, login, certificates) and of mapping rules.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

use crate::config::codes;
use crate::config::node::{MappingEntry, Node, NodeValue};
use crate::config::report::Report;
use crate::reference::{RegistryHost, Repository};
use crate::settings::{Login, MappingRule, RegistryRole, RegistrySettings, RulePrefix};
use crate::wording::nearest;

const CERTIFICATE_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const CERTIFICATE_END: &str = "-----END CERTIFICATE-----";
/// The key of the rule for all images.
const ALL: &str = "all";
/// A typing error for `gcr.io` in published examples.
const GRC_IO: &str = "grc.io";

/// The keys of a registry, which differ between the places where one can be given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RegistryKeys {
    pub(crate) domain: &'static str,
    pub(crate) username: &'static str,
    pub(crate) role: RegistryRole,
}

/// Keys of `stylus.registryCredentials` and `stylus.externalRegistries.registries[]`.
pub(crate) const EXTERNAL: RegistryKeys = RegistryKeys {
    domain: "domain",
    username: "username",
    role: RegistryRole::External,
};
/// Keys of `providerCredentials`.
pub(crate) const PROVIDER: RegistryKeys = RegistryKeys {
    domain: "registry",
    username: "user",
    role: RegistryRole::Provider,
};
/// Keys of `registry.credentials[]` of registry-connect.
pub(crate) const PACK: RegistryKeys = RegistryKeys {
    domain: "domain",
    username: "username",
    role: RegistryRole::Pack,
};

/// Reads a registry; `None` if its name is missing or unusable.
pub(crate) fn read_registry(node: &Node, keys: RegistryKeys, report: &mut Report) -> Option<RegistrySettings> {
    let Some(domain) = node.get(keys.domain) else {
        report
            .node(
                &codes::BAD_DOMAIN,
                node,
                format!("`{}` has no `{}`", node.path(), keys.domain),
            )
            .help(format!("add `{}: host[:port][/path]`", keys.domain));
        return None;
    };
    let (host, path) = read_address(domain, report)?;
    Some(registry_at(node, host, path, keys, report))
}

/// Reads a registry whose name is known.
pub(crate) fn registry_at(
    node: &Node,
    host: RegistryHost,
    path: String,
    keys: RegistryKeys,
    report: &mut Report,
) -> RegistrySettings {
    RegistrySettings {
        role: keys.role,
        host,
        path,
        login: read_login(node, keys.username, report),
        insecure: node.get("insecure").and_then(Node::boolean).unwrap_or(false),
        certificates: node
            .get("certificates")
            .map(|certificates| read_certificates(certificates, report))
            .unwrap_or_default(),
        repository_name: node
            .get("repositoryName")
            .and_then(Node::text)
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
        location: node.get(keys.domain).unwrap_or(node).location(),
    }
}

/// Reads `host[:port][/path]`; a scheme and trailing slashes are dropped.
pub(crate) fn read_address(node: &Node, report: &mut Report) -> Option<(RegistryHost, String)> {
    let text = node.text()?;
    let bare = without_scheme(node, text, report);
    if bare.contains('@') {
        report
            .node(
                &codes::LOGIN_IN_NAME,
                node,
                format!("`{}` holds a user name or password", node.path()),
            )
            .help("write `host[:port][/path]` here, and the login into keys of their own");
        // The excerpt must not show the login either.
        report.secret(node.span());
        return None;
    }
    let bare = bare.trim_end_matches('/');
    let (host_text, path) = bare.split_once('/').unwrap_or((bare, ""));
    let port = host_text.rsplit_once(':').map(|(_, port)| port);
    let is_number = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if port.is_some_and(|port| is_number(port) && port.parse().map_or(true, |port: u16| port == 0)) {
        report
            .node(&codes::BAD_DOMAIN, node, format!("`{host_text}` has no usable port"))
            .help("write a port from 1 to 65535, or none");
        return None;
    }
    let host = match host_text.parse::<RegistryHost>() {
        Ok(host) if !host_text.is_empty() => host,
        Ok(_) | Err(_) => {
            let message = if bare.is_empty() {
                format!("`{}` is empty", node.path())
            } else {
                format!("`{host_text}` is not a registry host")
            };
            report
                .node(&codes::BAD_DOMAIN, node, message)
                .help("write `host[:port][/path]`, e.g. `10.10.254.254:8000/spectro-images`");
            return None;
        }
    };
    if !path.is_empty()
        && let Err(error) = path.parse::<Repository>()
    {
        report
            .node(
                &codes::BAD_DOMAIN,
                node,
                format!("`{}` has a wrong path: {error}", node.path()),
            )
            .help("write `host[:port][/path]`, the path in lower case");
        return None;
    }
    check_grc_io(node, host.as_str(), report);
    Some((host, path.to_owned()))
}

/// Warns of `grc.io`, a typing error for `gcr.io`.
pub(crate) fn check_grc_io(node: &Node, host: &str, report: &mut Report) {
    if host == GRC_IO || host.strip_suffix(GRC_IO).is_some_and(|rest| rest.ends_with('.')) {
        let right = format!("{}gcr.io", host.strip_suffix(GRC_IO).unwrap_or_default());
        report
            .node(
                &codes::GRC_IO,
                node,
                format!("`{host}` is probably a typing error for `{right}`"),
            )
            .help(format!("write `{right}`"));
    }
}

fn without_scheme<'t>(node: &Node, text: &'t str, report: &mut Report) -> &'t str {
    let bare = without_any_scheme(text);
    let scheme = &text[..text.len() - bare.len()];
    if scheme.is_empty() {
        return text;
    }
    let draft = report.node(
        &codes::SCHEME,
        node,
        format!("the name of a registry has no scheme: `{scheme}` is left out"),
    );
    if scheme == "http://" {
        draft.help("remove the scheme; for plain HTTP set `insecure: true`");
    } else {
        draft.help("remove the scheme");
    }
    bare
}

pub(crate) fn read_login(node: &Node, username_key: &str, report: &mut Report) -> Option<Login> {
    for reference in ["usernameRef", "passwordRef"] {
        if let Some(reference) = node.get(reference).filter(|reference| !reference.is_null()) {
            let help = "write the value itself, e.g. by `{{.spectro.macro.NAME}}` and `--set macro.NAME=…`";
            report_reference(reference, help, report);
        }
    }
    let username = node.get(username_key).and_then(Node::text).unwrap_or_default();
    let password_node = node.get("password");
    let written = password_node.and_then(Node::text);
    if username.is_empty() {
        let reference = node.get("usernameRef").is_some() || node.get(username_key).is_some_and(Node::is_unresolved);
        if let Some(password_node) =
            password_node.filter(|_| written.is_some_and(|text| !text.is_empty()) && !reference)
        {
            report
                .node(
                    &codes::LOGIN_INCOMPLETE,
                    password_node,
                    format!("there is a password and no `{username_key}`"),
                )
                .help(format!("add `{username_key}`, or remove the password"));
        }
        return None;
    }
    let password_node = password_node?;
    let written = written?;
    let password = if node.get("encodedPassword").and_then(Node::boolean) == Some(true) {
        decode_password(password_node, written, report)?
    } else {
        written.to_owned()
    };
    Some(Login {
        username: username.to_owned(),
        password: SecretString::from(password),
        location: password_node.location(),
    })
}

/// Reports a key that refers to a Secret or ConfigMap, because the configuration is parsed without the cluster.
fn report_reference(reference: &Node, help: &str, report: &mut Report) {
    let path = reference.path();
    let message = format!("`{path}` names an object of the cluster, which is not read here");
    report.node(&codes::SECRET_REFERENCE, reference, message).help(help);
}

fn decode_password(node: &Node, written: &str, report: &mut Report) -> Option<String> {
    let compact: String = written.chars().filter(|character| !character.is_whitespace()).collect();
    let decoded = STANDARD
        .decode(compact)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    if decoded.is_none() {
        report
            .node(
                &codes::BAD_BASE64,
                node,
                format!("`{}` is not base64 of a text", node.path()),
            )
            .help("encode the password (`printf %s PASSWORD | base64`), or set `encodedPassword: false`");
    }
    decoded
}

/// Reads certificates: a PEM string, a list of them, or registry-connect's `{certificate: PEM}`.
pub(crate) fn read_certificates(node: &Node, report: &mut Report) -> Vec<Arc<str>> {
    let single = std::slice::from_ref(node);
    let items = match node.value {
        NodeValue::Sequence(_) => node.items(),
        _ => single,
    };
    items.iter().filter_map(|item| read_certificate(item, report)).collect()
}

fn read_certificate(item: &Node, report: &mut Report) -> Option<Arc<str>> {
    if let Some(reference) = item.get("certificateRef") {
        let help = "write the certificate itself, as `certificate` with the PEM text";
        report_reference(reference, help, report);
        return None;
    }
    let node = item.get("certificate").unwrap_or(item);
    let text = node.text().filter(|text| !text.trim().is_empty())?;
    // The documentation of `site.caCerts` says base64 of PEM, and its examples show PEM: both are accepted.
    let decoded = (!text.contains("-----BEGIN"))
        .then(|| {
            let compact: String = text.chars().filter(|character| !character.is_whitespace()).collect();
            STANDARD
                .decode(compact)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
        })
        .flatten();
    let pem = decoded.as_deref().unwrap_or(text);
    match check_pem(pem) {
        Ok(()) => Some(Arc::from(pem)),
        Err(Pem::Placeholder) => {
            report
                .node(
                    &codes::PLACEHOLDER_PEM,
                    node,
                    format!("`{}` holds no certificate between its BEGIN and END lines", node.path()),
                )
                .help("put the certificate of the registry's CA there; without it only the system's are trusted");
            None
        }
        Err(Pem::Broken) => {
            report
                .node(
                    &codes::BAD_PEM,
                    node,
                    format!("`{}` is not a PEM certificate", node.path()),
                )
                .help("write it as a block, from `-----BEGIN CERTIFICATE-----` to `-----END CERTIFICATE-----`");
            None
        }
    }
}

enum Pem {
    Broken,
    Placeholder,
}

/// The first byte of every certificate and public key: an ASN.1 sequence.
const ASN1_SEQUENCE: u8 = 0x30;

/// Returns true if the text between the borders of a PEM section can be a certificate or a public key.
pub(crate) fn is_der_base64(body: &str) -> bool {
    let compact: String = body.split_whitespace().collect();
    let der = STANDARD.decode(compact);
    der.is_ok_and(|der| der.first() == Some(&ASN1_SEQUENCE))
}

fn check_pem(text: &str) -> Result<(), Pem> {
    let mut rest = text;
    let mut count = 0;
    while let Some((_, after)) = rest.split_once(CERTIFICATE_BEGIN) {
        let (body, behind) = after.split_once(CERTIFICATE_END).ok_or(Pem::Broken)?;
        if !is_der_base64(body) {
            return Err(Pem::Placeholder);
        }
        count += 1;
        rest = behind;
    }
    if count == 0 { Err(Pem::Broken) } else { Ok(()) }
}

/// Reads one mapping rule.
pub(crate) fn read_rule(entry: &MappingEntry, report: &mut Report) -> Option<MappingRule> {
    let key_text = entry.key.text().unwrap_or_default();
    let from = if key_text == ALL {
        RulePrefix::All
    } else {
        let (host, path) = read_rule_side(&entry.key, report)?;
        RulePrefix::Path { host, path }
    };
    // Values of other types were reported already.
    let target = Some(&entry.value).filter(|value| value.kind() == "a string")?;
    let (to_host, to_path) = read_rule_side(target, report)?;
    Some(MappingRule {
        from,
        to_host,
        to_path,
        location: entry.key.location(),
    })
}

fn read_rule_side(node: &Node, report: &mut Report) -> Option<(RegistryHost, String)> {
    let text = node.text()?;
    if text.trim().is_empty() {
        report
            .node(&codes::BAD_RULE, node, format!("`{}` is empty", node.path()))
            .help("write `host[:port][/path]`, or remove the rule");
        return None;
    }
    let looks_like_host = |part: &str| part == "localhost" || part.contains(['.', ':']);
    let first = without_any_scheme(text).split('/').next().unwrap_or_default();
    if !looks_like_host(first) && !text.contains('@') {
        let draft = report.node(
            &codes::BAD_RULE,
            node,
            format!("`{text}` does not start with a registry's host"),
        );
        draft.help(match nearest(text, [ALL].into_iter()) {
            Some(_) => "the key for every image is `all`, in lower case".to_owned(),
            None => format!("write the host too, e.g. `docker.io/{}`", text.trim_matches('/')),
        });
        return None;
    }
    read_address(node, report)
}

/// Returns a text without `https://`, `oci://` or another scheme.
fn without_any_scheme(text: &str) -> &str {
    match text.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => rest,
        _ => text,
    }
}
