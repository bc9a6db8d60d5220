//! Claims [spec:site.claims]: one host of a site fetches each blob over the uplink, the others take it from that host.
//!
//! The leader keeps the table in memory. After its restart the hosts tell again what they have and what they fetch. A
//! claim is a lease that progress renews: a host that dies or stalls loses it, and the next one begins that blob anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host_name::HostName;
use crate::jitter::fraction_of;
use crate::reference::Digest;

/// Time without progress after which a claim is lost.
pub const LEASE: Duration = Duration::from_secs(30);

/// The blobs of a site and the hosts that fetch them.
#[derive(Debug, Clone)]
pub struct ClaimTable {
    blobs: HashMap<Digest, Blob>,
    /// Claims that one host may hold. A host that dies loses at most this many parts of blobs.
    claims_max: usize,
}

#[derive(Debug, Clone, Default)]
struct Blob {
    claim: Option<Claim>,
    /// Hosts with the whole blob, verified.
    holders: BTreeSet<HostName>,
}

#[derive(Debug, Clone)]
struct Claim {
    host: HostName,
    /// Bytes that the host has.
    offset: u64,
    /// Time of the claim or of the last progress.
    renewed: Duration,
}

/// Answer to a host that wants a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClaimAnswer {
    /// Fetch it over the uplink.
    Fetch,
    /// This host fetches it, and has so many bytes. Only a whole blob is served.
    Wait { host: HostName, offset: u64 },
    /// These hosts have it.
    Have { hosts: Vec<HostName> },
    /// The host fetches as many blobs as it may: ask again after one of them.
    Later,
}

impl ClaimTable {
    #[must_use]
    pub fn new(claims_max: usize) -> ClaimTable {
        ClaimTable {
            blobs: HashMap::new(),
            claims_max: claims_max.max(1),
        }
    }

    /// Answers a host that wants a blob. `now` is the run time of the leader.
    pub fn claim(&mut self, host: &HostName, digest: &Digest, now: Duration) -> ClaimAnswer {
        let held = self.claims_of(host, now);
        let blob = self.blobs.entry(digest.clone()).or_default();
        let others: Vec<HostName> = blob.holders.iter().filter(|holder| *holder != host).cloned().collect();
        if !others.is_empty() {
            return ClaimAnswer::Have { hosts: others };
        }
        match &blob.claim {
            Some(claim) if claim.is_live(now) && claim.host != *host => ClaimAnswer::Wait {
                host: claim.host.clone(),
                offset: claim.offset,
            },
            // A host that comes back resumes by a range.
            Some(claim) if claim.is_live(now) => ClaimAnswer::Fetch,
            _ if held >= self.claims_max => ClaimAnswer::Later,
            _ => {
                // The host does not have what it asks for, whatever it told before.
                blob.holders.remove(host);
                blob.claim = Some(Claim::new(host.clone(), 0, now));
                ClaimAnswer::Fetch
            }
        }
    }

    /// Records the progress of a host, and returns true if it is to go on. Only more bytes renew the claim. A leader that
    /// began anew learns its claims from this.
    pub fn progress(&mut self, host: &HostName, digest: &Digest, offset: u64, now: Duration) -> bool {
        let blob = self.blobs.entry(digest.clone()).or_default();
        match &mut blob.claim {
            Some(claim) if claim.host == *host => {
                if offset > claim.offset {
                    (claim.offset, claim.renewed) = (offset, now);
                }
                // Nobody else took it meanwhile: there is no reason to throw the bytes away.
                true
            }
            Some(claim) if claim.is_live(now) => false,
            _ if !blob.holders.is_empty() => false,
            _ => {
                blob.claim = Some(Claim::new(host.clone(), offset, now));
                true
            }
        }
    }

    /// Records that a host has the whole blob, and verified it.
    pub fn stored(&mut self, host: &HostName, digest: &Digest) {
        let blob = self.blobs.entry(digest.clone()).or_default();
        blob.claim = None;
        blob.holders.insert(host.clone());
    }

    /// Records that a host gave its claim up, because no source gave it the blob.
    pub fn gave_up(&mut self, host: &HostName, digest: &Digest) {
        if let Some(blob) = self.blobs.get_mut(digest)
            && blob.claim.as_ref().is_some_and(|claim| claim.host == *host)
        {
            blob.claim = None;
        }
    }

    /// Records that a host does not serve a blob that it had.
    pub fn lost(&mut self, holder: &HostName, digest: &Digest) {
        if let Some(blob) = self.blobs.get_mut(digest) {
            blob.holders.remove(holder);
        }
    }

    /// Forgets a host that left the site, or does not answer.
    pub fn forget(&mut self, host: &HostName) {
        for blob in self.blobs.values_mut() {
            blob.holders.remove(host);
            if blob.claim.as_ref().is_some_and(|claim| claim.host == *host) {
                blob.claim = None;
            }
        }
    }

    /// Forgets the blobs that no generation needs any more.
    pub fn retain(&mut self, is_needed: impl Fn(&Digest) -> bool) {
        self.blobs.retain(|digest, _| is_needed(digest));
    }

    fn claims_of(&self, host: &HostName, now: Duration) -> usize {
        let claims = self.blobs.values().filter_map(|blob| blob.claim.as_ref());
        claims.filter(|claim| claim.host == *host && claim.is_live(now)).count()
    }
}

impl Claim {
    fn new(host: HostName, offset: u64, now: Duration) -> Claim {
        Claim {
            host,
            offset,
            renewed: now,
        }
    }

    fn is_live(&self, now: Duration) -> bool {
        now.saturating_sub(self.renewed) < LEASE
    }
}

/// Returns the order in which a host claims what it lacks: another one for each host, so that they fetch different blobs
/// at the same time, and no host is the source of all.
#[must_use]
pub fn order_claims<'d>(host: &HostName, wanted: impl IntoIterator<Item = &'d Digest>) -> Vec<&'d Digest> {
    let mut ordered: BTreeMap<(u64, &Digest), ()> = BTreeMap::new();
    for digest in wanted {
        let weight = fraction_of(format!("{host} {digest}").as_bytes());
        ordered.insert((weight.to_bits(), digest), ());
    }
    ordered.into_keys().map(|(_, digest)| digest).collect()
}

#[cfg(test)]
mod tests;
