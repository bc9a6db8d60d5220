//! Images of a pod after the webhook's patch, applied as the API server does, and after the rendered policy, evaluated
//! as the API server does.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use base64::Engine as _;
use cel::common::types::{self, Type};
use cel::extractors::This;
use cel::{Context, Env, Program, StructDef, Value as CelValue};
use landfall_core::admission::{AdmissionRules, review};
use landfall_core::hostconf::render;
use landfall_core::resolve::Resolver;
use landfall_core::settings::{Dialect, Settings};
use regex::Regex;
use serde_json::{Value, json};

use crate::configurations::Image;
use crate::json_patch::apply_patch;

/// The lists of a pod's specification that name images.
const LISTS: [&str; 4] = ["initContainers", "containers", "ephemeralContainers", "volumes"];

/// Makes a pod with all these images, distributed over the lists in turn. The name of each entry is its number.
fn mk_pod(images: &[Image]) -> Value {
    let mut spec = LISTS.map(|_| Vec::new());
    for (number, image) in images.iter().enumerate() {
        let name = format!("n{number}");
        let list = number % LISTS.len();
        spec[list].push(match LISTS[list] {
            "volumes" => json!({"name": name, "image": {"reference": image.text}}),
            _ => json!({"name": name, "image": image.text}),
        });
    }
    let spec: serde_json::Map<String, Value> = LISTS
        .map(ToOwned::to_owned)
        .into_iter()
        .zip(spec.map(Value::from))
        .collect();
    json!({"metadata": {"name": "p"}, "spec": spec})
}

/// Returns the images of a pod of [`mk_pod`], in their order.
fn images_of(pod: &Value, count: usize) -> Vec<String> {
    let image = |number: usize| match &pod["spec"][LISTS[number % LISTS.len()]][number / LISTS.len()]["image"] {
        Value::String(image) => image.clone(),
        volume => volume["reference"].as_str().expect("an image volume").to_owned(),
    };
    (0..count).map(image).collect()
}

/// Returns the images of pods after the webhook's patch.
pub(crate) fn by_webhook(resolver: &Resolver<'_>, images: &[Image], primary_holds: bool) -> Vec<String> {
    let mut pod = mk_pod(images);
    let request = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "web",
            "operation": "CREATE",
            "object": pod,
        },
    });
    let rules = AdmissionRules {
        resolver,
        namespace_choice: &|_| None,
        observe_only: false,
        primary_holds: &|_| primary_holds,
    };
    let reviewed = review(request.to_string().as_bytes(), &rules).expect("a review");
    let answer: Value = serde_json::from_slice(&reviewed.response).expect("an answer in JSON");
    if let Some(patch) = answer["response"]["patch"].as_str() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(patch).expect("base64");
        let patch = serde_json::from_slice(&bytes).expect("a patch in JSON");
        apply_patch(&mut pod, &patch).unwrap_or_else(|operation| panic!("{operation} does not fit"));
    }
    images_of(&pod, images.len())
}

/// The rendered MutatingAdmissionPolicy, compiled.
pub(crate) struct Policy {
    env: Arc<Env>,
    variables: Vec<(String, Program)>,
    /// The program of each list's mutation, which returns names and images.
    mutations: Vec<(&'static str, Program)>,
}

impl Policy {
    /// Compiles the policy of these settings.
    pub(crate) fn render(settings: &Settings) -> Policy {
        let rendering = render(settings, Dialect::MutatingAdmissionPolicy);
        let (policy, _binding) = rendering.fragments[0].text.split_once("---\n").expect("two documents");
        let policy: Value = serde_saphyr::from_str(policy).expect("the policy is YAML");
        let env = mk_environment();
        let compile = |text: &str| env.compile(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let variables = policy["spec"]["variables"].as_array().expect("variables");
        let text = |value: &Value| value.as_str().expect("an expression").to_owned();
        let mutation = text(&policy["spec"]["mutations"][0]["applyConfiguration"]["expression"]);
        Policy {
            variables: variables
                .iter()
                .map(|variable| (text(&variable["name"]), compile(&text(&variable["expression"]))))
                .collect(),
            mutations: LISTS
                .map(|list| {
                    let image = if list == "volumes" {
                        "c.image.reference"
                    } else {
                        "c.image"
                    };
                    (
                        list,
                        compile(&format!("({mutation}).spec.{list}.map(c, c.name + '=' + {image})")),
                    )
                })
                .into(),
            env,
        }
    }

    /// Returns the images of pods after the policy's mutation.
    pub(crate) fn images(&self, images: &[Image]) -> Vec<String> {
        let mut pod = mk_pod(images);
        let mut context = Context::with_env(self.env.clone());
        context
            .add_function("matches", matches)
            .expect("the library has none of its own");
        let mut known = HashMap::<String, CelValue>::new();
        context.add_variable("object", &pod).expect("a pod is JSON");
        let request = json!({"operation": "CREATE"});
        context.add_variable("request", &request).expect("a request is JSON");
        for (name, program) in &self.variables {
            let value = program.execute(&context);
            known.insert(name.clone(), value.unwrap_or_else(|error| panic!("`{name}`: {error}")));
            context.add_variable_from_value("variables", known.clone());
        }
        for (list, program) in &self.mutations {
            let changes = program.execute(&context);
            let CelValue::List(changes) = changes.unwrap_or_else(|error| panic!("`{list}`: {error}")) else {
                panic!("`{list}` is no list");
            };
            for change in changes.iter() {
                let CelValue::String(change) = change else {
                    panic!("{change:?} is no name and image");
                };
                apply_change(&mut pod["spec"][*list], change);
            }
        }
        images_of(&pod, images.len())
    }
}

/// Applies one change to a list, which merges by name.
fn apply_change(list: &mut Value, change: &str) {
    let (name, image) = change.split_once('=').expect("a name and an image");
    let entries = list.as_array_mut().expect("the list of a pod");
    let entry = entries
        .iter_mut()
        .find(|entry| entry["name"] == name)
        .expect("no entry is added");
    match &mut entry["image"] {
        Value::Object(volume) => volume["reference"] = image.into(),
        plain => *plain = image.into(),
    }
}

/// Implements CEL's `matches`. The library's own version compiles the expression for each text, which takes minutes
/// here.
fn matches(This(text): This<Arc<String>>, expression: Arc<String>) -> bool {
    static COMPILED: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().expect("nobody panics with it");
    let compiled = compiled
        .entry(expression.to_string())
        .or_insert_with(|| Regex::new(&expression).expect("the API server has read it"));
    compiled.is_match(&text)
}

/// Makes the CEL environment of the API server: Kubernetes' string library, and the types of a pod's apply
/// configuration.
fn mk_environment() -> Arc<Env> {
    let mut env = Env::stdlib();
    env.add_extension(cel::extensions::strings)
        .expect("the strings of Kubernetes");
    let container = || vec![("name", types::STRING_TYPE), ("image", types::STRING_TYPE)];
    let named = |name: &str| Type::new_struct(name.to_owned());
    for (name, fields) in [
        ("Object", vec![("spec", named("Object.spec"))]),
        ("Object.spec", LISTS.map(|list| (list, types::LIST_TYPE)).into()),
        ("Object.spec.initContainers", container()),
        ("Object.spec.containers", container()),
        ("Object.spec.ephemeralContainers", container()),
        (
            "Object.spec.volumes",
            vec![
                ("name", types::STRING_TYPE),
                ("image", named("Object.spec.volumes.image")),
            ],
        ),
        ("Object.spec.volumes.image", vec![("reference", types::STRING_TYPE)]),
    ] {
        let empty = StructDef::new(name.to_owned());
        let definition = fields.into_iter().fold(empty, |definition, (field, of)| {
            definition.add_field(field.to_owned(), of)
        });
        env.add_type(definition).expect("each type is declared once");
    }
    Arc::new(env)
}
