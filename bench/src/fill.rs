//! Pushes a workload into a running registry, and checks that a registry holds one.

use std::collections::HashMap;

use anyhow::{Context as _, bail, ensure};

use crate::content::digest_of;
use crate::http::{Body, Http};
use crate::workload::{Image, TAG, Workload};

/// Pushes every image. A layer that several images share is sent once and mounted after that. A present layer
/// is not sent.
pub(crate) fn fill_registry(host: &str, workload: &Workload) -> anyhow::Result<()> {
    let mut http = Http::connect(host)?;
    let mut homes: HashMap<&str, &str> = HashMap::new();
    for image in &workload.images {
        for layer in &image.layers {
            let home = homes.get(layer.digest.as_str()).copied();
            push_blob(
                &mut http,
                &image.repository,
                &layer.digest,
                home,
                Body::Content(layer.content),
            )?;
            homes.insert(&layer.digest, &image.repository);
        }
        push_blob(
            &mut http,
            &image.repository,
            &digest_of(&image.config),
            None,
            Body::Bytes(&image.config),
        )?;
        push_manifest(&mut http, image, TAG)?;
    }
    Ok(())
}

/// Pushes every image with this number of additional tags.
pub(crate) fn fill_tags(host: &str, workload: &Workload, tags: usize) -> anyhow::Result<()> {
    fill_registry(host, workload)?;
    let mut http = Http::connect(host)?;
    for image in &workload.images {
        for tag in 1..tags {
            push_manifest(&mut http, image, &format!("more-{tag}"))?;
        }
    }
    Ok(())
}

fn push_blob(
    http: &mut Http,
    repository: &str,
    digest: &str,
    home: Option<&str>,
    body: Body<'_>,
) -> anyhow::Result<()> {
    let there = http.request("HEAD", &format!("/v2/{repository}/blobs/{digest}"), &[], Body::Empty)?;
    if there.status == 200 {
        return Ok(());
    }
    let Some(url) = open_upload(http, repository, digest, home)? else {
        return Ok(());
    };
    let stored = http.request("PUT", &url, &[("content-type", "application/octet-stream")], body)?;
    ensure!(
        stored.status == 201,
        "the upload of `{digest}` was answered with {}",
        stored.status
    );
    Ok(())
}

/// Returns the upload URL of a blob; `None` if the registry mounted it from the repository `home`.
pub(crate) fn open_upload(
    http: &mut Http,
    repository: &str,
    digest: &str,
    home: Option<&str>,
) -> anyhow::Result<Option<String>> {
    let mount = home.map(|home| format!("?mount={digest}&from={home}"));
    let path = format!("/v2/{repository}/blobs/uploads/{}", mount.unwrap_or_default());
    let opened = http.request("POST", &path, &[], Body::Empty)?;
    if opened.status == 201 {
        return Ok(None);
    }
    ensure!(
        opened.status == 202,
        "`POST {path}` was answered with {}",
        opened.status
    );
    let location = opened.header("location").context("an upload without a location")?;
    let separator = if location.contains('?') { '&' } else { '?' };
    Ok(Some(format!("{location}{separator}digest={digest}")))
}

fn push_manifest(http: &mut Http, image: &Image, tag: &str) -> anyhow::Result<()> {
    let path = format!("/v2/{}/manifests/{tag}", image.repository);
    let pushed = http.request(
        "PUT",
        &path,
        &[("content-type", image.media_type())],
        Body::Bytes(&image.manifest),
    )?;
    ensure!(pushed.status == 201, "`PUT {path}` was answered with {}", pushed.status);
    Ok(())
}

/// Returns the outcome of a copy: the program must succeed, and the registry must hold the workload.
pub(crate) fn check_copy(outcome: Result<(), String>, host: &str, workload: &Workload) -> Result<(), String> {
    outcome?;
    check_registry(host, workload).map_err(|error| format!("what it copied is not whole: {error:#}"))
}

/// Checks that every image is there under its tag with the exact bytes of its manifest, and every blob with its
/// size.
///
/// # Errors
/// Returns an error that names the missing or wrong content.
pub(crate) fn check_registry(host: &str, workload: &Workload) -> anyhow::Result<()> {
    let mut http = Http::connect(host)?;
    for image in &workload.images {
        let path = format!("/v2/{}/manifests/{TAG}", image.repository);
        let found = http.request("GET", &path, &[("accept", image.media_type())], Body::Empty)?;
        if found.status != 200 || found.body != image.manifest {
            bail!("`{path}` is not the image's manifest (status {})", found.status);
        }
        for (digest, size) in image.blobs() {
            let path = format!("/v2/{}/blobs/{digest}", image.repository);
            let found = http.request("HEAD", &path, &[], Body::Empty)?;
            let length = found.header("content-length").and_then(|length| length.parse().ok());
            if found.status != 200 || length != Some(size) {
                bail!(
                    "`{path}` has status {} and size {length:?} instead of {size}",
                    found.status
                );
            }
        }
    }
    Ok(())
}
