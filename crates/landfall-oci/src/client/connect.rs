//! Connections: their set-up, and the classification of their failures.

use std::error::Error;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use landfall_core::no_proxy::{NoProxy, parse_no_proxy};
use landfall_net::tls::{self, RegistryCertificates, TlsPolicy, load_registry_certificates};
use reqwest::{Client, Proxy, Url};
use secrecy::SecretString;

use super::endpoint::{Endpoint, Proxies, proxy_url};
use super::error::Fault;
use super::foreign_dns::ForeignDns;
use super::problem::{ConnectionProblem, TlsProblem};
use super::redirect_policy;

/// Hosts that a proxy cannot reach for this machine.
const NEVER_PROXIED: &str = "localhost,127.0.0.0/8,::1";
/// Interval for the comparison of certificates on disk with those in use.
pub(super) const CERTIFICATES_CHECKED_EVERY: Duration = Duration::from_secs(15);

/// The connections to one registry and to the hosts that it redirects to.
pub(super) struct Connections {
    /// Connects to the registry itself, under its own TLS policy.
    pub(super) registry: Client,
    /// Connects to foreign hosts. Created by the first redirect: most registries never redirect, and creation reads the
    /// system's certificates.
    foreign: OnceLock<Client>,
    certificates: RegistryCertificates,
    proxies: ProxyRules,
}

impl Connections {
    /// # Errors
    /// Fails if a certificate or a proxy's address cannot be used.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Connections, Fault> {
        Connections::with_certificates(endpoint, load_certificates(endpoint)?)
    }

    /// Returns new connections if the certificates on disk changed.
    ///
    /// # Errors
    /// As for [`Connections::new`].
    pub(super) fn renewed(&self, endpoint: &Endpoint) -> Result<Option<Connections>, Fault> {
        let certificates = load_certificates(endpoint)?;
        if certificates == self.certificates {
            return Ok(None);
        }
        Connections::with_certificates(endpoint, certificates).map(Some)
    }

    fn with_certificates(endpoint: &Endpoint, certificates: RegistryCertificates) -> Result<Connections, Fault> {
        let proxies = ProxyRules::parse(&endpoint.proxies)?;
        Ok(Connections {
            registry: http_client(endpoint, &endpoint.tls, &certificates, &proxies)?
                .build()
                .map_err(Fault::Setup)?,
            foreign: OnceLock::new(),
            certificates,
            proxies,
        })
    }

    /// Returns the proxy of a URL, as `host:port`; `None` if the host is reached directly.
    pub(super) fn proxy_of(&self, url: &Url) -> Option<String> {
        self.proxies.proxy_for(url).map(redirect_policy::shown_host)
    }

    /// Returns the connections to foreign hosts. They always verify certificates, show no client certificate, and never
    /// carry a login.
    ///
    /// # Errors
    /// As for [`Connections::new`].
    pub(super) fn foreign(&self, endpoint: &Endpoint) -> Result<&Client, Fault> {
        if let Some(built) = self.foreign.get() {
            return Ok(built);
        }
        let verified = TlsPolicy {
            insecure: false,
            certificates: endpoint.tls.certificates.clone(),
        };
        let public = RegistryCertificates {
            authorities: self.certificates.authorities.clone(),
            identity: None,
        };
        let builder = http_client(endpoint, &verified, &public, &self.proxies)?;
        let builder = builder.dns_resolver(Arc::new(ForeignDns::new(endpoint)));
        let built = builder.build().map_err(Fault::Setup)?;
        // Two callers may build a client at the same time. Both clients are equal, and the first one stays.
        Ok(self.foreign.get_or_init(|| built))
    }
}

fn load_certificates(endpoint: &Endpoint) -> Result<RegistryCertificates, Fault> {
    let loaded = load_registry_certificates(&endpoint.certificate_roots, &endpoint.host);
    loaded.map_err(|problem| Fault::Certificate(problem.into()))
}

/// Builds an HTTP client that follows no redirects, retries nothing and reads no environment.
fn http_client(
    endpoint: &Endpoint,
    policy: &TlsPolicy,
    certificates: &RegistryCertificates,
    proxies: &ProxyRules,
) -> Result<reqwest::ClientBuilder, Fault> {
    let proxies = proxies.clone();
    Ok(Client::builder()
        .tls_backend_preconfigured(tls::client_config_with(policy, certificates)?)
        .user_agent(concat!("landfall/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .connect_timeout(endpoint.timeouts.connect)
        .no_proxy()
        .proxy(Proxy::custom(move |url| proxies.proxy_for(url).cloned())))
}

/// Proxies of a registry's connections, and the hosts that need none.
#[derive(Clone)]
struct ProxyRules {
    http: Option<Url>,
    https: Option<Url>,
    direct: NoProxy,
}

impl ProxyRules {
    /// # Errors
    /// Fails if the address of a proxy is not a URL.
    fn parse(proxies: &Proxies) -> Result<ProxyRules, Fault> {
        let Proxies { http, https, no_proxy } = proxies;
        let parse = |address: &Option<SecretString>, which| {
            let parsed = address
                .as_ref()
                .map(|address| proxy_url(address).ok_or(Fault::Proxy { which }));
            parsed.transpose()
        };
        Ok(ProxyRules {
            http: parse(http, "HTTP")?,
            https: parse(https, "HTTPS")?,
            direct: parse_no_proxy(&format!("{NEVER_PROXIED},{}", no_proxy.as_deref().unwrap_or(""))),
        })
    }

    fn proxy_for(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "http" => self.http.as_ref(),
            "https" => self.https.as_ref(),
            _ => None,
        };
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        proxy.filter(|_| !self.direct.covers(host, port))
    }
}

/// Classifies an error by its chain of causes. The URL is removed: it may hold a signature.
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
                registry: String::new(),
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

/// Looks into an `io::Error`, because `io::Error::source` skips the error that it wraps.
fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(io) = error.downcast_ref::<io::Error>() {
        return rustls_error(io.get_ref()?);
    }
    error.downcast_ref()
}

fn tls_problem(error: &rustls::Error) -> TlsProblem {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate};
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            Certificate::UnknownIssuer | Certificate::BadSignature => TlsProblem::UnknownAuthority,
            Certificate::Expired | Certificate::ExpiredContext { .. } => TlsProblem::Expired,
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => TlsProblem::NotYetValid,
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => TlsProblem::WrongName,
            _ => TlsProblem::Handshake,
        },
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => TlsProblem::NotTls,
        // A server's alert about a certificate means the client's certificate (RFC 8446 section 6.2). Before TLS 1.3
        // there was no alert for a missing one; servers then send `bad_certificate`.
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA,
        ) => TlsProblem::ClientCertificate,
        _ => TlsProblem::Handshake,
    }
}
