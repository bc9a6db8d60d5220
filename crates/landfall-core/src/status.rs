//! Types of status, events and progress. API, command line, UI and disk use the same types.

mod selection;
mod tally;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bundle::adoption::BundlePhase;
use crate::hostconf::containerd_config::{MirrorReading, ReadingState};
use crate::hostconf::kubelet_plugin::LoginState;
use crate::hostconf::kubelet_pulls::PreloadRefusal;

pub use selection::{EventList, EventSelection, Since};
pub use tally::TransferTally;

/// The agent's phases, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Reading and checking user-data and profiles.
    Validating,
    /// Fetching the provider image.
    ProviderImage,
    /// Loading the core images into containerd.
    CoreImages,
    /// Fetching all other images and loading the infrastructure images into containerd.
    Images,
    /// Filling the primary registry.
    PrimaryRegistry,
    /// Switching the redirection on.
    Redirect,
    /// All phases are done.
    Running,
    /// An operator has to act; the status contains the reason.
    Degraded,
}

impl Phase {
    /// The phases before `Running`, in order.
    pub const WORK: [Phase; 6] = [
        Phase::Validating,
        Phase::ProviderImage,
        Phase::CoreImages,
        Phase::Images,
        Phase::PrimaryRegistry,
        Phase::Redirect,
    ];

    /// Returns the name in the serialized form.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Validating => "Validating",
            Phase::ProviderImage => "ProviderImage",
            Phase::CoreImages => "CoreImages",
            Phase::Images => "Images",
            Phase::PrimaryRegistry => "PrimaryRegistry",
            Phase::Redirect => "Redirect",
            Phase::Running => "Running",
            Phase::Degraded => "Degraded",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// The state of the agent, in `landfall status`, the API and `status.json` of the state directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The version of this type: `landfall.dev/v1alpha1`.
    pub api_version: String,
    /// True if the agent runs. If it does not, the other fields hold its last status.
    #[serde(default)]
    pub running: bool,
    /// The current phase.
    pub phase: Phase,
    /// The phase that failed, if `phase` is `Degraded`.
    pub failed_phase: Option<Phase>,
    /// The reason, if `phase` is `Degraded`.
    pub message: Option<String>,
    /// The phases that failed and are tried again, in order. The other phases ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedPhase>,
    /// The reason why the agent cannot write its state to the disk, and goes on in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_error: Option<String>,
    /// The process ID of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The URL of the status API, while it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// The status API as other machines reach it, while it listens beyond loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_api: Option<RemoteApiStatus>,
    /// The time at which this phase began.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// The time at which this status was written.
    #[schemars(with = "String")]
    pub updated: Timestamp,
    /// The SHA-256 of the active configuration, in hex.
    pub configuration: Option<String>,
    /// The number of the active configuration, which the agent counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The time at which the agent last began to read the input files, once it knows which configuration is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub configuration_read: Option<Timestamp>,
    /// The images and their locations; the key is the canonical source.
    pub images: BTreeMap<String, ImageStatus>,
    /// The totals of the transfers in progress.
    pub transfer: TransferStatus,
    /// The errors of the current input files, if they have any. The last valid configuration stays active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_error: Option<String>,
    /// The redirection in words, also if none is active.
    #[serde(default)]
    pub redirect: String,
    /// The webhook, while it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<ServingStatus>,
    /// The primary registry, once it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<ServingStatus>,
    /// The cluster that the webhook is registered at, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterStatus>,
    /// The mirror files as containerd reads them, if the agent writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror_files: Option<MirrorFilesStatus>,
    /// The kubelet's logins, if a registry needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet_logins: Option<KubeletLoginsStatus>,
    /// The preloaded images that the kubelet does not start without their registry, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet_preloads: Option<KubeletPreloadsStatus>,
    /// Actions that the host needs and the agent does not take itself.
    #[serde(default)]
    pub host: HostConditions,
    /// The bundles that this host has found, by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bundles: Vec<BundleStatus>,
    /// The keys that sign bundles for this host, and those that no longer do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bundle_keys: Vec<BundleKeyStatus>,
    /// The key that signs the receipts of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<HostKeyStatus>,
}

/// A key that signs bundles for this host, or no longer does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleKeyStatus {
    /// The SHA-256 of the public key.
    pub id: String,
    /// `user-data`, or the path of the key document that brought the key.
    pub origin: String,
    /// True if bundles that it signed are no longer taken.
    pub retired: bool,
}

/// The public half of the key of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostKeyStatus {
    /// The SHA-256 of the public key.
    pub id: String,
    /// The file with the public key.
    pub file: String,
}

/// A bundle that a host has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleStatus {
    /// The file, or the first of its pieces.
    pub path: String,
    /// The bundle's id; absent if the file cannot be read, or a file of another format was not read yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The phase.
    pub phase: BundlePhase,
    /// The series, and the number in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// The number in the series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The number of images in the bundle.
    pub images: usize,
    /// The number of its images that the content store has.
    pub adopted: usize,
    /// The number of bytes of its blobs; of a file of another format, its size.
    pub bytes: u64,
    /// The images that the content store lacks, or whose signatures and other companions it lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// The reason why it is not taken, or not adopted as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// One thing to do about the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The file with the receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

/// The version of [`AgentStatus`] and [`EventList`] as JSON.
pub const API_VERSION: &str = "landfall.dev/v1alpha1";

impl AgentStatus {
    /// Returns the status of an agent that has just started.
    #[must_use]
    pub fn starting(now: Timestamp) -> AgentStatus {
        AgentStatus {
            api_version: API_VERSION.to_owned(),
            running: true,
            phase: Phase::Validating,
            failed_phase: None,
            message: None,
            failures: Vec::new(),
            state_error: None,
            pid: None,
            version: None,
            api: None,
            remote_api: None,
            since: now,
            updated: now,
            configuration: None,
            generation: None,
            configuration_read: None,
            images: BTreeMap::new(),
            transfer: TransferStatus::default(),
            configuration_error: None,
            redirect: String::new(),
            webhook: None,
            primary: None,
            cluster: None,
            mirror_files: None,
            kubelet_logins: None,
            kubelet_preloads: None,
            host: HostConditions::default(),
            bundles: Vec::new(),
            bundle_keys: Vec::new(),
            host_key: None,
        }
    }

    /// Returns true if all phases are done: the answer of `/readyz`.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running
    }
}

/// A phase that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedPhase {
    /// The phase.
    pub phase: Phase,
    /// The reason, with a hint.
    pub message: String,
}

/// A service of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServingStatus {
    /// The URL of the service.
    pub url: String,
    /// The file with the CA that signed its certificate, if the agent created the CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// The time at which its certificate expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub certificate_expires: Option<Timestamp>,
}

/// The status API for other machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteApiStatus {
    /// The URL.
    pub url: String,
    /// The file with the CA that signed its certificate. No other service has this CA.
    pub ca_file: String,
    /// The SHA-256 of that CA's certificate, by which clients may know this host.
    pub fingerprint: String,
    /// The time at which its certificate expires.
    #[schemars(with = "String")]
    pub certificate_expires: Timestamp,
}

/// The cluster that the webhook is registered at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The API server's URL.
    pub server: String,
    /// True if this agent writes the registration; the other agents follow.
    pub writer: bool,
    /// The time at which the CA of the webhook's certificates expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub authority_expires: Option<Timestamp>,
    /// The problem that prevents access to the cluster's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The mirror files as containerd reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorFilesStatus {
    /// The extent to which containerd reads them.
    pub state: ReadingState,
    /// The reason, in one sentence.
    pub message: String,
    /// The lines that containerd's main file needs, one entry for each format in question.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl From<&MirrorReading> for MirrorFilesStatus {
    fn from(reading: &MirrorReading) -> MirrorFilesStatus {
        MirrorFilesStatus {
            state: reading.state,
            message: reading.message.clone(),
            lines: reading
                .lines
                .iter()
                .map(|lines| format!("# {}\n{}", lines.place, lines.text))
                .collect(),
        }
    }
}

/// The way in which the kubelet gets the logins of registries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeletLoginsStatus {
    /// The state of the credential provider.
    pub state: LoginState,
    /// The reason, in one sentence.
    pub message: String,
}

/// The kubelet's refusal of preloaded images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeletPreloadsStatus {
    /// The rule of the kubelet, and the images that it refuses.
    #[serde(flatten)]
    pub refusal: PreloadRefusal,
    /// The reason in one sentence, with one thing to do.
    pub message: String,
}

/// Actions that the host needs and the agent does not take itself, each with its reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostConditions {
    /// The provider image differs from the one that this host started with, so the host must be repaved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repave_required: Option<String>,
    /// An `initramfs` stage has changed since the host booted, so the host must be rebooted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_required: Option<String>,
}

/// The location of one image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    /// True if the content store has the complete image.
    pub stored: bool,
    /// True if containerd has the image.
    pub loaded: bool,
    /// True if the primary registry has the image.
    pub in_primary: bool,
    /// The reference from which the image was or will be fetched.
    pub pull_reference: Option<String>,
    /// The error of the last attempt.
    pub error: Option<String>,
}

/// Totals of the transfers of this run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferStatus {
    /// The number of bytes that crossed the network.
    pub bytes_done: u64,
    /// The number of bytes known to be needed.
    pub bytes_total: u64,
    /// The rate in bytes a second, over the last seconds.
    pub rate: f64,
    /// The remaining time in seconds at that rate.
    pub eta_seconds: Option<f64>,
}

/// An event that a person on the site should know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// A number that increases by one with each event, also across restarts.
    pub sequence: u64,
    /// The time of the event.
    #[schemars(with = "String")]
    pub time: Timestamp,
    /// Normal or warning.
    pub kind: EventKind,
    /// A stable word, e.g. `PhaseStarted`, `ImageStored`, `LoadFailed`.
    pub reason: EventReason,
    /// The image, phase or file that the event is about.
    pub subject: String,
    /// One sentence. It never contains a secret.
    pub message: String,
}

/// Severity of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EventKind {
    /// The expected course of events.
    Normal,
    /// An operator may have to act.
    Warning,
}

/// Kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EventReason {
    /// The agent started.
    AgentStarted,
    /// The agent stops on request.
    AgentStopping,
    /// A phase began.
    PhaseStarted,
    /// A phase is done.
    PhaseFinished,
    /// A phase failed; the agent is degraded and will try again.
    PhaseFailed,
    /// A file of the agent's state was damaged, or of a later version, and was set aside.
    StateDamaged,
    /// The agent's state cannot be written to the disk, or can be written again.
    StateUnwritable,
    /// The configuration has errors; the last valid one stays active.
    ConfigurationInvalid,
    /// A new configuration is active.
    ConfigurationChanged,
    /// The content store has the complete image.
    ImageStored,
    /// An image could not be fetched.
    ImageFailed,
    /// A core or infrastructure image was loaded into containerd.
    ImageLoaded,
    /// An image could not be loaded into containerd.
    LoadFailed,
    /// An image was pushed to the primary registry.
    ImagePushed,
    /// An image could not be pushed.
    PushFailed,
    /// The primary registry lost an image; it is pushed again.
    PrimaryLostImage,
    /// The provider image changed: the host has to be repaved.
    RepaveRequired,
    /// An `initramfs` stage changed: the host has to be rebooted.
    RebootRequired,
    /// The cluster's API cannot be used.
    ClusterUnreachable,
    /// The webhook was registered at the API server, or its registration was repaired.
    WebhookRegistered,
    /// Redirection is off, and the webhook's registration was removed from the API server.
    WebhookUnregistered,
    /// A step in the rotation of the webhook's CA was taken.
    AuthorityReplaced,
    /// A pod that was created without redirection was redirected.
    #[serde(rename = "PodMended")]
    PodRepaired,
    /// A pod that was created without redirection could not be redirected.
    PodNotRedirected,
    /// A step of a stage failed.
    StageFailed,
    /// A step of a stage changed something, or ran commands.
    StepFinished,
    /// A stage ran.
    StageFinished,
    /// Configuration files for kubelet or container runtime were written or removed.
    HostFilesChanged,
    /// A configuration file for kubelet or container runtime belongs to the user and was not changed.
    HostFileKept,
    /// containerd reads the mirror files, or will after its next start.
    MirrorFilesRead,
    /// containerd does not read the mirror files, or it is not known.
    MirrorFilesNotRead,
    /// The kubelet calls the credential provider.
    KubeletLoginsReady,
    /// The kubelet does not call the credential provider, which registries of the configuration need.
    KubeletLoginsMissing,
    /// The kubelet does not start preloaded images without their registry.
    KubeletRefusesPreloads,
    /// A bundle was found.
    BundleFound,
    /// The host takes a bundle; its images are pulled out of the file from now on.
    BundleServed,
    /// All images of a bundle are in the content store.
    BundleAdopted,
    /// A bundle is not taken, or cannot be adopted.
    BundleRefused,
    /// A bundle is gone before all of it was adopted.
    BundleVanished,
    /// The receipt of a bundle was written.
    BundleReceipt,
    /// A key document brought a new key, which signs bundles for this host from now on.
    BundleKeyAccepted,
    /// The key of a key document is not taken.
    BundleKeyRefused,
    /// All ranges of an uploaded file are here.
    BundleUploaded,
    /// Nobody went on with an upload, and its ranges are deleted.
    UploadAbandoned,
}

impl fmt::Display for EventKind {
    /// Writes the serialised name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for EventReason {
    /// Writes the serialised name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Progress, for a terminal or as JSON lines (`--progress json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ProgressEvent {
    /// A phase began.
    Phase {
        /// The phase.
        phase: Phase,
    },
    /// A blob belongs to an image that will be copied. The event is sent once for each such image, before it is known
    /// if the blob has to move.
    BlobPlanned {
        /// The digest of the blob.
        digest: String,
        /// The size in bytes.
        size: u64,
    },
    /// A blob's transfer begins; a resumed one begins at `offset`.
    BlobStarted {
        /// The image that needed the blob first.
        image: String,
        /// The digest of the blob.
        digest: String,
        /// The size in bytes.
        size: u64,
        /// The number of bytes that exist already.
        offset: u64,
    },
    /// Bytes of a blob were transferred.
    BlobAdvanced {
        /// The digest of the blob.
        digest: String,
        /// The number of bytes since the last event.
        bytes: u64,
    },
    /// A blob is complete and verified.
    BlobFinished {
        /// The digest of the blob.
        digest: String,
    },
    /// A blob existed already.
    BlobSkipped {
        /// The digest of the blob.
        digest: String,
        /// The size in bytes.
        size: u64,
    },
    /// A transfer is tried again.
    Retrying {
        /// The failed operation or object.
        subject: String,
        /// The number of the next attempt, from 2.
        attempt: u32,
        /// The delay before the attempt, in milliseconds.
        delay_ms: u64,
        /// The error of the last attempt.
        error: String,
    },
    /// An image is complete.
    ImageFinished {
        /// The image.
        image: String,
    },
    /// An image failed.
    ImageFailed {
        /// The image.
        image: String,
        /// The error.
        error: String,
    },
}

/// Receiver of progress events. It is called from many tasks and must return quickly.
pub trait ProgressSink: Send + Sync + std::fmt::Debug {
    fn progress(&self, event: ProgressEvent);
}

/// A receiver that ignores all events.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl ProgressSink for NoProgress {
    fn progress(&self, _event: ProgressEvent) {}
}
