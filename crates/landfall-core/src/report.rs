//! What `landfall plan`, `images` and `explain` answer with `-o json` and `-o yaml`: documented, versioned types.
//!
//! Built from settings and plan by pure functions; the table for people is made from the same values. Credentials are
//! named by their registry, user and place in the file; the password never gets here.

mod check;
mod stages;
mod transfer;

use schemars::JsonSchema;
use serde::Serialize;

use crate::choice::RedirectChoice;
use crate::diagnostic::{Diagnostics, Location, Severity};
use crate::plan::PlannedImage;
use crate::pod_image::LeftAlone;
use crate::reference::ImageReference;
use crate::resolve::{Candidate, Place, Resolver};
use crate::settings::{Finding, ImageRole, ProfileImage, RegistryRole, Settings};
use crate::status::{AgentStatus, Event, ProgressEvent};

pub use check::{CheckReport, CheckRow, CheckState, CheckSummary};
pub use stages::{StageCondition, StageEffectRow, StageResult, StageStepRow, StagesReport, StagesSummary};
pub use transfer::{BlobTally, TransferReport, TransferRow, TransferState, TransferSummary};

/// The version of these types.
pub const API_VERSION: &str = "landfall.dev/v1alpha1";

/// The answer of `landfall plan`: where every image comes from, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    /// `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// `Plan`.
    pub kind: &'static str,
    /// Whether pulls are redirected at all (`stylus.imageRedirectWebhook.enable`).
    pub redirection: bool,
    /// `host:port/project` of the primary registry.
    pub primary_registry: Option<String>,
    /// Every image, in the order of work.
    pub images: Vec<PlanRow>,
    /// How many there are.
    pub summary: PlanSummary,
}

/// One image of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanRow {
    /// The image as the profile names it.
    #[serde(flatten)]
    pub image: ImageRow,
    /// Where the agent fetches it, in order.
    pub pull: Vec<CandidateRow>,
    /// Where it stands in the primary registry; null for images that are not kept there.
    pub primary: Option<String>,
    /// What a pod's image becomes once everything is in place.
    pub runtime: String,
    /// What to look at, in a sentence.
    pub warning: Option<String>,
}

/// How many images a plan has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanSummary {
    /// Provider images.
    pub provider: usize,
    /// Images of the infrastructure layers.
    pub infrastructure: usize,
    /// Images of the add-on layers.
    pub application: usize,
    /// Images that go to the primary registry.
    pub to_primary: usize,
    /// Images with a warning.
    pub warnings: usize,
}

/// An image as a profile names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageRow {
    /// As written, after templates.
    pub source: String,
    /// In canonical form.
    pub canonical: String,
    /// What it is for.
    pub role: ImageRole,
    /// `os`, `k8s`, `cni`, `csi` or `addon`.
    pub layer: String,
    /// The pack's name.
    pub pack: String,
    /// The profile's name.
    pub profile: String,
    /// Whether the pack lists it, or it was found in a manifest.
    pub finding: Finding,
    /// Where it is written.
    pub location: Location,
}

/// One place to fetch an image from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateRow {
    /// The reference there.
    pub reference: String,
    /// The kind of place.
    pub place: Place,
    /// The reason in a sentence, with rule, file and line.
    pub why: String,
    /// Who we are there; null is anonymous.
    pub credentials: Option<CredentialsRow>,
}

/// Who we are at a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsRow {
    /// The registry that the credentials are for: `host[:port][/path]`.
    pub registry: String,
    /// Why the user named that registry.
    pub role: RegistryRole,
    /// The user's name.
    pub username: String,
    /// Where the password is written.
    pub location: Location,
}

/// The answer of `landfall validate`: every finding about the inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidationReport<'a> {
    /// `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// `Validation`.
    pub kind: &'static str,
    /// How many findings are errors.
    pub errors: usize,
    /// How many are warnings.
    pub warnings: usize,
    /// The findings, by file and line.
    pub diagnostics: &'a Diagnostics,
}

/// The answer of `landfall images`: every image of the profiles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagesReport {
    /// `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// `Images`.
    pub kind: &'static str,
    /// Every image, as the profiles write them.
    pub images: Vec<ImageRow>,
}

/// The answer of `landfall explain`: where one image comes from, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainReport {
    /// `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// `Explain`.
    pub kind: &'static str,
    /// The image as it was asked for, its host and path in canonical form.
    pub image: String,
    /// In canonical form.
    pub canonical: String,
    /// What it is for; an image that no profile names is an application's.
    pub role: ImageRole,
    /// Where the profiles name it.
    pub in_profile: Option<ImageRow>,
    /// The namespace that was asked about.
    pub namespace: Option<NamespaceRow>,
    /// Why it is never redirected, whatever the rules are; then there are no candidates.
    pub left_alone: Option<&'static str>,
    /// Every place that it may come from, in order.
    pub candidates: Vec<CandidateRow>,
    /// What a pod's image becomes while the primary registry does not hold it.
    pub runtime_before_primary: String,
    /// What a pod's image becomes once everything is in place.
    pub runtime: String,
    /// What to look at, in a sentence.
    pub warning: Option<String>,
}

/// A namespace, as far as redirection goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceRow {
    /// Its name.
    pub name: String,
    /// What keeps the webhook away from it: `disabled`, or `node` for redirection by the node's mirror files.
    pub choice: Option<RedirectChoice>,
    /// Why its pods stay as they are: as the audit annotation says it; null where they are redirected.
    pub why: Option<String>,
}

impl NamespaceRow {
    /// What a namespace chose: by its labels in the cluster where they are known, otherwise by those of the profiles.
    #[must_use]
    pub fn new(settings: &Settings, name: &str, in_cluster: Option<RedirectChoice>) -> NamespaceRow {
        let choice = in_cluster.or_else(|| settings.namespace_choices.get(name).copied());
        NamespaceRow {
            name: name.to_owned(),
            choice,
            why: choice.map(|choice| choice.explain_namespace(name)),
        }
    }
}

/// Reports the findings.
#[must_use]
pub fn validation_report(diagnostics: &Diagnostics) -> ValidationReport<'_> {
    ValidationReport {
        api_version: API_VERSION,
        kind: "Validation",
        errors: diagnostics.count(Severity::Error),
        warnings: diagnostics.count(Severity::Warning),
        diagnostics,
    }
}

/// Reports a plan.
#[must_use]
pub fn plan_report(resolver: &Resolver<'_>, planned: &[PlannedImage]) -> PlanReport {
    let settings = resolver.settings();
    let mut summary = PlanSummary::default();
    for image in planned {
        match image.role {
            ImageRole::Provider => summary.provider += 1,
            ImageRole::Infrastructure => summary.infrastructure += 1,
            ImageRole::Application => summary.application += 1,
        }
        summary.to_primary += usize::from(image.primary.is_some());
        summary.warnings += usize::from(image.warning.is_some());
    }
    let row = |image: &PlannedImage| PlanRow {
        image: image_row(&settings.images[image.image]),
        pull: (image.pull.iter())
            .map(|candidate| candidate_row(resolver, candidate))
            .collect(),
        primary: image.primary.as_ref().map(ImageReference::to_string),
        runtime: image.runtime.to_string(),
        warning: (image.warning).map(|warning| resolver.explain_warning(&image.canonical, warning)),
    };
    PlanReport {
        api_version: API_VERSION,
        kind: "Plan",
        redirection: settings.webhook.enable,
        primary_registry: (settings.primary.as_ref())
            .map(|primary| format!("{}/{}", primary.endpoint, primary.project)),
        images: planned.iter().map(row).collect(),
        summary,
    }
}

/// Reports the images of the profiles.
#[must_use]
pub fn images_report(settings: &Settings) -> ImagesReport {
    ImagesReport {
        api_version: API_VERSION,
        kind: "Images",
        images: settings.images.iter().map(image_row).collect(),
    }
}

/// Reports where one image comes from; tag and digest stay as they were asked for. In a namespace that is opted out,
/// the image stays as it is.
#[must_use]
pub fn explain_report(
    resolver: &Resolver<'_>,
    image: &ImageReference,
    namespace: Option<NamespaceRow>,
) -> ExplainReport {
    let settings = resolver.settings();
    let canonical = image.canonical();
    let role = resolver.role_of(image);
    let resolution = resolver.resolve(image, role);
    let left_alone = (namespace.as_ref()).is_some_and(|namespace| namespace.choice.is_some());
    let runtime = |primary_holds| {
        if left_alone {
            image.to_string()
        } else {
            resolution.runtime(primary_holds).reference.to_string()
        }
    };
    let in_profile = settings
        .images
        .iter()
        .find(|known| known.reference.canonical() == canonical);
    ExplainReport {
        api_version: API_VERSION,
        kind: "Explain",
        image: image.to_string(),
        canonical: canonical.to_string(),
        role,
        in_profile: in_profile.map(image_row),
        candidates: (resolution.candidates.iter())
            .map(|candidate| candidate_row(resolver, candidate))
            .collect(),
        runtime_before_primary: runtime(false),
        runtime: runtime(true),
        namespace,
        left_alone: None,
        warning: (resolution.warning).map(|warning| resolver.explain_warning(image, warning)),
    }
}

/// Reports an image that is never redirected, and why.
#[must_use]
pub fn explain_left_alone(image: &str, left_alone: LeftAlone, namespace: Option<NamespaceRow>) -> ExplainReport {
    ExplainReport {
        api_version: API_VERSION,
        kind: "Explain",
        image: image.to_owned(),
        canonical: image.to_owned(),
        role: ImageRole::Application,
        in_profile: None,
        namespace,
        left_alone: Some(left_alone.why()),
        candidates: Vec::new(),
        runtime_before_primary: image.to_owned(),
        runtime: image.to_owned(),
        warning: None,
    }
}

/// The JSON schemas of what commands write with `-o json`, by command.
#[must_use]
pub fn schemas() -> [(&'static str, schemars::Schema); 10] {
    [
        ("validate", schema_of::<ValidationReport<'_>>()),
        ("plan", schema_of::<PlanReport>()),
        ("images", schema_of::<ImagesReport>()),
        ("explain", schema_of::<ExplainReport>()),
        ("check", schema_of::<CheckReport>()),
        ("transfer", schema_of::<TransferReport>()),
        ("stages", schema_of::<StagesReport>()),
        ("status", schema_of::<AgentStatus>()),
        ("events", schema_of::<Vec<Event>>()),
        ("progress", schema_of::<ProgressEvent>()),
    ]
}

/// What is written, not what could be read: a key that is left out when it is empty is not required.
fn schema_of<T: JsonSchema>() -> schemars::Schema {
    let settings = schemars::generate::SchemaSettings::default().for_serialize();
    settings.into_generator().into_root_schema_for::<T>()
}

/// An image of the profiles, as reports show it.
#[must_use]
pub fn image_row(image: &ProfileImage) -> ImageRow {
    ImageRow {
        source: image.source.clone(),
        canonical: image.reference.canonical().to_string(),
        role: image.role,
        layer: image.layer.clone(),
        pack: image.pack.clone(),
        profile: image.profile.clone(),
        finding: image.finding,
        location: image.location.clone(),
    }
}

fn candidate_row(resolver: &Resolver<'_>, candidate: &Candidate) -> CandidateRow {
    let credentials = candidate.registry.and_then(|index| {
        let registry = &resolver.settings().registries[index];
        let login = registry.login.as_ref()?;
        Some(CredentialsRow {
            registry: registry.address(),
            role: registry.role,
            username: login.username.clone(),
            location: login.location.clone(),
        })
    });
    CandidateRow {
        reference: candidate.reference.to_string(),
        place: candidate.place,
        why: resolver.explain(candidate),
        credentials,
    }
}
