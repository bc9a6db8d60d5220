//! Bearer tokens: their request, their lifetime, and one slot for each, where tasks wait for it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;
use landfall_core::credential_file::Credential;
use landfall_core::lenient_object;
use reqwest::Url;
use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::header::{basic, sensitive};
use super::scope::Scope;
use crate::client::error::Fault;
use crate::client::http_date::parse_http_date;
use crate::client::problem::ProtocolProblem;

/// Lifetime if the token server states none (distribution's token specification).
const LIFETIME_DEFAULT: Duration = Duration::from_secs(60);
/// Upper bound for a stated lifetime.
const LIFETIME_MAX: Duration = Duration::from_secs(3600);
/// Remaining lifetime before a streamed body, which can be sent only once.
const STREAM_MARGIN: Duration = Duration::from_secs(10);
/// Largest response of a token server that is read, in bytes.
pub(crate) const TOKEN_RESPONSE_MAX: usize = 64 * 1024;
/// Client ID for OAuth 2.0.
const CLIENT_ID: &str = "landfall";

pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    received: Instant,
    lifetime: Duration,
}

/// Slot of one token. The first task that finds it empty or expired fetches the token while it holds the lock.
pub(crate) type TokenSlot = Arc<Mutex<Option<Token>>>;

/// Required remaining lifetime of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Valid long enough to be sent: a refusal costs one more round trip.
    Now,
    /// Valid for at least 10 s: a streamed body cannot be resent after a 401.
    ForStream,
}

/// Response of a token server.
#[derive(Default)]
pub(crate) struct TokenResponse {
    token: String,
    access_token: String,
    expires_in: Option<u64>,
    issued_at: Option<String>,
}

lenient_object!(TokenResponse {
    "token" => token,
    "access_token" => access_token,
    "expires_in" => expires_in,
    "issued_at" => issued_at,
});

impl Token {
    /// # Errors
    /// Fails if the response holds no token. `date` is the response's `Date` header.
    pub(crate) fn from_response(response: &TokenResponse, date: Option<&HeaderValue>) -> Result<Token, Fault> {
        let token = [&response.token, &response.access_token]
            .into_iter()
            .find(|token| !token.is_empty());
        let header = token.and_then(|token| sensitive("Bearer", token));
        let date = date.and_then(|date| date.to_str().ok());
        Ok(Token {
            header: header.ok_or(Fault::from(ProtocolProblem::NoToken))?,
            received: Instant::now(),
            lifetime: lifetime(response, date),
        })
    }

    /// Returns true if the token is still usable.
    pub(crate) fn is_valid(&self, freshness: Freshness) -> bool {
        let margin = match freshness {
            // A tenth stays in reserve for clock differences and network delay.
            Freshness::Now => self.lifetime / 10,
            Freshness::ForStream => STREAM_MARGIN.max(self.lifetime / 10).min(self.lifetime / 2),
        };
        self.received.elapsed() + margin < self.lifetime
    }
}

/// Returns the lifetime from now on. A token server may return a token that it created earlier. Its age is measured by
/// the server's own clock, because the clock of an edge host may be wrong.
fn lifetime(response: &TokenResponse, date: Option<&str>) -> Duration {
    let lifetime = response.expires_in.map_or(LIFETIME_DEFAULT, Duration::from_secs);
    let issued: Option<Timestamp> = response.issued_at.as_deref().and_then(|text| text.parse().ok());
    let now = date.and_then(parse_http_date);
    let age = match (issued, now) {
        (Some(issued), Some(now)) => Duration::try_from(now.duration_since(issued)).unwrap_or_default(),
        _ => Duration::ZERO,
    };
    lifetime.saturating_sub(age).min(LIFETIME_MAX)
}

/// A request to a token server.
pub(crate) struct TokenRequest {
    pub(crate) url: Url,
    /// Form fields of a POST (OAuth 2.0); `None` is a GET.
    pub(crate) form: Option<String>,
    pub(crate) authorization: Option<HeaderValue>,
}

/// Builds the request for a token. The scope is the client's own, the least that the request needs. The scope of the
/// challenge counts only if it is not in the distribution's form (`aws`, at public.ecr.aws).
pub(super) fn token_request(
    mut url: Url,
    service: Option<&str>,
    challenge_scope: Option<&str>,
    scope: &Scope,
    credential: Option<&Credential>,
) -> TokenRequest {
    let foreign = challenge_scope.filter(|scope| !scope.starts_with("repository:") && !scope.starts_with("registry:"));
    let scopes = match foreign {
        Some(scope) => vec![scope.to_owned()],
        None => scope.to_token_scopes(),
    };
    if let Some(Credential::IdentityToken(token)) = credential {
        // The form has the syntax of a query, so that a URL renders it.
        let mut form = url.clone();
        form.set_query(None);
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service.unwrap_or_default())
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &scopes.join(" "))
            .append_pair("refresh_token", token.expose_secret());
        return TokenRequest {
            form: form.query().map(str::to_owned),
            url,
            authorization: None,
        };
    }
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in &scopes {
            query.append_pair("scope", scope);
        }
    }
    TokenRequest {
        url,
        form: None,
        authorization: credential.and_then(basic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url_for(scope: &Scope, challenge_scope: Option<&str>) -> String {
        let realm = Url::parse("https://t/x").unwrap();
        token_request(realm, Some("s"), challenge_scope, scope, None)
            .url
            .to_string()
    }

    #[test]
    fn a_token_is_asked_for_the_least_that_a_step_needs() {
        let pull = Scope::Pull("a/b".parse().unwrap());
        let mount = Scope::Mount {
            to: "a/b".parse().unwrap(),
            from: "c".parse().unwrap(),
        };
        let wide = Some("repository:a/b:pull,push,delete");
        let cases = [
            (&pull, wide, "https://t/x?service=s&scope=repository%3Aa%2Fb%3Apull"),
            (&pull, Some("aws"), "https://t/x?service=s&scope=aws"),
            (
                &mount,
                None,
                "https://t/x?service=s&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%3Apull",
            ),
            (&Scope::Ping, None, "https://t/x?service=s"),
        ];
        for (scope, challenge_scope, expected) in cases {
            assert_eq!(url_for(scope, challenge_scope), expected);
        }
    }

    #[test]
    fn an_identity_token_is_exchanged_in_a_form_and_never_in_the_url() {
        let credential = Credential::IdentityToken("ca&nary".into());
        let scope = Scope::Push("a".parse().unwrap());
        let realm = Url::parse("https://t/x?account=1").unwrap();
        let request = token_request(realm, Some("s"), None, &scope, Some(&credential));
        assert_eq!(request.url.as_str(), "https://t/x?account=1");
        assert_eq!(
            request.form.unwrap(),
            "grant_type=refresh_token&service=s&client_id=landfall&scope=repository%3Aa%3Apull%2Cpush&refresh_token=ca%26nary"
        );
        assert!(request.authorization.is_none());
    }

    fn response(json: &str) -> TokenResponse {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_tokens_age_is_told_by_the_servers_own_clock() {
        let date = Some("Sat, 21 Nov 2026 10:00:40 GMT");
        let cases = [
            (r#"{"token":"t"}"#, date, 60),
            (r#"{"token":"t","expires_in":300}"#, date, 300),
            (
                r#"{"token":"t","expires_in":300,"issued_at":"2026-11-21T10:00:00Z"}"#,
                date,
                260,
            ),
            (
                r#"{"token":"t","expires_in":300,"issued_at":"2026-11-21T10:00:00Z"}"#,
                None,
                300,
            ),
            (
                r#"{"token":"t","expires_in":300,"issued_at":"2026-11-21T11:00:00Z"}"#,
                date,
                300,
            ),
            (
                r#"{"token":"t","expires_in":300,"issued_at":"1970-01-01T00:00:00Z"}"#,
                date,
                0,
            ),
            (r#"{"token":"t","expires_in":300,"issued_at":"canary"}"#, date, 300),
            (r#"{"token":"t","expires_in":99999999}"#, None, 3600),
        ];
        for (json, date, expected) in cases {
            assert_eq!(lifetime(&response(json), date), Duration::from_secs(expected), "{json}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_earlier_when_a_stream_follows() {
        let cases = [
            // lifetime, seconds elapsed, valid for a request, valid for a stream
            (300, 0, true, true),
            (300, 265, true, true),
            (300, 275, false, false),
            (60, 49, true, true),
            (60, 52, true, false),
            (5, 2, true, true),
            (5, 3, true, false),
        ];
        for (life, gone, request, stream) in cases {
            let token =
                Token::from_response(&response(&format!(r#"{{"token":"t","expires_in":{life}}}"#)), None).unwrap();
            tokio::time::advance(Duration::from_secs(gone)).await;
            assert_eq!(token.is_valid(Freshness::Now), request, "{life} {gone}");
            assert_eq!(token.is_valid(Freshness::ForStream), stream, "{life} {gone}");
        }
    }
}
