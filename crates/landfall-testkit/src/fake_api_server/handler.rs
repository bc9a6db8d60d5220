//! The HTTP side: maps requests to operations.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State as Shared};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use landfall_core::sync::lock;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::objects::{Selector, apply_patch, is_in};
use super::{Scenario, State};

pub(super) async fn handle(
    Shared(state): Shared<Arc<State>>,
    method: Method,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    if state.scenario() == Scenario::Unavailable {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
    }
    let path = uri.path();
    match method {
        Method::GET if is_collection(path) && query.get("watch").is_some_and(|watch| watch == "true") => {
            watch_collection(state, path.to_owned(), &query)
        }
        Method::GET if is_collection(path) => list(&state, path, &query),
        Method::GET => match state.with_objects(|objects| objects.get(path).cloned()) {
            Some(object) => Json(object).into_response(),
            None => refuse(StatusCode::NOT_FOUND, "NotFound"),
        },
        Method::POST => create(&state, path, &body),
        Method::PUT => replace(&state, path, &body),
        Method::PATCH => patch(&state, path, &body),
        Method::DELETE => delete(&state, path, &body),
        _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
    }
}

/// Collections with and without a namespace in their paths.
const COLLECTIONS: [&str; 6] = [
    "events",
    "leases",
    "mutatingwebhookconfigurations",
    "namespaces",
    "pods",
    "secrets",
];

fn is_collection(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|last| COLLECTIONS.contains(&last))
}

fn selector_of(query: &HashMap<String, String>) -> Selector {
    let given = |key: &str| query.get(key).filter(|text| !text.is_empty()).cloned();
    Selector {
        fields: given("fieldSelector"),
        labels: given("labelSelector"),
    }
}

fn list(state: &State, path: &str, query: &HashMap<String, String>) -> Response {
    let selector = selector_of(query);
    let number = |key: &str| query.get(key).and_then(|text| text.parse::<usize>().ok());
    let (from, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
    state.with_objects(|objects| {
        let all: Vec<&Value> = objects.list(path).filter(|object| selector.takes(object)).collect();
        let page: Vec<&Value> = all.iter().skip(from).take(limit).copied().collect();
        let next = from.saturating_add(page.len());
        let next = if next < all.len() {
            next.to_string()
        } else {
            String::new()
        };
        let metadata = json!({ "resourceVersion": objects.version().to_string(), "continue": next });
        Json(json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": page })).into_response()
    })
}

/// Deletes an object, unless it is another one than the preconditions of the `DeleteOptions` name.
fn delete(state: &State, path: &str, body: &[u8]) -> Response {
    let options: Value = serde_json::from_slice(body).unwrap_or_default();
    state.with_objects(|objects| {
        let Some(object) = objects.get(path) else {
            return refuse(StatusCode::NOT_FOUND, "NotFound");
        };
        let fits = |field: &str| {
            let wanted = &options["preconditions"][field];
            wanted.is_null() || *wanted == object["metadata"][field]
        };
        if !(fits("resourceVersion") && fits("uid")) {
            return refuse(StatusCode::CONFLICT, "Conflict");
        }
        objects.delete(path);
        Json(json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" })).into_response()
    })
}

/// Position of a watch.
struct Watching {
    state: Arc<State>,
    path: String,
    selector: Selector,
    version: usize,
    changes: watch::Receiver<u64>,
}

fn watch_collection(state: Arc<State>, path: String, query: &HashMap<String, String>) -> Response {
    let version = query.get("resourceVersion").and_then(|text| text.parse().ok());
    let watching = Watching {
        selector: selector_of(query),
        version: version.unwrap_or(0),
        changes: state.changes.subscribe(),
        state,
        path,
    };
    let lines = stream::unfold(watching, |mut watching| async move {
        loop {
            watching.changes.mark_unchanged();
            if watching.state.scenario() == Scenario::Unavailable {
                return None;
            }
            let lines = watching.read();
            if !lines.is_empty() {
                return Some((Ok::<_, Infallible>(lines), watching));
            }
            watching.changes.changed().await.ok()?;
        }
    });
    Body::from_stream(lines).into_response()
}

impl Watching {
    /// Returns the events since the last read, one per line.
    fn read(&mut self) -> String {
        let objects = lock(&self.state.objects);
        let events = objects
            .changes_since(self.version)
            .filter(|change| is_in(&self.path, &change.path))
            .filter_map(|change| self.selector.event_of(change));
        let lines = events.map(|event| format!("{event}\n")).collect();
        self.version = objects.version();
        lines
    }
}

fn create(state: &State, path: &str, body: &Bytes) -> Response {
    let Ok(object) = serde_json::from_slice::<Value>(body) else {
        return refuse(StatusCode::BAD_REQUEST, "BadRequest");
    };
    let Some(name) = object["metadata"]["name"].as_str() else {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, "Invalid");
    };
    let path = format!("{path}/{name}");
    state.with_objects(|objects| match objects.get(&path) {
        Some(_) => refuse(StatusCode::CONFLICT, "AlreadyExists"),
        None => (StatusCode::CREATED, Json(objects.put(&path, object))).into_response(),
    })
}

fn replace(state: &State, path: &str, body: &Bytes) -> Response {
    let Ok(object) = serde_json::from_slice::<Value>(body) else {
        return refuse(StatusCode::BAD_REQUEST, "BadRequest");
    };
    state.with_objects(|objects| match objects.get(path) {
        None => refuse(StatusCode::NOT_FOUND, "NotFound"),
        Some(there) if there["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] => {
            refuse(StatusCode::CONFLICT, "Conflict")
        }
        Some(_) => Json(objects.put(path, object)).into_response(),
    })
}

fn patch(state: &State, path: &str, body: &Bytes) -> Response {
    let Ok(patch) = serde_json::from_slice::<Value>(body) else {
        return refuse(StatusCode::BAD_REQUEST, "BadRequest");
    };
    state.with_objects(|objects| {
        let Some(mut object) = objects.get(path).cloned() else {
            return refuse(StatusCode::NOT_FOUND, "NotFound");
        };
        match apply_patch(&mut object, &patch) {
            Ok(()) => Json(objects.put(path, object)).into_response(),
            Err(_operation) => refuse(StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
        }
    })
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
        "message": reason, "code": status.as_u16(), "metadata": {} });
    (status, Json(body)).into_response()
}
