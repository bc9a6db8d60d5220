use proptest::prelude::*;

use super::*;

fn name(number: usize) -> HostName {
    format!("edge-{number}").parse().unwrap()
}

fn digest(number: usize) -> Digest {
    format!("sha256:{number:064x}").parse().unwrap()
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn one_host_fetches_and_the_others_wait_for_it() {
    let mut table = ClaimTable::new(1);
    let (a, b) = (name(1), name(2));
    let blob = digest(1);
    assert_eq!(table.claim(&a, &blob, at(0)), ClaimAnswer::Fetch);
    assert!(table.progress(&a, &blob, 500, at(20)));
    let wait = ClaimAnswer::Wait {
        host: a.clone(),
        offset: 500,
    };
    assert_eq!(table.claim(&b, &blob, at(49)), wait);
    assert_eq!(table.claim(&a, &blob, at(49)), ClaimAnswer::Fetch, "it resumes");
    assert_eq!(table.claim(&a, &digest(2), at(49)), ClaimAnswer::Later);
    table.stored(&a, &blob);
    assert_eq!(
        table.claim(&b, &blob, at(50)),
        ClaimAnswer::Have { hosts: vec![a.clone()] }
    );
    assert_eq!(table.claim(&a, &digest(2), at(50)), ClaimAnswer::Fetch);
}

#[test]
fn claim_without_progress_goes_to_the_next() {
    let mut table = ClaimTable::new(1);
    let (a, b) = (name(1), name(2));
    let blob = digest(1);
    table.claim(&a, &blob, at(0));
    // The same offset is no progress.
    assert!(table.progress(&a, &blob, 0, at(29)));
    assert_eq!(table.claim(&b, &blob, at(30)), ClaimAnswer::Fetch);
    assert!(!table.progress(&a, &blob, 10, at(31)), "another host has it");
    table.gave_up(&b, &blob);
    assert!(
        table.progress(&a, &blob, 10, at(32)),
        "the bytes are worth something again"
    );
}

#[test]
fn leader_that_began_anew_learns_claims_and_holders_from_the_hosts() {
    let mut table = ClaimTable::new(1);
    let (a, b) = (name(1), name(2));
    assert!(table.progress(&a, &digest(1), 700, at(1)));
    assert_eq!(
        table.claim(&b, &digest(1), at(2)),
        ClaimAnswer::Wait {
            host: a.clone(),
            offset: 700
        }
    );
    table.stored(&a, &digest(2));
    table.lost(&a, &digest(2));
    assert_eq!(table.claim(&b, &digest(2), at(2)), ClaimAnswer::Fetch);
    table.forget(&b);
    assert_eq!(table.claim(&name(3), &digest(2), at(2)), ClaimAnswer::Fetch);
    table.retain(|needed| *needed == digest(1));
    assert_eq!(table.claim(&b, &digest(2), at(3)), ClaimAnswer::Fetch);
}

/// A host of the simulation.
#[derive(Default)]
struct Host {
    stored: BTreeSet<usize>,
    /// Bytes of blobs that are fetched.
    parts: BTreeMap<usize, u64>,
    /// Second at which it works again.
    dead_until: u64,
}

/// Blobs have 1,000 bytes. Returns the bytes over the uplink, by blob.
fn simulate(hosts: usize, blobs: usize, claims_max: usize, deaths: &[(u64, usize)]) -> (Vec<u64>, u64) {
    const SIZE: u64 = 1_000;
    let digests: Vec<Digest> = (0..blobs).map(digest).collect();
    let number_of = |digest: &Digest| digests.iter().position(|known| known == digest).unwrap();
    let mut table = ClaimTable::new(claims_max);
    let mut site: Vec<Host> = (0..hosts).map(|_| Host::default()).collect();
    let mut uplink = vec![0; blobs];
    for second in 0..100_000 {
        for (_, host) in deaths.iter().filter(|(time, _)| *time == second) {
            let host = &mut site[host % hosts];
            host.parts.clear();
            // It comes back after its claims are lost.
            host.dead_until = second + 40;
        }
        for number in 0..hosts {
            if site[number].dead_until > second {
                continue;
            }
            let me = name(number);
            for (blob, part) in std::mem::take(&mut site[number].parts) {
                let more = 90.min(SIZE - part);
                if !table.progress(&me, &digests[blob], part + more, at(second)) {
                    continue;
                }
                uplink[blob] += more;
                if part + more == SIZE {
                    site[number].stored.insert(blob);
                    table.stored(&me, &digests[blob]);
                } else {
                    site[number].parts.insert(blob, part + more);
                }
            }
            for digest in order_claims(&me, &digests) {
                let blob = number_of(digest);
                if site[number].stored.contains(&blob) || site[number].parts.contains_key(&blob) {
                    continue;
                }
                match table.claim(&me, digest, at(second)) {
                    ClaimAnswer::Fetch => {
                        site[number].parts.insert(blob, 0);
                    }
                    ClaimAnswer::Have { hosts } => {
                        let is_up = |host: &HostName| {
                            let peer = (0..site.len()).find(|number| name(*number) == *host).unwrap();
                            site[peer].dead_until <= second && site[peer].stored.contains(&blob)
                        };
                        // A peer that is down for a moment is asked again: it has the blob.
                        if hosts.iter().any(is_up) {
                            site[number].stored.insert(blob);
                            table.stored(&me, digest);
                        }
                    }
                    ClaimAnswer::Wait { .. } => {}
                    ClaimAnswer::Later => break,
                }
            }
        }
        if site.iter().all(|host| host.stored.len() == blobs) {
            return (uplink, second);
        }
    }
    panic!("{hosts} hosts do not get {blobs} blobs: {deaths:?}");
}

#[test]
fn hosts_fetch_different_blobs_at_the_same_time() {
    let (uplink, alone) = simulate(1, 24, 1, &[]);
    assert_eq!(uplink, vec![1_000; 24]);
    let (uplink, together) = simulate(4, 24, 1, &[]);
    assert_eq!(uplink, vec![1_000; 24]);
    assert!(together * 3 < alone, "4 hosts take {together} s, one takes {alone} s");
}

#[test]
fn first_blobs_of_hosts_differ() {
    let digests: Vec<Digest> = (0..40).map(digest).collect();
    let firsts: BTreeSet<&Digest> = (0..20).map(|host| order_claims(&name(host), &digests)[0]).collect();
    assert!(
        firsts.len() >= 12,
        "{} of 20 hosts begin with another blob",
        firsts.len()
    );
    let mut sorted = order_claims(&name(1), &digests);
    sorted.sort_unstable();
    let mut all: Vec<&Digest> = digests.iter().collect();
    all.sort_unstable();
    assert_eq!(sorted, all);
}

proptest! {
    #[test]
    fn each_blob_crosses_the_uplink_once_and_a_death_costs_its_parts(
        hosts in 1..6_usize,
        blobs in 1..12_usize,
        claims_max in 1..4_usize,
        deaths in proptest::collection::vec((0..100_u64, 0..6_usize), 0..5),
    ) {
        let (uplink, _) = simulate(hosts, blobs, claims_max, &deaths);
        let whole = 1_000 * u64::try_from(blobs).unwrap();
        let bytes: u64 = uplink.iter().sum();
        // A part is less than a blob.
        let parts_max = 1_000 * u64::try_from(deaths.len() * claims_max).unwrap();
        prop_assert!(uplink.iter().all(|bytes| *bytes >= 1_000));
        prop_assert!(bytes <= whole + parts_max, "{} bytes for {}, {} deaths", bytes, whole, deaths.len());
        if deaths.is_empty() {
            prop_assert_eq!(bytes, whole);
        }
    }
}
