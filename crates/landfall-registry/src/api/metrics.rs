//! Prometheus metrics of a served registry.

use std::fmt;
use std::sync::atomic::Ordering;

use http::Method;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use landfall_core::registry_path::Route;

/// Content type of [`RegistryMetrics::render`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug)]
pub(crate) struct RegistryMetrics {
    registry: Registry,
    requests: Family<RequestLabel, Counter>,
    in_flight: Gauge,
    free: Gauge,
    read_in_place: Counter,
    refused: Family<BudgetLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BudgetLabel {
    budget: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    method: &'static str,
    content: &'static str,
    status: u16,
}

impl RegistryMetrics {
    pub(crate) fn new() -> RegistryMetrics {
        let mut registry = Registry::with_prefix("landfall_registry");
        let (requests, in_flight, free) = (Family::default(), Gauge::default(), Gauge::default());
        let (refused, read_in_place) = (Family::default(), Counter::default());
        registry.register(
            "refused_by_budget",
            "Requests that were refused because a client or all clients used a budget up",
            Family::clone(&refused),
        );
        registry.register("requests", "Requests that were answered", Family::clone(&requests));
        registry.register(
            "requests_under_way",
            "Requests that are being answered",
            Gauge::clone(&in_flight),
        );
        registry.register(
            "read_in_place",
            "Manifests and blobs that clients pulled out of bundles, because the registry does not hold them",
            Counter::clone(&read_in_place),
        );
        registry.register_with_unit("free", "Free bytes of the disk", Unit::Bytes, Gauge::clone(&free));
        RegistryMetrics {
            registry,
            requests,
            in_flight,
            free,
            read_in_place,
            refused,
        }
    }

    /// Counts a response. `route` is `None` if the path is no endpoint.
    pub(crate) fn count(&self, method: &Method, route: Option<&Route>, status: u16) {
        let label = RequestLabel {
            method: method_name(method),
            content: route.map_or("other", content_name),
            status,
        };
        self.requests.get_or_create(&label).inc();
    }

    /// Renders all metrics as text.
    pub(crate) fn render(
        &self,
        in_flight: usize,
        free: Option<u64>,
        reads_in_place: u64,
        refusals: &[(&'static str, u64)],
    ) -> Result<String, fmt::Error> {
        for (budget, count) in refusals {
            self.refused
                .get_or_create(&BudgetLabel { budget })
                .inner()
                .store(*count, Ordering::Relaxed);
        }
        self.read_in_place.inner().store(reads_in_place, Ordering::Relaxed);
        self.in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        if let Some(free) = free {
            self.free.set(i64::try_from(free).unwrap_or(i64::MAX));
        }
        let mut exposition = String::new();
        text::encode(&mut exposition, &self.registry)?;
        Ok(exposition)
    }
}

/// Returns the exposition of a registry that has set every metric, for the reference. A metric with labels is not exposed
/// before its first value.
///
/// # Errors
/// If the text cannot be written.
pub fn sample_exposition() -> Result<String, fmt::Error> {
    let metrics = RegistryMetrics::new();
    metrics.count(&Method::GET, None, 200);
    metrics.render(0, Some(0), 0, &[("sessions", 0)])
}

/// Returns the label of a method. The set is closed, because clients may send any word as a method.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn content_name(route: &Route) -> &'static str {
    match route {
        Route::Ping => "ping",
        Route::Catalog => "catalog",
        Route::Tags { .. } => "tags",
        Route::Manifest { .. } => "manifest",
        Route::Blob { .. } => "blob",
        Route::Uploads { .. } | Route::Upload { .. } => "upload",
        Route::Referrers { .. } => "referrers",
    }
}
