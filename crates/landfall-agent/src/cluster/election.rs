//! The Lease of the election: carries out what `landfall_core::cluster::election` decides.

use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use landfall_core::cluster::LEASE_NAME;
use landfall_core::cluster::election::{Election, LeaseRecord, Move};
use landfall_host::root::HostRoot;
use tokio::time::Instant;

use crate::kube::{Cluster, Refusal, refusal_of};

/// The time after which a silent holder loses the Lease.
const DURATION: Duration = Duration::from_secs(15);

/// Returns the name of this host, if the system tells it.
pub(crate) fn host_name(root: &HostRoot) -> Option<String> {
    let path = root.join(Utf8Path::new("/proc/sys/kernel/hostname")).ok()?;
    let bytes = fs_err::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned()).filter(|name| !name.is_empty())
}

#[derive(Debug)]
pub(crate) struct LeaseCandidate {
    election: Election,
    /// The origin of the election's clock.
    start: Instant,
}

impl LeaseCandidate {
    /// Returns a candidate with a unique name: host name, process ID and time.
    pub(crate) fn new(root: &HostRoot, now: Timestamp) -> LeaseCandidate {
        let host = host_name(root).unwrap_or_default();
        let name = format!("{host}_{}_{:x}", std::process::id(), now.as_nanosecond());
        LeaseCandidate {
            election: Election::new(name),
            start: Instant::now(),
        }
    }

    /// Reads the Lease and creates, renews or takes it over if that is due. Returns true if this agent holds it now.
    ///
    /// # Errors
    ///
    /// If the API server cannot be asked.
    pub(crate) async fn campaign(&mut self, cluster: &Cluster, now: Timestamp) -> anyhow::Result<bool> {
        let found = cluster.fetch_lease().await?;
        let record = found.as_ref().map(read_record);
        let written = match self.election.decide(record.as_ref(), self.start.elapsed()) {
            Move::Follow => return Ok(false),
            Move::Create => cluster.create_lease(&self.lease(None, 0, now)).await,
            Move::TakeOver => {
                let transitions = record.map_or(0, |record| record.transitions.saturating_add(1));
                cluster.replace_lease(&self.lease(found, transitions, now)).await
            }
            Move::Renew => {
                let transitions = record.map_or(0, |record| record.transitions);
                cluster.replace_lease(&self.lease(found, transitions, now)).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            // Another agent was faster and leads.
            Err(error) if refusal_of(&error).is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the Lease up, so that the others do not have to wait until it expires.
    ///
    /// # Errors
    ///
    /// If the API server cannot be asked.
    pub(crate) async fn resign(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let Some(mut found) = cluster.fetch_lease().await? else {
            return Ok(());
        };
        let spec = found.spec.as_mut().context("the Lease has no spec")?;
        if spec.holder_identity.as_deref() != Some(self.election.name()) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        match cluster.replace_lease(&found).await {
            Err(error) if refusal_of(&error) == Some(Refusal::Conflict) => Ok(()),
            other => other.map(drop),
        }
    }

    fn lease(&self, over: Option<Lease>, transitions: i32, now: Timestamp) -> Lease {
        let over = over.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(LEASE_NAME.to_owned()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let before = over.spec.unwrap_or_default();
        let mine = before.holder_identity.as_deref() == Some(self.election.name());
        let acquired = if mine { before.acquire_time } else { None };
        Lease {
            metadata: over.metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.election.name().to_owned()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: Some(acquired.unwrap_or(MicroTime(now))),
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn read_record(lease: &Lease) -> LeaseRecord {
    let spec = lease.spec.clone().unwrap_or_default();
    LeaseRecord {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(DURATION, Duration::from_secs),
        renewed: spec.renew_time.map(|MicroTime(time)| time),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}
