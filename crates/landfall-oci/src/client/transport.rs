//! One request to a registry, from URL to answer: scheme, login, redirects, time limits. Everything above it thinks in
//! manifests and blobs; nothing above it sees a login or a token.

use std::error::Error;
use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Body, Client, NoProxy, Proxy, Response, Url};
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::auth::{Answer, Authority, Need, TOKEN_ANSWER_MAX, TokenAnswer, TokenRequest};
use super::challenge::parse_challenges;
use super::error::{ConnectionProblem, Fault, ProtocolProblem, ServerMessage, TlsProblem};
use super::{Endpoint, Timeouts, origin};
use crate::tls::{self, TlsPolicy};

const REDIRECTS_MAX: usize = 5;
/// The most of an error's body that is read, in bytes.
const ERROR_BODY_MAX: usize = 64 * 1024;
/// The longest wait that a registry can ask for and be believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Hosts that no proxy can reach for us.
const NEVER_PROXIED: &str = "localhost,127.0.0.0/8,::1";

/// The connections to one registry and to where it redirects.
pub(super) struct Transport {
    /// To the registry itself, under its own policy.
    home: Client,
    /// To anybody else: certificates are always verified, and no login is ever sent.
    abroad: Client,
    authority: Authority,
    endpoint: Endpoint,
    base: OnceCell<Url>,
}

/// One request.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: CallBody,
    pub(super) need: Need,
}

/// Where a request goes.
pub(super) enum Target {
    /// A path and query on the registry.
    Path(String),
    /// A place that the registry named.
    Url(Url),
}

/// What a request carries.
pub(super) enum CallBody {
    /// Nothing.
    Empty,
    /// Bytes that can be sent again.
    Bytes(Bytes),
    /// A stream of known length, which can be sent once; how long to wait for the answer is up to the caller.
    Stream(Body, u64),
}

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>, need: Need) -> Call {
        Call {
            method,
            target: Target::Path(path.into()),
            headers: HeaderMap::new(),
            body: CallBody::Empty,
            need,
        }
    }

    pub(super) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Call {
        self.headers.insert(name, value);
        self
    }

    fn follows_redirects(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}

impl Transport {
    pub(super) fn new(endpoint: Endpoint) -> Result<Transport, Fault> {
        let abroad_policy = TlsPolicy {
            insecure: false,
            certificates: endpoint.tls.certificates.clone(),
        };
        let abroad = http_client(&endpoint, &abroad_policy)?;
        let home = if endpoint.tls.insecure {
            http_client(&endpoint, &endpoint.tls)?
        } else {
            abroad.clone()
        };
        Ok(Transport {
            home,
            abroad,
            authority: Authority::new(endpoint.login.clone(), endpoint.token_servers.clone()),
            endpoint,
            base: OnceCell::new(),
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn timeouts(&self) -> &Timeouts {
        &self.endpoint.timeouts
    }

    /// The registry's root. For a registry that is marked insecure the first call finds out whether it speaks TLS; the
    /// answer is kept for the life of the client.
    async fn base(&self) -> Result<&Url, Fault> {
        self.base.get_or_try_init(|| self.find_base()).await
    }

    async fn find_base(&self) -> Result<Url, Fault> {
        let url = |scheme| {
            origin::base_url(scheme, &self.endpoint.host).ok_or(Fault::Connection {
                problem: ConnectionProblem::Name,
                source: None,
            })
        };
        let secure = url("https")?;
        if !self.endpoint.tls.insecure {
            return Ok(secure);
        }
        let ping = |base: &Url| self.home.get(format!("{base}v2/"));
        let no_tls = match self.execute(ping(&secure)).await {
            Ok(_) => return Ok(secure),
            Err(fault) if is_out_of_reach(&fault) => return Err(fault),
            Err(fault) => fault,
        };
        let plain = url("http")?;
        match self.execute(ping(&plain)).await {
            // What a TLS server answers to plain HTTP: then it does speak TLS, and the first failure is the one to show.
            Ok(answer) if answer.status() == StatusCode::BAD_REQUEST => Err(no_tls),
            Ok(_) => Ok(plain),
            Err(fault) if speaks_no_tls(&no_tls) => Err(fault),
            Err(_) => Err(no_tls),
        }
    }

    /// Sends a request: logs in when asked to, follows redirects of reads. An answer of any status but 401 is `Ok`.
    pub(super) async fn send(&self, mut call: Call) -> Result<Response, Fault> {
        let base = self.base().await?;
        let mut url = match &call.target {
            Target::Path(path) => base
                .join(path)
                .map_err(|_| Fault::Protocol(ProtocolProblem::BadRedirect))?,
            Target::Url(url) => url.clone(),
        };
        for _ in 0..=REDIRECTS_MAX {
            let answer = if origin::is_home(base, &url) {
                self.send_home(base, &url, &mut call).await?
            } else {
                self.execute_call(&self.abroad, &url, &mut call, None).await?
            };
            if !call.follows_redirects() || !is_redirect(answer.status()) {
                return Ok(answer);
            }
            url = redirect_target(&url, answer.headers())?;
        }
        Err(Fault::Protocol(ProtocolProblem::RedirectLoop(REDIRECTS_MAX)))
    }

    /// Sends a request and takes any status but those that `expected` holds as a failure.
    pub(super) async fn send_expecting(&self, call: Call, expected: &[StatusCode]) -> Result<Response, Fault> {
        let answer = self.send(call).await?;
        if expected.contains(&answer.status()) {
            return Ok(answer);
        }
        Err(self.refusal(answer).await)
    }

    /// Sends a request to the registry itself, and a second time when the first answer is a challenge that can be met.
    async fn send_home(&self, base: &Url, url: &Url, call: &mut Call) -> Result<Response, Fault> {
        let header = self
            .header_for(self.authority.prepare(base, &call.need).await?, &call.need)
            .await?;
        let had_login = header.is_some();
        let can_repeat = !matches!(call.body, CallBody::Stream(..));
        let first = self.execute_call(&self.home, url, call, header).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return Ok(first);
        }
        let challenges = first.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges = challenges
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse_challenges)
            .collect();
        let message = self.message_of(first).await;
        let next = self
            .authority
            .challenged(base, &call.need, challenges, message.clone())
            .await?;
        let same_again = had_login && matches!(next, Answer::Header(_));
        if same_again || !can_repeat {
            return Err(self.unauthorized(message));
        }
        let header = self.header_for(next, &call.need).await?;
        let second = self.execute_call(&self.home, url, call, header).await?;
        if second.status() == StatusCode::UNAUTHORIZED {
            let message = self.message_of(second).await;
            return Err(self.unauthorized(message));
        }
        Ok(second)
    }

    fn unauthorized(&self, message: ServerMessage) -> Fault {
        match self.authority.login() {
            Some(login) => Fault::LoginRefused {
                username: login.username.clone(),
                message,
            },
            None => Fault::LoginMissing { message },
        }
    }

    async fn header_for(&self, answer: Answer<'_>, need: &Need) -> Result<Option<HeaderValue>, Fault> {
        match answer {
            Answer::Header(header) => Ok(header),
            Answer::TokenFirst(request) => {
                let answer = self.fetch_token(request).await?;
                self.authority.keep(need, &answer).await.map(Some)
            }
        }
    }

    /// Asks a token server; it may not redirect us.
    async fn fetch_token(&self, token: TokenRequest<'_>) -> Result<TokenAnswer, Fault> {
        let base = self.base().await?;
        let client = if token.url.host_str() == base.host_str() {
            &self.home
        } else {
            &self.abroad
        };
        let mut request = client.get(token.url.clone());
        if let Some(login) = token.login {
            request = request.header(AUTHORIZATION, login.basic());
        }
        let answer = self.execute(request).await?;
        let status = answer.status();
        if status == StatusCode::OK {
            let body = self.read_body(answer, TOKEN_ANSWER_MAX).await?;
            return serde_json::from_slice(&body).map_err(|_| Fault::Protocol(ProtocolProblem::NoToken));
        }
        let retry_after = retry_after(answer.headers());
        let message = self.message_of(answer).await;
        if status == StatusCode::UNAUTHORIZED {
            return Err(self.unauthorized(message));
        }
        Err(Fault::TokenRefused {
            server: origin::authority(&token.url),
            status,
            message,
            retry_after,
        })
    }

    /// A body whose size is bounded.
    pub(super) async fn read_body(&self, mut answer: Response, limit: usize) -> Result<Bytes, Fault> {
        let mut body = BytesMut::new();
        let stall = self.timeouts().stall;
        loop {
            let chunk = timeout(stall, answer.chunk()).await.map_err(|_| stalled(stall))?;
            match chunk.map_err(classify)? {
                Some(chunk) if body.len() + chunk.len() > limit => return Err(Fault::TooLarge { limit }),
                Some(chunk) => body.extend_from_slice(&chunk),
                None => return Ok(body.freeze()),
            }
        }
    }

    /// An answer that is a failure, with what it says about itself.
    pub(super) async fn refusal(&self, answer: Response) -> Fault {
        let status = answer.status();
        let retry_after = retry_after(answer.headers());
        Fault::Answer {
            status,
            retry_after,
            message: self.message_of(answer).await,
        }
    }

    async fn message_of(&self, answer: Response) -> ServerMessage {
        let body = self.read_body(answer, ERROR_BODY_MAX).await;
        self.authority
            .redact(ServerMessage::from_body(&body.unwrap_or_default()))
    }

    async fn execute_call(
        &self,
        client: &Client,
        url: &Url,
        call: &mut Call,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, Fault> {
        let streams = matches!(call.body, CallBody::Stream(..));
        let request = to_request(client, url, call, authorization);
        if streams {
            // The answer comes when the last byte is there: the caller watches the bytes.
            return request.send().await.map_err(|error| self.explain(error));
        }
        self.execute(request).await
    }

    fn execute(&self, request: reqwest::RequestBuilder) -> impl Future<Output = Result<Response, Fault>> + Send {
        let limit = self.timeouts().answer;
        let sent = timeout(limit, request.send());
        async move {
            match sent.await {
                Ok(answer) => answer.map_err(|error| self.explain(error)),
                Err(_) => Err(Fault::Connection {
                    problem: ConnectionProblem::AnswerTimeout(limit),
                    source: None,
                }),
            }
        }
    }

    fn explain(&self, error: reqwest::Error) -> Fault {
        if error.is_connect() && error.is_timeout() {
            return Fault::Connection {
                problem: ConnectionProblem::ConnectTimeout(self.timeouts().connect),
                source: None,
            };
        }
        classify(error)
    }
}

fn http_client(endpoint: &Endpoint, policy: &TlsPolicy) -> Result<Client, Fault> {
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

fn to_request(
    client: &Client,
    url: &Url,
    call: &mut Call,
    authorization: Option<HeaderValue>,
) -> reqwest::RequestBuilder {
    let mut request = client
        .request(call.method.clone(), url.clone())
        .headers(call.headers.clone());
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let reads = call.follows_redirects();
    match &mut call.body {
        CallBody::Empty if reads => request,
        // Some registries and proxies want to hear that a POST is empty.
        CallBody::Empty => request.header(CONTENT_LENGTH, 0),
        CallBody::Bytes(bytes) => request.body(bytes.clone()),
        CallBody::Stream(stream, length) => {
            let stream = std::mem::take(stream);
            request.header(CONTENT_LENGTH, *length).body(stream)
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn redirect_target(from: &Url, headers: &HeaderMap) -> Result<Url, Fault> {
    let to = location(from, headers).ok_or(Fault::Protocol(ProtocolProblem::BadRedirect))?;
    origin::judge_redirect(from, &to).map_err(|reason| Fault::RedirectRefused {
        to: origin::authority(&to),
        reason,
    })?;
    Ok(to)
}

/// What the `Location` header of an answer points to.
pub(super) fn location(asked: &Url, headers: &HeaderMap) -> Option<Url> {
    origin::resolve_location(asked, headers.get(LOCATION)?.to_str().ok()?)
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3). Its other form, a date, is not used by registries; what cannot be
/// read is as if it were not there.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

pub(super) fn stalled(limit: Duration) -> Fault {
    Fault::Connection {
        problem: ConnectionProblem::Stalled(limit),
        source: None,
    }
}

/// Whether plain HTTP cannot do better where TLS failed like this.
fn is_out_of_reach(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Connection {
            problem: ConnectionProblem::ConnectTimeout(_) | ConnectionProblem::Name,
            ..
        }
    )
}

/// Whether somebody answered, and not in TLS: then what plain HTTP failed with is the real failure.
fn speaks_no_tls(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Tls {
            problem: TlsProblem::NotTls,
            ..
        }
    )
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
            return Fault::Connection {
                problem: ConnectionProblem::Refused,
                source: None,
            };
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
