//! Kubernetes Events in the namespace of a pod, where its owner looks for them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use landfall_core::admission::PodRepair;
use landfall_core::cluster::FIELD_MANAGER;

/// The type of an event, in the words of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventType {
    Normal,
    Warning,
}

/// Returns an event about a pod.
pub(crate) fn pod_event(repair: &PodRepair, severity: EventType, reason: &str, message: &str, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", repair.name, now.as_nanosecond())),
            namespace: Some(repair.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(repair.name.clone()),
            namespace: Some(repair.namespace.clone()),
            uid: Some(repair.uid.clone()),
            ..ObjectReference::default()
        },
        type_: Some(match severity {
            EventType::Normal => "Normal".to_owned(),
            EventType::Warning => "Warning".to_owned(),
        }),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        source: Some(EventSource {
            component: Some(FIELD_MANAGER.to_owned()),
            host: None,
        }),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    }
}
