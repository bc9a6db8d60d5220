//! The role of a host in its site [spec:site.leader]. Before there is a cluster, a named host leads; after that, the
//! holder of the Lease does. [`crate::cluster::Election`] decides about the Lease itself.

use std::time::Duration;

use serde::Serialize;

use crate::host_name::HostName;

/// Time without a sign of the leader after which a host works alone.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Facts that decide about the role of a host.
#[derive(Debug, Clone)]
pub struct RoleFacts<'a> {
    pub me: &'a HostName,
    /// `landfall.site.leader`, else the host that gave the join token.
    pub named: Option<&'a HostName>,
    pub lease: LeaseState,
    /// True if no other host of the control plane could hold the Lease.
    pub is_only_candidate: bool,
    /// Run time since the last sign of the leader; `None` if there was none since the start.
    pub silence: Option<Duration>,
    /// Run time of this agent.
    pub run_time: Duration,
}

/// Knowledge of a host about the Lease of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseState {
    /// There is no cluster.
    NoCluster,
    /// The API answers, or a control-plane host told: this host holds it, with its number of changes of the holder.
    Held { holder: HostName, transitions: u32 },
    /// The API does not answer. The last record, and the run time since it was read, if there was one.
    Unreachable {
        last: Option<(HostName, u32)>,
        since: Duration,
        duration: Duration,
    },
}

/// Role of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SiteRole {
    /// It decides for the site. Hosts refuse orders of a lower generation.
    Leader {
        generation: u64,
    },
    Follower {
        leader: HostName,
    },
    /// It works as a single host does: no leader answers, or none is known.
    Alone,
}

/// Decides the role of a host. Every Lease has a higher generation than a named leader: the cluster came later.
#[must_use]
pub fn decide_role(facts: &RoleFacts<'_>) -> SiteRole {
    let generation = |transitions: u32| u64::from(transitions) + 1;
    match &facts.lease {
        LeaseState::NoCluster => match facts.named {
            Some(named) if named == facts.me => SiteRole::Leader { generation: 0 },
            Some(named) => facts.follow(named),
            None => SiteRole::Alone,
        },
        LeaseState::Held { holder, transitions } if holder == facts.me => SiteRole::Leader {
            generation: generation(*transitions),
        },
        LeaseState::Held { holder, .. } => facts.follow(holder),
        // Another host may have taken a Lease that was not renewed in time. On a single control plane none could: its
        // own API is down while it boots.
        LeaseState::Unreachable {
            last: Some((holder, transitions)),
            since,
            duration,
        } if holder == facts.me => match since < duration || facts.is_only_candidate {
            true => SiteRole::Leader {
                generation: generation(*transitions),
            },
            false => SiteRole::Alone,
        },
        LeaseState::Unreachable {
            last: Some((holder, _)),
            ..
        } => facts.follow(holder),
        LeaseState::Unreachable { last: None, .. } => match facts.named.filter(|named| *named != facts.me) {
            Some(named) => facts.follow(named),
            None => SiteRole::Alone,
        },
    }
}

impl RoleFacts<'_> {
    /// A leader has some time to be heard after the start of this agent.
    fn follow(&self, leader: &HostName) -> SiteRole {
        match self.silence.unwrap_or(self.run_time) < SILENCE_MAX {
            true => SiteRole::Follower { leader: leader.clone() },
            false => SiteRole::Alone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_follows_from_the_name_the_lease_and_the_silence() {
        let name = |text: &str| text.parse::<HostName>().unwrap();
        let (me, other) = (name("a"), name("b"));
        let seconds = Duration::from_secs;
        let held = |holder: &HostName| LeaseState::Held {
            holder: holder.clone(),
            transitions: 4,
        };
        let lost = |last: Option<&HostName>, since| LeaseState::Unreachable {
            last: last.map(|last| (last.clone(), 4)),
            since: seconds(since),
            duration: seconds(15),
        };
        let leader = |generation| SiteRole::Leader { generation };
        let follower = || SiteRole::Follower { leader: name("b") };
        let heard = Some(seconds(5));
        for (case, named, lease, only, silence, expected) in [
            (
                "nobody is named",
                None,
                LeaseState::NoCluster,
                false,
                None,
                SiteRole::Alone,
            ),
            ("named", Some(&me), LeaseState::NoCluster, false, None, leader(0)),
            (
                "other named",
                Some(&other),
                LeaseState::NoCluster,
                false,
                heard,
                follower(),
            ),
            (
                "at the start",
                Some(&other),
                LeaseState::NoCluster,
                false,
                None,
                follower(),
            ),
            (
                "silent",
                Some(&other),
                LeaseState::NoCluster,
                false,
                Some(seconds(60)),
                SiteRole::Alone,
            ),
            (
                "the Lease beats the name",
                Some(&other),
                held(&me),
                false,
                None,
                leader(5),
            ),
            ("other holds", Some(&me), held(&other), false, heard, follower()),
            (
                "other holds, silent",
                None,
                held(&other),
                false,
                Some(seconds(61)),
                SiteRole::Alone,
            ),
            (
                "API gone for a moment",
                None,
                lost(Some(&me), 14),
                false,
                None,
                leader(5),
            ),
            (
                "API gone for long",
                None,
                lost(Some(&me), 15),
                false,
                None,
                SiteRole::Alone,
            ),
            (
                "single control plane boots",
                None,
                lost(Some(&me), 600),
                true,
                None,
                leader(5),
            ),
            (
                "API gone, leader heard",
                None,
                lost(Some(&other), 600),
                false,
                heard,
                follower(),
            ),
            ("API never seen", Some(&me), lost(None, 0), false, None, SiteRole::Alone),
        ] {
            let facts = RoleFacts {
                me: &me,
                named,
                lease,
                is_only_candidate: only,
                silence,
                run_time: seconds(30),
            };
            assert_eq!(decide_role(&facts), expected, "{case}");
        }
    }
}
