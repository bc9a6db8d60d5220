//! Runs the webhook as two pods of the cluster, from the manifests of the Helm chart. The API server calls it
//! as a service, one of the pods owns authority and registration, and a redirected pod runs.

use std::process::Command;

use landfall_tests_interop::admission::decode;
use landfall_tests_interop::cluster::client::wait_for;
use landfall_tests_interop::cluster::edge_cluster::{EdgeCluster, REGISTRATION, unschedulable_pod};
use landfall_tests_interop::cluster::images::landfall_image;
use landfall_tests_interop::go_tool::tool;
use landfall_tests_interop::program::run;
use landfall_tests_interop::topology::ACCOUNT;
use serde_json::{Value, json};

use crate::{NGINX, images_of, running};

const IMAGE: &str = "landfall.invalid/landfall:test";
const NAMESPACE: &str = "landfall";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/landfall/deployments/landfall";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/landfall/leases/landfall-webhook";
const AUTHORITY: &str = "/api/v1/namespaces/landfall/secrets/landfall-webhook-ca";

/// Runs after the host's agent has ended, with the external registry back: pods cannot reach the primary
/// registry on the host's loopback.
pub(crate) fn webhook_serves_as_pods_of_the_cluster(edge: &EdgeCluster) {
    edge.client.delete(REGISTRATION);
    edge.cluster
        .import_image(IMAGE, &landfall_image(&edge.topology.site.root()));
    edge.client.create_namespace(NAMESPACE, &json!({}));
    install(edge);
    edge.client.wait(DEPLOYMENT, "both pods ready", |found| {
        found["status"]["availableReplicas"] == 2
    });
    let pods = edge
        .client
        .get("/api/v1/namespaces/landfall/pods?labelSelector=app.kubernetes.io/name=landfall");
    let pods = pods["items"].as_array().unwrap();
    let lease = edge.client.get(LEASE);
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap();
    let is_holder = |pod: &&Value| holder.starts_with(pod["metadata"]["name"].as_str().unwrap());
    assert_eq!(pods.iter().filter(is_holder).count(), 1, "{holder}");

    let authority = edge.client.get(AUTHORITY)["data"]["ca.crt"].clone();
    let registration = edge.client.wait(REGISTRATION, "the registration", |found| {
        found["webhooks"][0]["clientConfig"]["caBundle"] == authority
    });
    let client = &registration["webhooks"][0]["clientConfig"];
    assert_eq!(
        client["service"],
        json!({"namespace": NAMESPACE, "name": "landfall", "path": "/mutate", "port": 443})
    );
    assert!(decode(&client["caBundle"]).contains("BEGIN CERTIFICATE"));

    let redirected = format!("{}/{NGINX}", edge.topology.domain());
    wait_for("a pod redirected by the service", || {
        let asked = unschedulable_pod("asked", "nginx:1.27");
        let asked = edge.client.create("/api/v1/namespaces/default/pods?dryRun=All", &asked);
        (images_of(&asked)["main"] == redirected).then_some(())
    });
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "by-service"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "nginx:1.27"}]},
    });
    edge.client.create("/api/v1/namespaces/default/pods", &pod);
    let pod = running(edge, "default", "by-service");
    assert_eq!(images_of(&pod)["main"], redirected);
    // The webhook's own pods were created before it was registered, and their label exempts later ones.
    assert!(pods.iter().all(|pod| images_of(pod)["webhook"] == IMAGE));
}

/// Renders the chart with helm and applies it with kubectl.
fn install(edge: &EdgeCluster) {
    let user_data = edge.topology.site.path("in-cluster.yaml");
    let text = format!(
        "#cloud-config\nstylus:\n  registryCredentials:\n    domain: '{}'\n    username: '{}'\n    password: '{}'\n",
        edge.topology.domain(),
        ACCOUNT.user,
        ACCOUNT.password
    );
    fs_err::write(&user_data, text).unwrap();
    let (repository, tag) = IMAGE.rsplit_once(':').unwrap();
    let mut helm = Command::new(tool("helm"));
    helm.args([
        "template",
        NAMESPACE,
        "charts/landfall",
        "--namespace",
        NAMESPACE,
        "--kube-version",
        "1.36.0",
    ])
    .args(["--set", &format!("image.repository={repository},image.tag={tag}")])
    .args(["--set-file", &format!("config.userData={user_data}")])
    .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let manifests = edge.topology.site.path("in-cluster-manifests.yaml");
    fs_err::write(&manifests, run(helm).succeeded().stdout()).unwrap();
    let mut kubectl = Command::new(tool("kubectl"));
    kubectl
        .arg("--kubeconfig")
        .arg(edge.cluster.kubeconfig())
        .args(["apply", "--filename"])
        .arg(&manifests);
    drop(run(kubectl).succeeded());
}
