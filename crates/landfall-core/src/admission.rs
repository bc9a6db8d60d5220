//! Pod rewriting at admission [spec:webhook.rewrite]: the bytes of an AdmissionReview in, the bytes of the answer out.
//!
//! The pod is read and never serialized again. The answer holds one `test` and one `replace` operation for each image,
//! at its exact JSON pointer, and one annotation with the original images. Unknown fields stay untouched because no
//! operation names them. This module never denies a pod and never contacts a registry: the caller passes in which
//! images the primary registry holds.

mod patch;
mod pod;
mod sweep;

pub use sweep::{PodRepair, RepairedImage, plan_repair};

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::opt_out::{OptOut, REDIRECT_LABEL};
use crate::pod_image::{LeftAlone, PodImage, read_pod_image};
use crate::reference::{ImageReference, ReferenceError};
use crate::resolve::Resolver;
use patch::{ImageNote, PatchOperation};
use pod::{ImageField, PodView, explain_wrong_type};

/// The annotation that keeps the user's images and the reason of each change: a JSON object of container name to
/// `image` and `reason`. The key of an image volume is `volume:` and its name.
pub const ORIGINAL_IMAGES: &str = "landfall.dev/original-images";
/// The annotation of observe-only mode: the image that each container would have got, in the form of
/// [`ORIGINAL_IMAGES`].
pub const OBSERVED_IMAGES: &str = "landfall.dev/observed-images";
/// The audit annotation with the decision about every image and its reason. The API server prefixes the key with the
/// webhook's name.
pub const AUDIT_KEY: &str = "redirect";

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
const MIRROR_POD: &str = "kubernetes.io/config.mirror";

/// Input of a decision besides the review itself.
#[expect(missing_debug_implementations, reason = "it holds a function")]
#[derive(Clone, Copy)]
pub struct AdmissionRules<'a> {
    /// Maps a reference to its sources. Its settings hold the choices that the profiles make for namespaces.
    pub resolver: &'a Resolver<'a>,
    /// The choice that a namespace makes by its labels in the cluster; `None` if it makes none or is not known. Called
    /// for every pod, so it must return quickly.
    pub namespace_choice: &'a dyn Fn(&str) -> Option<OptOut>,
    /// Decide and report, but change no image.
    pub observe_only: bool,
    /// Returns true if the primary registry holds this (canonical) reference, according to the agent's inventory. Must
    /// return quickly.
    pub primary_holds: &'a dyn Fn(&ImageReference) -> bool,
}

/// The answer to a review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    /// The JSON body of the answer.
    pub response: Vec<u8>,
    /// The number of rewritten images; in observe-only mode, of images that would have been rewritten.
    pub rewritten: usize,
    /// Warnings for the user; the answer contains them too.
    pub warnings: Vec<String>,
    /// The decision about every image and its reason; the answer contains them as an audit annotation.
    pub reasons: BTreeMap<String, String>,
}

/// A request that is no answerable review. The content of a pod never causes this error.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The body is not the JSON of an AdmissionReview.
    #[error("cannot read the body as an AdmissionReview")]
    Body(#[source] serde_json::Error),
    /// The body has another kind or version.
    #[error("expected `{KIND}` of `{API_VERSION}`, not `{kind}` of `{api_version}`")]
    Version { kind: String, api_version: String },
    #[error("the AdmissionReview has no `request` with a `uid`")]
    NoRequest,
    #[error("cannot write the answer")]
    Answer(#[source] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
struct Review<O> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    request: Option<Request<O>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
struct Request<O> {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    kind: GroupVersionKind,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    object: Option<O>,
    #[serde(default)]
    old_object: Option<O>,
}

/// The object of a review: a pod, or JSON that is read as one later.
trait ReviewedObject {
    /// Returns the pod, or the decision about an object that cannot be read as one.
    fn into_pod(self) -> Result<PodView, Decision>;
}

impl ReviewedObject for PodView {
    fn into_pod(self) -> Result<PodView, Decision> {
        Ok(self)
    }
}

impl ReviewedObject for &RawValue {
    fn into_pod(self) -> Result<PodView, Decision> {
        serde_json::from_str(self.get()).map_err(|_| Decision::unreadable(self.get()))
    }
}

#[derive(Deserialize, Default)]
struct GroupVersionKind {
    #[serde(default)]
    group: String,
    #[serde(default)]
    kind: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReviewResponse<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: ReviewResponseBody<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReviewResponseBody<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'static str, String>,
}

impl AdmissionRules<'_> {
    /// Returns the reason why the pods of a namespace stay unchanged; `None` if they are redirected.
    fn why_namespace(&self, namespace: &str) -> Option<String> {
        let in_profile = || self.resolver.settings().namespace_opt_outs.get(namespace).copied();
        let choice = (self.namespace_choice)(namespace).or_else(in_profile)?;
        Some(choice.explain_namespace(namespace))
    }
}

/// The decision about a pod.
#[derive(Default)]
struct Decision {
    /// Keys of the images that are changed; in observe-only mode, that would be changed.
    rewritten: Vec<String>,
    operations: Vec<PatchOperation>,
    warnings: Vec<String>,
    reasons: BTreeMap<String, String>,
}

/// Answers a review. The answer always allows the pod; its images are redirected by `rules`.
///
/// # Errors
/// If the body is not an answerable AdmissionReview. The pod in it is not judged then.
pub fn review(bytes: &[u8], rules: &AdmissionRules<'_>) -> Result<Reviewed, AdmissionError> {
    // Nearly all reviews are of pods in the types of Kubernetes, and are read in one pass. Every other body is read
    // again, with its objects as they are, to tell a broken body from a pod that is left alone.
    let text = std::str::from_utf8(bytes).ok();
    match text.and_then(|text| serde_json::from_str::<Review<PodView>>(text).ok()) {
        Some(review) => answer_review(review, rules),
        None => {
            let review: Review<&RawValue> = serde_json::from_slice(bytes).map_err(AdmissionError::Body)?;
            answer_review(review, rules)
        }
    }
}

fn answer_review<O: ReviewedObject>(review: Review<O>, rules: &AdmissionRules<'_>) -> Result<Reviewed, AdmissionError> {
    if review.api_version != API_VERSION || review.kind != KIND {
        return Err(AdmissionError::Version {
            kind: review.kind,
            api_version: review.api_version,
        });
    }
    let mut request = review
        .request
        .filter(|request| !request.uid.is_empty())
        .ok_or(AdmissionError::NoRequest)?;
    let uid = std::mem::take(&mut request.uid);
    let decision = decide(request, rules);
    let response = answer(&uid, &decision).map_err(AdmissionError::Answer)?;
    Ok(Reviewed {
        response,
        rewritten: decision.rewritten.len(),
        warnings: decision.warnings,
        reasons: decision.reasons,
    })
}

fn answer(uid: &str, decision: &Decision) -> Result<Vec<u8>, serde_json::Error> {
    let patch = if decision.operations.is_empty() {
        None
    } else {
        Some(STANDARD.encode(serde_json::to_vec(&decision.operations)?))
    };
    let mut audit_annotations = BTreeMap::new();
    if !decision.reasons.is_empty() {
        audit_annotations.insert(AUDIT_KEY, serde_json::to_string(&decision.reasons)?);
    }
    serde_json::to_vec(&ReviewResponse {
        api_version: API_VERSION,
        kind: KIND,
        response: ReviewResponseBody {
            uid,
            allowed: true,
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch,
            warnings: &decision.warnings,
            audit_annotations,
        },
    })
}

/// Decides about a request. Only pods that are created or updated can change; every other object is allowed as it is.
fn decide<O: ReviewedObject>(request: Request<O>, rules: &AdmissionRules<'_>) -> Decision {
    let is_pod = request.kind.group.is_empty() && request.kind.kind == "Pod";
    let is_spec = matches!(request.sub_resource.as_deref(), None | Some("" | "ephemeralcontainers"));
    let is_update = request.operation == "UPDATE";
    let Some(object) = request
        .object
        .filter(|_| is_pod && is_spec && (is_update || request.operation == "CREATE"))
    else {
        return Decision::default();
    };
    if let Some(why) = request.namespace.as_deref().and_then(|name| rules.why_namespace(name)) {
        return Decision::left_alone(why);
    }
    let pod = match object.into_pod() {
        Ok(pod) => pod,
        Err(unreadable) => return unreadable,
    };
    if let Some(why) = why_pod_is_left_alone(&pod) {
        return Decision::left_alone(why.to_owned());
    }
    if !is_update {
        return decide_pod(&pod, |_| true, rules);
    }
    // Without the old pod, the images that this request changes are unknown, and a wrong guess could restart
    // containers.
    let Some(old) = request.old_object else {
        return Decision::default();
    };
    match old.into_pod() {
        Ok(old) => {
            // Unchanged images stay untouched, so that an edit of a label restarts no container.
            let before = old.images_by_name();
            decide_pod(
                &pod,
                |field| before.get(&(field.list, field.name)) != Some(&field.image),
                rules,
            )
        }
        Err(unreadable) => unreadable,
    }
}

impl Decision {
    fn left_alone(why: String) -> Decision {
        Decision {
            reasons: [("pod".to_owned(), format!("left as it is: {why}"))].into(),
            ..Decision::default()
        }
    }

    fn unreadable(pod: &str) -> Decision {
        let why = explain_wrong_type(pod);
        Decision {
            warnings: vec![format!("landfall: the pod is left as it is: {why}")],
            ..Decision::left_alone("it cannot be read".to_owned())
        }
    }
}

fn why_pod_is_left_alone(pod: &PodView) -> Option<&'static str> {
    if pod.has_annotation(MIRROR_POD) {
        Some("it mirrors a static pod")
    } else {
        let choice = OptOut::of_label(REDIRECT_LABEL, pod.label(REDIRECT_LABEL)?)?;
        Some(choice.explain_pod())
    }
}

/// Decides about the images of a pod that `in_question` selects.
fn decide_pod(pod: &PodView, in_question: impl Fn(&ImageField<'_>) -> bool, rules: &AdmissionRules<'_>) -> Decision {
    let mut decision = Decision::default();
    let mut noted: BTreeMap<String, ImageNote> = BTreeMap::new();
    for field in pod.image_fields().filter(in_question) {
        let reason = match decide_image(&field, rules) {
            Verdict::Redirect { to, why } => {
                let reason = format!("{} -> {to}: {why}", field.image);
                decision.rewritten.push(field.key());
                if rules.observe_only {
                    let text = format!("landfall: observed only: {}: {reason}", field.name);
                    decision.warnings.push(printable(&text));
                    noted.insert(field.key(), ImageNote { image: to, reason: why });
                    format!("observed only: {reason}")
                } else {
                    decision
                        .operations
                        .extend(patch::replace_image(&field.pointer(), field.image, to));
                    let image = field.image.to_owned();
                    noted.insert(field.key(), ImageNote { image, reason: why });
                    reason
                }
            }
            Verdict::LeaveAlone { why } => format!("left as it is: {why}"),
            Verdict::NotAReference { error } => {
                decision.warnings.push(warning_text(&field, &error));
                format!("left as it is: {error}")
            }
        };
        decision.reasons.insert(field.key(), reason);
    }
    if !noted.is_empty() {
        let key = if rules.observe_only {
            OBSERVED_IMAGES
        } else {
            ORIGINAL_IMAGES
        };
        decision.operations.push(patch::annotate(pod, key, noted));
    }
    decision
}

enum Verdict {
    Redirect { to: String, why: String },
    LeaveAlone { why: String },
    NotAReference { error: ReferenceError },
}

fn decide_image(field: &ImageField<'_>, rules: &AdmissionRules<'_>) -> Verdict {
    let leave = |left_alone: LeftAlone| Verdict::LeaveAlone {
        why: left_alone.why().to_owned(),
    };
    if field.never_pulled {
        return leave(LeftAlone::NeverPulled);
    }
    let reference = match read_pod_image(field.image) {
        Ok(PodImage::InRegistry(reference)) => reference,
        Ok(PodImage::LeftAlone(left_alone)) => return leave(left_alone),
        Err(error) => return Verdict::NotAReference { error },
    };
    let resolution = rules.resolver.resolve(&reference, rules.resolver.role_of(&reference));
    let primary_holds = resolution
        .primary()
        .is_some_and(|primary| (rules.primary_holds)(&primary.reference.canonical()));
    let candidate = resolution.runtime(primary_holds);
    let why = rules.resolver.explain(candidate);
    if candidate.reference == reference {
        Verdict::LeaveAlone { why }
    } else {
        Verdict::Redirect {
            to: candidate.reference.to_string(),
            why,
        }
    }
}

fn warning_text(field: &ImageField<'_>, error: &ReferenceError) -> String {
    printable(&format!(
        "landfall: the image of `{}` is left as it is: {error}",
        field.name
    ))
}

/// Shortens a warning and removes control characters: the API server may cut warnings at 256 characters, and drops
/// warnings with control characters.
fn printable(text: &str) -> String {
    let printable = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character });
    let mut short: String = printable.clone().take(250).collect();
    if printable.count() > 250 {
        short.push('…');
    }
    short
}
