//! containerd as a sink of image copies. The crate that knows images and the crate that knows containerd meet here.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::Utf8Path;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use landfall_core::failure::{Explanation, FailureKind, error_chain};
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, ImageReference};
use landfall_host::containerd::{
    BlobPresence, Containerd, ContainerdError, Import, KUBERNETES_NAMESPACE, Namespace, PINNED_LABEL, WriteBlobError,
};
use landfall_host::root::HostRoot;
use landfall_oci::image::{BlobState, BlobStream, ImageSink, RawManifest, TransferError};

use crate::failure::find_hint;

/// The lifetime of the lease on imported content, for the case that the agent dies during an import.
const IMPORT_LIFETIME: Duration = Duration::from_secs(6 * 3600);

/// Connects to the namespace with kubelet's images.
///
/// # Errors
///
/// If containerd does not answer.
pub(crate) async fn connect(root: &HostRoot, socket: &Utf8Path) -> Result<Namespace, TransferError> {
    let socket = root.join(socket).map_err(|error| TransferError {
        attempt: format!("cannot use containerd's socket `{socket}`"),
        kind: FailureKind::Local,
        source: Some(Box::new(error)),
    })?;
    let containerd = Containerd::connect(&socket).await.map_err(failed)?;
    containerd.ensure_namespace(KUBERNETES_NAMESPACE).await.map_err(failed)
}

/// Returns the images of a namespace: name to manifest digest.
///
/// # Errors
///
/// If containerd does not answer.
pub(crate) async fn fetch_names(namespace: &Namespace) -> Result<BTreeMap<String, Digest>, TransferError> {
    let images = namespace.images().await.map_err(failed)?;
    Ok(images
        .into_iter()
        .map(|(name, descriptor)| (name, descriptor.digest))
        .collect())
}

/// A sink that writes one image, or the images of one archive, into containerd. End it with [`RuntimeSink::finish`].
#[derive(Debug)]
pub(crate) struct RuntimeSink {
    import: Import,
    /// Names for the image in addition to the name of the copy.
    extra_names: Vec<String>,
}

impl RuntimeSink {
    /// Begins an import.
    ///
    /// # Errors
    ///
    /// If containerd does not answer.
    pub(crate) async fn begin(namespace: &Namespace, extra_names: Vec<String>) -> Result<RuntimeSink, TransferError> {
        let import = namespace.begin_import(IMPORT_LIFETIME).await.map_err(failed)?;
        Ok(RuntimeSink { import, extra_names })
    }

    /// Ends the import: containerd may collect content without a name.
    ///
    /// # Errors
    ///
    /// If containerd does not answer.
    pub(crate) async fn finish(self) -> Result<(), TransferError> {
        self.import.finish().await.map_err(failed)
    }
}

impl ImageSink for RuntimeSink {
    fn describe(&self) -> String {
        "containerd".to_owned()
    }

    /// Always answers `false`: containerd lists an index even if only one platform was pulled. Presence is checked blob
    /// by blob.
    fn has_image<'a>(&'a self, _manifest: &'a RawManifest) -> BoxFuture<'a, Result<bool, TransferError>> {
        async { Ok(false) }.boxed()
    }

    fn blob_state<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobState, TransferError>> {
        async move {
            let presence = self.import.blob_presence(&blob.digest).await.map_err(failed)?;
            Ok(match presence {
                BlobPresence::Complete => BlobState::Complete,
                BlobPresence::Partial(offset) => BlobState::Partial(offset),
                BlobPresence::Missing => BlobState::Missing,
            })
        }
        .boxed()
    }

    fn write_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        offset: u64,
        stream: BlobStream,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        async move {
            self.import
                .write_blob(blob, offset, stream)
                .await
                .map_err(|error| match error {
                    WriteBlobError::Source(error) => error,
                    WriteBlobError::Containerd(error) => failed(error),
                })
        }
        .boxed()
    }

    fn write_manifest<'a>(
        &'a self,
        manifest: &'a RawManifest,
        name: Option<&'a ImageReference>,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        async move {
            let written = self
                .import
                .write_manifest(&manifest.media_type, &manifest.digest, manifest.bytes.clone());
            written.await.map_err(failed)?;
            let Some(name) = name else { return Ok(()) };
            let target = Descriptor::new(
                &manifest.media_type,
                manifest.digest.clone(),
                manifest.bytes.len() as u64,
            );
            let mut names = vec![name.runtime_name()];
            names.extend(
                self.extra_names
                    .iter()
                    .filter(|extra| **extra != name.runtime_name())
                    .cloned(),
            );
            for name in names {
                // Infrastructure and core images are pinned: kubelet must not collect an image that perhaps no registry
                // can give back.
                let put = self.import.namespace().put_image(&name, &target, &[PINNED_LABEL]);
                put.await.map_err(failed)?;
            }
            Ok(())
        }
        .boxed()
    }
}

/// Explains why something could not be loaded into containerd.
pub(crate) fn explain_load(what: &str, error: &TransferError) -> Explanation {
    let of_containerd = error
        .source
        .as_deref()
        .and_then(|source| source.downcast_ref::<ContainerdError>());
    let hint = match (find_hint(error), error.kind) {
        (Some(hint), _) => hint.into_owned(),
        (None, FailureKind::Corrupt | FailureKind::Protocol) => {
            "look at how the provider image was built, or name another one in `system.uri` of the OS pack".to_owned()
        }
        (None, _) => "look at containerd's log (`journalctl -u containerd`), and at the free space".to_owned(),
    };
    let cause = of_containerd.map_or_else(|| error_chain(error), |error| error_chain(error));
    Explanation::new(format!("{what} cannot be loaded: {cause}"), hint)
}

fn failed(error: ContainerdError) -> TransferError {
    TransferError {
        attempt: "cannot use containerd".to_owned(),
        kind: error.kind(),
        source: Some(Box::new(error)),
    }
}
