//! The MutatingWebhookConfiguration: renders it, and compares it with the one in the cluster.
//!
//! Every field is written out, including those with a default of the API server, so that an equality test finds every
//! change.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cluster::{CONFIGURATION_NAME, FIELD_MANAGER, WEBHOOK_NAME};
use crate::opt_out::{DISABLED, NODE, PALETTE_DISABLED, PALETTE_LABEL, REDIRECT_LABEL};
use crate::settings::{ServiceName, Settings};

/// The HTTP path of the webhook.
pub const MUTATE_PATH: &str = "/mutate";
/// The API group of webhooks and admission policies.
pub(crate) const ADMISSION_GROUP: &str = "admissionregistration.k8s.io";
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The label that names the writer of an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Address at which the API servers reach the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookAddress {
    /// Each API server calls the agent on its own host by this URL.
    Url(String),
    /// A service of the cluster, port 443.
    Service(ServiceName),
}

/// Returns the address of the webhook by these settings; `port` is the port that it listens on.
#[must_use]
pub fn webhook_address(settings: &Settings, port: u16) -> WebhookAddress {
    let policy = &settings.landfall.webhook;
    match (&policy.service, &policy.url) {
        (Some(service), _) => WebhookAddress::Service(service.clone()),
        (None, Some(url)) => WebhookAddress::Url(url.clone()),
        (None, None) => {
            // A listener on the unspecified address accepts connections on loopback as well.
            let host = match settings.landfall.webhook_listen.trim_matches(['[', ']']) {
                "0.0.0.0" => "127.0.0.1".to_owned(),
                "::" => "[::1]".to_owned(),
                host if host.contains(':') => format!("[{host}]"),
                host => host.to_owned(),
            };
            WebhookAddress::Url(format!("https://{host}:{port}{MUTATE_PATH}"))
        }
    }
}

impl WebhookAddress {
    /// Returns the names that the certificate must contain besides those of loopback.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match self {
            WebhookAddress::Service(ServiceName { namespace, name }) => vec![
                format!("{name}.{namespace}.svc"),
                format!("{name}.{namespace}"),
                format!("{name}.{namespace}.svc.cluster.local"),
            ],
            WebhookAddress::Url(url) => {
                let authority = url.strip_prefix("https://").unwrap_or(url);
                let authority = authority.split('/').next().unwrap_or_default();
                let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                    Some((address, _port)) => address,
                    None => authority.split(':').next().unwrap_or_default(),
                };
                vec![host.to_owned()]
            }
        }
    }

    fn client_config(&self, ca_bundle: &str) -> Value {
        let bundle = STANDARD.encode(ca_bundle);
        match self {
            WebhookAddress::Url(url) => json!({ "caBundle": bundle, "url": url }),
            WebhookAddress::Service(ServiceName { namespace, name }) => json!({
                "caBundle": bundle,
                "service": { "namespace": namespace, "name": name, "path": MUTATE_PATH, "port": 443 },
            }),
        }
    }
}

/// Renders the whole object. The API server's selectors filter out namespaces and pods that opted out; the webhook
/// checks again.
#[must_use]
pub fn render_configuration(settings: &Settings, address: &WebhookAddress, ca_bundle: &str) -> Value {
    let policy = &settings.landfall.webhook;
    json!({
        "apiVersion": format!("{ADMISSION_GROUP}/v1"),
        "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": CONFIGURATION_NAME, "labels": { MANAGED_BY: FIELD_MANAGER } },
        "webhooks": [{
            "name": WEBHOOK_NAME,
            "admissionReviewVersions": ["v1"],
            "clientConfig": address.client_config(ca_bundle),
            "failurePolicy": policy.failure.name(),
            "matchPolicy": "Equivalent",
            "namespaceSelector": namespace_selector(settings),
            "objectSelector": object_selector(),
            // A webhook after ours may add containers (Istio does): their images are redirected in a second pass.
            "reinvocationPolicy": "IfNeeded",
            "rules": [rule()],
            "sideEffects": "None",
            "timeoutSeconds": policy.timeout_seconds,
        }],
    })
}

/// Returns true if the object in the cluster has our webhooks and our label. Any other content belongs to other
/// managers and is ignored.
#[must_use]
pub fn is_as_rendered(found: &Value, rendered: &Value) -> bool {
    found["webhooks"] == rendered["webhooks"]
        && found["metadata"]["labels"][MANAGED_BY] == rendered["metadata"]["labels"][MANAGED_BY]
}

/// Returns true if an agent wrote the object. An object of this name with another manager is not removed.
#[must_use]
pub fn is_ours(found: &Value) -> bool {
    found["metadata"]["labels"][MANAGED_BY] == FIELD_MANAGER
}

/// Writes the rendered webhooks and our label over the object in the cluster. Other labels and annotations stay. The
/// resource version stays too: by it the API server rejects the update if the object has changed in between.
#[must_use]
pub fn repair_configuration(found: &Value, rendered: &Value) -> Value {
    let mut repaired = found.clone();
    repaired["webhooks"] = rendered["webhooks"].clone();
    match repaired["metadata"]["labels"].as_object_mut() {
        Some(labels) => {
            labels.insert(MANAGED_BY.to_owned(), Value::from(FIELD_MANAGER));
        }
        None => repaired["metadata"]["labels"] = rendered["metadata"]["labels"].clone(),
    }
    repaired
}

/// Returns the match resources of an admission policy of the API server: the same namespaces and pods as those of the
/// webhook.
pub(crate) fn match_resources(settings: &Settings) -> Value {
    json!({
        "matchPolicy": "Equivalent",
        "namespaceSelector": namespace_selector(settings),
        "objectSelector": object_selector(),
        "resourceRules": [rule()],
    })
}

fn namespace_selector(settings: &Settings) -> Value {
    let mut namespaces = vec![
        not_in(REDIRECT_LABEL, &[DISABLED, NODE]),
        not_in(PALETTE_LABEL, &[PALETTE_DISABLED]),
    ];
    let chosen: Vec<&str> = settings.namespace_opt_outs.keys().map(String::as_str).collect();
    if !chosen.is_empty() {
        namespaces.push(not_in(NAMESPACE_NAME_LABEL, &chosen));
    }
    json!({ "matchExpressions": namespaces })
}

fn object_selector() -> Value {
    json!({ "matchExpressions": [not_in(REDIRECT_LABEL, &[DISABLED, NODE])] })
}

fn rule() -> Value {
    json!({
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["pods", "pods/ephemeralcontainers"],
        "scope": "Namespaced",
    })
}

fn not_in(key: &str, values: &[&str]) -> Value {
    json!({ "key": key, "operator": "NotIn", "values": values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opt_out::OptOut;
    use crate::settings::FailurePolicy;

    #[test]
    fn whole_configuration_for_a_host() {
        let mut settings = Settings::default();
        settings
            .namespace_opt_outs
            .insert("legacy".to_owned(), OptOut::Disabled);
        let rendered = render_configuration(&settings, &webhook_address(&settings, 10280), "PEM");
        insta::assert_snapshot!(serde_json::to_string_pretty(&rendered).unwrap(), @r#"
        {
          "apiVersion": "admissionregistration.k8s.io/v1",
          "kind": "MutatingWebhookConfiguration",
          "metadata": {
            "name": "landfall",
            "labels": {
              "app.kubernetes.io/managed-by": "landfall"
            }
          },
          "webhooks": [
            {
              "name": "pods.landfall.dev",
              "admissionReviewVersions": [
                "v1"
              ],
              "clientConfig": {
                "caBundle": "UEVN",
                "url": "https://127.0.0.1:10280/mutate"
              },
              "failurePolicy": "Ignore",
              "matchPolicy": "Equivalent",
              "namespaceSelector": {
                "matchExpressions": [
                  {
                    "key": "landfall.dev/redirect",
                    "operator": "NotIn",
                    "values": [
                      "disabled",
                      "node"
                    ]
                  },
                  {
                    "key": "stylus.io/imageswap",
                    "operator": "NotIn",
                    "values": [
                      "disable"
                    ]
                  },
                  {
                    "key": "kubernetes.io/metadata.name",
                    "operator": "NotIn",
                    "values": [
                      "legacy"
                    ]
                  }
                ]
              },
              "objectSelector": {
                "matchExpressions": [
                  {
                    "key": "landfall.dev/redirect",
                    "operator": "NotIn",
                    "values": [
                      "disabled",
                      "node"
                    ]
                  }
                ]
              },
              "reinvocationPolicy": "IfNeeded",
              "rules": [
                {
                  "apiGroups": [
                    ""
                  ],
                  "apiVersions": [
                    "v1"
                  ],
                  "operations": [
                    "CREATE",
                    "UPDATE"
                  ],
                  "resources": [
                    "pods",
                    "pods/ephemeralcontainers"
                  ],
                  "scope": "Namespaced"
                }
              ],
              "sideEffects": "None",
              "timeoutSeconds": 2
            }
          ]
        }
        "#);
    }

    #[test]
    fn service_and_failure_policy_are_as_the_settings_say() {
        let mut settings = Settings::default();
        settings.landfall.webhook.failure = FailurePolicy::Fail;
        settings.landfall.webhook.service = Some(ServiceName {
            namespace: "landfall".to_owned(),
            name: "webhook".to_owned(),
        });
        let address = webhook_address(&settings, 10280);
        let rendered = render_configuration(&settings, &address, "PEM");
        let webhook = &rendered["webhooks"][0];
        assert_eq!(webhook["failurePolicy"], "Fail");
        assert_eq!(
            webhook["clientConfig"],
            json!({"caBundle": "UEVN", "service": {"namespace": "landfall", "name": "webhook", "path": "/mutate", "port": 443}})
        );
        assert_eq!(address.names()[0], "webhook.landfall.svc");
    }

    #[test]
    fn certificate_is_for_the_host_of_the_url() {
        for (listen, url, expected) in [
            ("127.0.0.1", None, "127.0.0.1"),
            ("0.0.0.0", None, "127.0.0.1"),
            ("::", None, "::1"),
            ("fd00::1", None, "fd00::1"),
            ("127.0.0.1", Some("https://edge.example:1/mutate"), "edge.example"),
            ("127.0.0.1", Some("https://edge.example"), "edge.example"),
        ] {
            let mut settings = Settings::default();
            settings.landfall.webhook_listen = listen.to_owned();
            settings.landfall.webhook.url = url.map(ToOwned::to_owned);
            assert_eq!(webhook_address(&settings, 1).names(), [expected], "{listen} {url:?}");
        }
    }

    #[test]
    fn any_edit_of_the_webhook_is_seen_and_mended_and_what_others_add_stays() {
        let settings = Settings::default();
        let rendered = render_configuration(&settings, &webhook_address(&settings, 1), "PEM");
        let mut kept = rendered.clone();
        kept["metadata"]["resourceVersion"] = json!("7");
        kept["metadata"]["annotations"] = json!({"of": "others"});
        assert!(is_as_rendered(&kept, &rendered));
        for (pointer, value) in [
            ("/webhooks/0/clientConfig/caBundle", json!("Zm9v")),
            ("/webhooks/0/failurePolicy", json!("Fail")),
            ("/webhooks/0/namespaceSelector", json!({})),
            ("/webhooks", json!([])),
            ("/metadata/labels", json!({"other": "label"})),
            ("/metadata/labels", Value::Null),
        ] {
            let mut edited = kept.clone();
            *edited.pointer_mut(pointer).unwrap() = value;
            assert!(!is_as_rendered(&edited, &rendered), "{pointer}");
            let repaired = repair_configuration(&edited, &rendered);
            assert!(is_as_rendered(&repaired, &rendered), "{pointer}");
            assert_eq!(repaired["metadata"]["resourceVersion"], "7");
            assert_eq!(repaired["metadata"]["annotations"], kept["metadata"]["annotations"]);
        }
    }
}
