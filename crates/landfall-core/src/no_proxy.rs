//! `NO_PROXY`: the hosts that are reached without a proxy. The rules are those of Go's `httpproxy`, which containerd,
//! kubelet and docker use.

use std::net::IpAddr;

use ipnet::IpNet;

/// A list of hosts that are reached directly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoProxy {
    entries: Vec<NoProxyEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NoProxyEntry {
    /// `*`.
    Everything,
    /// `10.0.0.0/8`.
    Network(IpNet),
    /// `10.1.2.3`, `[fd00::1]:5000`.
    Address { address: IpAddr, port: Option<u16> },
    /// `example.com` is the domain and all hosts below it. `.example.com` and `*.example.com` are only the hosts below.
    Domain {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
}

/// Parses a list, separated by commas or white space. An invalid entry covers no host.
#[must_use]
pub fn parse_no_proxy(text: &str) -> NoProxy {
    let entries = text.split(|character: char| character == ',' || character.is_whitespace());
    NoProxy {
        entries: entries
            .filter(|entry| !entry.is_empty())
            .filter_map(NoProxyEntry::parse)
            .collect(),
    }
}

impl NoProxy {
    /// Returns true if a host is reached directly. An IPv6 address may be in brackets. The case of a name does not
    /// matter.
    #[must_use]
    pub fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = without_brackets(&host).parse().ok();
        self.entries.iter().any(|entry| entry.covers(&host, address, port))
    }
}

impl NoProxyEntry {
    fn parse(text: &str) -> Option<NoProxyEntry> {
        if text == "*" {
            return Some(NoProxyEntry::Everything);
        }
        if let Some((address, prefix)) = text.split_once('/') {
            let address = without_brackets(address).parse().ok()?;
            let network = IpNet::new(address, prefix.parse().ok()?).ok()?;
            return Some(NoProxyEntry::Network(network));
        }
        if let Ok(address) = without_brackets(text).parse() {
            return Some(NoProxyEntry::Address { address, port: None });
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (text, None),
        };
        if let Ok(address) = without_brackets(name).parse() {
            return Some(NoProxyEntry::Address { address, port });
        }
        let below = name.strip_prefix("*.").or(name.strip_prefix('.'));
        let name = below.unwrap_or(name).trim_end_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(NoProxyEntry::Domain {
            name,
            itself: below.is_none(),
            port,
        })
    }

    fn covers(&self, host: &str, found: Option<IpAddr>, on: u16) -> bool {
        let same_port = |port: &Option<u16>| port.is_none_or(|port| port == on);
        match self {
            NoProxyEntry::Everything => true,
            NoProxyEntry::Network(network) => found.is_some_and(|found| network.contains(&found)),
            NoProxyEntry::Address { address, port } => found == Some(*address) && same_port(port),
            NoProxyEntry::Domain { name, itself, port } => {
                let above = host.strip_suffix(name.as_str());
                same_port(port) && above.is_some_and(|above| above.ends_with('.') || (*itself && above.is_empty()))
            }
        }
    }
}

fn without_brackets(text: &str) -> &str {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_reached_directly_as_go_programs_reach_them() {
        let list = "localhost, example.com,.corp.example *.lab.example,10.0.0.0/8,192.168.7.7:5000,fd00::/8,[fe80::1]:443,\
                    reg.example:8443,0.0.0.0/0x,bad:port";
        let cases = [
            ("localhost", 80, true),
            ("example.com", 443, true),
            ("EXAMPLE.com.", 443, true),
            ("reg.example.com", 443, true),
            ("notexample.com", 443, false),
            ("corp.example", 443, false),
            ("a.corp.example", 443, true),
            ("lab.example", 443, false),
            ("a.b.lab.example", 443, true),
            ("10.255.1.2", 5000, true),
            ("11.0.0.1", 5000, false),
            ("192.168.7.7", 5000, true),
            ("192.168.7.7", 443, false),
            ("[fd12::7]", 443, true),
            ("fe80::1", 443, true),
            ("fe80::1", 444, false),
            ("reg.example", 8443, true),
            ("reg.example", 443, false),
            ("bad", 443, false),
        ];
        let parsed = parse_no_proxy(list);
        for (host, port, expected) in cases {
            assert_eq!(parsed.covers(host, port), expected, "{host}:{port}");
        }
        assert!(parse_no_proxy("*").covers("anything", 1));
        assert!(parse_no_proxy("::/0").covers("::1", 1) && !parse_no_proxy("0.0.0.0/0").covers("::1", 1));
        assert!(!parse_no_proxy(" ,, ").covers("anything", 1));
    }

    proptest! {
        #[test]
        fn no_list_panics(list in "\\PC{0,40}", host in "\\PC{0,20}") {
            let _either = parse_no_proxy(&list).covers(&host, 443);
        }

        #[test]
        fn an_address_is_in_every_network_around_it(address: u32, prefix in 0u8..=32) {
            let address = std::net::Ipv4Addr::from_bits(address);
            let list = parse_no_proxy(&format!("{address}/{prefix}"));
            prop_assert!(list.covers(&address.to_string(), 1));
        }
    }
}
