//! Transport of one request to a registry, from URL to response: scheme, login, redirects, time limits. Its callers
//! deal with manifests and blobs, and never see a login or a token.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use landfall_core::failure::{Circuit, CircuitOpen};
use landfall_core::lenient;
use landfall_core::sync::lock;
use landfall_net::random::random_fraction;
use reqwest::{Client, Response, Url};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use super::auth::scope::Scope;
use super::auth::token::{Freshness, TOKEN_RESPONSE_MAX, Token};
use super::auth::{Authenticator, Authorization};
use super::challenge::parse_challenges;
use super::connect::{CERTIFICATES_CHECKED_EVERY, Connections, classify};
use super::content_coding::{content_coding, decode_document};
use super::endpoint::{Endpoint, Timeouts};
use super::error::{Fault, stalled};
use super::http_date::parse_http_date;
use super::problem::{ConnectionProblem, ProtocolProblem, TlsProblem};
use super::redirect_policy;
use super::request::{ENCODING, RegistryRequest, RequestTarget};
use super::server_message::ServerMessage;

const REDIRECTS_MAX: usize = 5;
/// Largest part of an error's body that is read, in bytes.
const ERROR_BODY_MAX: usize = 64 * 1024;
/// Longest wait that is believed of a date that has only this machine's clock to be compared with.
const UNDATED_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// One registry, and the client's knowledge about it.
pub(super) struct Transport {
    connections: ArcSwap<Connections>,
    certificates_checked_at: Mutex<Instant>,
    authenticator: Authenticator,
    endpoint: Endpoint,
    base: OnceCell<Url>,
    /// Time and cause of the last failed probe for `base`. The probing task holds the lock.
    last_unreachable: tokio::sync::Mutex<Option<(Instant, ConnectionProblem)>>,
    /// Stops requests to a registry that does not respond.
    circuit: Mutex<Circuit>,
    /// Text of the last failure that the circuit counted.
    last_unanswered: Mutex<String>,
    /// Start of the circuit's clock.
    created: Instant,
}

impl Transport {
    pub(super) fn new(endpoint: Endpoint) -> Result<Transport, Fault> {
        Ok(Transport {
            connections: ArcSwap::from_pointee(Connections::new(&endpoint)?),
            certificates_checked_at: Mutex::new(Instant::now()),
            authenticator: Authenticator::new(
                endpoint.host.clone(),
                endpoint.login.clone(),
                endpoint.keychain.clone(),
                endpoint.token_servers.clone(),
            ),
            endpoint,
            base: OnceCell::new(),
            last_unreachable: tokio::sync::Mutex::default(),
            circuit: Mutex::default(),
            last_unanswered: Mutex::default(),
            created: Instant::now(),
        })
    }

    /// Returns the connections, with the certificates that are on disk now.
    fn connections(&self) -> Arc<Connections> {
        if !self.endpoint.certificate_roots.is_empty() && self.is_check_due() {
            match self.connections.load().renewed(&self.endpoint) {
                Ok(None) => {}
                Ok(Some(renewed)) => self.connections.store(Arc::new(renewed)),
                // The files may be changing at this moment. The old certificates are still usable.
                Err(fault) => {
                    tracing::warn!(registry = %self.endpoint.host, error = %fault, "changed certificates cannot be used");
                }
            }
        }
        self.connections.load_full()
    }

    fn is_check_due(&self) -> bool {
        let mut checked = lock(&self.certificates_checked_at);
        let is_due = checked.elapsed() >= CERTIFICATES_CHECKED_EVERY;
        if is_due {
            *checked = Instant::now();
        }
        is_due
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn timeouts(&self) -> &Timeouts {
        &self.endpoint.timeouts
    }

    /// Returns the URL of the registry's root. The first call probes a registry that is marked insecure for TLS; the
    /// client keeps the result. Concurrent callers share one probe, including a timeout; otherwise every image would
    /// wait for its own.
    async fn base(&self) -> Result<&Url, Fault> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let asked_at = Instant::now();
        let mut last_unreachable = self.last_unreachable.lock().await;
        if let Some((noticed_at, problem)) = last_unreachable.as_ref()
            && *noticed_at >= asked_at
        {
            return Err(Fault::from(problem.clone()));
        }
        let found = self.base.get_or_try_init(|| self.probe_scheme()).await;
        if let Err(Fault::Connection { problem, .. }) = &found {
            *last_unreachable = Some((Instant::now(), problem.clone()));
        }
        found
    }

    async fn probe_scheme(&self) -> Result<Url, Fault> {
        let url =
            |scheme| redirect_policy::base_url(scheme, &self.endpoint.host).ok_or(Fault::from(ConnectionProblem::Name));
        let secure = url("https")?;
        if !self.endpoint.tls.insecure {
            return Ok(secure);
        }
        let plain = url("http")?;
        let registry = &self.connections().registry;
        let ping = |base: &Url| self.execute(registry.get(format!("{base}v2/")));
        let tls_fault = match ping(&secure).await {
            Ok(_) => return Ok(secure),
            Err(fault) if is_unreachable(&fault) || speaks_tls(&fault) => return Err(fault),
            Err(fault) => fault,
        };
        match ping(&plain).await {
            // TLS servers answer 400 to plain HTTP. If the server gave no other answer, the TLS failure is the one to
            // show.
            Ok(response) if response.status() == StatusCode::BAD_REQUEST && !speaks_plain_http(&tls_fault) => {
                Err(tls_fault)
            }
            Ok(_) => Ok(plain),
            Err(fault) if speaks_plain_http(&tls_fault) => Err(fault),
            Err(_) => Err(tls_fault),
        }
    }

    /// Sends a request, answers login challenges, and follows redirects. A response with any status but 401 is
    /// `Ok`.
    ///
    /// The client sends nothing to a registry that has not responded for a while: otherwise every image would wait for
    /// it in turn.
    pub(super) async fn send(&self, request: RegistryRequest) -> Result<Response, Fault> {
        let (policy, now) = (&self.endpoint.circuit, self.created.elapsed());
        let admitted = self.circuit().admit(policy, now, random_fraction());
        admitted.map_err(|reason| match reason {
            CircuitOpen::Silent(silent) => Fault::GivenUp {
                silent,
                last: lock(&self.last_unanswered).clone(),
            },
            CircuitOpen::NotBefore(wait) => Fault::NotBefore { wait },
        })?;
        let sent = self.send_admitted(request).await;
        let now = self.created.elapsed();
        if let Some(wait) = self.asked_wait(&sent) {
            self.circuit().asked_to_wait(now, wait);
        }
        match unanswered(&sent) {
            Some(reason) => {
                *lock(&self.last_unanswered) = reason;
                self.circuit().unanswered(policy, now, random_fraction());
            }
            None => self.circuit().answered(),
        }
        sent
    }

    /// Returns the wait that the registry or its token server asks for. The wait of a host behind a redirect does not
    /// concern the registry.
    fn asked_wait(&self, sent: &Result<Response, Fault>) -> Option<Duration> {
        let response = match sent {
            Ok(response) => response,
            Err(fault @ Fault::TokenRefused { .. }) => return fault.kind().not_before(),
            Err(_) => return None,
        };
        let base = self.base.get()?;
        let asks = matches!(
            response.status(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        (asks && redirect_policy::is_registry(base, response.url()))
            .then(|| retry_after(response.headers()))
            .flatten()
    }

    pub(super) fn not_before(&self) -> Option<Duration> {
        self.circuit().wait(self.created.elapsed())
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        lock(&self.circuit)
    }

    async fn send_admitted(&self, mut request: RegistryRequest) -> Result<Response, Fault> {
        let base = self.base().await?;
        let mut url = match &request.target {
            RequestTarget::Path(path) => base.join(path).map_err(|_| Fault::from(ProtocolProblem::BadRedirect))?,
            RequestTarget::Url(url) => url.clone(),
        };
        for _ in 0..=REDIRECTS_MAX {
            let response = if redirect_policy::is_registry(base, &url) {
                self.send_to_registry(base, &url, &mut request).await?
            } else {
                let connections = self.connections();
                let foreign = connections.foreign(&self.endpoint)?;
                let response = self.execute_request(foreign, &url, &mut request, None).await;
                response.map_err(|fault| self.name_host(&url, fault))?
            };
            if !request.follows(response.status()) {
                return Ok(response);
            }
            let next = redirect_target(&url, response.headers()).map_err(|fault| self.name_host(&url, fault))?;
            // Another host must not choose a request that carries the login and changes something.
            if !request.only_reads()
                && !redirect_policy::is_registry(base, &url)
                && redirect_policy::is_registry(base, &next)
            {
                return Err(Fault::RedirectRefused {
                    to: redirect_policy::shown_host(&next),
                    reason: "is the registry again, named by another host",
                });
            }
            url = next;
        }
        Err(Fault::from(ProtocolProblem::RedirectLoop(REDIRECTS_MAX)))
    }

    /// Sends a request. A response with a status outside of `expected` is a failure.
    pub(super) async fn send_expecting(
        &self,
        request: RegistryRequest,
        expected: &[StatusCode],
    ) -> Result<Response, Fault> {
        let response = self.send(request).await?;
        if expected.contains(&response.status()) {
            return Ok(response);
        }
        Err(self.status_fault(response).await)
    }

    /// Sends a request to the registry itself, and repeats it after a challenge that the client can answer.
    async fn send_to_registry(&self, base: &Url, url: &Url, request: &mut RegistryRequest) -> Result<Response, Fault> {
        let can_repeat = request.can_repeat();
        let freshness = if can_repeat {
            Freshness::Now
        } else {
            Freshness::ForStream
        };
        let prepared = self.authenticator.prepare(&request.scope).await?;
        let header = self.header_for(base, prepared, &request.scope, freshness).await?;
        let first = self
            .execute_request(&self.connections().registry, url, request, header.clone())
            .await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return Ok(first);
        }
        let challenges = first.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges = challenges
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse_challenges)
            .collect();
        let message = self.message_of(first).await;
        let had_login = header.is_some();
        let next = self
            .authenticator
            .challenged(&request.scope, challenges, header, message.clone())
            .await?;
        let is_token = matches!(next, Authorization::Token { .. });
        if had_login && !is_token {
            return Err(self.authenticator.unauthorized(message));
        }
        let header = self.header_for(base, next, &request.scope, freshness).await?;
        if !can_repeat {
            // The stream is consumed. The token was valid when the upload began; the next attempt gets a new one.
            return Err(Fault::LoginLapsed { message });
        }
        let second = self
            .execute_request(&self.connections().registry, url, request, header)
            .await?;
        if second.status() == StatusCode::UNAUTHORIZED {
            let message = self.message_of(second).await;
            return Err(self.authenticator.unauthorized(message));
        }
        Ok(second)
    }

    /// Returns the `Authorization` header. The first task that needs a token fetches it; others wait for it.
    async fn header_for(
        &self,
        base: &Url,
        authorization: Authorization,
        scope: &Scope,
        freshness: Freshness,
    ) -> Result<Option<HeaderValue>, Fault> {
        let (slot, refused) = match authorization {
            Authorization::Header(header) => return Ok(header),
            Authorization::Token { slot, refused } => (slot, refused),
        };
        let mut slot = slot.lock().await;
        if let Some(token) = slot.as_ref()
            && token.is_valid(freshness)
            && Some(&token.header) != refused.as_ref()
        {
            return Ok(Some(token.header.clone()));
        }
        let token = slot.insert(self.fetch_token(base, scope).await?);
        Ok(Some(token.header.clone()))
    }

    /// Asks a token server, and follows no redirect of it.
    async fn fetch_token(&self, base: &Url, scope: &Scope) -> Result<Token, Fault> {
        let token_request = self.authenticator.token_request(base, scope).await?;
        let connections = self.connections();
        let client = if token_request.url.host_str() == base.host_str() {
            &connections.registry
        } else {
            connections.foreign(&self.endpoint)?
        };
        let mut builder = match token_request.form {
            None => client.get(token_request.url.clone()),
            Some(form) => client
                .post(token_request.url.clone())
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form),
        };
        builder = builder.header(ACCEPT_ENCODING, HeaderValue::from_static(ENCODING));
        if let Some(authorization) = token_request.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        let response = self
            .execute(builder)
            .await
            .map_err(|fault| self.name_host(&token_request.url, fault))?;
        let status = response.status();
        if status == StatusCode::OK {
            let date = response.headers().get(DATE).cloned();
            let body = self.read_body(response, TOKEN_RESPONSE_MAX).await?;
            let response = lenient::from_slice(&body).map_err(|_| Fault::from(ProtocolProblem::NoToken))?;
            return Token::from_response(&response, date.as_ref());
        }
        let retry_after = retry_after(response.headers());
        let message = self.message_of(response).await;
        if status == StatusCode::UNAUTHORIZED {
            return Err(self.authenticator.unauthorized(message));
        }
        Err(Fault::TokenRefused {
            server: redirect_policy::shown_host(&token_request.url),
            status,
            message,
            retry_after,
        })
    }

    /// Reads a body up to a size limit, and undoes its content coding within the same limit.
    pub(super) async fn read_body(&self, mut response: Response, limit: usize) -> Result<Bytes, Fault> {
        let coding = content_coding(response.headers())?;
        let mut body = BytesMut::new();
        let stall = self.timeouts().stall;
        loop {
            let chunk = timeout(stall, response.chunk()).await.map_err(|_| stalled(stall))?;
            match chunk.map_err(classify)? {
                Some(chunk) if body.len() + chunk.len() > limit => return Err(Fault::TooLarge { limit }),
                Some(chunk) => body.extend_from_slice(&chunk),
                None => {
                    return match coding {
                        Some(coding) => decode_document(coding, body.freeze(), limit),
                        None => Ok(body.freeze()),
                    };
                }
            }
        }
    }

    /// Turns a response into a failure with the server's message.
    pub(super) async fn status_fault(&self, response: Response) -> Fault {
        let url = response.url().clone();
        let fault = Fault::Answer {
            status: response.status(),
            retry_after: retry_after(response.headers()),
            message: self.message_of(response).await,
        };
        self.name_host(&url, fault)
    }

    /// Adds the host to a fault of a foreign host.
    fn name_host(&self, url: &Url, fault: Fault) -> Fault {
        match self.base.get() {
            Some(base) if !redirect_policy::is_registry(base, url) => Fault::Elsewhere {
                host: redirect_policy::shown_host(url),
                fault: Box::new(fault),
            },
            _ => fault,
        }
    }

    async fn message_of(&self, response: Response) -> ServerMessage {
        let body = self.read_body(response, ERROR_BODY_MAX).await;
        self.authenticator
            .redact(ServerMessage::from_body(&body.unwrap_or_default()))
    }

    async fn execute_request(
        &self,
        client: &Client,
        url: &Url,
        request: &mut RegistryRequest,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, Fault> {
        let streams = !request.can_repeat();
        let builder = request.take_builder(client, url, authorization);
        if streams {
            // The response comes after the last byte. The caller monitors the stream.
            return builder.send().await.map_err(|error| self.connection_fault(error));
        }
        self.execute(builder).await
    }

    fn execute(&self, builder: reqwest::RequestBuilder) -> impl Future<Output = Result<Response, Fault>> + Send {
        let limit = self.timeouts().response;
        let sent = timeout(limit, builder.send());
        async move {
            match sent.await {
                Ok(response) => response.map_err(|error| self.connection_fault(error)),
                Err(_) => Err(Fault::from(ConnectionProblem::ResponseTimeout(limit))),
            }
        }
    }

    /// Classifies the failure of a request. The failure of a proxy is not one of the registry.
    fn connection_fault(&self, error: reqwest::Error) -> Fault {
        let url = error.url().filter(|_| error.is_connect());
        let proxy = url.and_then(|url| self.connections().proxy_of(url));
        let fault = if error.is_connect() && error.is_timeout() {
            Fault::from(ConnectionProblem::ConnectTimeout(self.timeouts().connect))
        } else {
            classify(error)
        };
        match fault {
            Fault::Connection { problem, source } if let Some(proxy) = proxy => Fault::Connection {
                problem: ConnectionProblem::Proxy {
                    proxy,
                    problem: Box::new(problem),
                },
                source,
            },
            Fault::Tls { problem, source, .. } => Fault::Tls {
                problem,
                registry: self.endpoint.host.to_string(),
                source,
            },
            fault => fault,
        }
    }
}

/// Returns the reason if there was no response, or only that of a proxy without an upstream.
fn unanswered(sent: &Result<Response, Fault>) -> Option<String> {
    match sent {
        Ok(response) => {
            let is_proxys = matches!(response.status().as_u16(), 502..=504);
            (is_proxys && !response.headers().contains_key(RETRY_AFTER))
                .then(|| format!("the registry answers {}", response.status()))
        }
        Err(Fault::Connection { problem, .. }) => Some(problem.to_string()),
        Err(_) => None,
    }
}

/// Returns the target of a redirect.
///
/// # Errors
/// Fails if there is none, or it must not be followed.
pub(super) fn redirect_target(from: &Url, headers: &HeaderMap) -> Result<Url, Fault> {
    let to = location(from, headers).ok_or(Fault::from(ProtocolProblem::BadRedirect))?;
    redirect_policy::check_redirect(from, &to).map_err(|reason| Fault::RedirectRefused {
        to: redirect_policy::shown_host(&to),
        reason,
    })?;
    Ok(to)
}

/// Resolves the `Location` header of a response.
pub(super) fn location(asked: &Url, headers: &HeaderMap) -> Option<Url> {
    redirect_policy::resolve_location(asked, headers.get(LOCATION)?.to_str().ok()?)
}

/// Parses `Retry-After` in seconds or as a date (RFC 9110 section 10.2.3). A date is measured from the response's own
/// `Date`, so that wrong clocks do not matter. Without a `Date` this machine's clock counts, if the result makes sense. An
/// invalid value is ignored.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = parse_http_date(text)?;
    let date = headers
        .get(DATE)
        .and_then(|value| parse_http_date(value.to_str().ok()?));
    match date {
        // A date in the past means no wait.
        Some(date) => Some(Duration::try_from(until.duration_since(date)).unwrap_or_default()),
        None => {
            let wait = Duration::try_from(until.duration_since(Timestamp::now())).ok()?;
            (wait <= UNDATED_WAIT_MAX).then_some(wait)
        }
    }
}

/// Returns true if plain HTTP would fail in the same way as TLS did.
fn is_unreachable(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Connection {
            problem: ConnectionProblem::ConnectTimeout(_) | ConnectionProblem::Name,
            ..
        }
    )
}

/// Returns true if the server answered the handshake in TLS, if only with an alert. Plain HTTP would then be a
/// downgrade.
fn speaks_tls(fault: &Fault) -> bool {
    matches!(fault, Fault::Tls { .. }) && !speaks_plain_http(fault)
}

/// Returns true if the server responded without TLS. The failure of plain HTTP is then the real one.
fn speaks_plain_http(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Tls {
            problem: TlsProblem::NotTls,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_read_in_seconds_or_as_a_date_and_is_never_cut() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let cases = [
            ("7", None, Some(7)),
            ("900", None, Some(900)),
            ("99999999", None, Some(99_999_999)),
            ("18446744073709551615", None, Some(u64::MAX)),
            ("99999999999999999999", None, None),
            ("Sun, 06 Nov 1994 08:49:57 GMT", date, Some(20)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", date, Some(0)),
            ("Sun, 06 Nov 1994 10:49:37 GMT", date, Some(7200)),
            ("Sat, 06 Nov 2094 08:49:07 GMT", None, None),
            ("Sun, 06 Nov 1994 08:49:57 GMT", None, None),
            ("soon", date, None),
            ("-1", None, None),
        ];
        for (text, date, seconds) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            if let Some(date) = date {
                headers.insert(DATE, HeaderValue::from_static(date));
            }
            assert_eq!(
                retry_after(&headers),
                seconds.map(Duration::from_secs),
                "`{text}` at {date:?}"
            );
        }
    }
}
