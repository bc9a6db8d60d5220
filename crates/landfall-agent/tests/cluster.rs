//! The cluster side of the webhook against an API server in memory: registration, authority, repair, sweeper.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use landfall_agent::{AgentOptions, AgentOutcome, Listeners, Role, Timing, run_agent};
use landfall_core::status::{AgentStatus, ClusterStatus, EventReason, NoProgress};
use landfall_testkit::fake_api_server::{FakeApiServer, Scenario};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/landfall";
const SECRET: &str = "/api/v1/namespaces/kube-system/secrets/landfall-webhook-ca";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/landfall-webhook";
const PATIENCE: Duration = Duration::from_secs(30);

/// An agent on a control-plane host.
struct Agent {
    directory: tempfile::TempDir,
    port: u16,
    task: JoinHandle<anyhow::Result<AgentOutcome>>,
    shutdown: CancellationToken,
}

impl Agent {
    async fn start(api: &FakeApiServer) -> Agent {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| Utf8PathBuf::from_path_buf(directory.path().join(name)).unwrap();
        // kubeadm writes it there: nothing has to be configured.
        std::fs::create_dir_all(path("root/etc/kubernetes")).unwrap();
        std::fs::write(path("root/etc/kubernetes/admin.conf"), api.kubeconfig()).unwrap();
        let user_data = "#cloud-config\nstylus:\n  registryCredentials:\n    domain: reg:5000\n    username: u\n    \
                         password: p\n\
                         landfall:\n  webhook:\n    sweepInterval: 1\n    rotationOverlap: 1\n";
        std::fs::write(path("user-data.yaml"), user_data).unwrap();
        let webhook = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = webhook.local_addr().unwrap().port();
        let options = AgentOptions {
            state_dir: Some(path("state")),
            root: path("root"),
            role: Role::Webhook,
            listeners: Listeners {
                status: Some(TcpListener::bind("127.0.0.1:0").await.unwrap()),
                webhook: Some(webhook),
                primary: None,
                mirror: None,
            },
            timing: Timing::default(),
            ..AgentOptions::new(vec![path("user-data.yaml")], Vec::new())
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run_agent(options, Arc::new(NoProgress), shutdown.clone()));
        Agent {
            directory,
            port,
            task,
            shutdown,
        }
    }

    fn state_dir(&self) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.directory.path().join("state")).unwrap()
    }

    /// Waits until the status has a cluster for which `is` returns true.
    async fn wait_for(&self, what: &str, is: impl Fn(&ClusterStatus) -> bool) -> AgentStatus {
        let seen = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Ok(Some(status)) = landfall_agent::status::read_status(&self.state_dir())
                    && status.cluster.as_ref().is_some_and(&is)
                {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        seen.await.unwrap_or_else(|_| panic!("it never came: {what}"))
    }

    async fn stop(self) {
        self.shutdown.cancel();
        let outcome = tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
        assert_eq!(outcome.unwrap(), AgentOutcome::Drained);
    }
}

fn bundle_of(configuration: Option<&Value>) -> &str {
    configuration
        .and_then(|found| found["webhooks"][0]["clientConfig"]["caBundle"].as_str())
        .unwrap_or_default()
}

fn certificates_in(secret: &Value) -> Vec<&str> {
    let data = secret["data"].as_object().unwrap();
    data.keys()
        .map(String::as_str)
        .filter(|key| key.ends_with(".crt"))
        .collect()
}

fn mk_waiting_pod(namespace: &str, image: &str) -> Value {
    json!({"metadata": {"uid": "u", "namespace": namespace}, "spec": {"containers": [{"name": "c", "image": image}]},
        "status": {"phase": "Pending", "containerStatuses": [
            {"name": "c", "imageID": "", "state": {"waiting": {"reason": "ErrImagePull"}}}]}})
}

fn image_of(pod: Option<&Value>) -> &str {
    pod.and_then(|pod| pod["spec"]["containers"][0]["image"].as_str())
        .unwrap_or_default()
}

async fn registered(api: &FakeApiServer) -> Value {
    api.wait_for("the registration", CONFIGURATION, |found| found.is_some())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_registers_the_webhook_with_an_authority_of_its_own_and_gives_the_lease_up_at_its_end() {
    let api = FakeApiServer::start();
    let agent = Agent::start(&api).await;
    let configuration = registered(&api).await;
    let url = format!("https://127.0.0.1:{}/mutate", agent.port);
    assert_eq!(configuration["webhooks"][0]["clientConfig"]["url"], url);
    let secret = api.get(SECRET).unwrap();
    assert_eq!(
        bundle_of(Some(&configuration)),
        secret["data"]["ca.crt"],
        "the bundle is the Secret's"
    );
    let kubernetes = std::fs::read_dir(agent.directory.path().join("root/etc/kubernetes")).unwrap();
    let files: Vec<_> = kubernetes.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["admin.conf"], "a pod's kubelet is not its own to configure");
    agent
        .wait_for("the writer", |cluster| {
            cluster.writer && cluster.authority_expires.is_some()
        })
        .await;
    assert_ne!(api.get(LEASE).unwrap()["spec"]["holderIdentity"], "");
    agent.stop().await;
    assert_eq!(api.get(LEASE).unwrap()["spec"]["holderIdentity"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_registration_or_authority_are_repaired() {
    let api = FakeApiServer::start();
    let agent = Agent::start(&api).await;
    let before = registered(&api).await;
    let repaired = |found: Option<&Value>| found.is_some_and(|found| found["webhooks"] == before["webhooks"]);

    api.edit(CONFIGURATION, |found| {
        found["webhooks"][0]["clientConfig"]["caBundle"] = json!("Zm9v")
    });
    api.wait_for("the bundle again", CONFIGURATION, repaired).await;
    api.edit(CONFIGURATION, |found| found["webhooks"] = json!([]));
    api.wait_for("the webhook again", CONFIGURATION, repaired).await;
    api.delete(CONFIGURATION);
    api.wait_for("the registration again", CONFIGURATION, repaired).await;

    api.delete(SECRET);
    let secret = api
        .wait_for("the authority again", SECRET, |found| found.is_some())
        .await;
    // The agent restores the authority that it serves under: no admission fails in the meantime.
    assert_eq!(secret.unwrap()["data"]["ca.crt"], bundle_of(Some(&before)));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_that_start_at_once_have_one_authority_and_one_writer() {
    let api = FakeApiServer::start();
    let (one, other) = tokio::join!(Agent::start(&api), Agent::start(&api));
    let known = |cluster: &ClusterStatus| cluster.authority_expires.is_some();
    let (first, second) = tokio::join!(
        one.wait_for("the authority", known),
        other.wait_for("the authority", known)
    );
    registered(&api).await;
    assert_eq!(api.writes(SECRET), 1, "made once");
    let authority = |agent: &Agent| std::fs::read_to_string(agent.state_dir().join("webhook/ca.crt")).unwrap();
    assert_eq!(authority(&one), authority(&other), "both serve under it");
    let writers = [first, second]
        .into_iter()
        .filter(|status| status.cluster.as_ref().unwrap().writer);
    assert!(writers.count() <= 1);
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_is_known_before_it_signs_and_the_old_one_after() {
    let api = FakeApiServer::start();
    let agent = Agent::start(&api).await;
    registered(&api).await;
    let old = api.get(SECRET).unwrap()["data"]["ca.crt"].clone();
    api.edit(SECRET, |secret| {
        secret["metadata"]["annotations"] = json!({"landfall.dev/rotate": "now"})
    });

    let has = |certificates: &'static [&str]| {
        move |secret: Option<&Value>| secret.is_some_and(|secret| certificates_in(secret) == certificates)
    };
    let introduced = api
        .wait_for("the next authority", SECRET, has(&["ca.crt", "next.crt"]))
        .await
        .unwrap();
    assert_eq!(introduced["data"]["ca.crt"], old, "it does not sign yet");
    assert_eq!(introduced["metadata"]["annotations"], json!({}), "asked for once");
    let promoted = api
        .wait_for("its promotion", SECRET, has(&["ca.crt", "previous.crt"]))
        .await
        .unwrap();
    assert_eq!(promoted["data"]["ca.crt"], introduced["data"]["next.crt"]);
    assert_eq!(promoted["data"]["previous.crt"], old);
    // Both authorities are trusted all the time: the bundle was longer before the promotion, and is longer after it.
    let bundle = bundle_of(api.get(CONFIGURATION).as_ref()).len();
    assert!(bundle > old.as_str().unwrap().len() + 100, "{bundle}");
    let state_dir = agent.state_dir();
    let told = || -> Vec<String> {
        let events = landfall_agent::events::read_events(&state_dir, 0).unwrap().into_iter();
        let registered = events.filter(|event| event.reason == EventReason::WebhookRegistered);
        registered.map(|event| event.message).collect()
    };
    let updated = "the webhook's registration was updated".to_owned();
    agent.wait_for("the event", |_| told().contains(&updated)).await;
    let foreign: Vec<String> = told().into_iter().filter(|text| text.contains("repaired")).collect();
    assert_eq!(foreign, [""; 0], "the agent's own changes are no one else's");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_without_redirection_are_repaired_unless_their_namespace_opted_out() {
    let api = FakeApiServer::start();
    let (namespace, pod) = ("/api/v1/namespaces/web", "/api/v1/namespaces/web/pods/p");
    api.put(
        namespace,
        json!({"metadata": {"labels": {"landfall.dev/redirect": "node"}}}),
    );
    api.put(pod, mk_waiting_pod("web", "nginx:1"));
    // The pods fill more than one page.
    for number in 0..150 {
        api.put(
            &format!("/api/v1/namespaces/other/pods/p{number:03}"),
            mk_waiting_pod("other", "nginx:2"),
        );
    }
    let agent = Agent::start(&api).await;
    let last = "/api/v1/namespaces/other/pods/p149";
    let target = |image: &'static str| move |found: Option<&Value>| image_of(found) == image;
    api.wait_for("the last pod", last, target("reg:5000/docker.io/library/nginx:2"))
        .await;
    assert_eq!(
        image_of(api.get(pod).as_ref()),
        "nginx:1",
        "its namespace chose the node"
    );
    api.edit(namespace, |namespace| namespace["metadata"]["labels"] = json!({}));
    let repaired = api
        .wait_for("the pod", pod, target("reg:5000/docker.io/library/nginx:1"))
        .await
        .unwrap();
    let annotation = repaired["metadata"]["annotations"]["landfall.dev/original-images"]
        .as_str()
        .unwrap();
    assert!(annotation.contains("nginx:1"), "{annotation}");
    api.wait_for("an event", pod, |_| api.count("/api/v1/namespaces/web/events") > 0)
        .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_waits_for_an_api_server_that_is_down_and_says_so() {
    let api = FakeApiServer::start();
    api.play(Scenario::Unavailable);
    let agent = Agent::start(&api).await;
    let status = agent.wait_for("the problem", |cluster| cluster.problem.is_some()).await;
    assert!(status.webhook.is_some(), "the webhook serves all the same");
    api.play(Scenario::Healthy);
    registered(&api).await;
    agent.wait_for("its end", |cluster| cluster.problem.is_none()).await;
    agent.stop().await;
}
