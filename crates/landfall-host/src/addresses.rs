//! Addresses of this machine, by which clients in its networks reach it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use camino::Utf8Path;

use crate::root::HostRoot;

/// Routing tables of IPv4 with the local addresses, its main table, and the addresses of IPv6, as Linux shows them.
const LOCAL_IPV4: &str = "/proc/net/fib_trie";
const ROUTES_IPV4: &str = "/proc/net/route";
const LOCAL_IPV6: &str = "/proc/net/if_inet6";
/// The largest table that is looked at, in bytes.
const TABLE_MAX: usize = 4 << 20;
/// Addresses at most; a certificate has a place for each.
const ADDRESSES_MAX: usize = 32;

/// Returns the addresses of this machine in the networks that its interfaces are connected to, in order. Addresses of
/// loopback, of a single link, of short life, and those that are there for services of a cluster alone (the dummy
/// interface of IPVS) are left out. A table that cannot be read has none.
#[must_use]
pub fn find_addresses(root: &HostRoot) -> Vec<IpAddr> {
    let load = |path: &str| {
        let path = root.join(Utf8Path::new(path)).ok()?;
        let bytes = fs_err::read(path).ok().filter(|bytes| bytes.len() <= TABLE_MAX)?;
        String::from_utf8(bytes).ok()
    };
    let table = |path| load(path).unwrap_or_default();
    let (trie, routes, ipv6) = (table(LOCAL_IPV4), table(ROUTES_IPV4), table(LOCAL_IPV6));
    let ipv4 = parse_ipv4(&trie, &routes).map(IpAddr::V4);
    let ipv6 = parse_ipv6(&ipv6).map(IpAddr::V6);
    ipv4.chain(ipv6)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .take(ADDRESSES_MAX)
        .collect()
}

/// Parses the local addresses that lie in a connected network of the main table.
fn parse_ipv4<'a>(trie: &'a str, routes: &str) -> impl Iterator<Item = Ipv4Addr> + use<'a> {
    let connected: Vec<(u32, u32)> = routes.lines().filter_map(parse_connected).collect();
    // An address is on a line of its own, `|-- 10.0.0.7`; the next line says what it is, `/32 host LOCAL`.
    let lines = trie.lines().zip(trie.lines().skip(1));
    let local = lines.filter(|(_, next)| next.trim() == "/32 host LOCAL");
    let addresses = local.filter_map(|(line, _)| line.trim().strip_prefix("|-- ")?.parse::<Ipv4Addr>().ok());
    addresses.filter(move |address| {
        let bits = address.to_bits();
        !address.is_loopback() && connected.iter().any(|(network, mask)| bits & mask == *network)
    })
}

/// Parses a line of the main table, `eth0 0000000A 00000000 0001 0 0 0 00FFFFFF 0 0 0` (in the order of bytes of the
/// machine), into network and mask. Returns `None` for routes by a gateway and for those of a single address.
fn parse_connected(line: &str) -> Option<(u32, u32)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let mut word = |skipped| {
        let text = fields.nth(skipped)?;
        let bytes = u32::from_str_radix(text, 16).ok()?.to_ne_bytes();
        Some(u32::from_be_bytes(bytes))
    };
    let (network, gateway, mask) = (word(0)?, word(0)?, word(4)?);
    (gateway == 0 && mask != 0 && mask != u32::MAX).then_some((network, mask))
}

/// Parses lines `ADDRESS INDEX PREFIX SCOPE FLAGS NAME`, all but the name in hexadecimal digits.
fn parse_ipv6(table: &str) -> impl Iterator<Item = Ipv6Addr> + use<'_> {
    /// `IFA_F_TEMPORARY`, `IFA_F_DEPRECATED` and `IFA_F_TENTATIVE` of Linux.
    const PASSING: u8 = 0x01 | 0x20 | 0x40;
    table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [address, _index, _prefix, scope, flags, name] = fields[..] else {
            return None;
        };
        let is_lasting = u8::from_str_radix(flags, 16).ok()? & PASSING == 0;
        let is_usual = scope == "00" && is_lasting && !name.starts_with("kube-ipvs");
        let address = u128::from_str_radix(address, 16).ok()?;
        is_usual.then(|| Ipv6Addr::from_bits(address))
    })
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;

    use super::*;

    #[test]
    fn addresses_in_connected_networks_are_found_and_those_of_services_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        let proc = path.join("proc/net");
        fs_err::create_dir_all(&proc).unwrap();
        let root = HostRoot::new(&path);
        assert_eq!(find_addresses(&root), [] as [IpAddr; 0]);

        // 10.96.0.1 is a service on kube-ipvs0, 10.42.0.0 the address of a tunnel without a network of its own.
        let local = ["10.42.0.0", "10.96.0.1", "127.0.0.1", "192.168.7.20"];
        let local = local.map(|address| format!("           |-- {address}\n              /32 host LOCAL\n"));
        let trie = format!(
            "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.168.7.0\n        /24 link UNICAST\nLocal:\n{}",
            local.concat()
        );
        fs_err::write(proc.join("fib_trie"), trie).unwrap();
        let word = |address: &str| {
            let address: Ipv4Addr = address.parse().unwrap();
            format!("{:08X}", u32::from_ne_bytes(address.octets()))
        };
        let route = |network, gateway, mask| {
            let (network, gateway, mask) = (word(network), word(gateway), word(mask));
            format!("eth0\t{network}\t{gateway}\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n")
        };
        let routes = [
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n".to_owned(),
            route("0.0.0.0", "192.168.7.1", "0.0.0.0"),
            route("10.42.1.0", "10.42.1.0", "255.255.255.0"),
            route("192.168.7.0", "0.0.0.0", "255.255.255.0"),
        ];
        fs_err::write(proc.join("route"), routes.concat()).unwrap();
        let ipv6 = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    fe80000000000000021122fffe334455 02 40 20 80     eth0\n\
                    fd000000000000000000000000000020 02 40 00 80     eth0\n\
                    fd0000000000000012341234abcdabcd 02 40 00 01     eth0\n\
                    fd000000000000000000000000000096 05 80 00 c2 kube-ipvs0\n";
        fs_err::write(proc.join("if_inet6"), ipv6).unwrap();
        let found: Vec<String> = find_addresses(&root).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.168.7.20", "fd00::20"]);
    }
}
