//! The calls to the cluster's API, behind one struct. It decides nothing.
//!
//! Objects that only this crate reads are typed. Pods and the webhook's configuration stay raw JSON, because the fields
//! that this crate does not know must be preserved.

use std::time::Duration;

use anyhow::Context as _;
use axum::http::{Request, header};
use camino::Utf8Path;
use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace, Secret};
use kube::api::{ApiResource, DeleteParams, DynamicObject, PostParams, Preconditions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client, Config};
use landfall_core::cluster::{CONFIGURATION_NAME, FIELD_MANAGER, LEASE_NAME, SECRET_NAME};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The time limit of one call. Watches have their own limit.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause after a watch failed.
const WATCH_PAUSE: Duration = Duration::from_secs(1);
/// The number of pods in one answer. It bounds the memory that the agent needs in a cluster of any size.
const PAGE: u32 = 100;

/// A connection to the cluster's API. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    namespace: String,
    server: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// The reason why the API server refused a call, as far as callers distinguish it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another writer was faster.
    Conflict,
    NotFound,
    /// The object does not fit the call, mostly because a `test` of a JSON patch does not hold (HTTP 422).
    Unprocessable,
}

#[derive(Debug)]
pub(crate) struct PodPage {
    /// The pods, as the API server wrote them.
    pub(crate) pods: Vec<Box<RawValue>>,
    /// The `continue` token of the next page; `None` at the end.
    pub(crate) next: Option<String>,
}

#[derive(Deserialize)]
struct PodList {
    metadata: ListMetadata,
    #[serde(default = "Vec::new")]
    items: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct ListMetadata {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

impl Cluster {
    /// Connects by a kubeconfig, or with the service account of this pod.
    ///
    /// # Errors
    ///
    /// If the kubeconfig or the account cannot be used. This method does not check that the API server answers.
    pub(crate) async fn connect(kubeconfig: Option<&Utf8Path>, namespace: &str) -> anyhow::Result<Cluster> {
        let mut config = match kubeconfig {
            Some(path) => {
                let file = path.to_owned();
                let read = move || Kubeconfig::read_from(file.as_std_path());
                let kubeconfig = tokio::task::spawn_blocking(read).await?;
                let options = KubeConfigOptions::default();
                let config = match kubeconfig {
                    Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
                    Err(error) => Err(error),
                };
                config.with_context(|| format!("cannot use the kubeconfig `{path}`"))?
            }
            None => Config::incluster().context("cannot use the service account of this pod")?,
        };
        config.connect_timeout = Some(CALL_TIMEOUT);
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).with_context(|| format!("cannot make a client for `{server}`"))?;
        Ok(Cluster {
            client,
            namespace: namespace.to_owned(),
            server,
        })
    }

    /// Returns a connection to the fake API of a test.
    #[cfg(test)]
    pub(crate) fn fake(client: Client) -> Cluster {
        Cluster {
            client,
            namespace: "default".to_owned(),
            server: "https://test".to_owned(),
        }
    }

    /// Returns the API server's URL.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Fetches the Lease that elects the writer.
    pub(crate) async fn fetch_lease(&self) -> anyhow::Result<Option<Lease>> {
        with_timeout(self.leases().get_opt(LEASE_NAME))
            .await
            .context("cannot read the Lease")
    }

    /// Creates the Lease. An existing one is a conflict.
    pub(crate) async fn create_lease(&self, lease: &Lease) -> anyhow::Result<Lease> {
        with_timeout(self.leases().create(&post(), lease))
            .await
            .context("cannot make the Lease")
    }

    /// Replaces the Lease, unless another writer changed it in between.
    pub(crate) async fn replace_lease(&self, lease: &Lease) -> anyhow::Result<Lease> {
        with_timeout(self.leases().replace(LEASE_NAME, &post(), lease))
            .await
            .context("cannot write the Lease")
    }

    /// Fetches the Secret of the authority.
    pub(crate) async fn fetch_secret(&self) -> anyhow::Result<Option<Secret>> {
        with_timeout(self.secrets().get_opt(SECRET_NAME))
            .await
            .context("cannot read the authority's Secret")
    }

    /// Creates or replaces the Secret of the authority. It is created if it has no resource version.
    pub(crate) async fn write_secret(&self, secret: &Secret) -> anyhow::Result<Secret> {
        let written = if secret.metadata.resource_version.is_some() {
            with_timeout(self.secrets().replace(SECRET_NAME, &post(), secret)).await
        } else {
            with_timeout(self.secrets().create(&post(), secret)).await
        };
        written.context("cannot write the authority's Secret")
    }

    /// Watches the Secret of the authority: its current state first, then every change.
    pub(crate) fn watch_secret(&self) -> impl Stream<Item = Option<Secret>> + Send + use<> {
        pause_after_failure("secret", watch_object(self.secrets(), SECRET_NAME))
    }

    /// Watches the MutatingWebhookConfiguration: its current state first, then every change.
    pub(crate) fn watch_configuration(&self) -> impl Stream<Item = Option<Value>> + Send + use<> {
        // `watch_object` needs a type. It uses a field selector, as this code does for a dynamic object.
        let fields = format!("metadata.name={CONFIGURATION_NAME}");
        let events = watcher::watcher(self.configurations(), watcher::Config::default().fields(&fields));
        let mut seen = false;
        pause_after_failure("configuration", events).filter_map(move |event| {
            let item = match event {
                watcher::Event::Init => {
                    seen = false;
                    None
                }
                watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                    seen = true;
                    Some(serde_json::to_value(object).ok())
                }
                watcher::Event::InitDone if seen => None,
                watcher::Event::InitDone | watcher::Event::Delete(_) => Some(None),
            };
            std::future::ready(item)
        })
    }

    /// Fetches the MutatingWebhookConfiguration.
    pub(crate) async fn fetch_configuration(&self) -> anyhow::Result<Option<Value>> {
        let found = with_timeout(self.configurations().get_opt(CONFIGURATION_NAME)).await;
        let found = found.context("cannot read the MutatingWebhookConfiguration")?;
        Ok(found.map(serde_json::to_value).transpose()?)
    }

    /// Creates or replaces the MutatingWebhookConfiguration. It is created if it has no resource version.
    pub(crate) async fn write_configuration(&self, configuration: &Value) -> anyhow::Result<Value> {
        let object: DynamicObject = serde_json::from_value(configuration.clone())?;
        let api = self.configurations();
        let written = if object.metadata.resource_version.is_some() {
            with_timeout(api.replace(CONFIGURATION_NAME, &post(), &object)).await
        } else {
            with_timeout(api.create(&post(), &object)).await
        };
        Ok(serde_json::to_value(
            written.context("cannot write the MutatingWebhookConfiguration")?,
        )?)
    }

    /// Deletes the MutatingWebhookConfiguration, if it is still the one that was found.
    pub(crate) async fn delete_configuration(&self, found: &Value) -> anyhow::Result<()> {
        let text = |field: &str| found["metadata"][field].as_str().map(str::to_owned);
        let only_this = delete_only(text("uid"), text("resourceVersion"));
        let deleted = with_timeout(self.configurations().delete(CONFIGURATION_NAME, &only_this)).await;
        deleted.context("cannot remove the MutatingWebhookConfiguration")?;
        Ok(())
    }

    /// Deletes the Secret of the authority, if it is still the one that was found.
    pub(crate) async fn delete_secret(&self, found: &Secret) -> anyhow::Result<()> {
        let only_this = delete_only(found.metadata.uid.clone(), found.metadata.resource_version.clone());
        let deleted = with_timeout(self.secrets().delete(SECRET_NAME, &only_this)).await;
        deleted.context("cannot remove the authority's Secret")?;
        Ok(())
    }

    /// Deletes the Lease, if it is still the one that was found.
    pub(crate) async fn delete_lease(&self, found: &Lease) -> anyhow::Result<()> {
        let only_this = delete_only(found.metadata.uid.clone(), found.metadata.resource_version.clone());
        let deleted = with_timeout(self.leases().delete(LEASE_NAME, &only_this)).await;
        deleted.context("cannot remove the Lease")?;
        Ok(())
    }

    /// Watches the metadata of the namespaces that match a label selector.
    pub(crate) fn watch_namespaces(
        &self,
        selector: &str,
    ) -> impl Stream<Item = watcher::Event<PartialObjectMeta<Namespace>>> + Send + use<> {
        let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let config = watcher::Config::default().labels(selector);
        pause_after_failure("namespaces", watcher::watcher(namespaces, config))
    }

    /// Fetches the metadata of a namespace; `None` if there is no such namespace.
    pub(crate) async fn fetch_namespace(&self, name: &str) -> anyhow::Result<Option<PartialObjectMeta<Namespace>>> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let found = with_timeout(namespaces.get_metadata_opt(name)).await;
        found.with_context(|| format!("cannot read the namespace `{name}` from `{}`", self.server))
    }

    /// Fetches a page of the pods that have not ended.
    pub(crate) async fn list_pods(&self, from: Option<&str>) -> anyhow::Result<PodPage> {
        // `%21%3D` is `!=`.
        let mut url =
            format!("/api/v1/pods?limit={PAGE}&fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed");
        if let Some(from) = from {
            url.push_str("&continue=");
            url.push_str(from);
        }
        let request = Request::get(url).body(Vec::new())?;
        let list: PodList = with_timeout(self.client.request(request))
            .await
            .context("cannot list the pods")?;
        Ok(PodPage {
            pods: list.items,
            next: list.metadata.next.filter(|next| !next.is_empty()),
        })
    }

    /// Applies a JSON patch (RFC 6902) to a pod.
    pub(crate) async fn patch_pod(&self, namespace: &str, name: &str, patch: Vec<u8>) -> anyhow::Result<()> {
        let url = format!("/api/v1/namespaces/{namespace}/pods/{name}?fieldManager={FIELD_MANAGER}");
        let request = Request::patch(url)
            .header(header::CONTENT_TYPE, "application/json-patch+json")
            .body(patch)?;
        // The body of the answer is not needed, and a pod can be large.
        let patched = with_timeout(self.client.request_text(request)).await;
        patched.with_context(|| format!("cannot patch the pod `{namespace}/{name}`"))?;
        Ok(())
    }

    /// Records an event about an object of this namespace.
    pub(crate) async fn create_event(&self, namespace: &str, event: &Event) -> anyhow::Result<()> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        with_timeout(events.create(&post(), event))
            .await
            .context("cannot record an event")?;
        Ok(())
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn configurations(&self) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<MutatingWebhookConfiguration>(&());
        Api::all_with(self.client.clone(), &kind)
    }
}

/// Returns the reason why the API server refused a call; `None` if the call failed for another reason.
pub(crate) fn refusal_of(error: &anyhow::Error) -> Option<Refusal> {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) if status.code == 409 => Some(Refusal::Conflict),
        Some(kube::Error::Api(status)) if status.code == 404 => Some(Refusal::NotFound),
        Some(kube::Error::Api(status)) if status.code == 422 => Some(Refusal::Unprocessable),
        _ => None,
    }
}

fn delete_only(uid: Option<String>, resource_version: Option<String>) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions { resource_version, uid }),
        ..DeleteParams::default()
    }
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

async fn with_timeout<T>(call: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(result) => Ok(result?),
        Err(_elapsed) => anyhow::bail!("the API server gave no answer within {} s", CALL_TIMEOUT.as_secs()),
    }
}

/// Returns a watch that continues after failures, with a pause after each.
fn pause_after_failure<T: Send>(
    what: &'static str,
    events: impl Stream<Item = watcher::Result<T>> + Send,
) -> impl Stream<Item = T> + Send {
    events.filter_map(move |event| async move {
        match event {
            Ok(event) => Some(event),
            Err(error) => {
                tracing::debug!(what, %error, "watch failed");
                tokio::time::sleep(WATCH_PAUSE).await;
                None
            }
        }
    })
}
