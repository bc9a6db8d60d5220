//! An agent that runs beside the test.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landfall_agent::{AgentOptions, AgentOutcome, run_agent};
use landfall_core::status::{AgentStatus, NoProgress, Phase, ProgressSink};
use landfall_net::tls::{TlsPolicy, client_config};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Site;

/// The time limit for an expected event.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Agent {
    task: JoinHandle<anyhow::Result<AgentOutcome>>,
    shutdown: CancellationToken,
}

impl Agent {
    pub async fn start(site: &Site) -> Agent {
        Agent::start_with(site.options().await)
    }

    pub fn start_with(options: AgentOptions) -> Agent {
        Agent::start_with_progress(options, Arc::new(NoProgress))
    }

    pub fn start_with_progress(mut options: AgentOptions, progress: Arc<dyn ProgressSink>) -> Agent {
        options.once = false;
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run_agent(options, progress, shutdown.clone()));
        Agent { task, shutdown }
    }

    pub async fn stop(self) -> AgentOutcome {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    }
}

pub async fn wait_for(site: &Site, what: &str, mut is: impl FnMut(&AgentStatus) -> bool) -> AgentStatus {
    let seen = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(Some(status)) = landfall_agent::status::read_status(&site.state_dir())
                && is(&status)
            {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    seen.await
        .unwrap_or_else(|_| panic!("it never came: {what}; {:#?}", site.status()))
}

pub async fn wait_for_running(site: &Site) {
    wait_for(site, "running", |status| status.phase == Phase::Running).await;
}

/// Returns a client that trusts these authorities, in PEM.
pub fn http_client(certificates: Vec<String>) -> reqwest::Client {
    let tls = TlsPolicy {
        insecure: false,
        certificates,
    };
    let client = reqwest::Client::builder().tls_backend_preconfigured(client_config(&tls).unwrap());
    client.no_proxy().build().unwrap()
}

/// Returns the image that the webhook gives a pod, over HTTPS as kube-apiserver asks it.
pub async fn redirected_image(site: &Site, image: &str) -> String {
    let webhook = site.status().webhook.unwrap();
    let client = http_client(vec![std::fs::read_to_string(webhook.ca_file.unwrap()).unwrap()]);
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE",
            "namespace": "default",
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    });
    let answer = client.post(&webhook.url).json(&review).send().await.unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    let Some(patch) = answer["response"]["patch"].as_str() else {
        return image.to_owned();
    };
    let patch = STANDARD.decode(patch).unwrap();
    let patch: serde_json::Value = serde_json::from_slice(&patch).unwrap();
    let replaced = patch.as_array().unwrap().iter().find(|step| step["op"] == "replace");
    replaced.unwrap()["value"].as_str().unwrap().to_owned()
}
