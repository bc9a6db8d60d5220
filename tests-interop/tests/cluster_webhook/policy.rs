//! The rules as a MutatingAdmissionPolicy, evaluated by the real API server. The result equals that of the
//! webhook, except for the limits that the policy itself documents.

use std::process::Command;

use camino::Utf8PathBuf;
use landfall_core::admission::{AdmissionRules, review};
use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::NamedText;
use landfall_core::resolve::Resolver;
use landfall_core::settings::Settings;
use landfall_tests_interop::admission::{patch_of, review_of};
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::cluster::client::wait_for;
use landfall_tests_interop::cluster::edge_cluster::{EdgeCluster, unschedulable_pod};
use landfall_tests_interop::go_tool::tool;
use landfall_tests_interop::program::run;
use serde_json::{Value, json};

use crate::image_of;

const CORPUS: &str = include_str!("../../../crates/landfall-core/tests/data/image-refs.txt");
const CASES: &str = include_str!("../../../crates/landfall-core/tests/data/redirect-cases.tsv");
/// Containers of one pod: more than real pods have, to show that the API server's cost limit is far away.
const CONTAINERS: usize = 80;
const PODS: &str = "/api/v1/namespaces/default/pods";
const DRY_RUN: &str = "/api/v1/namespaces/default/pods?dryRun=All";

/// Configurations in order. The last one stays active while other kinds of pods and requests are checked.
const CONFIGURATIONS: [(&str, &str); 4] = [
    (
        "rules",
        "  externalRegistries:\n    registries: [{domain: ex.com}]\n    registryMappingRules:\n      \
         docker.io: ex.com/hub\n      docker.io/library: other.com:8443/lib\n      gcr.io: gone.io\n      quay.io/argoproj/argocd: \
         ex.com/cd\n      ex.com/moved: ex.com/here\n",
    ),
    (
        "all",
        "  externalRegistries:\n    registries: [{domain: ex.com}, {domain: two.io/a}]\n    registryMappingRules: \
         {all: ex.com/i, quay.io: two.io/a}\n",
    ),
    (
        "several",
        "  externalRegistries:\n    registries: [{domain: ex.com}, {domain: two.io/a}]\n",
    ),
    ("prepend", "  registryCredentials: {domain: 'reg:5000/mirror'}\n"),
];

struct Policy<'a> {
    edge: &'a EdgeCluster,
    file: Utf8PathBuf,
    settings: Settings,
}

/// Checks the policy before any agent registers a webhook.
pub(crate) fn api_server_redirects_by_a_policy_as_the_webhook_would(edge: &EdgeCluster) {
    let pod = unschedulable_pod("early", "nginx:1.27");
    edge.client.create(PODS, &pod);
    let mut last = None;
    for (name, stylus) in CONFIGURATIONS {
        let policy = Policy::apply(edge, name, stylus);
        policy.assert_every_reference_as_by_the_webhook(name);
        last = Some(policy);
    }
    let policy = last.unwrap();
    policy.assert_every_place_as_by_the_webhook();
    policy.assert_opted_out_are_left_alone();
    policy.assert_update_touches_only_what_it_changes();
    policy.delete();
    edge.client.delete(&format!("{PODS}/early"));
}

impl<'a> Policy<'a> {
    /// Renders the policy with `landfall`, applies it with `kubectl`, and waits until the API server follows
    /// it.
    fn apply(edge: &'a EdgeCluster, name: &str, stylus: &str) -> Policy<'a> {
        let text = format!("#cloud-config\nstylus:\n{stylus}");
        let user_data = edge.topology.site.path(&format!("{name}.yaml"));
        fs_err::write(&user_data, &text).unwrap();
        let rendered = run_landfall(&[
            "redirect",
            "render",
            "--for",
            "mutating-admission-policy",
            "--user-data",
            user_data.as_str(),
        ]);
        let file = edge.topology.site.path("policy.yaml");
        fs_err::write(&file, rendered.stdout()).unwrap();
        let inputs = Inputs {
            user_data: vec![NamedText::new(user_data.as_str(), &text)],
            ..Inputs::default()
        };
        let policy = Policy {
            edge,
            file,
            settings: parse_settings(&inputs).0.unwrap(),
        };
        drop(run(policy.kubectl("apply")).succeeded());
        // Each configuration gives another result for this image, so that even one without any rule can be
        // waited for.
        let pod = unschedulable_pod("asked", "quay.io/argoproj/argocd:v3");
        let expected = policy.by_webhook(&pod);
        wait_for("the API server going by the policy", || {
            (image_of(&edge.client.create(DRY_RUN, &pod)) == image_of(&expected)).then_some(())
        });
        policy
    }

    fn kubectl(&self, verb: &str) -> Command {
        let mut command = Command::new(tool("kubectl"));
        command
            .arg("--kubeconfig")
            .arg(self.edge.cluster.kubeconfig())
            .args([verb, "--filename"])
            .arg(&self.file);
        command
    }

    fn delete(&self) {
        drop(run(self.kubectl("delete")).succeeded());
        wait_for("the policy gone", || {
            let pod = unschedulable_pod("asked", "nginx:1.27");
            (image_of(&self.edge.client.create(DRY_RUN, &pod)) == "nginx:1.27").then_some(())
        });
    }

    /// Returns the webhook's result for a pod that is created while the primary registry is empty.
    fn by_webhook(&self, pod: &Value) -> Value {
        let resolver = Resolver::new(&self.settings);
        let rules = AdmissionRules {
            resolver: &resolver,
            namespace_choice: &|_| None,
            observe_only: false,
            primary_holds: &|_| false,
        };
        let answer = review(review_of(pod).to_string().as_bytes(), &rules).unwrap();
        let answer: Value = serde_json::from_slice(&answer.response).unwrap();
        let mut pod = pod.clone();
        if answer["response"]["patch"].is_string() {
            for operation in patch_of(&answer["response"])
                .iter()
                .filter(|operation| operation["op"] == "replace")
            {
                let place = pod.pointer_mut(operation["path"].as_str().unwrap());
                *place.unwrap() = operation["value"].clone();
            }
        }
        pod
    }

    fn assert_as_by_the_webhook(&self, pod: &Value, what: &str) {
        let made = self.edge.client.create(DRY_RUN, pod);
        let (made, expected) = (images_of(&made), images_of(&self.by_webhook(pod)));
        let different: Vec<_> = made
            .iter()
            .zip(&expected)
            .filter(|(made, expected)| made != expected)
            .collect();
        assert!(
            different.is_empty() && made.len() == expected.len(),
            "{what}: {different:#?}"
        );
    }

    fn assert_every_reference_as_by_the_webhook(&self, configuration: &str) {
        let images = references();
        for images in images.chunks(CONTAINERS) {
            let mut pod = unschedulable_pod("references", "");
            let containers = images.iter().enumerate();
            pod["spec"]["containers"] = containers
                .map(|(index, image)| json!({"name": format!("c-{index}"), "image": image}))
                .collect();
            self.assert_as_by_the_webhook(&pod, configuration);
        }
    }

    fn assert_every_place_as_by_the_webhook(&self) {
        let mut pod = unschedulable_pod("every-place", "nginx:1.27");
        let more = json!({
            // The volume of a token has a random name.
            "automountServiceAccountToken": false,
            "initContainers": [
                {"name": "init", "image": "busybox"},
                {"name": "proxy", "image": "auto"},
            ],
            "volumes": [
                {"name": "files", "image": {"reference": "ghcr.io/a/files:1"}},
                {"name": "never", "image": {"reference": "ghcr.io/a/files:1", "pullPolicy": "Never"}},
                {"name": "empty", "emptyDir": {}},
            ],
        });
        pod["spec"]
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        pod["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "preloaded", "image": "ghcr.io/a/b:1", "imagePullPolicy": "Never", "command": ["x"]}));
        self.assert_as_by_the_webhook(&pod, "every place");
        let made = self.edge.client.create(DRY_RUN, &pod);
        assert_eq!(image_of(&made), "reg:5000/mirror/docker.io/library/nginx:1.27");
        // Everything except images stays unchanged. Lists are merged by name, and the patch names nothing else.
        let mut images_back = made["spec"].clone();
        for pointer in [
            "/containers/0/image",
            "/initContainers/0/image",
            "/volumes/0/image/reference",
        ] {
            *images_back.pointer_mut(pointer).unwrap() = pod["spec"].pointer(pointer).unwrap().clone();
        }
        pod["metadata"]["labels"] = json!({"landfall.dev/redirect": "disabled"});
        assert_eq!(images_back, self.edge.client.create(DRY_RUN, &pod)["spec"]);
        // A second pass changes nothing.
        let again = unschedulable_pod("again", &image_of(&made));
        assert_eq!(image_of(&self.edge.client.create(DRY_RUN, &again)), image_of(&made));
    }

    fn assert_opted_out_are_left_alone(&self) {
        for (name, labels) in [
            ("policy-1", json!({"stylus.io/imageswap": "disable"})),
            ("policy-2", json!({"landfall.dev/redirect": "disabled"})),
            ("policy-3", json!({"landfall.dev/redirect": "node"})),
        ] {
            self.edge.client.create_namespace(name, &labels);
            // The API server evaluates the labels itself, and sees a new namespace a moment later.
            wait_for(&format!("a pod left alone in {name}"), || {
                let pod = unschedulable_pod("asked", "nginx:1.27");
                let pod = self
                    .edge
                    .client
                    .create(&format!("/api/v1/namespaces/{name}/pods?dryRun=All"), &pod);
                (image_of(&pod) == "nginx:1.27").then_some(())
            });
        }
        for choice in ["disabled", "node"] {
            let mut pod = unschedulable_pod("opted-out", "nginx:1.27");
            pod["metadata"]["labels"] = json!({"landfall.dev/redirect": choice});
            assert_eq!(image_of(&self.edge.client.create(DRY_RUN, &pod)), "nginx:1.27");
        }
    }

    fn assert_update_touches_only_what_it_changes(&self) {
        let early = format!("{PODS}/early");
        let before = self.edge.client.get(&early);
        assert_eq!(image_of(&before), "nginx:1.27");
        let edited = self
            .edge
            .client
            .patch(&early, &json!({"metadata": {"labels": {"edited": "yes"}}}));
        assert_eq!(edited["spec"], before["spec"]);
        let ephemeral = json!({"spec": {"ephemeralContainers": [{"name": "debugger", "image": "busybox"}]}});
        let debugged = self
            .edge
            .client
            .patch_strategically(&format!("{early}/ephemeralcontainers"), &ephemeral);
        assert_eq!(
            images_of(&debugged),
            ["nginx:1.27", "reg:5000/mirror/docker.io/library/busybox"]
        );
        let changed = json!({"spec": {"containers": [{"name": "main", "image": "nginx:1.28"}]}});
        let changed = self.edge.client.patch_strategically(&early, &changed);
        assert_eq!(image_of(&changed), "reg:5000/mirror/docker.io/library/nginx:1.28");
    }
}

/// Returns references of real profiles, and those of other projects' parser tests. The policy documents that it
/// leaves IPv6 alone, and the API server refuses blanks at the ends.
fn references() -> Vec<String> {
    let first = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
    let second = |line: &str| line.split('\t').nth(1).unwrap_or_default().to_owned();
    let odd = [
        "ex.com/moved/a:1",
        "gone.io/x",
        "quay.io/argoproj/argocd-extra:1",
        "quay.io/argoproj/argocd@sha256:\
         0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "GHCR.io/a/b:1",
        "Reg/a/b:1",
        "docker://nginx",
        "registry-1.docker.io/nginx:1",
        "host:8443/a/b:1",
        "two.io/a/b",
        "two.io/ab",
        "localhost/a",
    ];
    let images: Vec<String> = CORPUS
        .lines()
        .map(first)
        .chain(CASES.lines().skip(1).map(second))
        .chain(odd.map(ToOwned::to_owned))
        .filter(|image| !image.is_empty() && image.trim() == image && !image.contains('['))
        .collect();
    assert!(images.len() > 300, "the corpus is there");
    images
}

/// Returns all images in the order of the pod.
fn images_of(pod: &Value) -> Vec<String> {
    let lists = ["initContainers", "containers", "ephemeralContainers", "volumes"];
    let places = lists
        .iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    places
        .filter_map(|place| place["image"].as_str().or(place["image"]["reference"].as_str()))
        .map(ToOwned::to_owned)
        .collect()
}
