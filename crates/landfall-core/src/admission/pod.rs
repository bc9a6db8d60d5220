//! The few fields of a pod that admission reads. All other fields are skipped, whatever their type.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;

use crate::pod_image::PULL_NEVER;

/// The part of a pod that names images. Lists and maps may be missing or null.
#[derive(Deserialize)]
pub(super) struct PodView {
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    init_containers: Option<Vec<Container>>,
    #[serde(default)]
    containers: Option<Vec<Container>>,
    #[serde(default)]
    ephemeral_containers: Option<Vec<Container>>,
    #[serde(default)]
    volumes: Option<Vec<Volume>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    image_pull_policy: Option<String>,
}

#[derive(Deserialize)]
struct Volume {
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: Option<ImageVolume>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageVolume {
    #[serde(default)]
    reference: Option<String>,
    #[serde(default)]
    pull_policy: Option<String>,
}

/// Names the first field of a pod whose type is not the one of Kubernetes, for a person: parsers speak of offsets.
pub(super) fn explain_wrong_type(pod: &str) -> String {
    let wrong = serde_json::from_str(pod).ok().and_then(|pod| check_types(&pod).err());
    wrong.unwrap_or_else(|| "it cannot be read as a pod".to_owned())
}

fn check_types(pod: &Value) -> Result<(), String> {
    let metadata = field(pod, "", "metadata", Type::Mapping)?;
    for key in ["labels", "annotations"] {
        let map = field(metadata, "metadata.", key, Type::Mapping)?;
        for (name, value) in map.as_object().into_iter().flatten() {
            check(value, &format!("metadata.{key}.{name}"), Type::String)?;
        }
    }
    let spec = field(pod, "", "spec", Type::Mapping)?;
    for list in ["initContainers", "containers", "ephemeralContainers", VOLUMES] {
        let items = field(spec, "spec.", list, Type::List)?;
        for (index, item) in items.as_array().into_iter().flatten().enumerate() {
            let path = format!("spec.{list}[{index}]");
            check(item, &path, Type::Mapping)?;
            let path = format!("{path}.");
            field(item, &path, "name", Type::String)?;
            if list == VOLUMES {
                let image = field(item, &path, "image", Type::Mapping)?;
                let path = format!("{path}image.");
                field(image, &path, "reference", Type::String)?;
                field(image, &path, "pullPolicy", Type::String)?;
            } else {
                field(item, &path, "image", Type::String)?;
                field(item, &path, "imagePullPolicy", Type::String)?;
            }
        }
    }
    Ok(())
}

/// The type of a field.
#[derive(Debug, Clone, Copy)]
enum Type {
    String,
    List,
    Mapping,
}

/// Returns a field, or null if it is not there.
fn field<'v>(value: &'v Value, path: &str, key: &str, wanted: Type) -> Result<&'v Value, String> {
    let found = value.get(key).unwrap_or(&Value::Null);
    if !found.is_null() {
        check(found, &format!("{path}{key}"), wanted)?;
    }
    Ok(found)
}

fn check(value: &Value, path: &str, wanted: Type) -> Result<(), String> {
    let (fits, wanted) = match wanted {
        Type::String => (value.is_string(), "a string"),
        Type::List => (value.is_array(), "a list"),
        Type::Mapping => (value.is_object(), "a mapping"),
    };
    if fits {
        return Ok(());
    }
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    };
    Err(format!("`{path}` is {found}, and Kubernetes wants {wanted}"))
}

const VOLUMES: &str = "volumes";

/// One image field of a pod.
pub(super) struct ImageField<'a> {
    /// The name of the list under `spec`.
    pub(super) list: &'static str,
    /// The position in that list.
    index: usize,
    /// The name of the container or volume.
    pub(super) name: &'a str,
    /// The image as the user wrote it; never empty.
    pub(super) image: &'a str,
    /// True for `imagePullPolicy: Never`.
    pub(super) never_pulled: bool,
}

impl ImageField<'_> {
    /// Returns the field's JSON pointer (RFC 6901).
    pub(super) fn pointer(&self) -> String {
        let field = if self.list == VOLUMES {
            "image/reference"
        } else {
            "image"
        };
        format!("/spec/{}/{}/{field}", self.list, self.index)
    }

    /// Returns the field's key in annotations. Container names are unique in a pod, but a volume may have the name of a
    /// container.
    pub(super) fn key(&self) -> String {
        if self.list == VOLUMES {
            format!("volume:{}", self.name)
        } else {
            self.name.to_owned()
        }
    }
}

impl PodView {
    /// Returns the annotations: `None` if the pod has no metadata, `Some(None)` if the metadata has no annotations.
    pub(super) fn annotations(&self) -> Option<Option<&BTreeMap<String, String>>> {
        self.metadata.as_ref().map(|metadata| metadata.annotations.as_ref())
    }

    pub(super) fn has_annotation(&self, key: &str) -> bool {
        self.annotations()
            .flatten()
            .is_some_and(|annotations| annotations.contains_key(key))
    }

    pub(super) fn label(&self, key: &str) -> Option<&str> {
        let labels = self.metadata.as_ref()?.labels.as_ref()?;
        labels.get(key).map(String::as_str)
    }

    /// Returns all image fields of the pod: image volumes, then containers of all kinds.
    pub(super) fn image_fields(&self) -> impl Iterator<Item = ImageField<'_>> {
        let spec = self.spec.as_ref();
        let volumes = spec
            .and_then(|spec| spec.volumes.as_ref())
            .into_iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, volume)| {
                let image = volume.image.as_ref()?;
                image_field(
                    VOLUMES,
                    index,
                    &volume.name,
                    image.reference.as_deref(),
                    image.pull_policy.as_deref(),
                )
            });
        let containers = [
            ("initContainers", spec.and_then(|spec| spec.init_containers.as_ref())),
            ("containers", spec.and_then(|spec| spec.containers.as_ref())),
            (
                "ephemeralContainers",
                spec.and_then(|spec| spec.ephemeral_containers.as_ref()),
            ),
        ];
        let containers = containers.into_iter().flat_map(|(list, containers)| {
            containers
                .into_iter()
                .flatten()
                .enumerate()
                .filter_map(move |(index, container)| {
                    let policy = container.image_pull_policy.as_deref();
                    image_field(list, index, &container.name, container.image.as_deref(), policy)
                })
        });
        volumes.chain(containers)
    }

    /// Returns the images by list and name, to find those that a request changes.
    pub(super) fn images_by_name(&self) -> HashMap<(&str, &str), &str> {
        self.image_fields()
            .map(|field| ((field.list, field.name), field.image))
            .collect()
    }
}

fn image_field<'a>(
    list: &'static str,
    index: usize,
    name: &'a str,
    image: Option<&'a str>,
    pull_policy: Option<&str>,
) -> Option<ImageField<'a>> {
    Some(ImageField {
        list,
        index,
        name,
        image: image.filter(|image| !image.is_empty())?,
        never_pulled: pull_policy == Some(PULL_NEVER),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_type_is_named_by_its_field() {
        for (pod, expected) in [
            (r#"{"spec": 5}"#, "`spec` is a number, and Kubernetes wants a mapping"),
            (
                r#"{"spec": {"containers": {}}}"#,
                "`spec.containers` is a mapping, and Kubernetes wants a list",
            ),
            (
                r#"{"spec": {"containers": [{"name": "a"}, {"name": "b", "image": 5}]}}"#,
                "`spec.containers[1].image` is a number, and Kubernetes wants a string",
            ),
            (
                r#"{"spec": {"initContainers": ["x"]}}"#,
                "`spec.initContainers[0]` is a string, and Kubernetes wants a mapping",
            ),
            (
                r#"{"spec": {"volumes": [{"name": "v", "image": {"reference": []}}]}}"#,
                "`spec.volumes[0].image.reference` is a list, and Kubernetes wants a string",
            ),
            (
                r#"{"metadata": {"labels": {"a": true}}}"#,
                "`metadata.labels.a` is a boolean, and Kubernetes wants a string",
            ),
            ("[", "it cannot be read as a pod"),
        ] {
            assert_eq!(explain_wrong_type(pod), expected, "{pod}");
            assert!(serde_json::from_str::<PodView>(pod).is_err(), "{pod}");
        }
    }
}
