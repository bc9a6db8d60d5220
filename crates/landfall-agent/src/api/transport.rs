//! Requests by plain HTTP over a network: answered only where probes and scrapers ask [spec:security.status-api].

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use landfall_net::serve::transport::Transport;

use super::problem::Problem;

/// Paths that are answered by plain HTTP, too: kubelets and load balancers probe them, and Prometheus scrapes them.
const PLAIN_PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Returns the router behind a check of the transport: other machines get the status API over TLS only.
pub(crate) fn require_encryption(router: Router) -> Router {
    router.layer(from_fn(async |request: Request, next: Next| -> Response {
        let transport = request.extensions().get::<Transport>().copied();
        // A request of unknown origin counts as one of another machine.
        let is_plain = transport.unwrap_or(Transport::PlainRemote) == Transport::PlainRemote;
        if !is_plain || PLAIN_PATHS.contains(&request.uri().path()) {
            return next.run(request).await;
        }
        let error = "this host speaks only TLS with other machines";
        let hint = "ask by `https://`, with the file `api/ca.crt` of the agent's state directory as the authority, or \
                    with its fingerprint, which `landfall status` shows on the host; or go through a tunnel to loopback";
        Problem::new(StatusCode::FORBIDDEN, error, Some(hint)).into_response()
    }))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn other_machines_get_by_plain_http_only_what_probes_ask_for() {
        let paths = ["/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/uploads"];
        let answer = async || "answer";
        let routes = paths
            .iter()
            .fold(Router::new(), |routes, path| routes.route(path, get(answer)));
        let router = require_encryption(routes);
        for (transport, open) in [
            (Some(Transport::Tls), 5),
            (Some(Transport::PlainLocal), 5),
            (Some(Transport::PlainRemote), 3),
            (None, 3),
        ] {
            for (number, path) in paths.iter().enumerate() {
                let mut request = Request::get(*path).body(Body::empty()).unwrap();
                if let Some(transport) = transport {
                    request.extensions_mut().insert(transport);
                }
                let status = router.clone().oneshot(request).await.unwrap().status();
                let expected = match number < open {
                    true => StatusCode::OK,
                    false => StatusCode::FORBIDDEN,
                };
                assert_eq!(status, expected, "{transport:?} {path}");
            }
        }
    }

    #[tokio::test]
    async fn a_followed_hint_about_plain_http_ends_its_message() {
        let path = "/api/v1/status";
        let router = require_encryption(Router::new().route(path, get(async || "answer")));
        let ask = async |transport: Transport| {
            let mut request = Request::get(path).body(Body::empty()).unwrap();
            request.extensions_mut().insert(transport);
            let response = router.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let body = to_bytes(response.into_body(), 4096).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        let (status, told) = ask(Transport::PlainRemote).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{told}");
        for part in [
            "this host speaks only TLS with other machines",
            "ask by `https://`, with the file `api/ca.crt` of the agent's state directory as the authority",
            "or go through a tunnel to loopback",
        ] {
            assert!(told.contains(part), "`{part}` is not in {told}");
        }
        for (name, transport) in [("by TLS", Transport::Tls), ("by a tunnel", Transport::PlainLocal)] {
            assert_eq!(ask(transport).await, (StatusCode::OK, "answer".to_owned()), "{name}");
        }
    }
}
