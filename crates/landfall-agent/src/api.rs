//! The status API. Everybody may read `/healthz`, `/readyz`, `/metrics`, `/api/v1/status`, `/api/v1/events`,
//! `/api/v1/receipts`, `/api/v1/inventory` and `/api/v1/host-key`: they show no secret. `/api/v1/uploads` takes bundles
//! from clients that have the token.

mod problem;
mod receipts;
mod transport;
mod uploads;

use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use landfall_core::status::{AgentStatus, EventList};
use landfall_oci::store::disk_space::DiskSpace;
use serde::Deserialize;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use self::problem::Problem;
use crate::events::EventLog;
use crate::failure::error_line;
use crate::metrics::{self, Metrics};
use crate::status::StatusStore;

/// The largest request body, but for a range of an upload.
const BODY_LIMIT: usize = 16 * 1024;

/// The time limit of a request, but for a range of an upload.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) use self::receipts::ReceiptApi;
pub(crate) use self::transport::require_encryption;
pub(crate) use self::uploads::UploadApi;

/// The data that the API shows.
#[derive(Debug, Clone)]
pub struct ApiState {
    pub status: StatusStore,
    pub metrics: Metrics,
    pub events: EventLog,
    /// `None` for an agent that takes no bundles.
    pub(crate) uploads: Option<UploadApi>,
    pub(crate) receipts: ReceiptApi,
}

/// Returns the routes of the status API.
pub(crate) fn api_router(state: ApiState) -> Router {
    let (uploads, receipts) = (state.uploads.clone(), state.receipts.clone());
    let short = uploads.clone().map_or_else(Router::new, uploads::short_routes);
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .route("/api/v1/status", get(status))
        .route("/api/v1/events", get(events))
        .with_state(state)
        .merge(receipts::routes(receipts))
        .merge(short)
        .layer(RequestBodyLimitLayer::new(BODY_LIMIT))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
        .merge(uploads.map_or_else(Router::new, uploads::range_routes))
}

async fn readyz(State(state): State<ApiState>) -> (StatusCode, String) {
    let status = state.status.get();
    if status.is_ready() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let reason = match &status.message {
        Some(message) => format!("not ready: {}: {message}\n", status.phase),
        None => format!("not ready: {}\n", status.phase),
    };
    (StatusCode::SERVICE_UNAVAILABLE, reason)
}

async fn scrape(State(state): State<ApiState>) -> Response {
    // A disk that cannot be asked is left out.
    if let Ok(disk) = DiskSpace::of(state.receipts.store.root()) {
        state.metrics.set_disk(disk);
    }
    let text = state.metrics.render(&state.status.get());
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE))],
        text,
    )
        .into_response()
}

async fn status(State(state): State<ApiState>) -> Json<AgentStatus> {
    Json(state.status.get())
}

#[derive(Debug, Deserialize)]
struct EventsQuery {
    /// Selects events with a greater sequence number.
    #[serde(default)]
    since: u64,
}

async fn events(State(state): State<ApiState>, Query(query): Query<EventsQuery>) -> Response {
    match state.events.since(query.since).await {
        Ok(events) => Json(EventList::new(events)).into_response(),
        Err(error) => Problem::internal("cannot read the events", &error_line(&error)).into_response(),
    }
}

/// Returns the receipts of an empty store, for tests.
#[cfg(test)]
pub(crate) fn mk_receipts(state_dir: &camino::Utf8Path, status: StatusStore) -> ReceiptApi {
    ReceiptApi {
        status,
        store: landfall_oci::store::ContentStore::open(&state_dir.join("store")).unwrap(),
        directory: state_dir.join(crate::state_dir::RECEIPTS),
        site: "till-7".to_owned(),
        key: None,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use camino::Utf8Path;
    use landfall_core::status::{EventKind, EventReason, FailedPhase, Phase};
    use tower::ServiceExt as _;

    use super::*;
    use crate::write_health::WriteHealth;

    fn mk_state() -> (tempfile::TempDir, ApiState) {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = Utf8Path::from_path(dir.path()).unwrap();
        let status = StatusStore::new(state_dir, WriteHealth::new(state_dir));
        let events = EventLog::open(state_dir).unwrap();
        let metrics = Metrics::new();
        let (uploads, _) = UploadApi::open(&state_dir.join("content"), state_dir, status.clone(), metrics.clone());
        let state = ApiState {
            receipts: mk_receipts(state_dir, status.clone()),
            status,
            metrics,
            events,
            uploads: Some(uploads),
        };
        (dir, state)
    }

    async fn call(state: &ApiState, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = api_router(state.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_only_when_running() {
        let (_dir, state) = mk_state();
        assert_eq!(call(&state, "/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
        let not = |text: &str| (StatusCode::SERVICE_UNAVAILABLE, text.to_owned());
        assert_eq!(call(&state, "/readyz").await, not("not ready: Validating\n"));
        let failure = FailedPhase {
            phase: Phase::Images,
            message: "1 of 2 images failed".to_owned(),
        };
        state.status.degrade(vec![failure]).await;
        assert_eq!(
            call(&state, "/readyz").await,
            not("not ready: Degraded: 1 of 2 images failed\n")
        );
        state.status.enter(Phase::Running).await;
        assert_eq!(call(&state, "/readyz").await, (StatusCode::OK, "ready\n".to_owned()));
    }

    #[tokio::test]
    async fn status_is_the_wire_type() {
        let (_dir, state) = mk_state();
        let (code, body) = call(&state, "/api/v1/status").await;
        assert_eq!(code, StatusCode::OK);
        assert_eq!(serde_json::from_str::<AgentStatus>(&body).unwrap(), state.status.get());
    }

    #[tokio::test]
    async fn events_are_listed_since_a_sequence() {
        let (_dir, state) = mk_state();
        for subject in ["a", "b"] {
            state
                .events
                .record(
                    EventKind::Normal,
                    EventReason::ImageStored,
                    subject,
                    "stored".to_owned(),
                )
                .await;
        }
        let (code, body) = call(&state, "/api/v1/events?since=1").await;
        assert_eq!(code, StatusCode::OK);
        insta::with_settings!({filters => vec![(r#""time":"[^"]+""#, r#""time":"…""#)]}, {
            insta::assert_snapshot!(body, @r#"{"apiVersion":"landfall.dev/v1alpha1","kind":"EventList","events":[{"sequence":2,"time":"…","kind":"Normal","reason":"ImageStored","subject":"b","message":"stored"}]}"#);
        });
    }

    #[tokio::test]
    async fn unknown_path_is_not_found_and_writing_is_not_allowed() {
        let (_dir, state) = mk_state();
        assert_eq!(call(&state, "/etc/passwd").await.0, StatusCode::NOT_FOUND);
        let request = Request::post("/api/v1/status").body(Body::empty()).unwrap();
        let response = api_router(state).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
