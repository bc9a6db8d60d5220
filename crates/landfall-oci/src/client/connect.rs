//! Connections: how they are set up, and what it means when they fail.

use std::error::Error;
use std::io;

use reqwest::{Client, NoProxy, Proxy};
use secrecy::ExposeSecret;

use super::Endpoint;
use super::error::Fault;
use super::problem::{ConnectionProblem, TlsProblem};
use crate::tls::{self, TlsPolicy};

/// Hosts that no proxy can reach for us.
const NEVER_PROXIED: &str = "localhost,127.0.0.0/8,::1";

/// An HTTP client that follows nothing, repeats nothing and reads no environment.
pub(super) fn http_client(endpoint: &Endpoint, policy: &TlsPolicy) -> Result<Client, Fault> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls::client_config(policy)?)
        .user_agent(concat!("landfall/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .connect_timeout(endpoint.timeouts.connect)
        .no_proxy();
    let proxies = &endpoint.proxies;
    let except = format!("{NEVER_PROXIED},{}", proxies.no_proxy.as_deref().unwrap_or(""));
    let direct = || NoProxy::from_string(&except);
    if let Some(url) = &proxies.http {
        let proxy = Proxy::http(url.expose_secret()).map_err(|_| Fault::Proxy { which: "HTTP" })?;
        builder = builder.proxy(proxy.no_proxy(direct()));
    }
    if let Some(url) = &proxies.https {
        let proxy = Proxy::https(url.expose_secret()).map_err(|_| Fault::Proxy { which: "HTTPS" })?;
        builder = builder.proxy(proxy.no_proxy(direct()));
    }
    builder.build().map_err(Fault::Setup)
}

/// Finds out from the chain of causes what went wrong. The URL is taken out: it may hold a signature.
pub(super) fn classify(error: reqwest::Error) -> Fault {
    let error = error.without_url();
    let problem = if error.is_dns() {
        Some(ConnectionProblem::Name)
    } else {
        None
    };
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(found) = cause {
        if let Some(tls) = rustls_error(found) {
            return Fault::Tls {
                problem: tls_problem(tls),
                source: Some(Box::new(tls.clone())),
            };
        }
        let io_kind = found.downcast_ref::<io::Error>().map(io::Error::kind);
        if io_kind == Some(io::ErrorKind::ConnectionRefused) {
            return Fault::from(ConnectionProblem::Refused);
        }
        cause = found.source();
    }
    Fault::Connection {
        problem: problem.unwrap_or(ConnectionProblem::Broken),
        source: Some(Box::new(error)),
    }
}

/// `io::Error::source` passes over the error that it wraps.
fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(io) = error.downcast_ref::<io::Error>() {
        return rustls_error(io.get_ref()?);
    }
    error.downcast_ref()
}

fn tls_problem(error: &rustls::Error) -> TlsProblem {
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            Certificate::UnknownIssuer | Certificate::BadSignature => TlsProblem::UnknownAuthority,
            Certificate::Expired | Certificate::ExpiredContext { .. } => TlsProblem::Expired,
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => TlsProblem::NotYetValid,
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => TlsProblem::WrongName,
            _ => TlsProblem::Handshake,
        },
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => TlsProblem::NotTls,
        _ => TlsProblem::Handshake,
    }
}
