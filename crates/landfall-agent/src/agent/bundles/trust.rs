//! Decisions of the host's keys about bundles and the images in them.

use std::io::Read as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::bundle::policy::{ImageSignatures, decide_trust_by_policy};
use landfall_core::bundle::trust::{Evidence, HighestSeen, OlderBundles, Refusal, Trust};
use landfall_core::cosign::CosignOutcome;
use landfall_core::failure::{Explanation, FailureKind};
use landfall_core::reference::Digest;
use landfall_core::settings::BundleSettings;
use landfall_host::root::HostRoot;
use landfall_oci::bundle::BundleFile;
use landfall_oci::bundle::signature::{Checked, DETACHED_SIZE_MAX, HostKeys};
use landfall_oci::cosign::verify_image;
use landfall_oci::image::{ImageSource, TransferError};

use super::keys::{host_keys, load_keys};
use crate::agent::ledger::Ledger;

/// Decides if the host takes a bundle.
///
/// # Errors
///
/// If it does not.
pub fn trust_of(
    settings: &BundleSettings,
    keys: &HostKeys,
    file: &BundleFile,
    seen: HighestSeen,
) -> anyhow::Result<Trust> {
    let checked = file.check_signatures(keys)?;
    let edition = file.document().edition();
    let evidence = Evidence {
        keys: keys.ring(),
        checks: &checked.checks,
        skipped: &checked.skipped,
        edition: edition.as_ref(),
        seen,
        older: match settings.policy.allow_older {
            true => OlderBundles::Allow,
            false => OlderBundles::Refuse,
        },
    };
    Ok(decide_trust_by_policy(&evidence, settings.unsigned_content())?)
}

/// Decides if the host takes a file of another format, by the detached signature beside it. Returns `None` if the
/// decision needs the SHA-256 of the file, and that is not known.
///
/// # Errors
///
/// If the host does not take it, or if one of its keys cannot be read.
pub(super) fn trust_of_foreign(
    settings: &BundleSettings,
    root: &HostRoot,
    ledger: &Ledger,
    sha256: Option<&Digest>,
    signature: &DetachedSignature,
) -> anyhow::Result<Option<Trust>> {
    let keys = host_keys(settings, root, ledger)?;
    let checked = match (&signature.bytes, sha256) {
        (None, _) => Checked::default(),
        (Some(_), None) if keys.ring().is_configured() => return Ok(None),
        (Some(_), None) => Checked::default(),
        (Some(bytes), Some(sha256)) => keys.check_detached(sha256, bytes),
    };
    let evidence = Evidence {
        keys: keys.ring(),
        checks: &checked.checks,
        skipped: &checked.skipped,
        edition: None,
        seen: HighestSeen::default(),
        older: OlderBundles::Refuse,
    };
    match decide_trust_by_policy(&evidence, settings.unsigned_content()) {
        Err(Refusal::Unsigned) => {
            let name = signature.path.file_name().unwrap_or_default();
            anyhow::bail!(Explanation::new(
                format!("it has no detached signature `{name}` beside it, and this host takes only signed files"),
                "copy its signature to the same place, or make one with a key of this host: `openssl dgst -sha256 \
                 -sign KEY -out SIGNATURE FILE`",
            ))
        }
        decided => Ok(Some(decided?)),
    }
}

/// The file with the detached signature of a file of another format.
#[derive(Debug, Clone)]
pub(super) struct DetachedSignature {
    pub(super) path: Utf8PathBuf,
    /// `None` if there is no such file.
    pub(super) bytes: Option<Vec<u8>>,
}

impl DetachedSignature {
    /// Reads the signature. One that cannot be read counts as a wrong one. Blocks.
    pub(super) fn load(path: &Utf8Path) -> DetachedSignature {
        let read = fs::File::open(path).map(|file| {
            let mut bytes = Vec::new();
            let read = file.take(DETACHED_SIZE_MAX + 1).read_to_end(&mut bytes);
            read.map(|_| bytes).unwrap_or_default()
        });
        DetachedSignature {
            path: path.to_owned(),
            bytes: read.ok(),
        }
    }
}

/// Checks the cosign signatures of an image in a bundle, as the host's policy asks for it.
///
/// # Errors
///
/// If the image is not signed by one of the keys, and the policy requires it.
pub async fn refuse_image(
    settings: &BundleSettings,
    root: &HostRoot,
    source: &dyn ImageSource,
    image: &Digest,
) -> Result<(), TransferError> {
    let policy = settings.image_signatures();
    if policy == ImageSignatures::Ignore {
        return Ok(());
    }
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| TransferError {
        attempt: format!("cannot take the image `{image}`: it is not signed by a key of `landfall.bundles.imageKeys`"),
        kind: FailureKind::Forbidden,
        source: Some(source),
    };
    let keys = load_keys(&settings.image_keys, root).map_err(|error| failed(error.into()))?;
    let refusal = match verify_image(source, image, &keys).await? {
        CosignOutcome::Signed { .. } => return Ok(()),
        CosignOutcome::Refused(refusal) => refusal,
    };
    match policy {
        ImageSignatures::Require => Err(failed(refusal.into())),
        ImageSignatures::Warn | ImageSignatures::Ignore => {
            tracing::warn!(%image, %refusal, "an image of a bundle is not signed");
            Ok(())
        }
    }
}
