//! Pulls images from the primary registry, as containerd does for a pod.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use landfall_core::oci_types::{ManifestContent, parse_manifest};
use landfall_core::reference::ImageReference;
use landfall_core::registry_path::API_ROOT;
use landfall_net::tls::{TlsPolicy, client_config};
use landfall_oci::digest::matches_digest;
use landfall_oci::header_names::IN_PLACE;

use crate::output::size;

/// Interval between two questions for an image that is not served yet.
const POLL: Duration = Duration::from_millis(10);
/// Limit of one request. All of it is on loopback.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An image that was pulled whole.
pub(super) struct PulledImage {
    name: String,
    bytes: u64,
    /// True if the registry served all of it out of the bundle.
    in_place: bool,
}

impl PulledImage {
    /// Renders the pull as a line with its end.
    pub(super) fn line(&self) -> String {
        let from = match self.in_place {
            true => "out of the bundle",
            false => "from the registry's store",
        };
        format!("  {}  {}, {from}\n", self.name, size::bytes(self.bytes))
    }
}

/// A client of the primary registry.
pub(super) struct Puller {
    client: reqwest::Client,
    primary: SocketAddr,
}

impl Puller {
    pub(super) fn new(primary: SocketAddr) -> anyhow::Result<Puller> {
        // No connection of this client speaks TLS, but the library makes none without a provider.
        let tls = client_config(&TlsPolicy::default())?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .context("cannot set up an HTTP client")?;
        Ok(Puller { client, primary })
    }

    /// Pulls an image as soon as the registry serves it.
    pub(super) async fn pull_when_served(&self, image: &str) -> PulledImage {
        loop {
            if let Ok(pulled) = self.pull(image).await {
                return pulled;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Pulls an image of one platform with all of its content, and verifies every digest.
    ///
    /// # Errors
    /// If the registry does not serve it, or something else.
    pub(super) async fn pull(&self, image: &str) -> anyhow::Result<PulledImage> {
        let failed = || format!("cannot pull `{image}` as a pod would");
        let reference: ImageReference = image.parse().with_context(failed)?;
        self.pull_all(&reference).await.with_context(failed)
    }

    async fn pull_all(&self, image: &ImageReference) -> anyhow::Result<PulledImage> {
        let (bytes, mut in_place) = self.get(image, "manifests", image.manifest_selector()).await?;
        let ManifestContent::Image(manifest) = parse_manifest(&bytes)? else {
            bail!("it is an index");
        };
        let mut total = bytes.len() as u64;
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            let (bytes, blob_in_place) = self.get(image, "blobs", blob.digest.as_str()).await?;
            ensure!(matches_digest(&bytes, &blob.digest), "`{}` is damaged", blob.digest);
            total += bytes.len() as u64;
            in_place &= blob_in_place;
        }
        Ok(PulledImage {
            name: image.to_string(),
            bytes: total,
            in_place,
        })
    }

    /// Gets a manifest or a blob, and tells if it came out of a bundle.
    async fn get(&self, image: &ImageReference, kind: &str, what: &str) -> anyhow::Result<(Vec<u8>, bool)> {
        let url = format!("http://{}{API_ROOT}{}/{kind}/{what}", self.primary, image.repository);
        let answer = self.client.get(url).send().await?.error_for_status()?;
        let in_place = answer.headers().contains_key(IN_PLACE);
        Ok((answer.bytes().await?.to_vec(), in_place))
    }
}
