//! Files that may hold the login of a registry, in order. A password goes only to the host that it was given for: never
//! to a sibling host, and to a subdomain only if the file is named after the parent domain.

use std::net::Ipv4Addr;

use crate::reference::{DOCKER_HUB_ALIASES, RegistryHost};

/// Range of domains above a host in which its login may be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParentLookup {
    /// Parent domains of two labels or more.
    #[default]
    Domains,
    /// Also top-level domains and parts of IP addresses, as generic-credential-provider does, which this program
    /// replaces.
    Anything,
}

/// The name of a file that may hold the login, without `.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName {
    /// A `host:port`, a host or a domain.
    pub name: String,
    /// True if this is not the host itself but a domain above it.
    pub is_parent: bool,
}

/// Returns the names to look for, nearest first: `host:port`, `host`, then without labels from the left
/// [spec:credential-provider].
#[must_use]
pub fn lookup_names(host: &RegistryHost, parents: ParentLookup) -> Vec<FileName> {
    let own = |name: &str| FileName {
        name: name.to_owned(),
        is_parent: false,
    };
    let mut names = vec![own(host.as_str())];
    if host.port().is_some() {
        names.push(own(host.name()));
    }
    if host.is_docker_hub() {
        names.extend(DOCKER_HUB_ALIASES.map(own));
    }
    let is_address = host.name().starts_with('[') || host.name().parse::<Ipv4Addr>().is_ok();
    if host.name().starts_with('[') || (is_address && parents == ParentLookup::Domains) {
        return names;
    }
    let mut rest = host.name();
    while let Some((_, parent)) = rest.split_once('.') {
        if parents == ParentLookup::Domains && !parent.contains('.') {
            break;
        }
        names.push(FileName {
            name: parent.to_owned(),
            is_parent: true,
        });
        rest = parent;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(host: &str, parents: ParentLookup) -> Vec<String> {
        let names = lookup_names(&host.parse().unwrap(), parents);
        names.into_iter().map(|name| name.name).collect()
    }

    #[test]
    fn names_are_looked_for_from_the_nearest_to_the_domain() {
        for (host, expected) in [
            ("us.gcr.io", &["us.gcr.io", "gcr.io"][..]),
            ("gcr.io", &["gcr.io"]),
            ("gcr.io:5000", &["gcr.io:5000", "gcr.io"]),
            (
                "a.b.example.com:443",
                &["a.b.example.com:443", "a.b.example.com", "b.example.com", "example.com"],
            ),
            ("10.10.100.45:30003", &["10.10.100.45:30003", "10.10.100.45"]),
            ("[fd00::1]:5000", &["[fd00::1]:5000", "[fd00::1]"]),
            ("localhost:5000", &["localhost:5000", "localhost"]),
            ("docker.io", &["docker.io", "index.docker.io", "registry-1.docker.io"]),
        ] {
            assert_eq!(names(host, ParentLookup::Domains), expected, "{host}");
        }
    }

    #[test]
    fn a_top_level_domain_or_part_of_an_address_is_used_only_when_asked_for() {
        assert_eq!(
            names("us.gcr.io", ParentLookup::Anything),
            ["us.gcr.io", "gcr.io", "io"]
        );
        assert_eq!(
            names("10.1.2.3", ParentLookup::Anything),
            ["10.1.2.3", "1.2.3", "2.3", "3"]
        );
        assert_eq!(names("[fd00::1]", ParentLookup::Anything), ["[fd00::1]"]);
    }

    #[test]
    fn a_sibling_of_a_host_is_never_asked() {
        for (host, sibling) in [
            ("eu.gcr.io", "us.gcr.io"),
            ("reg:5000", "reg:5001"),
            ("gcr.io", "us.gcr.io"),
        ] {
            for parents in [ParentLookup::Domains, ParentLookup::Anything] {
                assert!(
                    !names(host, parents).iter().any(|name| name == sibling),
                    "{host} asks {sibling}"
                );
            }
        }
    }
}
