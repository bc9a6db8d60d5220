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
//! - **Addresses of the machine or the link** (`127.0.0.1`, `169.254.169.254`) are never valid targets for a request
//!   that went to another host. Private addresses are: an on-premises registry lives on one.

use std::net::IpAddr;

use landfall_core::reference::RegistryHost;
use reqwest::Url;

/// The host of Docker Hub's registry.
const DOCKER_HUB_REGISTRY: &str = "registry-1.docker.io";

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
    if from.host_str() != to.host_str() && is_local(to) && !is_local(from) {
        return Err("is an address of this machine or link");
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
    if base.host_str() == realm.host_str() || listed.iter().any(|host| host.as_str() == server) {
        return Ok(());
    }
    if realm.scheme() != "https" {
        return Err("is another host and not reached by https");
    }
    if is_local(realm) && !is_local(base) {
        return Err("is an address of this machine or link");
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

/// Returns true for an address of this machine or of its link.
pub(crate) fn is_local_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address.is_unspecified(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local() || address.is_unspecified(),
    }
}

fn is_local(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return true };
    let name = host.trim_start_matches('[').trim_end_matches(']');
    match name.parse() {
        Ok(address) => is_local_address(address),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
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
            ("http://reg.example.com", "http://reg.example.com:8080/t", true, true),
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
            ("http://127.0.0.1:5000", "http://localhost:5001/x", true),
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
    fn private_addresses_are_no_local_ones() {
        let cases = [
            ("127.0.0.1", true),
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("::1", true),
            ("fe80::1", true),
            ("0.0.0.0", true),
            ("10.0.0.1", false),
            ("192.168.1.1", false),
            ("fd00::1", false),
            ("1.1.1.1", false),
        ];
        for (address, expected) in cases {
            assert_eq!(is_local_address(address.parse().unwrap()), expected, "{address}");
        }
    }
}
