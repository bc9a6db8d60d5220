//! The webhook with a real API server: its authority and registration, agents that start, stop and compete,
//! pods that are admitted without it, and an operator that compares images. No kubelet runs, since none of this
//! needs one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod policy;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::Utf8Path;
use landfall_core::status::Phase;
use landfall_tests_interop::admission::decode;
use landfall_tests_interop::agent::LandfallAgent;
use landfall_tests_interop::cluster::client::{KubeClient, wait_for};
use landfall_tests_interop::cluster::edge_cluster::{AUTHORITY, EdgeCluster, REGISTRATION, unschedulable_pod};
use landfall_tests_interop::https::HttpsClient;
use landfall_tests_interop::site::Site;
use serde_json::{Value, json};

const NGINX: &str = "docker.io/library/nginx:1.27";

/// Uses one cluster for all checks, since starting one takes longer than most of them.
#[test]
fn webhook_keeps_its_promises_at_a_real_api_server() {
    let edge = EdgeCluster::start(Utf8Path::new(env!("CARGO_BIN_EXE_landfall-test-cluster")));
    policy::api_server_redirects_by_a_policy_as_the_webhook_would(&edge);
    let (agent, second_agent, second) = two_agents_that_start_at_once_share_one_authority(&edge);
    registration_heals(&edge, &second);
    authority_rotates_with_no_failed_admission(&edge, &second);
    operator_is_spared_where_the_namespace_chose_the_node(&edge);
    no_pod_is_lost_while_the_agents_are_killed(&edge, agent, &second, second_agent);
}

fn two_agents_that_start_at_once_share_one_authority(edge: &EdgeCluster) -> (LandfallAgent, LandfallAgent, Site) {
    let second = edge.another_site();
    let mut agents = [edge.topology.site.start_agent(&[]), second.start_agent(&[])];
    for agent in &mut agents {
        agent.wait_for_phase(Phase::Running);
    }
    let registration = edge
        .client
        .wait(REGISTRATION, "a registration", |found| bundle(found).is_some());
    let authority = edge.client.get(AUTHORITY);
    let ports = [edge.topology.site.ports.webhook, second.ports.webhook];
    wait_for("both agents serving under the registered authority", || {
        let bundle = bundle(&edge.client.get(REGISTRATION))?;
        [&edge.topology.site, &second]
            .into_iter()
            .all(|site| answers(site, &bundle))
            .then_some(())
    });
    let bundle = bundle(&registration).unwrap();
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 1, "{bundle}");
    assert_eq!(
        edge.client.get(AUTHORITY)["data"],
        authority["data"],
        "one authority, made once"
    );
    let url = registration["webhooks"][0]["clientConfig"]["url"].as_str().unwrap();
    assert!(
        ports
            .iter()
            .any(|port| url == format!("https://127.0.0.1:{port}/mutate")),
        "{url}"
    );
    assert_redirected(edge, &second, "two-agents");
    let [first_agent, second_agent] = agents;
    (first_agent, second_agent, second)
}

fn registration_heals(edge: &EdgeCluster, second: &Site) {
    let before = edge.client.get(REGISTRATION);
    let mut broken = before.clone();
    // The API server accepts only a bundle of certificates. The cluster's own CA is a foreign authority here.
    let kubeconfig: Value = serde_json::from_str(&fs_err::read_to_string(edge.cluster.kubeconfig()).unwrap()).unwrap();
    broken["webhooks"][0]["clientConfig"]["caBundle"] =
        kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"].clone();
    edge.client.replace(REGISTRATION, &broken);
    let healed = |found: &Value| found["webhooks"] == before["webhooks"];
    edge.client.wait(REGISTRATION, "the right caBundle again", healed);
    assert_redirected(edge, second, "bundle-healed");

    edge.client.delete(REGISTRATION);
    edge.client.wait(REGISTRATION, "the registration again", healed);
    assert_redirected(edge, second, "deletion-healed");
}

fn authority_rotates_with_no_failed_admission(edge: &EdgeCluster, second: &Site) {
    let before = edge.client.get(AUTHORITY)["data"]["ca.crt"].clone();
    let redirected = redirected(edge, second);
    let (created, not_redirected) = std::thread::scope(|scope| {
        let done = CancelOnDrop::default();
        let is_done = done.0.clone();
        let creating = scope.spawn(move || {
            let client = edge.cluster.client();
            let mut created = 0_u32;
            let mut not_redirected = Vec::new();
            while !is_done.load(Ordering::Relaxed) {
                let pod = unschedulable_pod("rotating", "nginx:1.27");
                // The failure policy is Ignore: after a failed call the pod would be admitted unchanged.
                let pod = client.create("/api/v1/namespaces/default/pods?dryRun=All", &pod);
                created += 1;
                if !redirected.contains(&image_of(&pod)) {
                    not_redirected.push(pod);
                }
            }
            (created, not_redirected)
        });
        let rotate = json!({"metadata": {"annotations": {"landfall.dev/rotate": "now"}}});
        edge.client.patch(AUTHORITY, &rotate);
        let rotated = edge.client.wait(AUTHORITY, "another authority", |found| {
            found["data"]["ca.crt"] != before && found["data"]["previous.crt"] == before
        });
        let new = decode(&rotated["data"]["ca.crt"]);
        wait_for("both agents serving under the new authority", || {
            [&edge.topology.site, second]
                .into_iter()
                .all(|site| answers(site, &new))
                .then_some(())
        });
        edge.client.wait(REGISTRATION, "both authorities registered", |found| {
            bundle(found) == Some(format!("{new}{}", decode(&before)))
        });
        drop(done);
        creating.join().unwrap()
    });
    assert_eq!(not_redirected, Vec::<Value>::new(), "of {created}");
    assert!(
        created > 20,
        "only {created} pods were made while the authority was rotated"
    );
}

/// Stops a loop also if the test fails, which would wait for it otherwise.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns true if the webhook of a host answers a client that trusts only this authority.
fn answers(site: &Site, authority: &str) -> bool {
    let trusting = HttpsClient {
        authority: Some(authority),
        account: None,
    };
    let answer = trusting.get(&format!("https://127.0.0.1:{}/healthz", site.ports.webhook));
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Recreates the pod of an operator whenever its image differs from the wanted one.
fn operate(client: &KubeClient, namespace: &str, rounds: usize) -> usize {
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let pod = format!("{pods}/operated");
    let mut made = 0;
    for _ in 0..rounds {
        match client.try_get(&pod) {
            Some(found) if found["spec"]["containers"][0]["image"] == "nginx:1.27" => {}
            found => {
                if found.is_some() {
                    client.delete(&pod);
                    wait_for("the pod gone", || client.try_get(&pod).is_none().then_some(()));
                }
                client.create(&pods, &unschedulable_pod("operated", "nginx:1.27"));
                made += 1;
            }
        }
    }
    made
}

fn operator_is_spared_where_the_namespace_chose_the_node(edge: &EdgeCluster) {
    edge.client.create_namespace("operated-by-webhook", &json!({}));
    edge.client
        .create_namespace("operated-by-node", &json!({"landfall.dev/redirect": "node"}));
    assert_eq!(
        operate(&edge.client, "operated-by-webhook", 5),
        5,
        "the webhook changes what this operator made"
    );
    // The agent learns of a namespace by a watch.
    wait_for("a pod left to the node", || {
        let pod = unschedulable_pod("asked", "nginx:1.27");
        let pod = edge
            .client
            .create("/api/v1/namespaces/operated-by-node/pods?dryRun=All", &pod);
        (pod["spec"]["containers"][0]["image"] == "nginx:1.27").then_some(())
    });
    assert_eq!(operate(&edge.client, "operated-by-node", 5), 1);
}

fn no_pod_is_lost_while_the_agents_are_killed(
    edge: &EdgeCluster,
    mut agent: LandfallAgent,
    second: &Site,
    mut second_agent: LandfallAgent,
) {
    const PODS: usize = 200;
    edge.client.create_namespace("storm", &json!({}));
    let mut restarted = None;
    for number in 0..PODS {
        match number {
            60 => {
                agent.kill();
                second_agent.kill();
            }
            140 => restarted = Some(edge.topology.site.start_agent(&[])),
            _ => {}
        }
        let pod = unschedulable_pod(&format!("pod-{number}"), "nginx:1.27");
        edge.client.create("/api/v1/namespaces/storm/pods", &pod);
    }
    let redirected = redirected(edge, second);
    let path = "/api/v1/namespaces/storm/pods";
    let all = edge.client.wait(path, "every pod redirected in the end", |list| {
        let mut pods = list["items"].as_array().unwrap().iter();
        pods.all(|pod| redirected.contains(&image_of(pod)))
    });
    assert_eq!(all["items"].as_array().unwrap().len(), PODS);
    // Without repaired pods the test would not have tested anything.
    let events = edge.client.get("/api/v1/namespaces/storm/events");
    let repaired = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["reason"] == "Redirected");
    assert!(repaired.count() > 0, "every pod was redirected while no agent ran");
    assert_eq!(restarted.unwrap().terminate(), Some(0));
}

/// Sends a pod to the API server and checks that its images are redirected.
fn assert_redirected(edge: &EdgeCluster, second: &Site, when: &str) {
    let pods = "/api/v1/namespaces/default/pods?dryRun=All";
    let pod = edge.client.create(pods, &unschedulable_pod("asked", "nginx:1.27"));
    let image = image_of(&pod);
    assert!(redirected(edge, second).contains(&image), "{when}: {image}");
}

/// Returns the possible redirected images: each of the two hosts has a primary registry, and either agent may
/// answer.
fn redirected(edge: &EdgeCluster, second: &Site) -> [String; 2] {
    [&edge.topology.site, second]
        .map(|site| format!("{}/{}", site.primary_host(), edge.topology.primary_repository(NGINX)))
}

fn image_of(pod: &Value) -> String {
    let image = pod["spec"]["containers"][0]["image"].as_str();
    image.expect("a pod has an image").to_owned()
}

/// Returns the `caBundle` as PEM.
fn bundle(registration: &Value) -> Option<String> {
    let bundle = &registration["webhooks"][0]["clientConfig"]["caBundle"];
    bundle.is_string().then(|| decode(bundle))
}
