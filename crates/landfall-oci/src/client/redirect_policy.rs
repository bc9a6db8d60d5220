//! Redirect policy: which URLs belong to the registry, and which hosts may see its login. Pure.
//!
//! The rules ([spec:security.authorization]), and their reasons:
//! - **Requests** carry `Authorization` only to the registry's own scheme, host and port. The client follows a
//!   redirect, the `Location` of an upload or the next page of a list to another host without it, or not at all.
//! - **From https to http** the client follows nothing.
//! - **A token server** (the `realm` of a `Bearer` challenge) gets the login if it is the registry's own host, is in
//!   the registry's domain, or is listed for the registry. It gets the login by https only, unless the registry itself
//!   is reached by plain HTTP. Without a login the client asks any https server: an anonymous token reveals nothing to
//!   it.
//!   By plain HTTP only the registry's own scheme, host and port see the login, and a listed server.
//! - **Addresses of the link** (`169.254.169.254`, `fe80::/10`), unspecified, multicast and broadcast addresses, and the
//!   metadata services of clouds are never valid targets: neither of a redirect, nor as a token server, nor as the
//!   `Location` of an upload. Addresses of this machine are valid only if the registry is on it. Private addresses are
//!   valid: an on-premises registry lives on one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use landfall_core::reference::RegistryHost;
use reqwest::Url;

/// The host of Docker Hub's registry.
const DOCKER_HUB_REGISTRY: &str = "registry-1.docker.io";
/// Longest host in a message, in characters: the limit of DNS for a name.
const SHOWN_HOST_MAX: usize = 253;
/// Addresses of metadata services that are not of the link: Alibaba Cloud, Oracle Cloud, AWS.
const METADATA_ADDRESSES: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];
/// Names of metadata services, in lower case.
const METADATA_NAMES: [&str; 4] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data.ec2.internal",
];
const FORBIDDEN: &str = "is an address of the link or of a metadata service";
const LOCAL: &str = "is an address of this machine";

/// Returns the URL of a registry's root.
///
/// The grammar of a host is narrower than that of a URL's authority. So this fails only for hosts that cannot be
/// reached, e.g. with port 99999.
pub(super) fn base_url(scheme: &str, host: &RegistryHost) -> Option<Url> {
    let host_and_port = if host.is_docker_hub() {
        DOCKER_HUB_REGISTRY
    } else {
        host.as_str()
    };
    Url::parse(&format!("{scheme}://{host_and_port}/")).ok()
}

/// Returns true if a URL has the registry's scheme, host and port.
pub(super) fn is_registry(base: &Url, url: &Url) -> bool {
    base.origin() == url.origin()
}

/// Resolves a `Location` against the requested URL. A registry behind a TLS proxy often writes `http://` with its own
/// name: that is the registry itself, and the client stays on TLS.
pub(super) fn resolve_location(asked: &Url, location: &str) -> Option<Url> {
    let mut url = asked.join(location).ok()?;
    // The HTTP client would make an `Authorization` header of it.
    url.set_username("").ok();
    url.set_password(None).ok();
    url.set_fragment(None);
    let same_host_and_port = url.host_str() == asked.host_str() && url.port() == asked.port();
    if same_host_and_port && asked.scheme() == "https" && url.scheme() == "http" {
        url.set_scheme("https").ok()?;
    }
    Some(url)
}

/// Checks a redirect.
///
/// # Errors
/// Returns the reason against following it.
pub(super) fn check_redirect(from: &Url, to: &Url) -> Result<(), &'static str> {
    if !matches!(to.scheme(), "http" | "https") {
        return Err("is neither https nor http");
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err("gives up TLS");
    }
    if from.host_str() == to.host_str() {
        return Ok(());
    }
    if is_forbidden(to) {
        return Err(FORBIDDEN);
    }
    if is_local(to) && !is_local(from) {
        return Err(LOCAL);
    }
    Ok(())
}

/// Checks a token server. The client would send it the login if there is one.
///
/// # Errors
/// Returns the reason against asking it.
pub(super) fn check_token_server(
    base: &Url,
    realm: &Url,
    has_login: bool,
    listed: &[RegistryHost],
) -> Result<(), &'static str> {
    if is_registry(base, realm) {
        return Ok(());
    }
    if realm.scheme() != "https" && base.scheme() == "https" {
        return Err("is not reached by https");
    }
    let server = host_and_port(realm);
    if listed.iter().any(|host| host.as_str() == server) {
        return Ok(());
    }
    if base.host_str() == realm.host_str() {
        return match has_login && realm.scheme() != "https" {
            true => Err("has another port than the registry and is not reached by https"),
            false => Ok(()),
        };
    }
    if is_forbidden(realm) {
        return Err(FORBIDDEN);
    }
    if realm.scheme() != "https" {
        return Err("is another host and not reached by https");
    }
    if is_local(realm) && !is_local(base) {
        return Err(LOCAL);
    }
    let same_domain = match (base.domain(), realm.domain()) {
        (Some(registry), Some(realm)) => share_domain(registry, realm),
        _ => false,
    };
    if has_login && !same_domain {
        return Err("is neither in the registry's domain nor listed for it");
    }
    Ok(())
}

/// Returns the `host[:port]` of a URL.
pub(super) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or("");
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Returns a host for a message: a server may name one of any length.
pub(super) fn shown_host(url: &Url) -> String {
    let host = match url.host_str() {
        Some(_) => host_and_port(url),
        None => format!("{}:", url.scheme()),
    };
    match host.char_indices().nth(SHOWN_HOST_MAX) {
        Some((end, _)) => format!("{}…", &host[..end]),
        None => host,
    }
}

/// Returns true for an address of this machine.
pub(crate) fn is_local_address(address: IpAddr) -> bool {
    plain_address(address).is_loopback()
}

/// Returns true for an address that no registry has reason to point to: one of the link, of no single host, or of a
/// cloud's metadata service.
pub(crate) fn is_forbidden_address(address: IpAddr) -> bool {
    let address = plain_address(address);
    METADATA_ADDRESSES.contains(&address)
        || address.is_unspecified()
        || address.is_multicast()
        || match address {
            // "This network" (RFC 1122 section 3.2.1.3) reaches this machine on some systems.
            IpAddr::V4(address) => address.is_link_local() || address.is_broadcast() || address.octets()[0] == 0,
            IpAddr::V6(address) => address.is_unicast_link_local(),
        }
}

/// Returns the IPv4 address inside of an IPv6 address: mapped (RFC 4291 section 2.5.5.2) or of NAT64 (RFC 6052).
fn plain_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            }
            _ => IpAddr::V6(v6),
        },
        v4 => v4,
    }
}

fn is_local(url: &Url) -> bool {
    match host_of(url) {
        None => true,
        Some(Host::Address(address)) => is_local_address(address),
        Some(Host::Name(name)) => name == "localhost" || name.ends_with(".localhost"),
    }
}

fn is_forbidden(url: &Url) -> bool {
    match host_of(url) {
        None => true,
        Some(Host::Address(address)) => is_forbidden_address(address),
        Some(Host::Name(name)) => METADATA_NAMES.contains(&name),
    }
}

/// The host of a URL: `Url` has made one form of all ways to write an address.
enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

fn host_of(url: &Url) -> Option<Host<'_>> {
    let name = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    Some(match name.parse() {
        Ok(address) => Host::Address(address),
        Err(_) => Host::Name(name.trim_end_matches('.')),
    })
}

/// Returns true if two names are in one registrable domain. The rule needs no public suffix list: the names share two
/// labels, or three if the top level is a country whose second level is a category (`co.uk`, `com.au`).
///
/// The rule is coarser than the list. This is sufficient: a registry that wanted the login could ask for it by `Basic`.
fn share_domain(one: &str, other: &str) -> bool {
    let labels = |name: &str| {
        name.to_ascii_lowercase()
            .split('.')
            .rev()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (one, other) = (labels(one), labels(other));
    let shared = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let is_category = one[0].len() == 2 && one.get(1).is_some_and(|label| label.len() <= 3);
    shared >= if is_category { 3 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn token_servers_see_a_login_only_in_the_registrys_domain() {
        let cases = [
            // registry, realm, with login, without
            (
                "https://registry-1.docker.io",
                "https://auth.docker.io/token",
                true,
                true,
            ),
            ("https://ghcr.io", "https://ghcr.io/token", true, true),
            (
                "https://docker.elastic.co",
                "https://docker-auth.elastic.co/auth",
                true,
                true,
            ),
            ("https://reg.shop.co.uk", "https://auth.shop.co.uk/t", true, true),
            ("https://reg.shop.co.uk", "https://auth.evil.co.uk/t", false, true),
            ("https://lscr.io", "https://ghcr.io/token", false, true),
            ("https://reg.example.com:5000", "https://reg.example.com/t", true, true),
            ("https://10.0.0.1:5000", "https://10.0.0.1:5001/t", true, true),
            ("https://10.0.0.1:5000", "https://10.0.0.2/t", false, true),
            ("https://reg.example.com", "http://reg.example.com/t", false, false),
            ("https://reg.example.com", "http://auth.example.com/t", false, false),
            ("http://reg.example.com", "http://reg.example.com/t", true, true),
            ("http://reg.example.com", "http://reg.example.com:8080/t", false, true),
            ("http://reg.example.com", "https://reg.example.com/t", true, true),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/t", false, true),
            ("http://127.0.0.1:5000", "https://169.254.169.254/t", false, false),
            ("http://reg.example.com", "http://auth.example.com/t", false, false),
            ("https://reg.example.com", "https://169.254.169.254/t", false, false),
            ("https://reg.example.com", "https://localhost/t", false, false),
            ("https://reg.example.com", "https://[::1]:8443/t", false, false),
        ];
        for (registry, realm, with_login, without_login) in cases {
            let check = |has_login| check_token_server(&url(registry), &url(realm), has_login, &[]).is_ok();
            assert_eq!(check(true), with_login, "{registry} {realm} with a login");
            assert_eq!(check(false), without_login, "{registry} {realm} without a login");
        }
    }

    #[test]
    fn a_listed_token_server_sees_the_login() {
        let listed = ["token.example.net:8443".parse().unwrap()];
        let registry = url("https://reg.example.com");
        assert!(check_token_server(&registry, &url("https://token.example.net:8443/t"), true, &listed).is_ok());
        assert!(check_token_server(&registry, &url("https://token.example.net/t"), true, &listed).is_err());
    }

    #[test]
    fn redirects_never_give_up_tls_nor_point_inside() {
        let cases = [
            ("https://a.example", "https://cdn.example/x", true),
            ("https://a.example", "http://cdn.example/x", false),
            ("http://a.example", "http://cdn.example/x", true),
            ("https://a.example", "ftp://cdn.example/x", false),
            ("https://a.example", "https://127.0.0.1/x", false),
            ("https://a.example", "https://169.254.169.254/x", false),
            ("https://a.example", "https://10.1.1.1/x", true),
            ("https://a.example", "file:///etc/passwd", false),
            ("https://a.example", "https://metadata.google.internal/x", false),
            ("https://a.example", "https://metadata.google.internal./x", false),
            ("https://a.example", "https://2852039166/x", false),
            ("https://a.example", "https://0xa9fea9fe/x", false),
            ("https://a.example", "https://[64:ff9b::a9fe:a9fe]/x", false),
            ("https://a.example", "https://[fd00:ec2::254]/x", false),
            ("http://127.0.0.1:5000", "http://localhost:5001/x", true),
            ("http://127.0.0.1:5000", "http://169.254.169.254/x", false),
            ("http://127.0.0.1:5000", "http://[fe80::1]/x", false),
            ("http://127.0.0.1:5000", "http://0.0.0.0:5001/x", false),
            ("http://169.254.1.1:5000", "http://169.254.1.1:5001/x", true),
            ("http://10.0.0.1:5000", "http://224.0.0.1/x", false),
        ];
        for (from, to, allowed) in cases {
            assert_eq!(check_redirect(&url(from), &url(to)).is_ok(), allowed, "{from} -> {to}");
        }
    }

    #[test]
    fn a_location_on_the_registry_itself_stays_on_tls() {
        let cases = [
            ("https://a.example/v2/", "/v2/x?y=1", "https://a.example/v2/x?y=1"),
            (
                "https://a.example/v2/",
                "http://a.example/v2/x",
                "https://a.example/v2/x",
            ),
            (
                "https://a.example/v2/",
                "http://b.example/v2/x",
                "http://b.example/v2/x",
            ),
            (
                "https://a.example/v2/",
                "http://a.example:81/v2/x",
                "http://a.example:81/v2/x",
            ),
            (
                "https://a.example/v2/",
                "https://ann:secret@a.example/v2/x#f",
                "https://a.example/v2/x",
            ),
        ];
        for (asked, location, expected) in cases {
            assert_eq!(resolve_location(&url(asked), location).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn docker_hub_is_reached_where_it_lives() {
        let base = base_url("https", &"docker.io".parse().unwrap()).unwrap();
        assert_eq!(base.as_str(), "https://registry-1.docker.io/");
    }

    #[test]
    fn an_address_is_of_this_machine_or_forbidden_or_neither() {
        let cases = [
            ("127.0.0.1", true, false),
            ("::1", true, false),
            ("::ffff:127.0.0.1", true, false),
            ("169.254.169.254", false, true),
            ("::ffff:169.254.169.254", false, true),
            ("64:ff9b::a9fe:a9fe", false, true),
            ("fe80::1", false, true),
            ("0.0.0.0", false, true),
            ("0.1.2.3", false, true),
            ("::", false, true),
            ("224.0.0.1", false, true),
            ("ff02::1", false, true),
            ("255.255.255.255", false, true),
            ("100.100.100.200", false, true),
            ("fd00:ec2::254", false, true),
            ("10.0.0.1", false, false),
            ("192.168.1.1", false, false),
            ("fd00::1", false, false),
            ("100.64.0.1", false, false),
            ("1.1.1.1", false, false),
        ];
        for (address, local, forbidden) in cases {
            let parsed = address.parse().unwrap();
            let found = (is_local_address(parsed), is_forbidden_address(parsed));
            assert_eq!(found, (local, forbidden), "{address}");
        }
    }

    #[test]
    fn a_host_in_a_message_is_short_and_never_empty() {
        assert_eq!(shown_host(&url("https://a.example:81/x")), "a.example:81");
        assert_eq!(shown_host(&url("file:///etc/passwd")), "file:");
        let long = url(&format!("https://{}.example/x", "x".repeat(100_000)));
        assert_eq!(shown_host(&long).chars().count(), SHOWN_HOST_MAX + 1);
    }
}
