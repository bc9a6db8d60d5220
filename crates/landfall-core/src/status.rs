//! The wire types of status, events and progress: one type for API, CLI, UI and disk.

mod tally;

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use tally::TransferTally;

/// The agent's phases, in order (SPEC section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Reading and checking user-data and profiles.
    Validating,
    /// Fetching the provider image.
    ProviderImage,
    /// Loading the core images into containerd.
    CoreImages,
    /// Fetching all other images; infrastructure images go on into containerd.
    Images,
    /// Filling the primary registry.
    PrimaryRegistry,
    /// Switching the redirection on.
    Redirect,
    /// Everything is in place.
    Running,
    /// Something needs an operator; the status says what.
    Degraded,
}

impl Phase {
    /// The phases that lead to `Running`, in order.
    pub const WORK: [Phase; 6] = [
        Phase::Validating,
        Phase::ProviderImage,
        Phase::CoreImages,
        Phase::Images,
        Phase::PrimaryRegistry,
        Phase::Redirect,
    ];

    /// The name as the wire types write it.
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

/// What the agent is doing, as `landfall status`, the API and the state directory's `status.json` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The version of this type: `landfall.dev/v1alpha1`.
    pub api_version: String,
    /// Whether the agent that says this runs; of one that does not, the rest is what it said last.
    #[serde(default)]
    pub running: bool,
    /// The phase now.
    pub phase: Phase,
    /// The phase that failed, when `phase` is `Degraded`.
    pub failed_phase: Option<Phase>,
    /// Why, when `phase` is `Degraded`.
    pub message: Option<String>,
    /// When this phase was entered.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// When this status was written.
    #[schemars(with = "String")]
    pub updated: Timestamp,
    /// SHA-256 of the configuration that is in force, hex.
    pub configuration: Option<String>,
    /// Images by where they are; the key is the canonical source.
    pub images: BTreeMap<String, ImageStatus>,
    /// What the transfers under way amount to.
    pub transfer: TransferStatus,
    /// Why the input files as they are now are not in force, when they have errors: the last good ones stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_error: Option<String>,
    /// What is redirected, in words; also says it when nothing is.
    #[serde(default)]
    pub redirect: String,
    /// The webhook, while it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<ServingStatus>,
    /// The primary registry, once it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<ServingStatus>,
    /// The cluster that the webhook is registered at, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterStatus>,
    /// What the host has to do that the agent does not do by itself.
    #[serde(default)]
    pub host: HostConditions,
}

/// The version of [`AgentStatus`] and [`Event`] as JSON.
pub const API_VERSION: &str = "landfall.dev/v1alpha1";

impl AgentStatus {
    /// The status of an agent that has only just started.
    #[must_use]
    pub fn starting(now: Timestamp) -> AgentStatus {
        AgentStatus {
            api_version: API_VERSION.to_owned(),
            running: true,
            phase: Phase::Validating,
            failed_phase: None,
            message: None,
            since: now,
            updated: now,
            configuration: None,
            images: BTreeMap::new(),
            transfer: TransferStatus::default(),
            configuration_error: None,
            redirect: String::new(),
            webhook: None,
            primary: None,
            cluster: None,
            host: HostConditions::default(),
        }
    }

    /// Whether everything is in place: what `/readyz` answers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running
    }
}

/// Something that others connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServingStatus {
    /// Where it is reached.
    pub url: String,
    /// The file with the CA that signed its certificate, when we made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// When its certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub certificate_expires: Option<Timestamp>,
}

/// The cluster that the webhook is registered at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The API server's URL.
    pub server: String,
    /// Whether this agent writes the registration; the others follow.
    pub writer: bool,
    /// When the authority of the webhook's certificates ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub authority_expires: Option<Timestamp>,
    /// What keeps us from the cluster's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What the host has to do that the agent does not do by itself; each says why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostConditions {
    /// The provider image is another than the one that this host came up with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repave_required: Option<String>,
    /// An `initramfs` stage is another than the one that this host booted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_required: Option<String>,
}

/// Where one image is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    /// Complete in the content store.
    pub stored: bool,
    /// In containerd.
    pub loaded: bool,
    /// In the primary registry.
    pub in_primary: bool,
    /// Where it was fetched from, or would be.
    pub pull_reference: Option<String>,
    /// What the last attempt failed with.
    pub error: Option<String>,
}

/// Totals of the transfers of this run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferStatus {
    /// Bytes that crossed the network.
    pub bytes_done: u64,
    /// Bytes known to be needed.
    pub bytes_total: u64,
    /// Bytes a second, over the last seconds.
    pub rate: f64,
    /// Seconds to go at that rate.
    pub eta_seconds: Option<f64>,
}

/// Something a person on the site should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Counts up, without gaps, across restarts.
    pub sequence: u64,
    /// When.
    #[schemars(with = "String")]
    pub time: Timestamp,
    /// Normal or warning.
    pub kind: EventKind,
    /// A stable word, e.g. `PhaseStarted`, `ImageStored`, `LoadFailed`.
    pub reason: EventReason,
    /// The image, phase or file it is about.
    pub subject: String,
    /// One sentence; never a secret.
    pub message: String,
}

/// How an event is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EventKind {
    /// As it should be.
    Normal,
    /// An operator may have to act.
    Warning,
}

/// What an event is about.
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
    /// The configuration has errors; the last good one stays in force.
    ConfigurationInvalid,
    /// A new configuration is in force.
    ConfigurationChanged,
    /// An image is complete in the content store.
    ImageStored,
    /// An image could not be fetched.
    ImageFailed,
    /// A core or infrastructure image is in containerd.
    ImageLoaded,
    /// An image could not be loaded into containerd.
    LoadFailed,
    /// An image is in the primary registry.
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
    /// The webhook was registered at the API server, or its registration was mended.
    WebhookRegistered,
    /// Redirection is off, and the webhook's registration at the API server was removed.
    WebhookUnregistered,
    /// The authority of the webhook's certificates was made or replaced, or a step of that was taken.
    AuthorityReplaced,
    /// A pod that slipped through was redirected.
    PodMended,
    /// A pod that slipped through stays as it is.
    PodNotRedirected,
    /// A step of a stage failed.
    StageFailed,
    /// A step of a stage changed something, or ran commands.
    StepFinished,
    /// A stage ran.
    StageFinished,
    /// Files by which kubelet or container runtime are told of the registries were written or removed.
    HostFilesChanged,
    /// A file of that kind is the user's own, and stays as it is.
    HostFileKept,
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
    /// A blob is part of an image that is to be copied. It is said once for each such image; whether the blob has to move
    /// turns out later.
    BlobPlanned {
        /// The blob.
        digest: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A blob's transfer begins, at `offset` when it is resumed.
    BlobStarted {
        /// The image it was first needed for.
        image: String,
        /// The blob.
        digest: String,
        /// Its size in bytes.
        size: u64,
        /// Bytes that are there already.
        offset: u64,
    },
    /// Bytes of a blob arrived or left.
    BlobAdvanced {
        /// The blob.
        digest: String,
        /// How many since the last event.
        bytes: u64,
    },
    /// A blob is complete and verified.
    BlobFinished {
        /// The blob.
        digest: String,
    },
    /// A blob was there already.
    BlobSkipped {
        /// The blob.
        digest: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A transfer is tried again.
    Retrying {
        /// What failed.
        subject: String,
        /// Which attempt comes next, from 2.
        attempt: u32,
        /// Milliseconds until then.
        delay_ms: u64,
        /// Why.
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
        /// Why.
        error: String,
    },
}

/// Who wants to know of progress. Called from many tasks; must be quick.
pub trait ProgressSink: Send + Sync + std::fmt::Debug {
    /// Takes note of an event.
    fn progress(&self, event: ProgressEvent);
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl ProgressSink for NoProgress {
    fn progress(&self, _event: ProgressEvent) {}
}
