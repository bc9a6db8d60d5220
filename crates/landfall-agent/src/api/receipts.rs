//! Files for a courier's phone: receipts of bundles, the inventory, and the public key of this host
//! [spec:bundles.receipt].

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use camino::Utf8PathBuf;
use fs_err as fs;
use landfall_core::reference::Digest;
use landfall_core::report::{INVENTORY_SIZE_MAX, Inventory};
use landfall_oci::bundle::signature::receipt_signature_name;
use landfall_oci::store::ContentStore;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::host_key::HostKey;
use crate::status::StatusStore;

/// Ending of receipts in the directory of these files.
const ENDING: &str = ".receipt.json";

/// The parts of the agent that receipts need.
#[derive(Debug, Clone)]
pub(crate) struct ReceiptApi {
    pub(crate) status: StatusStore,
    pub(crate) store: ContentStore,
    /// Directory of receipts of bundles that lie at a place that cannot be written.
    pub(crate) directory: Utf8PathBuf,
    pub(crate) site: String,
    pub(crate) key: Option<Arc<HostKey>>,
}

pub(super) fn routes(state: ReceiptApi) -> Router {
    Router::new()
        .route("/api/v1/receipts", get(list))
        .route("/api/v1/receipts/{bundle}", get(receipt))
        .route("/api/v1/receipts/{bundle}/signature", get(signature))
        .route("/api/v1/inventory", get(inventory))
        .route("/api/v1/host-key", get(host_key))
        .with_state(state)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptList {
    api_version: &'static str,
    receipts: Vec<ReceiptRow>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptRow {
    /// Id of the bundle.
    bundle: Digest,
    /// Path of the receipt on this host.
    path: String,
}

impl ReceiptApi {
    /// Returns the receipts of this host by the ids of their bundles: of those that are here, and of others as far as they
    /// were written into the state directory. Blocks.
    fn find(&self) -> BTreeMap<Digest, Utf8PathBuf> {
        let mut found = BTreeMap::new();
        for entry in self.directory.read_dir_utf8().into_iter().flatten().flatten() {
            let id = entry.file_name().strip_suffix(ENDING);
            if let Some(id) = id.and_then(|hex| format!("sha256:{hex}").parse().ok()) {
                found.insert(id, entry.path().to_owned());
            }
        }
        for bundle in self.status.get().bundles {
            let id = bundle.id.and_then(|id| id.parse().ok());
            if let (Some(id), Some(path)) = (id, bundle.receipt) {
                found.insert(id, path.into());
            }
        }
        found
    }
}

async fn list(State(state): State<ReceiptApi>) -> Result<Json<ReceiptList>, Problem> {
    let receipts = blocking(move || Ok(state.find())).await?;
    let rows = receipts.into_iter().map(|(bundle, path)| ReceiptRow {
        bundle,
        path: path.into_string(),
    });
    Ok(Json(ReceiptList {
        api_version: landfall_core::status::API_VERSION,
        receipts: rows.collect(),
    }))
}

async fn receipt(State(state): State<ReceiptApi>, Path(bundle): Path<String>) -> Result<Response, Problem> {
    send_file(state, bundle, |receipt| receipt).await
}

async fn signature(State(state): State<ReceiptApi>, Path(bundle): Path<String>) -> Result<Response, Problem> {
    send_file(state, bundle, |receipt| receipt_signature_name(receipt.as_str()).into()).await
}

/// Sends the bytes of a file as they are: a signature covers them.
async fn send_file(
    state: ReceiptApi,
    bundle: String,
    select: impl FnOnce(Utf8PathBuf) -> Utf8PathBuf + Send + 'static,
) -> Result<Response, Problem> {
    let read = move || {
        let id: Option<Digest> = bundle.parse().ok();
        let Some(path) = id.and_then(|id| state.find().remove(&id)) else {
            return Ok(None);
        };
        match read_bounded(&select(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    };
    let bytes = blocking(read).await?.ok_or_else(|| {
        let hint = "a receipt is written once all of a bundle is here: `/api/v1/receipts` lists those there are";
        Problem::new(StatusCode::NOT_FOUND, "there is no such receipt", Some(hint))
    })?;
    Ok(json_bytes(bytes))
}

fn read_bounded(path: &Utf8PathBuf) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(INVENTORY_SIZE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[derive(Debug, Deserialize)]
struct InventoryQuery {
    /// True for the first 8 bytes of each digest.
    #[serde(default)]
    short: bool,
}

async fn inventory(State(state): State<ReceiptApi>, Query(query): Query<InventoryQuery>) -> Result<Response, Problem> {
    let list = move || {
        let blobs = state.store.blobs().map_err(io::Error::other)?.into_iter().collect();
        let inventory = Inventory::new(state.site, blobs);
        let inventory = if query.short { inventory.shortened() } else { inventory };
        Ok(serde_json::to_vec_pretty(&inventory)?)
    };
    Ok(json_bytes(blocking(list).await?))
}

async fn host_key(State(state): State<ReceiptApi>) -> Result<String, Problem> {
    let key = state.key.ok_or_else(|| {
        let hint = "look at the agent's events: its state directory cannot be written";
        Problem::new(StatusCode::NOT_FOUND, "this host has no key", Some(hint))
    })?;
    Ok(key.public_text())
}

fn json_bytes(bytes: Vec<u8>) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], bytes).into_response()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)
        .flatten();
    done.map_err(|error| Problem::internal("cannot read the receipts", &error.to_string()))
}
