//! Upstream registry of the demonstration: the embedded registry behind a login, filled through its API.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use camino::Utf8Path;
use landfall_core::reference::{ImageReference, Repository, parse_reference};
use landfall_net::serve::{ServeLimits, serve};
use landfall_oci::client::{Endpoint, Login, RegistryClient};
use landfall_oci::fixtures::ImageFixture;
use landfall_oci::image::RawManifest;
use landfall_oci::store::ContentStore;
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::{Policy, Registry, Users, registry_service};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::commands::demo::site::{UPSTREAM_PASSWORD, UPSTREAM_PATH, UPSTREAM_USER};

/// Serves an empty registry until the future is dropped.
pub(super) fn serve_upstream(
    directory: &Utf8Path,
    listener: TcpListener,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let store = ContentStore::open(&directory.join("store")).context("cannot open the upstream registry's store")?;
    let registry =
        Registry::open(store, &directory.join("repositories")).context("cannot open the upstream registry")?;
    let policy = Policy {
        login: Some(Users::User {
            name: UPSTREAM_USER.to_owned(),
            password: UPSTREAM_PASSWORD.into(),
        }),
        ..Policy::default()
    };
    let http = with_fast_path(registry_service(Arc::new(registry), policy));
    Ok(async move {
        let _drained = serve(listener, None, http, ServeLimits::default(), CancellationToken::new()).await;
    })
}

/// Pushes the images below the upstream's path, each under its canonical name.
pub(super) async fn push_images(upstream: SocketAddr, images: &[(&str, ImageFixture)]) -> anyhow::Result<()> {
    let mut endpoint = Endpoint::new(
        upstream
            .to_string()
            .parse()
            .context("an address is a registry's host")?,
    );
    endpoint.tls.insecure = true;
    endpoint.login = Some(Login {
        username: UPSTREAM_USER.to_owned(),
        password: UPSTREAM_PASSWORD.into(),
    });
    let client = RegistryClient::new(endpoint)?;
    for (name, image) in images {
        let name = parse_reference(name).with_context(|| format!("`{name}` is no image reference"))?;
        push_image(&client, &name, image)
            .await
            .with_context(|| format!("cannot push `{name}` to the upstream registry"))?;
    }
    Ok(())
}

async fn push_image(client: &RegistryClient, name: &ImageReference, image: &ImageFixture) -> anyhow::Result<()> {
    let repository: Repository = format!("{UPSTREAM_PATH}/{}/{}", name.host, name.repository).parse()?;
    for (descriptor, bytes) in image.described_blobs() {
        let bytes = bytes.clone();
        let stream = Box::pin(futures_util::stream::once(async move { Ok(bytes) }));
        client.push_blob(&repository, &descriptor, stream).await?;
    }
    for (descriptor, bytes) in &image.manifests {
        let manifest = RawManifest {
            bytes: bytes.clone(),
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
        };
        client
            .push_manifest(&repository, name.manifest_selector(), &manifest)
            .await?;
    }
    Ok(())
}
