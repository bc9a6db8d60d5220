//! containerd as a place that images are copied to. The two crates that know images and containerd meet here.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::Utf8Path;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use landfall_core::error_chain::error_chain;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::retry::FailureKind;
use landfall_host::containerd::{
    BlobPresence, Containerd, ContainerdError, Import, KUBERNETES_NAMESPACE, Namespace, PINNED_LABEL, WriteBlobError,
};
use landfall_host::root::HostRoot;
use landfall_oci::client::explain::Explanation;
use landfall_oci::image::{BlobState, BlobStream, ImageSink, RawManifest, TransferError};

/// How long containerd keeps what an import wrote when we die in the middle of it.
const IMPORT_LIFETIME: Duration = Duration::from_secs(6 * 3600);

/// The namespace that kubelet's images are in.
///
/// # Errors
///
/// When containerd does not answer.
pub(crate) async fn connect(root: &HostRoot, socket: &Utf8Path) -> Result<Namespace, TransferError> {
    let socket = root.join(socket).map_err(|error| TransferError {
        attempt: format!("cannot use containerd's socket `{socket}`"),
        kind: FailureKind::Local,
        source: Some(Box::new(error)),
    })?;
    let containerd = Containerd::connect(&socket).await.map_err(failed)?;
    containerd.ensure_namespace(KUBERNETES_NAMESPACE).await.map_err(failed)
}

/// The images of a namespace: name to manifest digest.
///
/// # Errors
///
/// When containerd does not answer.
pub(crate) async fn fetch_names(namespace: &Namespace) -> Result<BTreeMap<String, Digest>, TransferError> {
    let images = namespace.images().await.map_err(failed)?;
    Ok(images
        .into_iter()
        .map(|(name, descriptor)| (name, descriptor.digest))
        .collect())
}

/// Writes one image (or the images of one archive) into containerd. To be ended with [`RuntimeSink::finish`].
#[derive(Debug)]
pub(crate) struct RuntimeSink {
    import: Import,
    /// Names that the image gets beside, or instead of, the one that it is copied under.
    extra_names: Vec<String>,
}

impl RuntimeSink {
    /// Begins.
    ///
    /// # Errors
    ///
    /// When containerd does not answer.
    pub(crate) async fn begin(namespace: &Namespace, extra_names: Vec<String>) -> Result<RuntimeSink, TransferError> {
        let import = namespace.begin_import(IMPORT_LIFETIME).await.map_err(failed)?;
        Ok(RuntimeSink { import, extra_names })
    }

    /// Ends: containerd may collect what has no name.
    ///
    /// # Errors
    ///
    /// When containerd does not answer.
    pub(crate) async fn finish(self) -> Result<(), TransferError> {
        self.import.finish().await.map_err(failed)
    }
}

impl ImageSink for RuntimeSink {
    fn describe(&self) -> String {
        "containerd".to_owned()
    }

    /// Never known at a glance: an image that was pulled for one platform has its whole index there. Each blob is asked
    /// for instead.
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
                // Infrastructure and core images are pinned: kubelet must not collect what no registry may give back.
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
    let hint = match (of_containerd.and_then(ContainerdError::hint), error.kind) {
        (Some(hint), _) => hint,
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
