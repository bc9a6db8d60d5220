//! The list of the hosts of a site [spec:site.peers]: the leader gives it to the others, which keep it on the disk. It is
//! the only way for a worker to learn its peers: the API of the cluster shows a kubelet its own node only.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::failure::Hint;
use crate::host_name::HostName;
use crate::repave::HostRole;

/// Hosts of the largest site.
pub const HOSTS_MAX: usize = 64;
/// Bytes of the largest list that is read.
pub const SIZE_MAX: usize = 64 * 1024;

/// The hosts of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peers {
    pub version: u32,
    /// The generation of the leader that made the list.
    pub generation: u64,
    pub leader: HostName,
    pub hosts: BTreeMap<HostName, Peer>,
}

/// A host of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The address at which it serves blobs to its peers.
    pub address: SocketAddr,
    pub role: HostRole,
}

/// Reason to refuse a list of hosts.
#[derive(Debug, thiserror::Error)]
pub enum PeersRefusal {
    #[error("the list of hosts has more than {SIZE_MAX} bytes")]
    TooLarge,
    #[error("the list of hosts is not a document of this form")]
    Json(#[source] serde_json::Error),
    #[error(
        "the list of hosts has version {version}, and this program reads version {}",
        Peers::VERSION
    )]
    Newer { version: u32 },
    #[error("the site has {0} hosts, and may have {HOSTS_MAX}")]
    TooMany(usize),
    #[error("the leader `{0}` is not in its own list")]
    NoLeader(HostName),
    #[error("`{0}` and `{1}` have the same address")]
    SameAddress(HostName, HostName),
}

impl Hint for PeersRefusal {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            PeersRefusal::Newer { .. } => "run the same version of Landfall on all hosts",
            PeersRefusal::SameAddress(..) => "set `landfall.site.address` on one of them",
            PeersRefusal::TooMany(_) => "divide the site: a site is hosts on one switch",
            _ => "let the leader write the list again: `landfall reload` on the leader",
        }))
    }
}

impl Peers {
    /// Version of the lists that this program writes.
    pub const VERSION: u32 = 1;

    /// Returns the document.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("texts and numbers are JSON");
        bytes.push(b'\n');
        bytes
    }
}

/// Parses a list of hosts.
///
/// # Errors
/// If it is no list that this version can follow.
pub fn parse_peers(bytes: &[u8]) -> Result<Peers, PeersRefusal> {
    if bytes.len() > SIZE_MAX {
        return Err(PeersRefusal::TooLarge);
    }
    let peers: Peers = serde_json::from_slice(bytes).map_err(PeersRefusal::Json)?;
    if peers.version != Peers::VERSION {
        return Err(PeersRefusal::Newer { version: peers.version });
    }
    if peers.hosts.len() > HOSTS_MAX {
        return Err(PeersRefusal::TooMany(peers.hosts.len()));
    }
    if !peers.hosts.contains_key(&peers.leader) {
        return Err(PeersRefusal::NoLeader(peers.leader));
    }
    let mut addresses: BTreeMap<SocketAddr, &HostName> = BTreeMap::new();
    for (host, peer) in &peers.hosts {
        if let Some(other) = addresses.insert(peer.address, host) {
            return Err(PeersRefusal::SameAddress(other.clone(), host.clone()));
        }
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_read_back_and_a_wrong_one_is_refused() {
        let name = |text: &str| text.parse::<HostName>().unwrap();
        let peer = |address: &str, role| Peer {
            address: address.parse().unwrap(),
            role,
        };
        let peers = Peers {
            version: 1,
            generation: 3,
            leader: name("edge-1"),
            hosts: BTreeMap::from([
                (name("edge-1"), peer("10.0.0.5:5082", HostRole::ControlPlane)),
                (name("edge-2"), peer("[fd00::2]:5082", HostRole::Worker)),
            ]),
        };
        let text = String::from_utf8(peers.render()).unwrap();
        assert_eq!(parse_peers(text.as_bytes()).unwrap(), peers);
        for (from, to, expected) in [
            (
                "\"version\": 1",
                "\"version\": 2",
                "the list of hosts has version 2, and this program reads version 1",
            ),
            (
                "\"leader\": \"edge-1\"",
                "\"leader\": \"edge-3\"",
                "the leader `edge-3` is not in its own list",
            ),
            (
                "[fd00::2]:5082",
                "10.0.0.5:5082",
                "`edge-1` and `edge-2` have the same address",
            ),
            ("edge-2", "Edge_2", "the list of hosts is not a document of this form"),
        ] {
            assert!(text.contains(from), "{from}");
            let refusal = parse_peers(text.replace(from, to).as_bytes()).unwrap_err();
            assert_eq!(refusal.to_string(), expected, "{from}");
        }
        let mut many = peers;
        for number in 0..u8::try_from(HOSTS_MAX).unwrap() {
            let address = format!("10.0.1.{number}:5082");
            many.hosts
                .insert(name(&format!("h{number}")), peer(&address, HostRole::Worker));
        }
        assert!(matches!(parse_peers(&many.render()), Err(PeersRefusal::TooMany(66))));
    }
}
