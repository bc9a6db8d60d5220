//! Decisions of the host's keys about bundles and the images in them.

use anyhow::Context as _;
use landfall_core::bundle::policy::{ImageSignatures, decide_trust_by_policy};
use landfall_core::bundle::trust::{Evidence, HighestSeen, OlderBundles, Trust};
use landfall_core::cosign::CosignOutcome;
use landfall_core::failure::{Explanation, FailureKind};
use landfall_core::reference::Digest;
use landfall_core::settings::{BundleSettings, KeySource};
use landfall_host::root::HostRoot;
use landfall_oci::bundle::signature::{HostKeys, PublicKey};
use landfall_oci::bundle::{BundleFile, BundleSource};
use landfall_oci::cosign::verify_image;
use landfall_oci::image::TransferError;

/// Decides if the host takes a bundle.
///
/// # Errors
///
/// If it does not, or if one of its keys cannot be read.
pub fn trust_of(
    settings: &BundleSettings,
    root: &HostRoot,
    file: &BundleFile,
    seen: HighestSeen,
) -> anyhow::Result<Trust> {
    let keys = load_keys(&settings.public_keys, root)?;
    let keys = HostKeys::new(keys, settings.retired_keys.iter().cloned())?;
    let checked = file.check_signatures(&keys)?;
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

fn load_keys(keys: &[KeySource], root: &HostRoot) -> anyhow::Result<Vec<PublicKey>> {
    let load = |key: &KeySource| match key {
        KeySource::Pem(text) => PublicKey::parse(text).context("cannot use a public key of the user-data"),
        KeySource::File(path) => {
            let bytes = root.read(path)?.unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            PublicKey::parse(&text).with_context(|| {
                Explanation::new(
                    format!("cannot use the public key `{path}`"),
                    "write a public key in PEM there, or name another file in `landfall.bundles`",
                )
            })
        }
    };
    keys.iter().map(load).collect()
}

/// Checks the cosign signatures of an image in a bundle, as the host's policy asks for it.
///
/// # Errors
///
/// If the image is not signed by one of the keys, and the policy requires it.
pub async fn refuse_image(
    settings: &BundleSettings,
    root: &HostRoot,
    source: &BundleSource,
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
