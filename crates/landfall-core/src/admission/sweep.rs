//! Repair of pods that were created without redirection: finds those that wait for an image, and makes the patch that
//! redirects them.
//!
//! On a live pod, Kubernetes lets clients change the images of containers and init containers, but not of ephemeral
//! containers or image volumes. Only containers that wait for their image are patched: a new image would restart a
//! running container.

use std::collections::HashMap;

use serde::Deserialize;

use super::pod::{ImageField, PodView};
use super::{
    AdmissionError, AdmissionRules, ORIGINAL_IMAGES, Verdict, decide_image, decide_pod, patch, why_pod_is_left_alone,
};

/// A pod to repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRepair {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The JSON patch; `None` if no image can be changed, or in observe-only mode.
    pub patch: Option<Vec<u8>>,
    /// The images that the patch changes; in observe-only mode, that it would change.
    pub images: Vec<RepairedImage>,
    /// Keys of images that cannot be changed on a live pod. Such a pod has to be created again.
    pub stuck: Vec<String>,
}

/// An image that the patch changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairedImage {
    pub container: String,
    /// The decision and its reason, in the words of the audit annotation.
    pub reason: String,
}

/// Waiting reasons by which the kubelet reports a failed pull. They count even if the container ran before with another
/// image.
const PULL_FAILURES: [&str; 4] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "RegistryUnavailable",
];

#[derive(Deserialize)]
struct Identified {
    metadata: Identity,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    #[serde(default)]
    namespace: String,
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    deletion_timestamp: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    container_statuses: Vec<ContainerStatus>,
    #[serde(default)]
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(default)]
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    #[serde(default, rename = "imageID")]
    image_id: String,
    #[serde(default)]
    state: ContainerState,
}

#[derive(Deserialize, Default)]
struct ContainerState {
    #[serde(default)]
    waiting: Option<Waiting>,
}

#[derive(Deserialize)]
struct Waiting {
    #[serde(default)]
    reason: String,
}

impl ContainerStatus {
    fn waits_for_image(&self) -> bool {
        self.state
            .waiting
            .as_ref()
            .is_some_and(|waiting| self.image_id.is_empty() || PULL_FAILURES.contains(&waiting.reason.as_str()))
    }
}

/// Plans the repair of a pod (JSON, as the API server lists it); `None` if the pod needs none.
///
/// # Errors
/// If the text is not a pod.
pub fn plan_repair(pod: &str, rules: &AdmissionRules<'_>) -> Result<Option<PodRepair>, AdmissionError> {
    let Identified { metadata, status } = serde_json::from_str(pod).map_err(AdmissionError::Body)?;
    if metadata.deletion_timestamp.is_some() || rules.why_namespace(&metadata.namespace).is_some() {
        return Ok(None);
    }
    let view: PodView = serde_json::from_str(pod).map_err(AdmissionError::Body)?;
    if why_pod_is_left_alone(&view).is_some() {
        return Ok(None);
    }
    let waiting = Waits::of(&status);
    let originals = patch::notes(&view, ORIGINAL_IMAGES);
    let is_redirected = |field: &ImageField<'_>| {
        originals
            .get(&field.key())
            .is_some_and(|original| is_redirection_of(field.image, &original.image))
    };
    let mut decision = decide_pod(
        &view,
        |field| waiting.can_be_repaired(field) && !is_redirected(field),
        rules,
    );
    let stuck: Vec<String> = view
        .image_fields()
        .filter(|field| waiting.is_stuck(field) && matches!(decide_image(field, rules), Verdict::Redirect { .. }))
        .map(|field| field.key())
        .collect();
    if decision.rewritten.is_empty() && stuck.is_empty() {
        return Ok(None);
    }
    let images = decision
        .rewritten
        .into_iter()
        .map(|container| RepairedImage {
            reason: decision.reasons.remove(&container).unwrap_or_default(),
            container,
        })
        .collect::<Vec<_>>();
    let mut patch = None;
    if !images.is_empty() && !rules.observe_only {
        let operations: Vec<_> = std::iter::once(patch::test_uid(&metadata.uid))
            .chain(decision.operations)
            .collect();
        patch = Some(serde_json::to_vec(&operations).map_err(AdmissionError::Answer)?);
    }
    Ok(Some(PodRepair {
        images,
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        patch,
        stuck,
    }))
}

/// Returns true if an image looks like an agent's redirection of the original: it differs, but its last path component,
/// with tag and digest, is the same. An agent with other rules or another primary registry may have redirected it, and
/// a second redirection would point at an image that does not exist.
fn is_redirection_of(image: &str, original: &str) -> bool {
    let last = |image: &str| image.rsplit('/').next().map(ToOwned::to_owned);
    image != original && last(image) == last(original)
}

/// The containers that wait for their image. A container without a status counts as waiting: the kubelet has not looked
/// at it yet.
struct Waits<'a> {
    lists: [(&'static str, HashMap<&'a str, bool>); 3],
    nothing_ran: bool,
}

impl<'a> Waits<'a> {
    fn of(status: &'a Status) -> Waits<'a> {
        let waits = |statuses: &'a [ContainerStatus]| -> HashMap<&'a str, bool> {
            statuses
                .iter()
                .map(|status| (status.name.as_str(), status.waits_for_image()))
                .collect()
        };
        let all = [&status.container_statuses, &status.init_container_statuses];
        Waits {
            nothing_ran: all.into_iter().flatten().all(|status| status.image_id.is_empty()),
            lists: [
                ("containers", waits(&status.container_statuses)),
                ("initContainers", waits(&status.init_container_statuses)),
                ("ephemeralContainers", waits(&status.ephemeral_container_statuses)),
            ],
        }
    }

    fn waits(&self, field: &ImageField<'_>) -> bool {
        let list = self.lists.iter().find(|(list, _)| *list == field.list);
        list.is_some_and(|(_, waits)| waits.get(field.name).copied().unwrap_or(true))
    }

    fn can_be_repaired(&self, field: &ImageField<'_>) -> bool {
        matches!(field.list, "containers" | "initContainers") && self.waits(field)
    }

    fn is_stuck(&self, field: &ImageField<'_>) -> bool {
        match field.list {
            "ephemeralContainers" => self.waits(field),
            // The kubelet pulls image volumes before it starts any container.
            "volumes" => self.nothing_ran,
            _ => false,
        }
    }
}
