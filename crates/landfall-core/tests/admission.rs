//! Admission: which images change, which stay, and that nothing else ever changes.
#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;
#[path = "common/json_patch.rs"]
mod json_patch;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{mk_reference, with_external, with_image, with_primary, with_rule, without_redirection};
use json_patch::apply_patch;
use landfall_core::admission::{
    AdmissionError, AdmissionRules, PodRepair, RepairedImage, Reviewed, plan_repair, review,
};
use landfall_core::opt_out::OptOut;
use landfall_core::report::explain_report;
use landfall_core::resolve::Resolver;
use landfall_core::settings::{ImageRole, Settings};
use proptest::prelude::*;
use serde_json::{Value, json};

const PRIMARY: &str = "10.10.100.45:30003";

fn mk_create(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "3f7c",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "web",
            "operation": "CREATE",
            "object": pod,
            "oldObject": null,
        }
    })
}

fn mk_update(old: &Value, new: &Value) -> Value {
    let mut request = mk_create(new);
    request["request"]["operation"] = json!("UPDATE");
    request["request"]["oldObject"] = old.clone();
    request
}

fn mk_pod(image: &str) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// Makes rules with an empty primary registry and without namespace choices in the cluster.
fn mk_rules<'a>(resolver: &'a Resolver<'a>) -> AdmissionRules<'a> {
    AdmissionRules {
        resolver,
        primary_holds: &|_| false,
        namespace_choice: &|_| None,
        observe_only: false,
    }
}

/// Reviews a request and returns the result, the response, and the decoded patch.
fn answer_where(settings: &Settings, holds: bool, request: &Value) -> (Reviewed, Value, Value) {
    let resolver = Resolver::new(settings);
    let rules = AdmissionRules {
        primary_holds: &|_| holds,
        ..mk_rules(&resolver)
    };
    let reviewed = review(request.to_string().as_bytes(), &rules).unwrap();
    let answer: Value = serde_json::from_slice(&reviewed.response).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    let response = answer["response"].clone();
    assert_eq!(response["uid"], request["request"]["uid"]);
    assert_eq!(response["allowed"], true);
    let patch = match response.get("patch") {
        None => json!([]),
        Some(patch) => {
            assert_eq!(response["patchType"], "JSONPatch");
            serde_json::from_slice(&STANDARD.decode(patch.as_str().unwrap()).unwrap()).unwrap()
        }
    };
    (reviewed, response, patch)
}

fn answer(settings: &Settings, request: &Value) -> (Reviewed, Value, Value) {
    answer_where(settings, false, request)
}

fn external() -> Settings {
    with_external(Settings::default(), "reg:5000")
}

fn lines(patch: &Value) -> String {
    patch
        .as_array()
        .unwrap()
        .iter()
        .map(|operation| format!("{operation}\n"))
        .collect()
}

#[test]
fn every_place_of_a_pod_is_redirected_and_the_originals_are_kept() {
    let pod = json!({
        "metadata": {"name": "p", "annotations": {"of": "the user's"}},
        "spec": {
            "initContainers": [{"name": "init", "image": "busybox", "restartPolicy": "Always"}],
            "containers": [
                {"name": "web", "image": "nginx:1.27"},
                {"name": "side", "image": "other:8443/a/b:1", "futureField": {"kept": [1, null]}},
            ],
            "ephemeralContainers": [{"name": "debug", "image": "quay.io/debug:latest"}],
            "volumes": [
                {"name": "plain", "emptyDir": {}},
                {"name": "data", "image": {"reference": "quay.io/data:2", "pullPolicy": "IfNotPresent"}},
            ],
        }
    });
    let (reviewed, response, patch) = answer(&external(), &mk_create(&pod));
    assert_eq!(reviewed.rewritten, 5);
    insta::assert_snapshot!(lines(&patch), @r#"
    {"op":"test","path":"/spec/volumes/1/image/reference","value":"quay.io/data:2"}
    {"op":"replace","path":"/spec/volumes/1/image/reference","value":"reg:5000/quay.io/data:2"}
    {"op":"test","path":"/spec/initContainers/0/image","value":"busybox"}
    {"op":"replace","path":"/spec/initContainers/0/image","value":"reg:5000/docker.io/library/busybox"}
    {"op":"test","path":"/spec/containers/0/image","value":"nginx:1.27"}
    {"op":"replace","path":"/spec/containers/0/image","value":"reg:5000/docker.io/library/nginx:1.27"}
    {"op":"test","path":"/spec/containers/1/image","value":"other:8443/a/b:1"}
    {"op":"replace","path":"/spec/containers/1/image","value":"reg:5000/other_8443/a/b:1"}
    {"op":"test","path":"/spec/ephemeralContainers/0/image","value":"quay.io/debug:latest"}
    {"op":"replace","path":"/spec/ephemeralContainers/0/image","value":"reg:5000/quay.io/debug:latest"}
    {"op":"add","path":"/metadata/annotations/landfall.dev~1original-images","value":"{\"debug\":{\"image\":\"quay.io/debug:latest\",\"reason\":\"external registry `reg:5000` serves every image (user-data.yaml:5)\"},\"init\":{\"image\":\"busybox\",\"reason\":\"external registry `reg:5000` serves every image (user-data.yaml:5)\"},\"side\":{\"image\":\"other:8443/a/b:1\",\"reason\":\"external registry `reg:5000` serves every image (user-data.yaml:5)\"},\"volume:data\":{\"image\":\"quay.io/data:2\",\"reason\":\"external registry `reg:5000` serves every image (user-data.yaml:5)\"},\"web\":{\"image\":\"nginx:1.27\",\"reason\":\"external registry `reg:5000` serves every image (user-data.yaml:5)\"}}"}
    "#);
    let reasons = response["auditAnnotations"]["redirect"].as_str().unwrap();
    let reasons: Value = serde_json::from_str(reasons).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&reasons).unwrap(), @r#"
    {
      "debug": "quay.io/debug:latest -> reg:5000/quay.io/debug:latest: external registry `reg:5000` serves every image (user-data.yaml:5)",
      "init": "busybox -> reg:5000/docker.io/library/busybox: external registry `reg:5000` serves every image (user-data.yaml:5)",
      "side": "other:8443/a/b:1 -> reg:5000/other_8443/a/b:1: external registry `reg:5000` serves every image (user-data.yaml:5)",
      "volume:data": "quay.io/data:2 -> reg:5000/quay.io/data:2: external registry `reg:5000` serves every image (user-data.yaml:5)",
      "web": "nginx:1.27 -> reg:5000/docker.io/library/nginx:1.27: external registry `reg:5000` serves every image (user-data.yaml:5)"
    }
    "#);
}

#[test]
fn tag_and_digest_stay_exactly_as_they_were_written() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for (image, expected) in [
        ("nginx".to_owned(), "reg:5000/docker.io/library/nginx".to_owned()),
        ("nginx:1".to_owned(), "reg:5000/docker.io/library/nginx:1".to_owned()),
        (
            format!("nginx@{digest}"),
            format!("reg:5000/docker.io/library/nginx@{digest}"),
        ),
        (format!("gcr.io/a:1@{digest}"), format!("reg:5000/gcr.io/a:1@{digest}")),
    ] {
        let (_, _, patch) = answer(&external(), &mk_create(&mk_pod(&image)));
        assert_eq!(patch[1]["value"], expected, "{image}");
    }
}

#[test]
fn what_is_not_ours_to_change_is_left_alone() {
    let id = "a".repeat(64);
    let container = |image: &str| mk_pod(image);
    let mut never = mk_pod("nginx");
    never["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    let mut mirror = mk_pod("nginx");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "abc"});
    let mut opted_out = mk_pod("nginx");
    opted_out["metadata"]["labels"] = json!({"landfall.dev/redirect": "disabled"});
    let volume = json!({"metadata": {}, "spec": {"containers": [], "volumes": [
        {"name": "v", "image": {"reference": "nginx", "pullPolicy": "Never"}}]}});
    for (case, pod) in [
        ("an image ID", container(&id)),
        ("an image ID with its algorithm", container(&format!("sha256:{id}"))),
        ("an image built on the node", container("localhost/mine:1")),
        ("Istio's placeholder", container("auto")),
        ("already there", container("reg:5000/docker.io/library/nginx:1")),
        (
            "no image",
            json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}}),
        ),
        ("an empty image", container("")),
        ("never pulled", never),
        ("a mirror pod", mirror),
        ("a pod that opts out", opted_out),
        ("an image volume that is never pulled", volume),
    ] {
        let (reviewed, response, patch) = answer(&external(), &mk_create(&pod));
        assert_eq!(patch, json!([]), "{case}");
        assert_eq!(response.get("warnings"), None, "{case}");
        assert_eq!(reviewed.rewritten, 0, "{case}");
    }
}

#[test]
fn names_that_only_look_like_the_target_are_redirected() {
    for (image, expected) in [
        ("reg:50001/x", "reg:5000/reg_50001/x"),
        ("localhost:5000/x", "reg:5000/localhost_5000/x"),
        ("auto:1", "reg:5000/docker.io/library/auto:1"),
        ("sha256/x", "reg:5000/docker.io/sha256/x"),
    ] {
        let (_, _, patch) = answer(&external(), &mk_create(&mk_pod(image)));
        assert_eq!(patch[1]["value"], expected, "{image}");
    }
}

#[test]
fn a_reference_that_cannot_be_parsed_is_left_with_a_warning_and_the_others_are_redirected() {
    let pod = json!({"metadata": {}, "spec": {"containers": [
        {"name": "bad", "image": "http://urls.are/not"}, {"name": "good", "image": "nginx"}]}});
    let (reviewed, response, patch) = answer(&external(), &mk_create(&pod));
    assert_eq!(reviewed.rewritten, 1);
    assert_eq!(patch[0]["path"], "/spec/containers/1/image");
    let expected = "landfall: the image of `bad` is left as it is: `http:` is not a registry host: write `name[:port]`, \
                    an IPv4 address or `[IPv6]`";
    assert_eq!(response["warnings"], json!([expected]));
}

#[test]
fn a_warning_is_short_and_printable_whatever_the_image_is() {
    let (_, response, _) = answer(&external(), &mk_create(&mk_pod(&"A\n\u{7}".repeat(1000))));
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.chars().count() <= 256);
    assert!(!warning.chars().any(char::is_control));
}

#[test]
fn only_a_warning_that_is_longer_than_250_characters_is_cut() {
    let warning = |container: &str| {
        let pod =
            json!({"metadata": {}, "spec": {"containers": [{"name": container, "image": "http://urls.are/not"}]}});
        let (_, response, _) = answer(&external(), &mk_create(&pod));
        response["warnings"][0].as_str().unwrap().to_owned()
    };
    let rest = warning("").chars().count();
    let whole = warning(&"x".repeat(250 - rest));
    assert_eq!(whole.chars().count(), 250);
    assert!(whole.ends_with("an IPv4 address or `[IPv6]`"), "{whole}");
    let cut = warning(&"x".repeat(251 - rest));
    assert_eq!(cut.chars().count(), 251);
    assert!(cut.ends_with("an IPv4 address or `[IPv6]…"), "{cut}");
}

#[test]
fn an_update_touches_only_what_it_changes() {
    let old = json!({"metadata": {}, "spec": {
        "containers": [{"name": "a", "image": "nginx:1"}, {"name": "b", "image": "nginx:1"}],
        "initContainers": [{"name": "i", "image": "busybox"}]}});
    let mut relabelled = old.clone();
    relabelled["metadata"]["labels"] = json!({"new": "label"});
    assert_eq!(answer(&external(), &mk_update(&old, &relabelled)).2, json!([]));

    let mut changed = relabelled;
    changed["spec"]["containers"][1]["image"] = json!("nginx:2");
    let (_, _, patch) = answer(&external(), &mk_update(&old, &changed));
    insta::assert_snapshot!(lines(&patch), @r#"
    {"op":"test","path":"/spec/containers/1/image","value":"nginx:2"}
    {"op":"replace","path":"/spec/containers/1/image","value":"reg:5000/docker.io/library/nginx:2"}
    {"op":"add","path":"/metadata/annotations","value":{"landfall.dev/original-images":"{\"b\":{\"image\":\"nginx:2\",\"reason\":\"external registry `reg:5000` serves every image (user-data.yaml:5)\"}}"}}
    "#);
}

#[test]
fn the_originals_of_earlier_requests_stay_in_the_annotation() {
    let note = |image: &str| json!({"image": image, "reason": "external registry `reg:5000` serves every image (user-data.yaml:5)"});
    let notes = json!({"a": note("nginx:1"), "b": note("nginx:1")}).to_string();
    let annotations = json!({"landfall.dev/original-images": notes});
    let old = json!({"metadata": {"annotations": annotations}, "spec": {"containers": [
        {"name": "a", "image": "reg:5000/docker.io/library/nginx:1"},
        {"name": "b", "image": "reg:5000/docker.io/library/nginx:1"}]}});
    let mut new = old.clone();
    new["spec"]["containers"][1]["image"] = json!("nginx:2");
    let (_, _, patch) = answer(&external(), &mk_update(&old, &new));
    let merged: Value = serde_json::from_str(patch[2]["value"].as_str().unwrap()).unwrap();
    assert_eq!(merged, json!({"a": note("nginx:1"), "b": note("nginx:2")}));
}

#[test]
fn an_ephemeral_container_is_redirected_when_it_is_added() {
    let old = mk_pod("reg:5000/docker.io/library/nginx:1");
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "busybox"}]);
    let mut request = mk_update(&old, &new);
    request["request"]["subResource"] = json!("ephemeralcontainers");
    let (_, _, patch) = answer(&external(), &request);
    assert_eq!(patch[1]["path"], "/spec/ephemeralContainers/0/image");
    assert_eq!(patch[1]["value"], "reg:5000/docker.io/library/busybox");
}

#[test]
fn everything_but_a_pod_that_is_made_or_changed_is_allowed_as_it_is() {
    let with = |path: &str, value: Value| {
        let mut request = mk_create(&mk_pod("nginx"));
        request["request"][path] = value;
        request
    };
    for (case, request) in [
        (
            "another kind",
            with("kind", json!({"group": "apps", "version": "v1", "kind": "Deployment"})),
        ),
        (
            "a Pod of another group",
            with("kind", json!({"group": "x.io", "version": "v1", "kind": "Pod"})),
        ),
        ("another kind with fields of other types", {
            let mut request = with("kind", json!({"group": "", "version": "v1", "kind": "Node"}));
            request["request"]["object"] = json!({"metadata": {"labels": ["a"]}, "spec": 5});
            request
        }),
        ("a status", with("subResource", json!("status"))),
        ("a deletion", with("operation", json!("DELETE"))),
        ("no object", with("object", Value::Null)),
        (
            "an update that does not say what was there",
            with("operation", json!("UPDATE")),
        ),
    ] {
        let (_, response, patch) = answer(&external(), &request);
        assert_eq!(patch, json!([]), "{case}");
        assert_eq!(response, json!({"uid": "3f7c", "allowed": true}), "{case}");
    }
}

#[test]
fn a_pod_that_cannot_be_read_is_allowed_with_a_warning() {
    for spec in [
        json!({"containers": "none"}),
        json!([1]),
        json!({"containers": [{"name": "c", "image": 7}]}),
    ] {
        let request = mk_create(&json!({"metadata": {}, "spec": spec}));
        let (_, response, patch) = answer(&external(), &request);
        assert_eq!(patch, json!([]));
        assert_eq!(response["warnings"].as_array().map(Vec::len), Some(1), "{spec}");
    }
}

#[test]
fn what_is_no_review_is_an_error() {
    let settings = external();
    let resolver = Resolver::new(&settings);
    let rules = mk_rules(&resolver);
    let version = r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"1"}}"#;
    let no_request = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#;
    assert!(matches!(review(b"{", &rules), Err(AdmissionError::Body(_))));
    assert!(matches!(
        review(version.as_bytes(), &rules),
        Err(AdmissionError::Version { .. })
    ));
    assert!(matches!(
        review(no_request.as_bytes(), &rules),
        Err(AdmissionError::NoRequest)
    ));
}

#[test]
fn a_namespace_that_is_opted_out_is_left_alone() {
    let mut settings = external();
    settings.namespace_opt_outs.insert("web".to_owned(), OptOut::Disabled);
    let (reviewed, _, patch) = answer(&settings, &mk_create(&mk_pod("nginx")));
    assert_eq!(patch, json!([]));
    assert_eq!(reviewed.reasons["pod"], "left as it is: namespace `web` is opted out");
}

#[test]
fn a_namespace_and_a_pod_that_chose_the_nodes_mirror_files_are_left_alone() {
    let settings = external();
    let resolver = Resolver::new(&settings);
    let rules = AdmissionRules {
        namespace_choice: &|name| (name == "web").then_some(OptOut::Node),
        ..mk_rules(&resolver)
    };
    let reviewed = review(mk_create(&mk_pod("nginx")).to_string().as_bytes(), &rules).unwrap();
    assert_eq!(reviewed.rewritten, 0);
    let why = OptOut::Node.explain_namespace("web");
    assert_eq!(reviewed.reasons["pod"], format!("left as it is: {why}"));

    let mut pod = mk_pod("nginx");
    pod["metadata"]["labels"] = json!({"landfall.dev/redirect": "node"});
    let (reviewed, _, patch) = answer(&settings, &mk_create(&pod));
    assert_eq!(patch, json!([]));
    assert_eq!(
        reviewed.reasons["pod"],
        "left as it is: its label chose redirection by the node's mirror files"
    );
}

#[test]
fn observing_changes_no_image_and_says_what_it_would_have_changed() {
    let settings = external();
    let resolver = Resolver::new(&settings);
    let rules = AdmissionRules {
        observe_only: true,
        ..mk_rules(&resolver)
    };
    let request = mk_create(&mk_pod("nginx")).to_string();
    let reviewed = review(request.as_bytes(), &rules).unwrap();
    assert_eq!(reviewed.rewritten, 1);
    let answer: Value = serde_json::from_slice(&reviewed.response).unwrap();
    let patch = STANDARD.decode(answer["response"]["patch"].as_str().unwrap()).unwrap();
    insta::assert_snapshot!(lines(&serde_json::from_slice(&patch).unwrap()), @r#"{"op":"add","path":"/metadata/annotations","value":{"landfall.dev/observed-images":"{\"c\":{\"image\":\"reg:5000/docker.io/library/nginx\",\"reason\":\"external registry `reg:5000` serves every image (user-data.yaml:5)\"}}"}}"#);
    insta::assert_snapshot!(answer["response"]["warnings"][0].as_str().unwrap(), @"landfall: observed only: c: nginx -> reg:5000/docker.io/library/nginx: external registry `reg:5000` serves every image (user-data.yaml:5)");
    insta::assert_snapshot!(reviewed.reasons["c"], @"observed only: nginx -> reg:5000/docker.io/library/nginx: external registry `reg:5000` serves every image (user-data.yaml:5)");
}

#[test]
fn annotation_audit_and_explanation_give_the_same_reason() {
    let settings = external();
    let resolver = Resolver::new(&settings);
    let (reviewed, _, patch) = answer(&settings, &mk_create(&mk_pod("nginx")));
    let explained = explain_report(&resolver, &mk_reference("nginx"), None);
    let explained = &explained.candidates.as_ref().unwrap()[0].why;
    let annotation = &patch[2]["value"]["landfall.dev/original-images"];
    let annotation = if annotation.is_null() {
        &patch[2]["value"]["annotations"]["landfall.dev/original-images"]
    } else {
        annotation
    };
    let annotation: Value = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
    assert_eq!(annotation["c"]["reason"], *explained);
    assert!(reviewed.reasons["c"].ends_with(explained), "{}", reviewed.reasons["c"]);
}

/// Makes a pod that was created without redirection, with statuses `(container, imageID, reason of waiting)`.
fn mk_live_pod(spec: Value, statuses: &[(&str, &str, &str)]) -> Value {
    let statuses: Vec<Value> = statuses
        .iter()
        .map(|(name, image_id, reason)| {
            let state = if reason.is_empty() {
                json!({"running": {}})
            } else {
                json!({"waiting": {"reason": reason}})
            };
            json!({"name": name, "imageID": image_id, "state": state})
        })
        .collect();
    json!({"metadata": {"name": "p", "namespace": "web", "uid": "u1"}, "spec": spec,
        "status": {"containerStatuses": statuses}})
}

fn repair_of(pod: &Value) -> Option<PodRepair> {
    let settings = external();
    let resolver = Resolver::new(&settings);
    plan_repair(&pod.to_string(), &mk_rules(&resolver)).unwrap()
}

#[test]
fn a_pod_that_cannot_pull_is_mended_where_it_waits_and_nowhere_else() {
    let spec = json!({"containers": [
        {"name": "runs", "image": "nginx:1"}, {"name": "waits", "image": "nginx:2"},
        {"name": "new", "image": "nginx:3"}, {"name": "crashes", "image": "nginx:4"},
        {"name": "lost", "image": "nginx:5"}, {"name": "there", "image": "reg:5000/docker.io/library/nginx:6"}]});
    let pod = mk_live_pod(
        spec,
        &[
            ("runs", "sha256:a", ""),
            ("waits", "", "ContainerCreating"),
            ("crashes", "sha256:a", "CrashLoopBackOff"),
            ("lost", "sha256:a", "ImagePullBackOff"),
            ("there", "", "ErrImagePull"),
        ],
    );
    let repair = repair_of(&pod).unwrap();
    assert_eq!(
        (repair.namespace.as_str(), repair.name.as_str(), repair.uid.as_str()),
        ("web", "p", "u1")
    );
    assert_eq!(repair.stuck, Vec::<String>::new());
    let containers: Vec<_> = repair
        .images
        .iter()
        .map(|RepairedImage { container, .. }| container.as_str())
        .collect();
    assert_eq!(containers, ["waits", "new", "lost"]);
    let patch: Value = serde_json::from_slice(&repair.patch.unwrap()).unwrap();
    assert_eq!(patch[0], json!({"op": "test", "path": "/metadata/uid", "value": "u1"}));
    let mut repaired = pod;
    apply_patch(&mut repaired, &patch).unwrap();
    let images: Vec<_> = (0..6)
        .map(|index| repaired["spec"]["containers"][index]["image"].as_str().unwrap())
        .collect();
    assert_eq!(
        images,
        [
            "nginx:1",
            "reg:5000/docker.io/library/nginx:2",
            "reg:5000/docker.io/library/nginx:3",
            "nginx:4",
            "reg:5000/docker.io/library/nginx:5",
            "reg:5000/docker.io/library/nginx:6"
        ]
    );
    assert_eq!(repair_of(&repaired), None, "once is enough");
}

#[test]
fn what_cannot_be_changed_on_a_live_pod_is_told() {
    let spec = json!({
        "containers": [{"name": "c", "image": "reg:5000/docker.io/library/nginx"}],
        "ephemeralContainers": [{"name": "debug", "image": "busybox"}],
        "volumes": [{"name": "data", "image": {"reference": "quay.io/data:1"}}]});
    let repair = repair_of(&mk_live_pod(spec.clone(), &[])).unwrap();
    assert_eq!(repair.stuck, ["volume:data", "debug"]);
    assert_eq!(repair.patch, None);
    let mut running = mk_live_pod(spec, &[("c", "sha256:a", "")]);
    running["status"]["ephemeralContainerStatuses"] = json!([{"name": "debug", "imageID": "sha256:b", "state": {}}]);
    assert_eq!(repair_of(&running), None);
}

#[test]
fn pods_that_end_or_opted_out_are_not_repaired() {
    let pod = mk_live_pod(
        json!({"containers": [{"name": "c", "image": "nginx"}]}),
        &[("c", "", "ErrImagePull")],
    );
    assert!(repair_of(&pod).is_some());
    for (pointer, value) in [
        ("deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ("labels", json!({"landfall.dev/redirect": "disabled"})),
        ("annotations", json!({"kubernetes.io/config.mirror": "x"})),
    ] {
        let mut pod = pod.clone();
        pod["metadata"][pointer] = value;
        assert_eq!(repair_of(&pod), None, "{pointer}");
    }
    let settings = external();
    let resolver = Resolver::new(&settings);
    let rules = AdmissionRules {
        namespace_choice: &|_| Some(OptOut::Disabled),
        ..mk_rules(&resolver)
    };
    assert_eq!(plan_repair(&pod.to_string(), &rules).unwrap(), None);
    let observing = AdmissionRules {
        observe_only: true,
        ..mk_rules(&resolver)
    };
    let repair = plan_repair(&pod.to_string(), &observing).unwrap().unwrap();
    assert_eq!((repair.patch, repair.images.len()), (None, 1));
}

#[test]
fn a_pod_that_another_agent_redirected_is_left_alone_and_one_that_was_changed_since_is_not() {
    let originals = json!({"c": {"image": "nginx:1.27", "reason": "primary registry"}}).to_string();
    let repair = |image: &str| {
        let mut pod = mk_live_pod(json!({"containers": [{"name": "c", "image": image}]}), &[]);
        pod["metadata"]["annotations"] = json!({"landfall.dev/original-images": originals});
        repair_of(&pod)
    };
    assert_eq!(repair("other:30003/spectro-images/docker.io/library/nginx:1.27"), None);
    for written in ["nginx:1.27", "busybox:1.37"] {
        assert!(repair(written).is_some(), "{written}");
    }
}

#[test]
fn with_redirection_off_nothing_is_changed() {
    let settings = without_redirection(external());
    assert_eq!(answer(&settings, &mk_create(&mk_pod("nginx"))).2, json!([]));
}

#[test]
fn the_primary_registry_is_used_for_applications_that_it_holds() {
    let settings = with_primary(external(), PRIMARY, true);
    let settings = with_image(settings, ImageRole::Infrastructure, "calico/node:v3");
    let in_primary = format!("{PRIMARY}/spectro-images/reg_5000/docker.io/library/nginx");
    for (image, holds, expected) in [
        ("nginx", true, in_primary.as_str()),
        ("nginx", false, "reg:5000/docker.io/library/nginx"),
        ("calico/node:v3", true, "reg:5000/docker.io/calico/node:v3"),
    ] {
        let (_, _, patch) = answer_where(&settings, holds, &mk_create(&mk_pod(image)));
        assert_eq!(patch[1]["value"], expected, "{image}");
    }
}

#[test]
fn the_inventory_is_asked_for_the_canonical_name_in_the_primary_registry() {
    let settings = with_primary(Settings::default(), PRIMARY, true);
    let resolver = Resolver::new(&settings);
    let expected = mk_reference(&format!("{PRIMARY}/spectro-images/docker.io/library/nginx:latest"));
    let rules = AdmissionRules {
        primary_holds: &|asked| *asked == expected,
        ..mk_rules(&resolver)
    };
    let reviewed = review(mk_create(&mk_pod("nginx")).to_string().as_bytes(), &rules).unwrap();
    assert_eq!(reviewed.rewritten, 1);
}

/// Generates JSON of any form, for unknown fields.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-z/~.]{1,6}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn image() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "([ab]\\.io(:5000)?/|reg:5000/)?[ab](/[ab]){0,2}(:[12])?",
        1 => Just("auto".to_owned()),
        1 => Just("localhost/x".to_owned()),
        1 => "\\PC{0,12}",
    ]
}

fn container() -> impl Strategy<Value = Value> {
    (
        image(),
        anything(),
        prop_oneof![3 => Just("IfNotPresent"), 1 => Just("Never")],
    )
        .prop_map(
            |(image, unknown, policy)| json!({"image": image, "imagePullPolicy": policy, "someFutureField": unknown}),
        )
}

/// Gives each item a unique name: the API server refuses two containers of one name.
fn named(prefix: &str, items: Vec<Value>) -> Value {
    let name = |(index, mut item): (usize, Value)| {
        item["name"] = json!(format!("{prefix}{index}"));
        item
    };
    items.into_iter().enumerate().map(name).collect()
}

fn pod() -> impl Strategy<Value = Value> {
    let containers = || proptest::collection::vec(container(), 0..3);
    let volumes = proptest::collection::vec((image(), anything()), 0..3);
    let annotations = proptest::option::of(proptest::collection::btree_map("[a-z./~]{1,8}", "\\PC{0,8}", 0..3));
    (
        containers(),
        containers(),
        containers(),
        volumes,
        annotations,
        anything(),
        anything(),
    )
        .prop_map(|(init, main, ephemeral, volumes, annotations, unknown, unknown_too)| {
            let volumes = volumes
                .into_iter()
                .map(|(image, unknown)| json!({"image": {"reference": image, "unknown": unknown}}))
                .collect();
            let mut pod = json!({
                "metadata": {"name": "p", "futureMeta": unknown},
                "spec": {
                    "initContainers": named("i", init),
                    "containers": named("c", main),
                    "ephemeralContainers": named("e", ephemeral),
                    "volumes": named("c", volumes),
                    "futureSpec": unknown_too,
                }
            });
            if let Some(annotations) = annotations {
                pod["metadata"]["annotations"] = json!(annotations);
            }
            pod
        })
}

/// Removes the images and our annotation from a pod; the rest must never change.
fn without_images(pod: &Value) -> Value {
    let mut rest = pod.clone();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in rest["spec"][list].as_array_mut().unwrap() {
            container["image"] = Value::Null;
        }
    }
    for volume in rest["spec"]["volumes"].as_array_mut().unwrap() {
        volume["image"]["reference"] = Value::Null;
    }
    let metadata = rest["metadata"].as_object_mut().unwrap();
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("landfall.dev/original-images");
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    rest
}

fn any_settings() -> impl Strategy<Value = Settings> {
    (any::<bool>(), any::<bool>(), any::<Option<bool>>()).prop_map(|(external, rule, primary)| {
        let mut settings = Settings::default();
        if external {
            settings = with_external(settings, "reg:5000");
        }
        if rule {
            settings = with_rule(settings, "a.io", "reg:5000/rule");
        }
        if let Some(sync) = primary {
            settings = with_primary(settings, PRIMARY, sync);
        }
        settings
    })
}

proptest! {
    #[test]
    fn a_patch_fits_and_changes_images_and_one_annotation_and_nothing_else(
        settings in any_settings(), pod in pod(), holds in any::<bool>()
    ) {
        let (reviewed, _, patch) = answer_where(&settings, holds, &mk_create(&pod));
        let mut patched = pod.clone();
        prop_assert_eq!(apply_patch(&mut patched, &patch), Ok(()));
        prop_assert_eq!(without_images(&patched), without_images(&pod));
        let expected = if reviewed.rewritten == 0 { 0 } else { 2 * reviewed.rewritten + 1 };
        prop_assert_eq!(patch.as_array().unwrap().len(), expected);
    }

    #[test]
    fn a_second_pass_changes_nothing(settings in any_settings(), pod in pod(), holds in any::<bool>()) {
        let (_, _, patch) = answer_where(&settings, holds, &mk_create(&pod));
        let mut patched = pod.clone();
        apply_patch(&mut patched, &patch).unwrap();
        prop_assert_eq!(answer_where(&settings, holds, &mk_create(&patched)).2, json!([]));
        prop_assert_eq!(answer_where(&settings, holds, &mk_update(&pod, &patched)).2, json!([]));
    }

    #[test]
    fn no_body_makes_the_review_panic(body in proptest::collection::vec(any::<u8>(), 0..64), object in anything()) {
        let settings = external();
        let resolver = Resolver::new(&settings);
        let rules = mk_rules(&resolver);
        let _ = review(&body, &rules);
        // A pod of any form is answered and allowed.
        prop_assert!(review(mk_create(&object).to_string().as_bytes(), &rules).is_ok());
    }
}
