//! What Prometheus scrapes of a served registry.

use std::fmt;

use http::Method;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use landfall_core::registry_path::Route;

/// The content type of [`RegistryMetrics::render`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric of a registry.
#[derive(Debug)]
pub(crate) struct RegistryMetrics {
    registry: Registry,
    requests: Family<RequestLabel, Counter>,
    under_way: Gauge,
    free: Gauge,
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
        let (requests, under_way, free) = (Family::default(), Gauge::default(), Gauge::default());
        registry.register("requests", "Requests that were answered", Family::clone(&requests));
        registry.register(
            "requests_under_way",
            "Requests that are being answered",
            Gauge::clone(&under_way),
        );
        registry.register_with_unit("free", "What the disk has left", Unit::Bytes, Gauge::clone(&free));
        RegistryMetrics {
            registry,
            requests,
            under_way,
            free,
        }
    }

    /// Counts an answer. `route` is nothing where the address is none of ours.
    pub(crate) fn count(&self, method: &Method, route: Option<&Route>, status: u16) {
        let label = RequestLabel {
            method: method_name(method),
            content: route.map_or("other", content_name),
            status,
        };
        self.requests.get_or_create(&label).inc();
    }

    /// All of them as text.
    pub(crate) fn render(&self, under_way: usize, free: Option<u64>) -> Result<String, fmt::Error> {
        self.under_way.set(i64::try_from(under_way).unwrap_or(i64::MAX));
        if let Some(free) = free {
            self.free.set(i64::try_from(free).unwrap_or(i64::MAX));
        }
        let mut exposition = String::new();
        text::encode(&mut exposition, &self.registry)?;
        Ok(exposition)
    }
}

/// A closed set: clients may send any word as a method.
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
