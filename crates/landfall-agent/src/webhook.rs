//! The admission webhook: `POST /mutate` takes an AdmissionReview v1 and answers with the patch that
//! `landfall_core::admission` decides on; `/healthz` says that it is there (SPEC section 9).
//!
//! No request waits for the network: what the primary registry holds comes from the agent's own inventory. All reviews
//! are decided by one task, which keeps the compiled rules beside the settings that they borrow from; a decision takes
//! microseconds.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use landfall_core::admission::{AdmissionError, AdmissionRules, Reviewed, review};
use landfall_core::config::Settings;
use landfall_core::reference::ImageReference;
use landfall_core::resolve::Resolver;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutLayer;

use crate::metrics::{Metrics, ReviewAnswer};

/// The port where `stylus.imageRedirectWebhook.port` is 0 or missing. Free on control-plane hosts: Kubernetes itself
/// uses 10248 to 10260.
pub const DEFAULT_PORT: u16 = 10280;

/// The largest review. A pod has up to 1.5 MiB in etcd, and an UPDATE carries it twice.
const BODY_LIMIT: usize = 8 << 20;

/// kube-apiserver waits 10 s at most by default; an answer after that helps nobody.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Reviews that wait for their turn; more wait in their connections.
const QUEUE: usize = 256;

/// What reviews are decided by.
#[derive(Debug)]
pub struct WebhookRules {
    /// The configuration in force.
    pub settings: Arc<Settings>,
    /// What the primary registry is known to hold.
    pub primary: HashSet<ImageReference>,
}

/// Hands reviews to the task that decides them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reviewer {
    queue: mpsc::Sender<Job>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Job {
    body: Bytes,
    answer: oneshot::Sender<Result<Reviewed, AdmissionError>>,
}

/// The task that decides reviews: [`ReviewTask::run`] is to be supervised.
#[derive(Debug)]
pub struct ReviewTask {
    queue: mpsc::Receiver<Job>,
    rules: watch::Receiver<Arc<WebhookRules>>,
}

/// A reviewer and its task. New rules hold from the next review on.
#[must_use]
pub fn reviewer(rules: watch::Receiver<Arc<WebhookRules>>, metrics: Metrics) -> (Reviewer, ReviewTask) {
    let (sender, queue) = mpsc::channel(QUEUE);
    (Reviewer { queue: sender, metrics }, ReviewTask { queue, rules })
}

impl ReviewTask {
    /// Decides reviews until it is told to stop or nobody can ask any more.
    ///
    /// # Errors
    ///
    /// When whoever owns the rules is gone.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            let rules = self.rules.borrow_and_update().clone();
            let resolver = Resolver::new(&rules.settings);
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    changed = self.rules.changed() => {
                        changed.context("the webhook's rules are gone")?;
                        break;
                    }
                    job = self.queue.recv() => match job {
                        // An answer that nobody waits for any more is lost, rightly.
                        Some(job) => drop(job.answer.send(decide(&job.body, &resolver, &rules.primary))),
                        None => return Ok(()),
                    }
                }
            }
        }
    }
}

fn decide(body: &[u8], resolver: &Resolver<'_>, primary: &HashSet<ImageReference>) -> Result<Reviewed, AdmissionError> {
    let primary_holds = |reference: &ImageReference| primary.contains(reference);
    review(
        body,
        &AdmissionRules {
            resolver,
            primary_holds: &primary_holds,
        },
    )
}

/// The webhook's routes.
pub fn webhook_router(reviewer: Reviewer) -> Router {
    Router::new()
        .route("/mutate", post(mutate))
        .route("/healthz", get(async || "ok\n"))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
        .with_state(reviewer)
}

async fn mutate(State(reviewer): State<Reviewer>, body: Bytes) -> Response {
    let start = Instant::now();
    let (answer, answered) = oneshot::channel();
    let queued = reviewer.queue.send(Job { body, answer }).await.is_ok();
    let Some(reviewed) = (if queued { answered.await.ok() } else { None }) else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the webhook is stopping");
    };
    match reviewed {
        Ok(reviewed) => {
            let kind = if reviewed.rewritten > 0 {
                ReviewAnswer::Patched
            } else {
                ReviewAnswer::Unchanged
            };
            reviewer.metrics.count_review(kind, reviewed.rewritten, start.elapsed());
            for (image, reason) in &reviewed.reasons {
                tracing::debug!(image, reason, "image reviewed");
            }
            (
                [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
                reviewed.response,
            )
                .into_response()
        }
        Err(error) => {
            reviewer.metrics.count_review(ReviewAnswer::Refused, 0, start.elapsed());
            tracing::warn!(%error, "request is no review");
            refuse(StatusCode::BAD_REQUEST, &error.to_string())
        }
    }
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(serde_json::json!({ "error": error }))).into_response()
}
