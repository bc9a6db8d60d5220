//! The admission webhook [spec:webhook]. `POST /mutate` takes an AdmissionReview v1 and answers with the patch that
//! `landfall_core::admission` decides on; `/healthz` answers while the webhook is up.
//!
//! No request waits for the network: the rules, the content of the primary registry and the choices of namespaces are
//! kept in memory and swapped whole. The embedded registry of the same process is asked whether it still has the image. A
//! decision takes microseconds, and the thread that read the request makes it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use landfall_core::admission::{AdmissionError, AdmissionRules, PodRepair, Reviewed, plan_repair, review};
use landfall_core::cluster::configuration::MUTATE_PATH;
use landfall_core::opt_out::OptOut;
use landfall_core::reference::ImageReference;
use landfall_core::resolve::Resolver;
use landfall_core::settings::Settings;
use landfall_net::serve::budget::{Budget, BudgetLimits, ClientAddress};
use landfall_net::serve::request_body::{BufferError, buffer_body};
use tokio::time::Instant;
use tower_http::timeout::TimeoutLayer;

use crate::metrics::{Metrics, ReviewAnswer};

/// The port if `stylus.imageRedirectWebhook.port` is 0 or missing. It is free on control-plane hosts: Kubernetes itself
/// uses 10248 to 10260.
pub const DEFAULT_PORT: u16 = 10280;

/// Memory for reviews that are being received, in bytes. The chart limits the memory of the container to 128 MiB, and a
/// review takes several times its size while it is decided on, by one of the threads.
const BODIES: BudgetLimits = BudgetLimits {
    total: 32 << 20,
    share: 16 << 20,
};

/// The largest review in bytes. A pod has up to 1.5 MiB in etcd, and an UPDATE carries it twice.
const BODY_LIMIT: usize = 8 << 20;

/// The time limit of a request. kube-apiserver waits 10 s at most by default; a later answer has no effect.
const TIMEOUT: Duration = Duration::from_secs(8);

/// The primary registry as far as it can be asked without the network.
pub trait PrimaryProbe: std::fmt::Debug + Send + Sync {
    /// Returns false if the primary registry cannot serve the image at this moment.
    fn can_serve(&self, image: &ImageReference) -> bool;

    /// Returns true if the primary registry serves the image out of a bundle at this moment, whether or not it was pushed
    /// [spec:primary.places].
    fn serves_in_place(&self, image: &ImageReference) -> bool;
}

/// The rules for reviews, compiled once for many.
#[derive(Debug)]
pub struct WebhookRules {
    resolver: Resolver<'static>,
    primary: HashSet<ImageReference>,
    probe: Option<Arc<dyn PrimaryProbe>>,
    observe_only: bool,
}

impl WebhookRules {
    /// Returns the rules of these settings. `primary` is what the primary registry is known to hold.
    #[must_use]
    pub fn new(settings: Arc<Settings>, primary: HashSet<ImageReference>) -> WebhookRules {
        WebhookRules {
            observe_only: settings.landfall.webhook.observe_only,
            resolver: Resolver::shared(settings),
            primary,
            probe: None,
        }
    }

    /// Adds a probe of the primary registry in this process: an image that was deleted there is not redirected to it
    /// from that moment on, and one that it serves out of a bundle is redirected as long as the bundle is there.
    #[must_use]
    pub fn with_probe(mut self, probe: Option<Arc<dyn PrimaryProbe>>) -> WebhookRules {
        self.probe = probe;
        self
    }

    fn primary_holds(&self, image: &ImageReference) -> bool {
        match (&self.probe, self.primary.contains(image)) {
            (None, is_known) => is_known,
            (Some(probe), true) => probe.can_serve(image),
            (Some(probe), false) => probe.serves_in_place(image),
        }
    }
}

/// Decides reviews, and plans repairs of pods that were admitted without redirection. Cheap to clone; all clones share
/// rules and choices.
#[derive(Debug, Clone)]
pub struct Reviewer {
    shared: Arc<ReviewerState>,
    metrics: Metrics,
}

#[derive(Debug)]
struct ReviewerState {
    rules: ArcSwap<WebhookRules>,
    choices: ArcSwap<HashMap<String, OptOut>>,
}

impl Reviewer {
    /// Returns a reviewer that knows of no choice in the cluster yet.
    #[must_use]
    pub fn new(rules: WebhookRules, metrics: Metrics) -> Reviewer {
        let shared = ReviewerState {
            rules: ArcSwap::from_pointee(rules),
            choices: ArcSwap::default(),
        };
        Reviewer {
            shared: Arc::new(shared),
            metrics,
        }
    }

    /// Replaces the rules, from the next review on.
    pub fn replace_rules(&self, rules: WebhookRules) {
        self.shared.rules.store(Arc::new(rules));
    }

    /// Replaces the choices that the namespaces of the cluster made by their labels.
    pub fn replace_choices(&self, choices: HashMap<String, OptOut>) {
        self.shared.choices.store(Arc::new(choices));
    }

    /// Answers a review.
    ///
    /// # Errors
    ///
    /// If the body is not a valid review.
    pub fn review(&self, body: &[u8]) -> Result<Reviewed, AdmissionError> {
        self.with_rules(|rules| review(body, rules))
    }

    /// Decides about a live pod, in the JSON of the API server.
    ///
    /// # Errors
    ///
    /// If the text is not a pod.
    pub fn plan_repair(&self, pod: &str) -> Result<Option<PodRepair>, AdmissionError> {
        self.with_rules(|rules| plan_repair(pod, rules))
    }

    fn with_rules<T>(&self, decide: impl FnOnce(&AdmissionRules<'_>) -> T) -> T {
        let (rules, choices) = (self.shared.rules.load(), self.shared.choices.load());
        decide(&AdmissionRules {
            resolver: &rules.resolver,
            primary_holds: &|reference| rules.primary_holds(reference),
            namespace_choice: &|namespace| choices.get(namespace).copied(),
            observe_only: rules.observe_only,
        })
    }

    fn observes_only(&self) -> bool {
        self.shared.rules.load().observe_only
    }
}

/// Returns the routes of the webhook.
pub fn webhook_router(reviewer: Reviewer) -> Router {
    Router::new()
        .route(MUTATE_PATH, post(mutate))
        .route("/healthz", get(async || "ok\n"))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
        .with_state(WebhookState {
            reviewer,
            bodies: Budget::new(BODIES),
        })
}

#[derive(Debug, Clone)]
struct WebhookState {
    reviewer: Reviewer,
    bodies: Budget,
}

async fn mutate(State(WebhookState { reviewer, bodies }): State<WebhookState>, request: Request) -> Response {
    let client = ClientAddress::of(request.extensions());
    let body = match buffer_body(request.into_body(), BODY_LIMIT, &bodies, client).await {
        Ok(body) => body,
        Err(error) => {
            reviewer.metrics.count_review(ReviewAnswer::Refused, 0, Duration::ZERO);
            tracing::debug!(%error, "a review was not received");
            let status = match error {
                BufferError::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
                BufferError::OverBudget => StatusCode::SERVICE_UNAVAILABLE,
                BufferError::Incomplete => StatusCode::BAD_REQUEST,
                BufferError::TooSlow => StatusCode::REQUEST_TIMEOUT,
            };
            let body = Json(serde_json::json!({ "error": error.to_string() }));
            return (status, body).into_response();
        }
    };
    let start = Instant::now();
    match reviewer.review(&body.bytes) {
        Ok(reviewed) => {
            let kind = match reviewed.rewritten {
                0 => ReviewAnswer::Unchanged,
                _ if reviewer.observes_only() => ReviewAnswer::Observed,
                _ => ReviewAnswer::Patched,
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
            let body = Json(serde_json::json!({ "error": error.to_string() }));
            (StatusCode::BAD_REQUEST, body).into_response()
        }
    }
}
