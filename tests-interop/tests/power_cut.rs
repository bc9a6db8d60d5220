//! SIGKILL in every phase. No finished blob is fetched again, no truncated one is accepted as complete, and the
//! next start ends in `Running`.

use std::collections::{BTreeMap, BTreeSet};

use landfall_core::status::{Phase, ProgressEvent};
use landfall_tests_interop::docker_registry::Request;
use landfall_tests_interop::images::{APPLICATIONS, CORE};
use landfall_tests_interop::site::Site;
use landfall_tests_interop::topology::Topology;
use landfall_tests_interop::user_data::UserData;

/// Bytes a second. All images together take a second or two at this rate, long enough for a kill to hit its
/// instant.
const SLOW: u64 = 6_000_000;

/// KillPoint of the kill.
#[derive(Debug, Clone, Copy)]
enum KillPoint {
    /// As soon as the phase is announced.
    Begin(Phase),
    /// After this number of finished blobs in the phase.
    Blobs(Phase, usize),
    /// After this number of bytes moved in the phase.
    Bytes(Phase, u64),
    /// While a blob is unfinished of which this number of bytes were moved in the phase.
    Within(Phase, u64),
    /// After this number of finished images in the phase.
    Images(Phase, usize),
}

const INSTANTS: [KillPoint; 16] = [
    KillPoint::Begin(Phase::Validating),
    KillPoint::Begin(Phase::ProviderImage),
    KillPoint::Bytes(Phase::ProviderImage, 1),
    KillPoint::Blobs(Phase::ProviderImage, 1),
    KillPoint::Bytes(Phase::ProviderImage, 1_000_000),
    KillPoint::Begin(Phase::CoreImages),
    KillPoint::Blobs(Phase::CoreImages, 1),
    KillPoint::Blobs(Phase::CoreImages, 4),
    KillPoint::Begin(Phase::Images),
    KillPoint::Blobs(Phase::Images, 3),
    KillPoint::Bytes(Phase::Images, 3_000_000),
    KillPoint::Images(Phase::Images, 4),
    KillPoint::Begin(Phase::PrimaryRegistry),
    KillPoint::Images(Phase::PrimaryRegistry, 1),
    KillPoint::Begin(Phase::Redirect),
    KillPoint::Begin(Phase::Running),
];

impl KillPoint {
    fn is_reached(self, progress: &[ProgressEvent]) -> bool {
        match self {
            KillPoint::Begin(phase) => since(progress, phase).is_some(),
            KillPoint::Blobs(phase, many) => {
                count(progress, phase, |event| {
                    matches!(event, ProgressEvent::BlobFinished { .. })
                }) >= many
            }
            KillPoint::Images(phase, many) => {
                count(progress, phase, |event| {
                    matches!(event, ProgressEvent::ImageFinished { .. })
                }) >= many
            }
            KillPoint::Bytes(phase, many) => {
                let moved = since(progress, phase).into_iter().flatten().map(|event| match event {
                    ProgressEvent::BlobAdvanced { bytes, .. } => *bytes,
                    _ => 0,
                });
                moved.sum::<u64>() >= many
            }
            KillPoint::Within(phase, many) => {
                let mut under_way = BTreeMap::<&str, u64>::new();
                for event in since(progress, phase).into_iter().flatten() {
                    match event {
                        ProgressEvent::BlobAdvanced { digest, bytes } => *under_way.entry(digest).or_default() += bytes,
                        ProgressEvent::BlobFinished { digest } => drop(under_way.remove(digest.as_str())),
                        _ => {}
                    }
                }
                under_way.values().any(|&moved| moved >= many)
            }
        }
    }
}

/// Returns the events after the announcement of the phase.
fn since(progress: &[ProgressEvent], phase: Phase) -> Option<&[ProgressEvent]> {
    let start = progress
        .iter()
        .position(|event| *event == ProgressEvent::Phase { phase })?;
    Some(&progress[start + 1..])
}

fn count(progress: &[ProgressEvent], phase: Phase, wanted: impl Fn(&ProgressEvent) -> bool) -> usize {
    since(progress, phase)
        .into_iter()
        .flatten()
        .filter(|event| wanted(event))
        .count()
}

fn slowly(user_data: UserData<'_>) -> UserData<'_> {
    UserData {
        bandwidth_limit: Some(SLOW),
        ..user_data
    }
}

/// Returns the blobs that were requested since log line `from`.
fn fetched(topology: &Topology, from: usize) -> BTreeSet<String> {
    let requests = topology.source.registry.requests().split_off(from);
    requests
        .iter()
        .filter_map(Request::fetched_blob)
        .map(str::to_owned)
        .collect()
}

/// Starts the agent, and kills it at the instant.
fn kill_at(topology: &Topology, kill_point: KillPoint) {
    let mut agent = topology.site.start_agent(&[]);
    agent.wait_for_progress(&format!("{kill_point:?}"), |progress| kill_point.is_reached(progress));
    agent.kill();
}

fn runs_to_the_end_without(topology: &Topology, finished: &BTreeSet<String>, what: &str) {
    let from = topology.source.registry.requests().len();
    let mut again = topology.site.start_agent(&["--once"]);
    assert_eq!(again.wait(), Some(0), "{what}: {}", again.output());
    let twice: Vec<String> = fetched(topology, from).intersection(finished).cloned().collect();
    assert_eq!(twice, Vec::<String>::new(), "{what}: fetched though finished");
    everything_is_in_place(&topology.site, what);
}

fn everything_is_in_place(site: &Site, what: &str) {
    let status = site.status();
    assert_eq!(status["phase"], "Running", "{what}: {status:#}");
    for name in APPLICATIONS {
        assert_eq!(status["images"][name]["inPrimary"], true, "{what}: {name}: {status:#}");
    }
    let loaded = site.containerd_images();
    for name in CORE {
        assert!(loaded.contains_key(name), "{what}: {name} is missing in {loaded:?}");
    }
    assert_eq!(site.incomplete_containerd_images(), Vec::<String>::new(), "{what}");
    // Hashes every blob on disk once more.
    assert!(!site.finished_blobs().is_empty(), "{what}");
}

#[test]
fn a_kill_at_any_instant_costs_no_finished_blob() {
    let mut topology = Topology::start();
    for kill_point in INSTANTS {
        topology.write_user_data(slowly);
        kill_at(&topology, kill_point);
        let finished = topology.site.finished_blobs();
        runs_to_the_end_without(&topology, &finished, &format!("killed at {kill_point:?}"));
        topology = topology.with_new_site();
    }
}

#[test]
fn an_interrupted_blob_goes_on_where_it_was_cut() {
    let topology = Topology::start();
    // A blob of the provider image takes five seconds: the kill is inside it, however busy this machine is. A
    // chunk of up to 400 KiB may have just arrived. The bytes before it are on disk, and are more than the
    // store keeps in memory.
    let crawl = Some(300_000);
    topology.write_user_data(|user_data| UserData {
        bandwidth_limit: crawl,
        ..user_data
    });
    kill_at(&topology, KillPoint::Within(Phase::ProviderImage, 700_000));
    topology.write_user_data(|user_data| user_data);
    let from = topology.source.registry.requests().len();
    runs_to_the_end_without(
        &topology,
        &topology.site.finished_blobs(),
        "killed inside the provider image",
    );
    let requests = topology.source.registry.requests().split_off(from);
    let is_rest = |request: &&Request| {
        let Some(blob) = request.fetched_blob() else {
            return false;
        };
        request.status == 206 && request.written < topology.source.registry.blob_size(blob)
    };
    assert!(requests.iter().any(|request| is_rest(&request)), "{requests:#?}");
}

#[test]
fn kills_in_all_phases_one_after_the_other_end_in_running() {
    let topology = Topology::start();
    topology.write_user_data(slowly);
    let mut finished = BTreeSet::new();
    for phase in Phase::WORK {
        let from = topology.source.registry.requests().len();
        kill_at(&topology, KillPoint::Begin(phase));
        assert!(
            fetched(&topology, from).is_disjoint(&finished),
            "{phase}: fetched though finished"
        );
        finished = topology.site.finished_blobs();
    }
    runs_to_the_end_without(&topology, &finished, "killed in every phase");
}

#[test]
fn a_graceful_stop_amid_transfers_ends_with_status_0_and_costs_no_finished_blob() {
    let topology = Topology::start();
    topology.write_user_data(slowly);
    let mut agent = topology.site.start_agent(&[]);
    let kill_point = KillPoint::Blobs(Phase::Images, 2);
    agent.wait_for_progress("two blobs", |progress| kill_point.is_reached(progress));
    assert_eq!(agent.terminate(), Some(0), "{}", agent.output());
    runs_to_the_end_without(&topology, &topology.site.finished_blobs(), "stopped by SIGTERM");
}
