//! The client of containerd's API with a real, private containerd. `ctr` only verifies the results.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_host::containerd::{
    BlobPresence, Containerd, ContainerdError, Import, KUBERNETES_NAMESPACE, Namespace, WriteBlobError,
};
use landfall_testkit::containerd_process::ContainerdProcess;
use landfall_testkit::image_builder::digest_of;

const NAME: &str = "registry.example.com/core/pause:3.9";
const LIFETIME: Duration = Duration::from_secs(600);

/// An index of one platform with one image of one layer; children before parents.
struct FakeImage {
    config: Content,
    layer: Content,
    manifest: Content,
    index: Content,
}

#[derive(Clone)]
struct Content {
    descriptor: Descriptor,
    bytes: Bytes,
}

fn mk_content(kind: &str, bytes: impl Into<Bytes>) -> Content {
    let bytes = bytes.into();
    Content {
        descriptor: Descriptor::new(kind, digest_of(&bytes), bytes.len() as u64),
        bytes,
    }
}

fn mk_image() -> FakeImage {
    // An empty tar archive is 1024 zero bytes. Padding makes it longer than one message of the write stream.
    let layer = mk_content(media_type::OCI_LAYER, vec![0_u8; 3 << 20]);
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [layer.descriptor.digest] },
    });
    let config = mk_content(media_type::OCI_CONFIG, config.to_string());
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": config.descriptor,
        "layers": [layer.descriptor],
    });
    let manifest = mk_content(media_type::OCI_MANIFEST, manifest.to_string());
    let mut child = serde_json::to_value(&manifest.descriptor).unwrap();
    child["platform"] = serde_json::json!({ "os": "linux", "architecture": "amd64" });
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [child] });
    let index = mk_content(media_type::OCI_INDEX, index.to_string());
    FakeImage {
        config,
        layer,
        manifest,
        index,
    }
}

fn whole(content: &Content) -> stream::Iter<std::array::IntoIter<Result<Bytes, Infallible>, 1>> {
    stream::iter([Ok(content.bytes.clone())])
}

async fn connect(process: &ContainerdProcess) -> Namespace {
    let containerd = Containerd::connect(&process.socket()).await.unwrap();
    containerd.ensure_namespace(KUBERNETES_NAMESPACE).await.unwrap()
}

async fn import(namespace: &Namespace, image: &FakeImage) {
    let import = namespace.begin_import(LIFETIME).await.unwrap();
    for blob in [&image.layer, &image.config] {
        import.write_blob(&blob.descriptor, 0, whole(blob)).await.unwrap();
    }
    for manifest in [&image.manifest, &image.index] {
        write_manifest(&import, manifest).await;
    }
    namespace.put_image(NAME, &image.index.descriptor, &[]).await.unwrap();
    import.finish().await.unwrap();
}

async fn write_manifest(import: &Import, manifest: &Content) {
    let Descriptor { media_type, digest, .. } = &manifest.descriptor;
    import
        .write_manifest(media_type, digest, manifest.bytes.clone())
        .await
        .unwrap();
}

/// Returns the digests in containerd's own list of content, collected garbage excluded.
fn content_list(process: &ContainerdProcess) -> String {
    process.ctr(&["content", "ls", "--quiet"]).unwrap()
}

/// Repeats a call once: the first one finds its connection broken by a restart, the second one connects again.
async fn once_more<T, F: Future<Output = Result<T, ContainerdError>>>(
    call: impl Fn() -> F,
) -> Result<T, ContainerdError> {
    match call().await {
        Err(error) if error.kind() == FailureKind::Unreachable => call().await,
        other => other,
    }
}

#[tokio::test]
async fn an_imported_image_is_seen_and_exported_by_ctr() {
    let process = ContainerdProcess::start().unwrap();
    let image = mk_image();
    let namespace = connect(&process).await;
    import(&namespace, &image).await;

    assert_eq!(process.ctr(&["images", "ls", "--quiet"]).unwrap(), format!("{NAME}\n"));
    assert_eq!(namespace.images().await.unwrap()[NAME], image.index.descriptor);
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("image.tar");
    process
        .ctr(&["images", "export", "--all-platforms", archive.to_str().unwrap(), NAME])
        .unwrap();
    let exported = fs_err::read(&archive).unwrap();
    let layer_path = format!("blobs/sha256/{}", image.layer.descriptor.digest.hex());
    assert!(
        exported
            .windows(layer_path.len())
            .any(|window| window == layer_path.as_bytes()),
        "the exported archive holds the layer"
    );
}

#[tokio::test]
async fn an_imported_image_survives_garbage_collection_and_a_restart() {
    let mut process = ContainerdProcess::start().unwrap();
    let image = mk_image();
    let namespace = connect(&process).await;
    import(&namespace, &image).await;
    let unnamed = mk_content(media_type::OCI_LAYER, "nobody names this");
    let second = namespace.begin_import(LIFETIME).await.unwrap();
    second
        .write_blob(&unnamed.descriptor, 0, whole(&unnamed))
        .await
        .unwrap();
    assert!(
        content_list(&process).contains(unnamed.descriptor.digest.as_str()),
        "the lease keeps it"
    );

    // Ends with a garbage collection. It removes the unreferenced blob, which proves that collections work
    // here.
    second.finish().await.unwrap();
    process.restart().unwrap();

    let list = content_list(&process);
    for content in [&image.layer, &image.config, &image.manifest, &image.index] {
        assert!(
            list.contains(content.descriptor.digest.as_str()),
            "{} is kept",
            content.descriptor.media_type
        );
    }
    assert!(
        !list.contains(unnamed.descriptor.digest.as_str()),
        "what nobody names is collected"
    );
    let images = once_more(|| namespace.images()).await;
    assert_eq!(images.unwrap().len(), 1);
    let check = process.ctr(&["images", "check", "--quiet"]).unwrap();
    assert_eq!(check, format!("{NAME}\n"));
}

#[tokio::test]
async fn a_repeated_import_reads_no_blob_again() {
    let process = ContainerdProcess::start().unwrap();
    let image = mk_image();
    let namespace = connect(&process).await;
    import(&namespace, &image).await;

    let second = namespace.begin_import(LIFETIME).await.unwrap();
    assert_eq!(
        second.blob_presence(&image.layer.descriptor.digest).await.unwrap(),
        BlobPresence::Complete
    );
    let unread = stream::poll_fn(|_| -> std::task::Poll<Option<Result<Bytes, Infallible>>> {
        panic!("the stream of a blob that is there is not read")
    });
    second.write_blob(&image.layer.descriptor, 0, unread).await.unwrap();
    second.finish().await.unwrap();
    import(&namespace, &image).await;
    assert_eq!(namespace.images().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_second_writer_of_a_blob_waits_for_the_first() {
    let process = ContainerdProcess::start().unwrap();
    let layer = mk_image().layer;
    let import = connect(&process).await.begin_import(LIFETIME).await.unwrap();
    let (bytes, incoming) = tokio::sync::oneshot::channel::<Bytes>();
    let slow = stream::once(async { incoming.await.map_err(|_| "the sender is gone") });
    let mut first = std::pin::pin!(import.write_blob(&layer.descriptor, 0, slow));
    let mut second = std::pin::pin!(import.write_blob(&layer.descriptor, 0, whole(&layer)));
    let moment = Duration::from_millis(300);
    assert!(
        tokio::time::timeout(moment, &mut first).await.is_err(),
        "the first has no bytes yet"
    );
    assert!(
        tokio::time::timeout(moment, &mut second).await.is_err(),
        "the second waits"
    );
    bytes.send(layer.bytes.clone()).unwrap();
    first.await.unwrap();
    second.await.unwrap();
}

#[tokio::test]
async fn a_broken_stream_is_resumed_where_it_stopped() {
    let process = ContainerdProcess::start().unwrap();
    let layer = mk_image().layer;
    let (digest, size) = (&layer.descriptor.digest, layer.descriptor.size);
    let namespace = connect(&process).await;
    let import = namespace.begin_import(LIFETIME).await.unwrap();
    let half = layer.bytes.slice(..layer.bytes.len() / 2);
    let cut = stream::iter([Ok(half.clone()), Err("the link went down")]);
    let error = import.write_blob(&layer.descriptor, 0, cut).await.unwrap_err();
    assert!(
        matches!(error, WriteBlobError::Source("the link went down")),
        "the source's own error comes back"
    );

    let offset = half.len() as u64;
    assert_eq!(
        import.blob_presence(digest).await.unwrap(),
        BlobPresence::Partial(offset)
    );
    let ended = import
        .write_blob(&layer.descriptor, offset, stream::empty::<Result<Bytes, Infallible>>())
        .await;
    assert_eq!(
        ended.unwrap_err().to_string(),
        format!("cannot write blob `{digest}` into containerd: its source ended after {offset} of {size} bytes")
    );
    let rest = stream::iter([Ok::<_, Infallible>(layer.bytes.slice(half.len()..))]);
    import.write_blob(&layer.descriptor, offset, rest).await.unwrap();
    assert_eq!(import.blob_presence(digest).await.unwrap(), BlobPresence::Complete);
}

#[tokio::test]
async fn a_new_import_goes_on_where_a_killed_containerd_stopped() {
    let mut process = ContainerdProcess::start().unwrap();
    let layer = mk_image().layer;
    let namespace = connect(&process).await;
    let import = namespace.begin_import(LIFETIME).await.unwrap();
    let half = layer.bytes.slice(..layer.bytes.len() / 2);
    let cut = stream::iter([Ok(half.clone()), Err("power cut")]);
    import.write_blob(&layer.descriptor, 0, cut).await.unwrap_err();
    process.restart().unwrap();

    let second = once_more(|| namespace.begin_import(LIFETIME)).await.unwrap();
    let offset = half.len() as u64;
    let presence = second.blob_presence(&layer.descriptor.digest).await.unwrap();
    assert_eq!(presence, BlobPresence::Partial(offset));
    let rest = stream::iter([Ok::<_, Infallible>(layer.bytes.slice(half.len()..))]);
    second.write_blob(&layer.descriptor, offset, rest).await.unwrap();
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_not_resumed_from() {
    let process = ContainerdProcess::start().unwrap();
    let layer = mk_image().layer;
    let import = connect(&process).await.begin_import(LIFETIME).await.unwrap();
    for (wrong, size) in [("same length", layer.bytes.len()), ("too long", layer.bytes.len() + 1)] {
        let bytes = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![1; size]))]);
        let error = match import.write_blob(&layer.descriptor, 0, bytes).await {
            Err(WriteBlobError::Containerd(error)) => error,
            other => panic!("{wrong}: {other:?}"),
        };
        assert_eq!(error.kind(), FailureKind::Corrupt, "{wrong}: {error}");
        let presence = import.blob_presence(&layer.descriptor.digest).await.unwrap();
        assert_eq!(presence, BlobPresence::Missing, "{wrong}");
    }
    import.write_blob(&layer.descriptor, 0, whole(&layer)).await.unwrap();
}

#[tokio::test]
async fn an_empty_blob_is_written() {
    let process = ContainerdProcess::start().unwrap();
    let import = connect(&process).await.begin_import(LIFETIME).await.unwrap();
    let empty = mk_content(media_type::OCI_LAYER, "");
    import.write_blob(&empty.descriptor, 0, whole(&empty)).await.unwrap();
    assert_eq!(
        import.blob_presence(&empty.descriptor.digest).await.unwrap(),
        BlobPresence::Complete
    );
}

#[tokio::test]
async fn a_name_moves_to_new_content_which_goes_with_it() {
    let process = ContainerdProcess::start().unwrap();
    let image = mk_image();
    let namespace = connect(&process).await;
    import(&namespace, &image).await;
    namespace
        .put_image(
            NAME,
            &image.manifest.descriptor,
            &[("io.cri-containerd.pinned", "pinned")],
        )
        .await
        .unwrap();
    assert_eq!(namespace.images().await.unwrap()[NAME], image.manifest.descriptor);
    let listed = process.ctr(&["images", "ls", &format!("name=={NAME}")]).unwrap();
    assert!(listed.contains("io.cri-containerd.pinned=pinned"), "{listed}");
    process.ctr(&["images", "rm", "--sync", NAME]).unwrap();
    assert_eq!(content_list(&process), "", "its content went with it");
}

#[tokio::test]
async fn the_version_is_that_of_the_program() {
    let process = ContainerdProcess::start().unwrap();
    let containerd = Containerd::connect(&process.socket()).await.unwrap();
    let version = containerd.version().await.unwrap();
    assert!(process.ctr(&["version"]).unwrap().contains(&version), "{version}");
}

#[tokio::test]
async fn a_containerd_that_is_down_is_named_with_its_socket() {
    let mut process = ContainerdProcess::start().unwrap();
    let namespace = connect(&process).await;
    let socket = process.socket();
    process.kill();
    let running = namespace.images().await.unwrap_err();
    assert_eq!(running.kind(), FailureKind::Unreachable);
    assert_eq!(
        running.to_string(),
        format!("cannot list the images in containerd at `{socket}`")
    );
    let fresh = Containerd::connect(&socket).await.unwrap_err();
    assert_eq!(fresh.kind(), FailureKind::Unreachable);
    assert_eq!(fresh.to_string(), format!("cannot connect to containerd at `{socket}`"));
}
