//! Output of `landfall plan`, `images` and `explain` with `-o json` and `-o yaml`: documented, versioned types.
//!
//! Pure functions build the reports from settings and plan; the tables for people are made from the same values.
//! Reports name credentials by registry, user and location in the file, and never hold a password.

mod bundle;
mod check;
mod inventory;
mod receipt;
mod reload;
mod stages;
mod transfer;
mod uninstall;
mod upload;
mod version;

use schemars::JsonSchema;
use serde::Serialize;

use crate::diagnostic::{Diagnostics, Location, Severity};
use crate::opt_out::OptOut;
use crate::plan::PlannedImage;
use crate::pod_image::LeftAlone;
use crate::reference::ImageReference;
use crate::resolve::{Candidate, CandidateKind, Resolver};
use crate::settings::{Finding, ImageRole, ProfileImage, ProfileName, RegistryRole, Settings, Unknown};
use crate::status::{AgentStatus, EventList, MirrorFilesStatus, ProgressEvent};

pub use bundle::{
    BundleChange, BundleDamageRow, BundleDiffReport, BundleImageRow, BundleNeed, BundleReport, BundleRoom,
    BundleVerificationReport, RewrittenIndexRow,
};
pub use check::{CheckReport, CheckRow, CheckState, CheckSummary};
pub use inventory::{INVENTORY_SIZE_MAX, Inventory, InventoryError, TooManyBlobs};
pub use receipt::{BundleNeeds, BundleReceipt, BundleReceiptReport, RawReceipt};
pub use reload::ReloadReport;
pub use stages::{StageCondition, StageEffectRow, StageResult, StageStepRow, StagesReport, StagesSummary};
pub use transfer::{BlobTally, TransferReport, TransferRow, TransferState, TransferSummary};
pub use uninstall::{UninstallKind, UninstallReport, UninstallRow, UninstallState, UninstallSummary};
pub use upload::{BundleUploadReport, BundleUploadRow};
pub use version::VersionReport;

/// The version of these types.
pub const API_VERSION: &str = "landfall.dev/v1alpha1";

/// The output of `landfall plan`: the sources of every image, with reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `Plan`.
    pub kind: &'static str,
    /// The profiles that could be read.
    pub profiles: Vec<ProfileName>,
    /// True if pulls are redirected (`stylus.imageRedirectWebhook.enable`); null if that is not known.
    pub redirection: Option<bool>,
    /// The primary registry as `host:port/project`; null if there is none, or that is not known.
    pub primary_registry: Option<String>,
    /// The bundles that images are taken from before a registry is asked, the preferred one first.
    pub bundles: Vec<String>,
    /// The reason why no source of an image is known, e.g. a user-data that cannot be parsed; null if they are known.
    pub sources_unknown: Option<String>,
    /// The reason why images may be missing from the list; null if it is complete.
    pub images_incomplete: Option<String>,
    /// All images, in the order of work.
    pub images: Vec<PlanRow>,
    /// The numbers of images.
    pub summary: PlanSummary,
}

/// One image of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanRow {
    /// The image as the profile names it.
    #[serde(flatten)]
    pub image: ImageRow,
    /// The sources from which the agent fetches the image, in order; null if they are not known.
    pub pull: Option<Vec<CandidateRow>>,
    /// The image's reference in the primary registry; null for images that are not kept there, or if that is not known.
    pub primary: Option<String>,
    /// The image of a pod once all phases are done; null if it is not known.
    pub runtime: Option<String>,
    /// A warning about this image, in a sentence.
    pub warning: Option<String>,
}

/// Numbers of images in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanSummary {
    /// The number of provider images.
    pub provider: usize,
    /// The number of images of the infrastructure layers.
    pub infrastructure: usize,
    /// The number of images of the add-on layers.
    pub application: usize,
    /// The number of images that a bundle has.
    pub in_bundles: usize,
    /// The number of images that go to the primary registry.
    pub to_primary: usize,
    /// The number of images with a warning.
    pub warnings: usize,
}

/// An image as a profile names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageRow {
    /// The image as written, after templates are evaluated.
    pub source: String,
    /// The image in canonical form.
    pub canonical: String,
    /// The role of the image.
    pub role: ImageRole,
    /// The layer of the profile: `os`, `k8s`, `cni`, `csi` or `addon`.
    pub layer: String,
    /// The name of the pack.
    pub pack: String,
    /// The name of the profile.
    pub profile: String,
    /// Tells if the pack lists the image or it was found in a manifest.
    pub finding: Finding,
    /// The position of the image in the input file.
    pub location: Location,
}

/// One source of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateRow {
    /// The reference at this source.
    pub reference: String,
    /// The kind of source.
    pub place: CandidateKind,
    /// The bundle, if the source is one.
    pub bundle: Option<String>,
    /// The reason in a sentence, with rule, file and line.
    pub why: String,
    /// The credentials for this source; null means anonymous.
    pub credentials: Option<CredentialsRow>,
}

impl CandidateRow {
    /// Returns the source on the command line of `landfall copy`: `bundle:FILE`, or the reference at a registry.
    #[must_use]
    pub fn location(&self) -> String {
        match &self.bundle {
            Some(bundle) => format!("bundle:{bundle}"),
            None => self.reference.clone(),
        }
    }
}

/// Credentials for a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsRow {
    /// The registry that the credentials are for: `host[:port][/path]`.
    pub registry: String,
    /// The purpose for which the user named that registry.
    pub role: RegistryRole,
    /// The user name.
    pub username: String,
    /// The position of the password in the input file.
    pub location: Location,
}

/// The output of `landfall validate`: all findings about the inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidationReport<'a> {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `Validation`.
    pub kind: &'static str,
    /// The number of errors.
    pub errors: usize,
    /// The number of warnings.
    pub warnings: usize,
    /// The findings, by file and line.
    pub diagnostics: &'a Diagnostics,
    /// The mirror files as containerd on this machine, or below `--root`, reads them; null if the inputs ask for none.
    pub mirror_files: Option<MirrorFilesStatus>,
}

/// The output of `landfall images`: all images of the profiles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagesReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `Images`.
    pub kind: &'static str,
    /// The profiles that could be read.
    pub profiles: Vec<ProfileName>,
    /// The reason why images may be missing from the list; null if it is complete.
    pub images_incomplete: Option<String>,
    /// All images, in the order of the profiles.
    pub images: Vec<ImageRow>,
}

/// The output of `landfall explain`: the sources of one image, with reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `Explain`.
    pub kind: &'static str,
    /// The requested image, with host and path in canonical form.
    pub image: String,
    /// The image in canonical form.
    pub canonical: String,
    /// The role of the image. An image that no profile names is an application image. Null if that is not known.
    pub role: Option<ImageRole>,
    /// The image in the profiles; null if no profile names it.
    pub in_profile: Option<ImageRow>,
    /// The requested namespace.
    pub namespace: Option<NamespaceRow>,
    /// The reason why the image is never redirected, independent of the rules. If it is set, there are no candidates.
    pub left_alone: Option<&'static str>,
    /// The bundles that images are taken from before a registry is asked, the preferred one first.
    pub bundles: Vec<String>,
    /// The reason why no source of the image is known, e.g. a user-data that cannot be parsed; null if they are known.
    pub sources_unknown: Option<String>,
    /// The reason why the profiles may name the image although none was found; null if all images are known.
    pub images_incomplete: Option<String>,
    /// All possible sources of the image, in order; null if they are not known.
    pub candidates: Option<Vec<CandidateRow>>,
    /// The image of a pod while the primary registry does not hold it; null if it is not known.
    pub runtime_before_primary: Option<String>,
    /// The image of a pod once all phases are done; null if it is not known.
    pub runtime: Option<String>,
    /// A warning about this image, in a sentence.
    pub warning: Option<String>,
}

/// A namespace and its choice about redirection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceRow {
    /// The name of the namespace.
    pub name: String,
    /// The choice that excludes the namespace from the webhook: `disabled`, or `node` for redirection by the node's
    /// mirror files.
    pub choice: Option<OptOut>,
    /// The reason why pods of this namespace stay unchanged, in the words of the audit annotation; null if they are
    /// redirected, or if that is not known.
    pub why: Option<String>,
    /// The reason why the choice is not known; null if it is known.
    pub unknown: Option<String>,
}

impl NamespaceRow {
    /// Reports a namespace's choice: by its labels in the cluster if they are known, else by those of the profiles.
    #[must_use]
    pub fn new(settings: &Settings, name: &str, in_cluster: Option<OptOut>) -> NamespaceRow {
        let choice = in_cluster.or_else(|| settings.namespace_opt_outs.get(name).copied());
        let unknown = settings.unknown.namespaces.first().or(settings.unknown.stops());
        let unknown = unknown.filter(|_| choice.is_none());
        NamespaceRow {
            name: name.to_owned(),
            choice,
            why: choice.map(|choice| choice.explain_namespace(name)),
            unknown: unknown.map(ToString::to_string),
        }
    }
}

/// Joins the first reason and the number of the others; `None` if there is none.
pub(crate) fn reason(unknowns: &[Unknown]) -> Option<String> {
    let first = unknowns.first()?;
    Some(match unknowns.len() - 1 {
        0 => first.to_string(),
        more => format!("{first}, and {more} more"),
    })
}

#[must_use]
pub fn validation_report(diagnostics: &Diagnostics, mirror_files: Option<MirrorFilesStatus>) -> ValidationReport<'_> {
    ValidationReport {
        api_version: API_VERSION,
        kind: "Validation",
        errors: diagnostics.count(Severity::Error),
        warnings: diagnostics.count(Severity::Warning),
        diagnostics,
        mirror_files,
    }
}

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
        let is_bundled = |candidate: &Candidate| candidate.kind == CandidateKind::Bundle;
        summary.in_bundles += usize::from(image.pull.iter().any(is_bundled));
        summary.to_primary += usize::from(image.primary.is_some());
        summary.warnings += usize::from(image.warning.is_some());
    }
    let sources_unknown = reason(&settings.unknown.sources);
    let is_known = sources_unknown.is_none();
    if !is_known {
        // From a part of the configuration no source follows.
        (summary.in_bundles, summary.to_primary, summary.warnings) = (0, 0, 0);
    }
    let row = |image: &PlannedImage| {
        let candidates = image.pull.iter().map(|candidate| candidate_row(resolver, candidate));
        let primary = image.primary.as_ref().filter(|_| is_known);
        let warning = image.warning.filter(|_| is_known);
        PlanRow {
            image: image_row(&settings.images[image.image]),
            pull: is_known.then(|| candidates.collect()),
            primary: primary.map(ImageReference::to_string),
            runtime: is_known.then(|| image.runtime.to_string()),
            warning: warning.map(|warning| resolver.explain_warning(&image.canonical, warning)),
        }
    };
    let primary = settings.primary.as_ref().filter(|_| is_known);
    PlanReport {
        api_version: API_VERSION,
        kind: "Plan",
        profiles: settings.profiles.clone(),
        redirection: is_known.then_some(settings.webhook.enable),
        primary_registry: primary.map(|primary| format!("{}/{}", primary.endpoint, primary.project)),
        bundles: bundle_names(resolver),
        sources_unknown,
        images_incomplete: reason(&settings.unknown.images),
        images: planned.iter().map(row).collect(),
        summary,
    }
}

#[must_use]
pub fn images_report(settings: &Settings) -> ImagesReport {
    ImagesReport {
        api_version: API_VERSION,
        kind: "Images",
        profiles: settings.profiles.clone(),
        images_incomplete: reason(&settings.unknown.images),
        images: settings.images.iter().map(image_row).collect(),
    }
}

/// Reports the sources of one image; tag and digest stay as requested. In a namespace that opted out, the image stays
/// unchanged.
#[must_use]
pub fn explain_report(
    resolver: &Resolver<'_>,
    image: &ImageReference,
    namespace: Option<NamespaceRow>,
) -> ExplainReport {
    let settings = resolver.settings();
    let canonical = image.canonical();
    let role = resolver.role_of(image);
    let resolution = resolver.resolve_on_host(image, role);
    let left_alone = namespace.as_ref().is_some_and(|namespace| namespace.choice.is_some());
    let sources_unknown = reason(&settings.unknown.sources);
    let images_incomplete = reason(&settings.unknown.images);
    let is_known = sources_unknown.is_none();
    let runtime = |primary_holds| {
        if left_alone {
            Some(image.to_string())
        } else {
            is_known.then(|| resolution.runtime(primary_holds).reference.to_string())
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
        role: (in_profile.is_some() || images_incomplete.is_none()).then_some(role),
        in_profile: in_profile.map(image_row),
        candidates: is_known.then(|| {
            let candidates = resolution.candidates.iter();
            candidates.map(|candidate| candidate_row(resolver, candidate)).collect()
        }),
        runtime_before_primary: runtime(false),
        runtime: runtime(true),
        namespace,
        left_alone: None,
        warning: resolution
            .warning
            .filter(|_| is_known)
            .map(|warning| resolver.explain_warning(image, warning)),
        bundles: bundle_names(resolver),
        sources_unknown,
        images_incomplete,
    }
}

/// Reports an image that is never redirected, and the reason.
#[must_use]
pub fn explain_left_alone(image: &str, left_alone: LeftAlone, namespace: Option<NamespaceRow>) -> ExplainReport {
    ExplainReport {
        api_version: API_VERSION,
        kind: "Explain",
        image: image.to_owned(),
        canonical: image.to_owned(),
        role: Some(ImageRole::Application),
        in_profile: None,
        namespace,
        left_alone: Some(left_alone.why()),
        bundles: Vec::new(),
        sources_unknown: None,
        images_incomplete: None,
        candidates: Some(Vec::new()),
        runtime_before_primary: Some(image.to_owned()),
        runtime: Some(image.to_owned()),
        warning: None,
    }
}

/// Returns the JSON schemas of the commands' `-o json` output, by command.
#[must_use]
pub fn schemas() -> [(&'static str, schemars::Schema); 18] {
    [
        ("validate", schema_of::<ValidationReport<'_>>()),
        ("plan", schema_of::<PlanReport>()),
        ("images", schema_of::<ImagesReport>()),
        ("explain", schema_of::<ExplainReport>()),
        ("check", schema_of::<CheckReport>()),
        ("transfer", schema_of::<TransferReport>()),
        ("bundle", schema_of::<BundleReport>()),
        ("bundle-verification", schema_of::<BundleVerificationReport>()),
        ("bundle-diff", schema_of::<BundleDiffReport>()),
        ("bundle-receipt", schema_of::<BundleReceiptReport>()),
        ("bundle-upload", schema_of::<BundleUploadReport>()),
        ("stages", schema_of::<StagesReport>()),
        ("status", schema_of::<AgentStatus>()),
        ("events", schema_of::<EventList>()),
        ("progress", schema_of::<ProgressEvent>()),
        ("reload", schema_of::<ReloadReport>()),
        ("uninstall", schema_of::<UninstallReport>()),
        ("version", schema_of::<VersionReport>()),
    ]
}

/// Makes the schema of the serialized form: a key that is left out when it is empty is not required.
fn schema_of<T: JsonSchema>() -> schemars::Schema {
    let settings = schemars::generate::SchemaSettings::default().for_serialize();
    settings.into_generator().into_root_schema_for::<T>()
}

/// Returns the report's row for an image of the profiles.
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

fn bundle_names(resolver: &Resolver<'_>) -> Vec<String> {
    resolver.bundles().names().map(str::to_owned).collect()
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
        place: candidate.kind,
        bundle: resolver.bundle_of(candidate).map(str::to_owned),
        why: resolver.explain(candidate),
        credentials,
    }
}
