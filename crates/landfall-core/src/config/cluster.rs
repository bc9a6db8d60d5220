//! Readers of `landfall.webhook` and `landfall.kubernetes`, the settings of the agent for the cluster.

use camino::Utf8PathBuf;

use crate::config::address::report_unusable;
use crate::config::codes;
use crate::config::node::Node;
use crate::config::report::Report;
use crate::settings::{FailurePolicy, KubernetesAccess, ServiceName, WebhookPolicy};

/// Reads `landfall.webhook`, without `listen`.
pub(crate) fn read_webhook_policy(own: &Node, report: &mut Report) -> WebhookPolicy {
    let defaults = WebhookPolicy::default();
    let Some(webhook) = own.get("webhook") else {
        return defaults;
    };
    let seconds = |key: &str| webhook.get(key).and_then(Node::seconds);
    let observes = webhook.get("observeOnly").and_then(Node::boolean) == Some(true);
    if let Some(policy) = webhook
        .get("failurePolicy")
        .filter(|policy| policy.text() == Some("Fail"))
        && observes
    {
        report
            .node(
                &codes::OBSERVE_AND_FAIL,
                policy,
                "`observeOnly` changes no pod, and `failurePolicy: Fail` has pods rejected while the webhook is down",
            )
            .help("write `failurePolicy: Ignore` while `observeOnly` is on");
    }
    WebhookPolicy {
        failure: match webhook.get("failurePolicy").and_then(Node::text) {
            Some("Fail") => FailurePolicy::Fail,
            _ => FailurePolicy::Ignore,
        },
        timeout_seconds: seconds("timeoutSeconds")
            .and_then(|seconds| u16::try_from(seconds).ok())
            .filter(|seconds| (1..=30).contains(seconds))
            .unwrap_or(defaults.timeout_seconds),
        observe_only: webhook
            .get("observeOnly")
            .and_then(Node::boolean)
            .unwrap_or(defaults.observe_only),
        sweep_interval_seconds: seconds("sweepInterval")
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(defaults.sweep_interval_seconds),
        rotation_overlap_seconds: seconds("rotationOverlap")
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(defaults.rotation_overlap_seconds),
        url: read_url(webhook.get("url"), report),
        service: read_service(webhook.get("service"), report),
    }
}

/// Reads `landfall.kubernetes`.
pub(crate) fn read_kubernetes(own: &Node, report: &mut Report) -> KubernetesAccess {
    let defaults = KubernetesAccess::default();
    let Some(kubernetes) = own.get("kubernetes") else {
        return defaults;
    };
    KubernetesAccess {
        enable: kubernetes
            .get("enable")
            .and_then(Node::boolean)
            .unwrap_or(defaults.enable),
        kubeconfig: kubernetes.get("kubeconfig").and_then(|node| {
            let path = node.text().filter(|text| !text.is_empty())?;
            if !path.starts_with('/') {
                let example = "start it with `/`, e.g. `/etc/kubernetes/admin.conf`";
                report_unusable(node, "is not an absolute path", example, report);
                return None;
            }
            Some(Utf8PathBuf::from(path))
        }),
        namespace: kubernetes
            .get("namespace")
            .and_then(|node| {
                let name = node.text()?;
                if is_label(name) {
                    return Some(name.to_owned());
                }
                report_unusable(
                    node,
                    "is not a namespace's name",
                    "write lower-case letters, digits and `-`, e.g. `kube-system`",
                    report,
                );
                None
            })
            .unwrap_or(defaults.namespace),
    }
}

/// Reads the URL of the webhook. The API server calls only `https` URLs without user and query (Kubernetes,
/// `WebhookClientConfig`).
fn read_url(node: Option<&Node>, report: &mut Report) -> Option<String> {
    let (node, text) = node.and_then(|node| Some((node, node.text().filter(|text| !text.is_empty())?)))?;
    let rest = text.strip_prefix("https://").filter(|rest| !rest.is_empty());
    if rest.is_some_and(|rest| !rest.contains(['@', '?', '#', ' '])) {
        return Some(text.to_owned());
    }
    report_unusable(
        node,
        "is not a URL that the API server calls",
        "write `https://host:port/mutate`, without user, query and fragment",
        report,
    );
    None
}

fn read_service(node: Option<&Node>, report: &mut Report) -> Option<ServiceName> {
    let (node, text) = node.and_then(|node| Some((node, node.text().filter(|text| !text.is_empty())?)))?;
    match text.split_once('/') {
        Some((namespace, name)) if is_label(namespace) && is_label(name) => Some(ServiceName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }),
        _ => {
            report_unusable(
                node,
                "does not name a service",
                "write `namespace/name`; the webhook is at the service's port 443",
                report,
            );
            None
        }
    }
}

/// Returns true for a DNS label (RFC 1123), the form of the names of namespaces and services in Kubernetes.
fn is_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=63).contains(&bytes.len()) && bytes.iter().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}
