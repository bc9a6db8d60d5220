//! The main purpose on a real cluster: with the external registry stopped, pods that name `nginx:1.27` run from
//! the primary registry, and the kubelet gets its login from Landfall's plug-in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod in_cluster;

use std::collections::BTreeMap;

use camino::Utf8Path;
use landfall_tests_interop::admission::{decode, patch_of, review_of};
use landfall_tests_interop::cluster::client::wait_for;
use landfall_tests_interop::cluster::edge_cluster::{EdgeCluster, REGISTRATION, unschedulable_pod};
use landfall_tests_interop::cluster::images::WAIT;
use landfall_tests_interop::https::HttpsClient;
use reqwest::Method;
use serde_json::{Value, json};

const NGINX: &str = "docker.io/library/nginx:1.27";
const BUSYBOX: &str = "docker.io/library/busybox:1.37";
const HELLO: &str = "ghcr.io/spectrocloud/hello-universe:1.2.0";

/// Uses one cluster for all checks, since starting one takes longer than most of them.
#[test]
fn pods_run_from_the_primary_registry_with_the_external_one_gone() {
    let mut edge = EdgeCluster::start(Utf8Path::new(env!("CARGO_BIN_EXE_landfall-test-cluster")));
    let agent = edge.start_agent();
    edge.start_kubelet();
    edge.topology.source.registry.stop();

    let cron = cron_job_begins(&edge);
    profiles_deployment_runs(&edge);
    kubelet_had_its_login_from_our_plugin(&edge);
    every_kind_of_image_is_redirected_and_runs(&edge);
    controllers_pods_run(&edge);
    label_edit_restarts_nothing(&edge);
    late_update_touches_only_what_it_changes(&edge);
    namespaces_and_pods_opt_out(&edge);
    node_redirects_where_the_namespace_chose_it(&edge);
    nothing_but_images_and_one_annotation_changes(&edge);
    fields_of_the_future_stay(&edge);
    audit_log_says_why(&edge);
    cron_jobs_pod_runs(&edge, &cron);
    with_the_webhook_off_pods_run_as_written_with_our_login(&edge);
    drop(agent);
    edge.topology.source.registry.start_again();
    in_cluster::webhook_serves_as_pods_of_the_cluster(&edge);
}

/// Returns the Deployment of `examples/profile-edge.yaml`, unchanged.
fn example_deployment() -> String {
    let example = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/profile-edge.yaml");
    let example = fs_err::read_to_string(example).unwrap();
    let (_, manifest) = example.split_once("            content: |\n").unwrap();
    manifest
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("              ").unwrap()))
        .collect()
}

fn profiles_deployment_runs(edge: &EdgeCluster) {
    edge.client.create_namespace("store", &json!({}));
    let manifest = example_deployment();
    edge.client
        .create_yaml("/apis/apps/v1/namespaces/store/deployments", &manifest);
    edge.client.wait(
        "/apis/apps/v1/namespaces/store/deployments/store",
        "the profile's Deployment running",
        |deployment| deployment["status"]["availableReplicas"] == 1,
    );
    let pods = edge.client.get("/api/v1/namespaces/store/pods");
    let pod = &pods["items"][0];
    let images = images_of(pod);
    let expected = [
        ("metrics", "quay.io/prometheus/node-exporter:v1.9.1"),
        ("wait", BUSYBOX),
        ("web", NGINX),
    ];
    assert_eq!(
        images,
        expected
            .map(|(name, image)| (name.to_owned(), edge.redirected(image)))
            .into()
    );
    assert_all_ran_from_the_primary(edge, pod, 3);
    assert_eq!(
        originals(pod),
        [
            ("metrics", "quay.io/prometheus/node-exporter:v1.9.1"),
            ("wait", "busybox:1.37"),
            ("web", "nginx:1.27"),
        ]
        .map(|(name, image)| (name.to_owned(), image.to_owned()))
        .into()
    );
}

/// Returns the images that the user wrote, from the annotation.
fn originals(pod: &Value) -> BTreeMap<String, String> {
    let annotation = pod["metadata"]["annotations"]["landfall.dev/original-images"].as_str();
    let originals: BTreeMap<String, Value> = serde_json::from_str(annotation.unwrap()).unwrap();
    originals
        .into_iter()
        .map(|(name, original)| (name, original["image"].as_str().unwrap().to_owned()))
        .collect()
}

/// The primary registry requires a login and no secret exists: the kubelet asked the plug-in.
fn kubelet_had_its_login_from_our_plugin(edge: &EdgeCluster) {
    let secrets = edge
        .client
        .get("/api/v1/secrets?fieldSelector=type=kubernetes.io/dockerconfigjson");
    assert_eq!(secrets["items"], json!([]));
    let anonymous = HttpsClient::default()
        .get(&format!("http://{}/v2/", edge.topology.site.primary_host()))
        .unwrap();
    assert_eq!(anonymous.status, 401, "the primary registry asks for a login");
    let metrics = edge
        .client
        .request(Method::GET, "/api/v1/nodes/edge/proxy/metrics", None)
        .unwrap();
    let calls = metrics
        .body
        .lines()
        .find(|line| line.starts_with("kubelet_credential_provider_plugin_duration_count{"))
        .unwrap_or_else(|| {
            panic!(
                "the kubelet called no credential provider:\n{}",
                edge.cluster.log("kubelet")
            )
        });
    assert!(
        calls.contains(r#"plugin_name="landfall-credential-provider""#),
        "{calls}"
    );
    let failed = |line: &&str| line.starts_with("kubelet_credential_provider_plugin_errors_total{");
    assert_eq!(metrics.body.lines().find(failed), None);
}

fn every_kind_of_image_is_redirected_and_runs(edge: &EdgeCluster) {
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "every-kind"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "initContainers": [{"name": "init", "image": "busybox:1.37"}],
            "containers": [{
                "name": "main",
                "image": "nginx:1.27",
                "volumeMounts": [{"name": "files", "mountPath": "/files"}],
            }],
            "volumes": [{"name": "files", "image": {"reference": HELLO}}],
        },
    });
    edge.client.create(pods, &pod);
    running(edge, "default", "every-kind");
    let path = format!("{pods}/every-kind");
    let with_ephemeral = json!({"spec": {"ephemeralContainers": [
        {"name": "debugger", "image": "nginx:1.27", "command": ["/bin/busybox", "sh", "-c", WAIT]},
    ]}});
    edge.client
        .patch_strategically(&format!("{path}/ephemeralcontainers"), &with_ephemeral);
    let pod = edge.client.wait(&path, "the ephemeral container running", |pod| {
        pod["status"]["ephemeralContainerStatuses"][0]["state"]["running"].is_object()
    });
    let redirected = |image: &str| edge.redirected(image);
    assert_eq!(
        images_of(&pod),
        [
            ("debugger", NGINX),
            ("init", BUSYBOX),
            ("main", NGINX),
            ("volume:files", HELLO)
        ]
        .map(|(name, image)| (name.to_owned(), redirected(image)))
        .into()
    );
    assert_all_ran_from_the_primary(edge, &pod, 3);
}

fn controllers_pods_run(edge: &EdgeCluster) {
    let template = json!({
        "metadata": {"labels": {"app": "controlled"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "nginx:1.27"}],
        },
    });
    let selector = json!({"matchLabels": {"app": "controlled"}});
    for (kind, resource, spec, ready) in [
        ("DaemonSet", "daemonsets", json!({}), "numberReady"),
        (
            "StatefulSet",
            "statefulsets",
            json!({"serviceName": "controlled"}),
            "readyReplicas",
        ),
    ] {
        let namespace = kind.to_lowercase();
        edge.client.create_namespace(&namespace, &json!({}));
        let mut object =
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "controlled"}, "spec": spec});
        object["spec"]["selector"] = selector.clone();
        object["spec"]["template"] = template.clone();
        let collection = format!("/apis/apps/v1/namespaces/{namespace}/{resource}");
        edge.client.create(&collection, &object);
        edge.client.wait(&format!("{collection}/controlled"), kind, |found| {
            found["status"][ready] == 1
        });
        let pods = edge.client.get(&format!("/api/v1/namespaces/{namespace}/pods"));
        assert_eq!(images_of(&pods["items"][0])["main"], edge.redirected(NGINX), "{kind}");
        assert_all_ran_from_the_primary(edge, &pods["items"][0], 1);
        // The owner's object stays unchanged.
        let owner = edge.client.get(&format!("{collection}/controlled"));
        assert_eq!(
            owner["spec"]["template"]["spec"]["containers"][0]["image"],
            "nginx:1.27"
        );
    }
}

/// Creates a CronJob, whose controller acts at the full minute. It is checked last.
fn cron_job_begins(edge: &EdgeCluster) -> String {
    edge.client.create_namespace("cronjob", &json!({}));
    let collection = "/apis/batch/v1/namespaces/cronjob/cronjobs";
    let job = json!({"template": {"spec": {
        "restartPolicy": "Never",
        "containers": [{"name": "main", "image": "busybox:1.37"}],
    }}});
    edge.client.create(
        collection,
        &json!({
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "every-minute"},
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job}},
        }),
    );
    format!("{collection}/every-minute")
}

fn cron_jobs_pod_runs(edge: &EdgeCluster, cron: &str) {
    wait_for("the CronJob's first run", || {
        let found = edge.client.get(cron);
        found["status"]["lastSuccessfulTime"].is_string().then_some(())
    });
    let pods = edge.client.get("/api/v1/namespaces/cronjob/pods");
    assert_eq!(images_of(&pods["items"][0])["main"], edge.redirected(BUSYBOX));
    assert_all_ran_from_the_primary(edge, &pods["items"][0], 1);
}

fn label_edit_restarts_nothing(edge: &EdgeCluster) {
    let path = "/api/v1/namespaces/default/pods/every-kind";
    let before = edge.client.get(path);
    let after = edge
        .client
        .patch(path, &json!({"metadata": {"labels": {"edited": "yes"}}}));
    assert_eq!(after["spec"], before["spec"]);
    assert_no_restart(edge, path, &before);
}

/// A pod created while its namespace was opted out keeps its image when its label is edited later.
fn late_update_touches_only_what_it_changes(edge: &EdgeCluster) {
    edge.client
        .create_namespace("late", &json!({"stylus.io/imageswap": "disable"}));
    let collection = "/api/v1/namespaces/late/pods";
    let pause = "landfall.invalid/pause:1";
    wait_until_left_alone(edge, "late", "disable");
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "early"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": pause}]},
    });
    edge.client.create(collection, &pod);
    let before = running(edge, "late", "early");
    edge.client.patch(
        "/api/v1/namespaces/late",
        &json!({"metadata": {"labels": {"stylus.io/imageswap": null}}}),
    );
    // The agent learns of the label by a watch.
    wait_for("the namespace redirected", || {
        let asked = edge.client.create(
            &format!("{collection}?dryRun=All"),
            &unschedulable_pod("asked", "nginx:1.27"),
        );
        (images_of(&asked)["main"] == edge.redirected(NGINX)).then_some(())
    });
    let path = format!("{collection}/early");
    let after = edge
        .client
        .patch(&path, &json!({"metadata": {"labels": {"edited": "yes"}}}));
    assert_eq!(after["spec"], before["spec"]);
    assert_no_restart(edge, &path, &before);
    // An image that the request changes is redirected, like that of a new pod.
    pod = edge.client.patch_strategically(
        &path,
        &json!({"spec": {"containers": [{"name": "main", "image": "nginx:1.27"}]}}),
    );
    assert_eq!(images_of(&pod)["main"], edge.redirected(NGINX));
    edge.client.wait(&path, "the changed container running", |pod| {
        pod["status"]["containerStatuses"][0]["imageID"]
            .as_str()
            .is_some_and(|id| id.starts_with(&edge.topology.site.primary_host()))
            && pod["status"]["containerStatuses"][0]["ready"] == true
    });
}

fn namespaces_and_pods_opt_out(edge: &EdgeCluster) {
    for (name, label, value) in [
        ("opted-out-1", "stylus.io/imageswap", "disable"),
        ("opted-out-2", "landfall.dev/redirect", "disabled"),
    ] {
        edge.client.create_namespace(name, &json!({label: value}));
        wait_until_left_alone(edge, name, value);
    }
    let mut pod = unschedulable_pod("opted-out", "nginx:1.27");
    pod["metadata"]["labels"] = json!({"landfall.dev/redirect": "disabled"});
    let pod = edge.client.create("/api/v1/namespaces/default/pods?dryRun=All", &pod);
    assert_eq!(images_of(&pod)["main"], "nginx:1.27");
}

/// The pod stays as its owner made it, and containerd asks the primary registry because of its mirror files.
fn node_redirects_where_the_namespace_chose_it(edge: &EdgeCluster) {
    edge.client
        .create_namespace("by-node", &json!({"landfall.dev/redirect": "node"}));
    wait_until_left_alone(edge, "by-node", "node");
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "as-written"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "nginx:1.27", "imagePullPolicy": "Always"}],
        },
    });
    edge.client.create("/api/v1/namespaces/by-node/pods", &pod);
    let pod = running(edge, "by-node", "as-written");
    assert_eq!(images_of(&pod)["main"], "nginx:1.27");
    let status = &pod["status"]["containerStatuses"][0];
    // No other registry has it: the external registry is stopped, and the pull policy forces a pull.
    let id = status["imageID"].as_str().unwrap();
    assert!(id.contains(&edge.topology.source.digest(NGINX)), "{id}");
}

/// Waits until pods of a namespace are left alone. The agent learns of a namespace by a watch, a moment after
/// its creation; the selector of the registration applies at once.
fn wait_until_left_alone(edge: &EdgeCluster, namespace: &str, label: &str) {
    wait_for(&format!("a pod left alone in {namespace} by its label {label}"), || {
        let pod = unschedulable_pod("asked", "nginx:1.27");
        let collection = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        let pod = edge.client.create(&collection, &pod);
        (images_of(&pod)["main"] == "nginx:1.27").then_some(())
    });
}

/// Compares the same pod with and without the webhook by the API server's own list of fields.
fn nothing_but_images_and_one_annotation_changes(edge: &EdgeCluster) {
    let mut pod = unschedulable_pod("compared", "nginx:1.27");
    pod["metadata"]["labels"] = json!({"app": "compared"});
    pod["metadata"]["annotations"] = json!({"a": "b"});
    pod["spec"]["imagePullSecrets"] = json!([{"name": "theirs"}]);
    pod["spec"]["containers"][0]["resizePolicy"] = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
    pod["spec"]["resources"] = json!({"requests": {"cpu": "1m"}});
    pod["spec"]["containers"][0]["restartPolicyRules"] = Value::Null;
    let make = |namespace: &str| {
        let mut made = edge
            .client
            .create(&format!("/api/v1/namespaces/{namespace}/pods?dryRun=All"), &pod);
        for field in [
            "uid",
            "creationTimestamp",
            "namespace",
            "managedFields",
            "resourceVersion",
        ] {
            made["metadata"].as_object_mut().unwrap().remove(field);
        }
        // The volume of the token has a random name.
        let text = made.to_string();
        let random = text.split("kube-api-access-").nth(1).map(|rest| rest[..5].to_owned());
        let text = random.map_or(text.clone(), |random| text.replace(&random, "xxxxx"));
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let plain = make("opted-out-1");
    let mut redirected = make("default");
    assert_eq!(images_of(&redirected)["main"], edge.redirected(NGINX));
    redirected["spec"]["containers"][0]["image"] = json!("nginx:1.27");
    assert_eq!(
        originals(&redirected),
        [("main".to_owned(), "nginx:1.27".to_owned())].into()
    );
    let annotations = redirected["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.remove("landfall.dev/original-images");
    assert_eq!(redirected, plain);
}

/// Sends fields of a future API version to the webhook directly, since this API server drops fields that it
/// does not know.
fn fields_of_the_future_stay(edge: &EdgeCluster) {
    let mut pod = unschedulable_pod("future", "nginx:1.27");
    pod["spec"]["fromTheFuture"] = json!({"containers": [{"image": "nginx:1.27"}]});
    pod["spec"]["containers"][0]["fromTheFuture"] = json!([1, {"deep": true}]);
    let registration = edge.client.get(REGISTRATION);
    let client = &registration["webhooks"][0]["clientConfig"];
    let authority = decode(&client["caBundle"]);
    let https = HttpsClient {
        authority: Some(&authority),
        account: None,
    };
    let answer = https
        .post(client["url"].as_str().unwrap(), &review_of(&pod))
        .unwrap()
        .json();
    let patch = patch_of(&answer["response"]);
    let paths: Vec<&str> = patch
        .iter()
        .map(|operation| operation["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "/spec/containers/0/image",
            "/spec/containers/0/image",
            "/metadata/annotations",
        ]
    );
}

fn audit_log_says_why(edge: &EdgeCluster) {
    let log = edge.cluster.audit_log();
    let entry = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|entry| entry["objectRef"]["name"] == "every-kind" && entry["verb"] == "create")
        .expect("the pod's creation in the audit log");
    let why = entry["annotations"]["pods.landfall.dev/redirect"].as_str().unwrap();
    assert!(why.contains(&edge.redirected(NGINX)), "{why}");
}

/// The webhook is off: nothing changes the pod and it has no secret. The kubelet gets the login of its registry
/// from the plug-in. The pod always pulls, so that present images are requested as well.
fn with_the_webhook_off_pods_run_as_written_with_our_login(edge: &EdgeCluster) {
    edge.turn_webhook(false);
    let image = edge.redirected(NGINX);
    for (name, image) in [("unredirected", "nginx:1.27"), ("with-our-login", image.as_str())] {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": image, "imagePullPolicy": "Always"}],
            },
        });
        let dry_run = edge.client.create("/api/v1/namespaces/default/pods?dryRun=All", &pod);
        assert_eq!(images_of(&dry_run)["main"], image);
        assert_eq!(dry_run["metadata"]["annotations"], Value::Null);
        if name == "with-our-login" {
            edge.client.create("/api/v1/namespaces/default/pods", &pod);
        }
    }
    let pod = running(edge, "default", "with-our-login");
    assert_eq!(pod["spec"]["imagePullSecrets"], Value::Null);
    assert_all_ran_from_the_primary(edge, &pod, 1);
    kubelet_had_its_login_from_our_plugin(edge);
    edge.turn_webhook(true);
}

/// Waits until a pod runs and returns it.
fn running(edge: &EdgeCluster, namespace: &str, name: &str) -> Value {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    edge.client.wait(&path, "a running pod", |pod| {
        pod["status"]["containerStatuses"][0]["ready"] == true
    })
}

/// Returns every image of a pod by the name of its container. Images of volumes have the key `volume:NAME`.
fn images_of(pod: &Value) -> BTreeMap<String, String> {
    let list = |field: &str| pod["spec"][field].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let containers = ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .flat_map(list)
        .map(|container| (text(&container["name"]), text(&container["image"])));
    let volumes = list("volumes")
        .into_iter()
        .filter(|volume| volume["image"].is_object())
        .map(|volume| {
            (
                format!("volume:{}", text(&volume["name"])),
                text(&volume["image"]["reference"]),
            )
        });
    containers.chain(volumes).collect()
}

/// Checks the images that the kubelet reports as run.
fn assert_all_ran_from_the_primary(edge: &EdgeCluster, pod: &Value, containers: usize) {
    let primary = format!("{}/spectro-images/", edge.topology.site.primary_host());
    let ids: Vec<String> = statuses(pod)
        .iter()
        .map(|status| status["imageID"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), containers, "{ids:?}");
    assert!(
        ids.iter().all(|id| id.starts_with(&primary) && id.contains("@sha256:")),
        "{ids:?}"
    );
}

/// Returns the statuses of all containers.
fn statuses(pod: &Value) -> Vec<Value> {
    [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ]
    .into_iter()
    .flat_map(|field| pod["status"][field].as_array().cloned().unwrap_or_default())
    .collect()
}

/// Waits until the kubelet has observed the current pod, and checks that its containers are the earlier ones.
fn assert_no_restart(edge: &EdgeCluster, path: &str, before: &Value) {
    let ids = |pod: &Value| -> Vec<Value> {
        let statuses = statuses(pod);
        statuses
            .iter()
            .map(|status| json!([status["containerID"], status["restartCount"]]))
            .collect()
    };
    // This field may change while the containers stay. The kubelet reports when it has observed the change, and
    // with it all earlier ones.
    let now = edge
        .client
        .patch(path, &json!({"spec": {"activeDeadlineSeconds": 36_000}}));
    assert!(now["metadata"]["generation"].as_u64() > before["metadata"]["generation"].as_u64());
    let after = edge.client.wait(path, "the kubelet's look at the pod", |pod| {
        pod["status"]["observedGeneration"] == now["metadata"]["generation"]
    });
    assert_eq!(ids(&after), ids(before));
}
