//! Lease of containerd, which protects the content of one import from garbage collection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use landfall_core::reference::Digest;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use super::connection::{CALL_LIMIT, COLLECTION_LIMIT, Namespace};
use super::error::ContainerdError;
use super::proto::services::content::v1::content_client::ContentClient;
use super::proto::services::leases::v1 as leases;
use super::proto::services::leases::v1::leases_client::LeasesClient;

/// The label with the expiry of a lease (RFC 3339).
const EXPIRY_LABEL: &str = "containerd.io/gc.expire";

/// A lease in one namespace. Calls that read or write content under it are made by its methods.
#[derive(Debug)]
pub(super) struct ContainerdLease {
    namespace: Namespace,
    name: String,
    header: MetadataValue<Ascii>,
}

impl ContainerdLease {
    pub(super) async fn create(namespace: Namespace, lifetime: Duration) -> Result<Self, ContainerdError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = Timestamp::now();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("landfall-{}-{}-{number}", std::process::id(), now.as_nanosecond());
        let header = MetadataValue::try_from(&name).expect("a lease's name is made of letters, digits and hyphens");
        let expiry = SignedDuration::try_from(lifetime)
            .ok()
            .and_then(|lifetime| now.checked_add(lifetime).ok());
        let labels = BTreeMap::from([(EXPIRY_LABEL.to_owned(), expiry.unwrap_or(Timestamp::MAX).to_string())]);
        let lease = ContainerdLease {
            namespace,
            name,
            header,
        };
        let request = lease.namespace.request(leases::CreateRequest {
            id: lease.name.clone(),
            labels,
        });
        let mut client = lease.leases_client();
        let answer = client.create(request);
        lease
            .namespace
            .containerd
            .call(CALL_LIMIT, || "create a lease".to_owned(), answer)
            .await?;
        Ok(lease)
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Ends the lease and waits for the garbage collection that follows.
    pub(super) async fn end(self) -> Result<(), ContainerdError> {
        let request = self.namespace.request(leases::DeleteRequest {
            id: self.name.clone(),
            sync: true,
        });
        let mut client = self.leases_client();
        let answer = client.delete(request);
        self.namespace
            .containerd
            .call(COLLECTION_LIMIT, || format!("end lease `{}`", self.name), answer)
            .await
    }

    /// Adds content to the lease. This must happen before its presence is checked, so that it cannot be collected
    /// afterwards.
    pub(super) async fn add_content(&self, digest: &Digest) -> Result<(), ContainerdError> {
        let resource = leases::Resource {
            id: digest.to_string(),
            r#type: "content".to_owned(),
        };
        let request = leases::AddResourceRequest {
            id: self.name.clone(),
            resource: Some(resource),
        };
        let mut client = self.leases_client();
        let answer = client.add_resource(self.namespace.request(request));
        self.call(CALL_LIMIT, "lease", digest, answer).await
    }

    pub(super) fn content_client(&self) -> ContentClient<Channel> {
        ContentClient::new(self.namespace.containerd.channel.clone())
    }

    fn leases_client(&self) -> LeasesClient<Channel> {
        LeasesClient::new(self.namespace.containerd.channel.clone())
    }

    /// Makes a request whose effects belong to the lease.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.namespace.request(message);
        request.metadata_mut().insert("containerd-lease", self.header.clone());
        request
    }

    pub(super) async fn call<T>(
        &self,
        limit: Duration,
        verb: &str,
        digest: &Digest,
        answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, ContainerdError> {
        self.namespace
            .containerd
            .call(limit, || format!("{verb} blob `{digest}`"), answer)
            .await
    }
}
