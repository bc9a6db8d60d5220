//! Connection to containerd and its namespaces: lists and names images.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use hyper_util::rt::TokioIo;
use landfall_core::oci_types::Descriptor;
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request};

use super::error::ContainerdError;
use super::proto::services::images::v1 as images;
use super::proto::services::namespaces::v1 as namespaces;
use super::proto::services::version::v1::version_client::VersionClient;
use super::proto::types;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The timeout of calls that wait for a garbage collection.
pub(super) const COLLECTION_LIMIT: Duration = Duration::from_secs(300);
/// containerd sends and accepts messages of up to 16 MiB; tonic's default would refuse a list of images beyond 4 MiB.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A connection to containerd. It is cheap to clone, and reconnects by itself after a restart of containerd.
#[derive(Debug, Clone)]
pub struct Containerd {
    pub(super) channel: Channel,
    socket: Arc<Utf8Path>,
}

impl Containerd {
    /// Connects to the unix socket.
    ///
    /// # Errors
    /// [`ContainerdError::Connect`] when no process listens there or the access is denied.
    pub async fn connect(socket: &Utf8Path) -> Result<Self, ContainerdError> {
        let refused = |source| ContainerdError::Connect {
            socket: socket.to_owned(),
            source,
        };
        // tonic wraps the cause so deeply that it is lost, so one plain connection is tried first.
        UnixStream::connect(socket).await.map_err(refused)?;
        let path: Utf8PathBuf = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is unused: the connector always goes to the socket.
        let channel = Endpoint::from_static("http://containerd.invalid")
            .connect_timeout(CONNECT_LIMIT)
            .connect_with_connector(connector)
            .await
            .map_err(|cause| refused(std::io::Error::other(cause)))?;
        Ok(Containerd {
            channel,
            socket: Arc::from(socket),
        })
    }

    /// Returns containerd's version, e.g. `1.6.20~ds1`.
    ///
    /// # Errors
    /// If the call to containerd fails.
    pub async fn version(&self) -> Result<String, ContainerdError> {
        let mut client = VersionClient::new(self.channel.clone());
        let answer = self
            .call(CALL_LIMIT, || "ask for the version".to_owned(), client.version(()))
            .await?;
        Ok(answer.version)
    }

    /// Returns a namespace, and creates it if it is missing.
    ///
    /// # Errors
    /// If `name` is no valid namespace, or the call to containerd fails.
    pub async fn ensure_namespace(&self, name: &str) -> Result<Namespace, ContainerdError> {
        let attempt = || format!("make namespace `{name}`");
        let header = MetadataValue::try_from(name).map_err(|_| {
            ContainerdError::call(
                attempt(),
                &self.socket,
                tonic::Status::invalid_argument("not a header value"),
            )
        })?;
        let namespace = Namespace {
            containerd: self.clone(),
            header,
        };
        let wanted = namespaces::Namespace { name: name.to_owned() };
        // Namespaces belong to no namespace, but containerd 1.6 publishes the event of the creation in that of the
        // request.
        let request = namespace.request(namespaces::CreateNamespaceRequest {
            namespace: Some(wanted),
        });
        let mut client = namespaces::namespaces_client::NamespacesClient::new(self.channel.clone());
        match self.call(CALL_LIMIT, attempt, client.create(request)).await {
            Err(error) if !error.is(Code::AlreadyExists) => Err(error),
            _ => Ok(namespace),
        }
    }

    pub(super) async fn call<T>(
        &self,
        limit: Duration,
        attempt: impl Fn() -> String,
        answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, ContainerdError> {
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(ContainerdError::call(attempt(), &self.socket, status)),
            Err(_) => Err(ContainerdError::Timeout {
                attempt: attempt(),
                socket: self.socket.as_ref().to_owned(),
                limit,
            }),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Namespace {
    pub(super) containerd: Containerd,
    header: MetadataValue<Ascii>,
}

impl Namespace {
    /// Returns every image: name to target. The descriptors hold media type, digest and size.
    ///
    /// # Errors
    /// If the call to containerd fails.
    pub async fn images(&self) -> Result<BTreeMap<String, Descriptor>, ContainerdError> {
        let request = self.request(images::ListImagesRequest { filters: Vec::new() });
        let mut client = self.images_client();
        let answer = self
            .containerd
            .call(CALL_LIMIT, || "list the images".to_owned(), client.list(request))
            .await?;
        Ok(answer
            .images
            .into_iter()
            .filter_map(|image| Some((image.name, descriptor(image.target?)?)))
            .collect())
    }

    /// Names content: creates the image, or points an existing image of that name at `target`. `labels` are added to
    /// those of an existing image.
    ///
    /// # Errors
    /// If the call to containerd fails, or containerd refuses the name.
    pub async fn put_image(
        &self,
        name: &str,
        target: &Descriptor,
        labels: &[(&str, &str)],
    ) -> Result<(), ContainerdError> {
        let attempt = || format!("create image `{name}`");
        let labels: BTreeMap<_, _> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut paths = vec!["target".to_owned()];
        paths.extend(labels.keys().map(|key| format!("labels.{key}")));
        let image = images::Image {
            name: name.to_owned(),
            labels,
            target: Some(wire_descriptor(target)),
        };
        let create = self.request(images::CreateImageRequest {
            image: Some(image.clone()),
        });
        match self
            .containerd
            .call(CALL_LIMIT, attempt, self.images_client().create(create))
            .await
        {
            Err(error) if error.is(Code::AlreadyExists) => {
                let update = images::UpdateImageRequest {
                    image: Some(image),
                    update_mask: Some(types::FieldMask { paths }),
                };
                let mut client = self.images_client();
                let answer = client.update(self.request(update));
                self.containerd
                    .call(CALL_LIMIT, || format!("update image `{name}`"), answer)
                    .await
                    .map(drop)
            }
            other => other.map(drop),
        }
    }

    fn images_client(&self) -> images::images_client::ImagesClient<Channel> {
        images::images_client::ImagesClient::new(self.containerd.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("containerd-namespace", self.header.clone());
        request
    }
}

fn wire_descriptor(descriptor: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: wire_size(descriptor.size),
    }
}

/// Converts containerd's descriptor; `None` if its digest is not of a known form.
fn descriptor(wire: types::Descriptor) -> Option<Descriptor> {
    Some(Descriptor::new(
        &wire.media_type,
        wire.digest.parse().ok()?,
        u64::try_from(wire.size).ok()?,
    ))
}

/// Converts a size to protobuf's type. No file is longer than `i64::MAX`, so a larger number only makes a check fail.
pub(super) fn wire_size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Converts a length from protobuf's type; containerd sends none below zero.
pub(super) fn unsigned(length: i64) -> u64 {
    u64::try_from(length).unwrap_or(0)
}
