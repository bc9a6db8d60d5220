//! Sends a pod to the agent's webhook, as kube-apiserver does: over HTTPS, trusting the webhook's own CA.

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landfall_core::status::ServingStatus;
use landfall_net::tls::{TlsPolicy, client_config};
use serde_json::Value;

use crate::commands::demo::site::ADMISSION_REVIEW;

/// Answer of the webhook.
pub(super) struct Answer {
    /// The patch, in words and as JSON.
    pub(super) text: String,
    /// The images that the pod gets, in the order of the patch.
    pub(super) images: Vec<String>,
}

/// Sends one AdmissionReview and returns the patch of the answer.
pub(super) async fn ask_webhook(webhook: &ServingStatus) -> anyhow::Result<Answer> {
    let authority = webhook
        .ca_file
        .as_ref()
        .context("the webhook's status names no file of a certificate authority")?;
    let tls = TlsPolicy {
        insecure: false,
        certificates: vec![fs_err::read_to_string(authority)?],
    };
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(client_config(&tls)?)
        .no_proxy()
        .build()
        .context("cannot set up an HTTPS client")?;
    let request = client
        .post(&webhook.url)
        .header("content-type", "application/json")
        .body(ADMISSION_REVIEW);
    let answer = request
        .send()
        .await
        .with_context(|| format!("cannot ask the webhook at {}", webhook.url))?;
    let answer: Value = answer
        .error_for_status()?
        .json()
        .await
        .context("the webhook's answer is not JSON")?;
    describe(&answer).with_context(|| format!("the webhook's answer is not a patch: {answer}"))
}

fn describe(answer: &Value) -> anyhow::Result<Answer> {
    let review: Value = serde_json::from_str(ADMISSION_REVIEW)?;
    let patch = answer["response"]["patch"].as_str().context("there is no patch")?;
    let patch: Value = serde_json::from_slice(&STANDARD.decode(patch).context("the patch is not base64")?)?;
    let Some(operations) = patch.as_array() else {
        bail!("the patch is not a list")
    };
    let mut images = Vec::new();
    let mut text = String::from("a pod is created; the webhook answers:\n");
    for operation in operations.iter().filter(|operation| operation["op"] == "replace") {
        let (path, value) = (
            operation["path"].as_str().unwrap_or_default(),
            operation["value"].as_str().unwrap_or_default(),
        );
        let before = review["request"]["object"]
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default();
        text.push_str(&format!("  {path}  {before} -> {value}\n"));
        images.push(value.to_owned());
    }
    text.push_str(&format!(
        "as JSON Patch (RFC 6902):\n{}\n",
        serde_json::to_string_pretty(&patch)?
    ));
    Ok(Answer { text, images })
}
