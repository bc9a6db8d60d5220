//! The content of other hosts of the site, as the resolver needs it [spec:resolution.peers].

use std::collections::{BTreeMap, HashMap};

use crate::host_name::HostName;
use crate::reference::{Digest, ImageReference, RegistryHost};

/// The hosts of a site that serve images to this one, the preferred one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerOffers {
    peers: Vec<Peer>,
    /// Digest of each image by its canonical name, from the site lock: peers know no tags.
    digests: HashMap<ImageReference, Digest>,
    /// Peers with the content of a digest.
    holders: HashMap<Digest, Vec<usize>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    host: HostName,
    address: RegistryHost,
}

impl PeerOffers {
    /// Creates the offers of a site without peers. `digests` are the images of the site lock.
    #[must_use]
    pub fn new(digests: &BTreeMap<ImageReference, Digest>) -> PeerOffers {
        let digests = digests.iter().map(|(name, digest)| (name.canonical(), digest.clone()));
        PeerOffers {
            digests: digests.collect(),
            ..PeerOffers::default()
        }
    }

    /// Adds a peer behind the others, with the digests of the images that it has as a whole.
    pub fn add(&mut self, host: HostName, address: RegistryHost, images: impl IntoIterator<Item = Digest>) {
        let number = self.peers.len();
        self.peers.push(Peer { host, address });
        for digest in images {
            let holders = self.holders.entry(digest).or_default();
            if holders.last() != Some(&number) {
                holders.push(number);
            }
        }
    }

    /// Returns the host with this number.
    #[must_use]
    pub fn host(&self, number: usize) -> Option<&HostName> {
        self.peers.get(number).map(|peer| &peer.host)
    }

    /// Returns the peers with an image, and its reference there: always by digest.
    pub(super) fn with_image(&self, name: &ImageReference) -> impl Iterator<Item = (usize, ImageReference)> {
        let canonical = name.canonical();
        let digest = self.digests.get(&canonical);
        let holders = digest.and_then(|digest| self.holders.get(digest));
        let offers = holders.into_iter().flatten().filter_map(move |number| {
            let (peer, digest) = (self.peers.get(*number)?, digest?);
            let there = canonical
                .in_repository(&peer.address, &canonical.path_with_host())
                .ok()?;
            Some((*number, there.beside(None, digest)))
        });
        offers.collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::resolve::{BundleOffers, CandidateKind, Resolver, Why};
    use crate::settings::{ImageRole, Settings};

    fn digest(digit: &str) -> Digest {
        format!("sha256:{}", digit.repeat(64)).parse().unwrap()
    }

    fn mk_offers() -> Arc<PeerOffers> {
        let lock = BTreeMap::from([
            ("docker.io/library/nginx:1".parse().unwrap(), digest("a")),
            ("docker.io/library/busybox:1".parse().unwrap(), digest("b")),
        ]);
        let mut offers = PeerOffers::new(&lock);
        let peer = |number: u8| {
            (
                format!("edge-{number}").parse().unwrap(),
                format!("10.0.0.{number}:5082").parse().unwrap(),
            )
        };
        let (host, address) = peer(2);
        offers.add(host, address, [digest("a"), digest("a")]);
        let (host, address) = peer(3);
        offers.add(host, address, [digest("c"), digest("a")]);
        Arc::new(offers)
    }

    #[test]
    fn peers_come_behind_bundles_and_before_the_uplink_by_digest_only() {
        let settings = Settings::default();
        let source: ImageReference = "nginx:1".parse().unwrap();
        let mut bundles = BundleOffers::default();
        bundles.add("/media/b.tar.zst".to_owned(), [source.clone()]);
        let resolver = Resolver::new(&settings)
            .offering(Arc::new(bundles))
            .with_peers(mk_offers());
        let resolution = resolver.resolve_on_host(&source, ImageRole::Application);
        let shown: Vec<String> = resolution
            .candidates
            .iter()
            .map(|candidate| format!("{:?} {}", candidate.kind, candidate.reference).replace(digest("a").hex(), "a"))
            .collect();
        assert_eq!(
            shown,
            [
                "Bundle docker.io/library/nginx:1",
                "Peer 10.0.0.2:5082/docker.io/library/nginx@sha256:a",
                "Peer 10.0.0.3:5082/docker.io/library/nginx@sha256:a",
                "Origin docker.io/library/nginx:1",
            ]
        );
        assert_eq!(
            resolver.explain(&resolution.candidates[2]),
            "the host `edge-3` of this site has it: the uplink is not needed"
        );
    }

    #[test]
    fn pods_do_not_see_peers_and_an_image_without_a_digest_or_a_holder_has_none() {
        let settings = Settings::default();
        let resolver = Resolver::new(&settings).with_peers(mk_offers());
        for (source, peers) in [("nginx:1", 2), ("nginx:2", 0), ("busybox:1", 0)] {
            let source = source.parse().unwrap();
            let on_host = resolver.resolve_on_host(&source, ImageRole::Application);
            let is_peer = |why: Why| matches!(why, Why::Peer(_));
            let found = on_host
                .candidates
                .iter()
                .filter(|candidate| is_peer(candidate.why))
                .count();
            assert_eq!(found, peers, "{source}");
            assert_eq!(on_host.runtime(true).kind, CandidateKind::Origin, "{source}");
            let for_pods = resolver.resolve(&source, ImageRole::Application);
            assert!(
                for_pods.candidates.iter().all(|candidate| !is_peer(candidate.why)),
                "{source}"
            );
            let on_node = resolver.resolve_on_node(&source, ImageRole::Application);
            assert!(
                on_node.candidates.iter().all(|candidate| !is_peer(candidate.why)),
                "{source}"
            );
        }
    }
}
