//! The main scenario on real programs: docker-registry with an account and TLS from a private authority is the
//! external registry, the embedded registry is the primary one, and containerd is a private one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use landfall_core::status::{Phase, ProgressEvent};
use landfall_tests_interop::admission::{patch_of, review_of};
use landfall_tests_interop::agent::{LandfallAgent, run_landfall};
use landfall_tests_interop::canary_secrets::{
    KUBELET_LOGINS, LAST_GOOD, PRIMARY_PASSWORD, PROVIDER_PASSWORD, leaking_files, leaks,
};
use landfall_tests_interop::docker_registry::{Account, Request};
use landfall_tests_interop::https::HttpsClient;
use landfall_tests_interop::images::{APPLICATIONS, CORE, INFRASTRUCTURE, PROVIDER};
use landfall_tests_interop::site::{PRIMARY_ACCOUNT, Site};
use landfall_tests_interop::skopeo::Skopeo;
use landfall_tests_interop::topology::{ACCOUNT, Topology};
use serde_json::{Value, json};

fn run_to_running(site: &Site) -> LandfallAgent {
    let mut agent = site.start_agent(&[]);
    agent.wait_for_phase(Phase::Running);
    agent
}

#[test]
fn the_whole_path_leads_every_image_where_the_plan_says() {
    let topology = Topology::start();
    let filled = topology.source.registry.requests().len();
    let mut agent = run_to_running(&topology.site);
    let requests = topology.source.registry.requests().split_off(filled);

    provider_image_came_first(&requests);
    core_images_are_in_containerd_and_no_registry_served_them(&topology, &requests);
    every_blob_was_fetched_once(&topology, &requests);
    images_went_where_the_plan_says(&topology, &requests);
    values_on_the_command_line_make_the_same_plan(&topology);
    primary_holds_exactly_the_applications(&topology);
    nobody_reads_the_primary_without_its_password(&topology);
    webhook_leads_the_profiles_pod_to_the_primary(&topology);
    endpoints_answer(&topology);
    reports_are_json(&topology);
    no_secret_leaked(&topology, &agent);

    assert_eq!(agent.terminate(), Some(0), "{}", agent.output());
    second_run_transfers_no_blob(&topology);
}

fn provider_image_came_first(requests: &[Request]) {
    let of_provider = |request: &&Request| request.repository() == Some(&format!("landfall/{}", untagged(PROVIDER)));
    let others = |request: &&Request| request.repository().is_some() && !of_provider(request);
    let last_of_provider = requests
        .iter()
        .filter(of_provider)
        .filter_map(|request| request.finished)
        .max();
    let first_other = requests.iter().filter(others).map(|request| request.started).min();
    assert!(last_of_provider.is_some() && first_other.is_some(), "{requests:#?}");
    assert!(last_of_provider < first_other, "{requests:#?}");
}

fn core_images_are_in_containerd_and_no_registry_served_them(topology: &Topology, requests: &[Request]) {
    let loaded = topology.site.containerd_images();
    for core in CORE {
        assert!(loaded.contains_key(core), "{core} is missing in {loaded:?}");
        assert!(
            requests.iter().all(|request| !request.path.contains(untagged(core))),
            "{core} was asked for"
        );
    }
    assert_eq!(topology.site.incomplete_containerd_images(), Vec::<String>::new());
}

/// Includes a layer that several images in different repositories share.
fn every_blob_was_fetched_once(topology: &Topology, requests: &[Request]) {
    let mut fetched: Vec<&str> = requests.iter().filter_map(Request::fetched_blob).collect();
    fetched.sort_unstable();
    let mut expected: Vec<String> = topology
        .source
        .images
        .iter()
        .flat_map(|image| image.image.blobs.keys().map(ToString::to_string))
        .collect();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(fetched, expected);
}

fn values_on_the_command_line_make_the_same_plan(topology: &Topology) {
    let [user_data, profile] = ["user-data.yaml", "profile.yaml"].map(|name| topology.site.path(name));
    let inputs = [
        "plan",
        "-o",
        "json",
        "--user-data",
        user_data.as_str(),
        "--profile",
        profile.as_str(),
    ];
    let values = [
        format!("macro.provider-password={PROVIDER_PASSWORD}"),
        format!("var.registryPassword={PRIMARY_PASSWORD}"),
    ];
    let values = ["--set", &values[0], "--set", &values[1]];
    let with_set = run_landfall(&[&inputs[..], &values[..]].concat()).succeeded().stdout();
    assert_eq!(with_set, topology.site.run(&["plan", "-o", "json"]).stdout());
}

fn images_went_where_the_plan_says(topology: &Topology, requests: &[Request]) {
    let plan = topology.plan();
    let all: BTreeSet<&str> = [PROVIDER]
        .into_iter()
        .chain(INFRASTRUCTURE)
        .chain(APPLICATIONS)
        .collect();
    assert_eq!(plan.keys().map(String::as_str).collect::<BTreeSet<_>>(), all);
    let loaded = topology.site.containerd_images();
    for (name, row) in &plan {
        let pull = row["pull"][0]["reference"].as_str().unwrap();
        assert_eq!(pull, format!("{}/{name}", topology.domain()));
        let manifest = format!("/v2/landfall/{}", name.replacen(':', "/manifests/", 1));
        assert!(
            requests
                .iter()
                .any(|request| request.path == manifest && request.status == 200),
            "{manifest}"
        );
        assert!(requests.iter().all(|request| request.status != 200
            || request.repository().is_none()
            || request.user.as_deref() == Some(ACCOUNT.user)));
        let primary = row["primary"].as_str();
        let runtime = row["runtime"].as_str().unwrap();
        if APPLICATIONS.contains(&name.as_str()) {
            let expected = format!("{}/{}", topology.site.primary_host(), topology.primary_repository(name));
            assert_eq!((primary, runtime), (Some(expected.as_str()), expected.as_str()));
        } else {
            assert_eq!(primary, None, "{name} is of an infrastructure layer");
        }
        if INFRASTRUCTURE.contains(&name.as_str()) {
            assert_eq!(
                loaded.get(runtime),
                Some(&topology.source.digest(name)),
                "{runtime} in {loaded:#?}"
            );
        }
    }
}

fn primary_holds_exactly_the_applications(topology: &Topology) {
    let host = topology.site.primary_host();
    let https = HttpsClient {
        authority: None,
        account: Some(PRIMARY_ACCOUNT),
    };
    let catalog = https.get(&format!("http://{host}/v2/_catalog")).unwrap().json();
    let expected: BTreeSet<String> = APPLICATIONS
        .iter()
        .map(|name| topology.primary_repository(untagged(name)))
        .collect();
    let found: BTreeSet<String> = catalog["repositories"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, expected);

    let skopeo = Skopeo::default();
    let access = topology.site.primary_access(&host);
    for name in APPLICATIONS {
        let tag = name.rsplit_once(':').unwrap().1;
        assert_eq!(
            skopeo.tags(access, &topology.primary_repository(untagged(name))),
            [tag],
            "{name}"
        );
        assert_eq!(
            skopeo.pull(access, &topology.primary_repository(name)),
            topology.source.digest(name),
            "{name}"
        );
    }
}

fn nobody_reads_the_primary_without_its_password(topology: &Topology) {
    let url = format!("http://{}/v2/_catalog", topology.site.primary_host());
    let wrong = Account {
        password: "wrong",
        ..PRIMARY_ACCOUNT
    };
    for account in [None, Some(wrong)] {
        assert_eq!(
            HttpsClient {
                authority: None,
                account
            }
            .get(&url)
            .unwrap()
            .status,
            401
        );
    }
}

fn webhook_leads_the_profiles_pod_to_the_primary(topology: &Topology) {
    let webhook = &topology.site.status()["webhook"];
    let authority = fs_err::read_to_string(webhook["caFile"].as_str().unwrap()).unwrap();
    let review = review_of(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "store-", "namespace": "store", "labels": {"app": "store"}},
        "spec": {
            "initContainers": [{"name": "wait", "image": "busybox:1.37"}],
            "containers": [
                {"name": "web", "image": "nginx:1.27"},
                {"name": "metrics", "image": "quay.io/prometheus/node-exporter:v1.9.1"},
            ],
        },
    }));
    let https = HttpsClient {
        authority: Some(&authority),
        account: None,
    };
    let answer = https.post(webhook["url"].as_str().unwrap(), &review).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let response = &answer.json()["response"];
    assert_eq!(response["allowed"], true);
    let replaced: BTreeMap<String, String> = patch_of(response)
        .iter()
        .filter(|step| step["op"] == "replace" && step["path"].as_str().unwrap().ends_with("/image"))
        .map(|step| {
            (
                step["path"].as_str().unwrap().to_owned(),
                step["value"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected: BTreeMap<String, String> = [
        ("/spec/initContainers/0/image", "docker.io/library/busybox:1.37"),
        ("/spec/containers/0/image", "docker.io/library/nginx:1.27"),
        ("/spec/containers/1/image", "quay.io/prometheus/node-exporter:v1.9.1"),
    ]
    .map(|(path, name)| {
        (
            path.to_owned(),
            format!("{}/{}", topology.site.primary_host(), topology.primary_repository(name)),
        )
    })
    .into();
    assert_eq!(replaced, expected);
}

fn endpoints_answer(topology: &Topology) {
    let base = format!("http://127.0.0.1:{}", topology.site.ports.api);
    let https = HttpsClient::default();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(https.get(&format!("{base}{path}")).unwrap().status, 200, "{path}");
    }
    let metrics = https.get(&format!("{base}/metrics")).unwrap();
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.ends_with("# EOF\n"), "not OpenMetrics: {}", metrics.body);
}

fn reports_are_json(topology: &Topology) {
    assert_eq!(topology.site.status()["phase"], "Running");
    let state = topology.site.state_dir();
    let events = run_landfall(&["events", "--state-dir", state.as_str(), "-o", "json"])
        .succeeded()
        .stdout();
    let events: Value = serde_json::from_str(&events).unwrap();
    let phases: Vec<&str> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["reason"] == "PhaseStarted")
        .map(|event| event["subject"].as_str().unwrap())
        .collect();
    let expected = Phase::WORK.into_iter().chain([Phase::Running]).map(Phase::name);
    assert_eq!(phases, expected.collect::<Vec<_>>(), "{events:#}");
}

fn no_secret_leaked(topology: &Topology, agent: &LandfallAgent) {
    let user = ACCOUNT.user;
    let output = agent.output();
    assert_eq!(leaks(&output, user), Vec::<&str>::new());
    for arguments in [
        ["plan", "-o", "json"],
        ["plan", "-o", "table"],
        ["images", "-o", "yaml"],
        ["validate", "-o", "json"],
    ] {
        let ran = topology.site.run(&arguments).to_string();
        assert_eq!(leaks(&ran, user), Vec::<&str>::new(), "{arguments:?}");
    }
    let base = format!("http://127.0.0.1:{}", topology.site.ports.api);
    let metrics = HttpsClient::default().get(&format!("{base}/metrics")).unwrap().body;
    assert_eq!(leaks(&metrics, user), Vec::<&str>::new());
    assert_eq!(
        leaking_files(&topology.site.root(), user, &[LAST_GOOD, KUBELET_LOGINS]),
        Vec::<camino::Utf8PathBuf>::new()
    );
}

fn second_run_transfers_no_blob(topology: &Topology) {
    let before = topology.source.registry.requests().len();
    let mut again = topology.site.start_agent(&["--once"]);
    assert_eq!(again.wait(), Some(0), "{}", again.output());
    let requests = topology.source.registry.requests().split_off(before);
    let moved: Vec<&Request> = requests
        .iter()
        .filter(|request| request.fetched_blob().is_some())
        .collect();
    assert!(moved.is_empty(), "{moved:#?}");
    let written: Vec<&Request> = requests.iter().filter(|request| request.writes()).collect();
    assert!(written.is_empty(), "{written:#?}");
    let started: Vec<ProgressEvent> = again
        .progress()
        .into_iter()
        .filter(|event| matches!(event, ProgressEvent::BlobStarted { .. }))
        .collect();
    assert!(started.is_empty(), "{started:#?}");
}

fn untagged(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(name, _)| name)
}
