//! The review of the benchmark: a pod with five images, about 5 KB, with all fields of a real pod.

use serde_json::{Value, json};

/// A profile with three of the images.
pub(super) const PROFILE: &str = "metadata: {name: bench}\nspec:\n  version: '1'\n  template:\n    packs:\n      - name: \
                                  shop\n        layer: addon\n        values: |\n          pack:\n            \
                                  content:\n              images:\n                - image: nginx:1.27\n                \
                                  - image: quay.io/team/api:2.4.1\n                - image: gcr.io/team/worker:7\n";

const IMAGES: [&str; 5] = [
    "nginx:1.27",
    "quay.io/team/api:2.4.1",
    "gcr.io/team/worker:7",
    "registry.k8s.io/sig-storage/livenessprobe:v2.12.0",
    "ghcr.io/team/init@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// Returns the AdmissionReview as JSON.
pub(super) fn render() -> String {
    let (init, containers) = IMAGES
        .split_last()
        .map_or((None, &IMAGES[..]), |(last, rest)| (Some(last), rest));
    let containers: Vec<Value> = containers
        .iter()
        .enumerate()
        .map(|(index, image)| container(index, image))
        .collect();
    let review = json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "name": "shop-6c7d9b8f54-x2x7k",
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"]},
            "object": {
                "kind": "Pod",
                "apiVersion": "v1",
                "metadata": {
                    "name": "shop-6c7d9b8f54-x2x7k", "generateName": "shop-6c7d9b8f54-", "namespace": "shop",
                    "labels": {"app": "shop", "pod-template-hash": "6c7d9b8f54"},
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-6c7d9b8f54",
                        "uid": "3d0e7c0b-2f4a-4a37-9d5c-9e2b6a8a7c11", "controller": true, "blockOwnerDeletion": true}],
                },
                "spec": {
                    "volumes": [
                        {"name": "config", "configMap": {"name": "shop", "defaultMode": 420}},
                        {"name": "token", "projected": {"defaultMode": 420, "sources": [
                            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}]}}],
                    "initContainers": init.map(|image| vec![container(9, image)]),
                    "containers": containers,
                    "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
                    "serviceAccountName": "shop", "serviceAccount": "shop", "schedulerName": "default-scheduler",
                    "tolerations": [
                        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
                    "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
                },
                "status": {},
            },
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    });
    review.to_string()
}

fn container(index: usize, image: &str) -> Value {
    json!({
        "name": format!("container-{index}"),
        "image": image,
        "args": ["--config=/etc/shop/config.yaml", "--log-level=info"],
        "ports": [{"name": "http", "containerPort": 8080 + index, "protocol": "TCP"}],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": "STORE", "value": "0042"}],
        "resources": {"limits": {"memory": "128Mi"}, "requests": {"cpu": "50m", "memory": "64Mi"}},
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/shop", "readOnly": true},
            {"name": "token", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn review_is_about_five_kilobytes() {
        let size = super::render().len();
        assert!((4500..=5500).contains(&size), "{size}");
    }
}
