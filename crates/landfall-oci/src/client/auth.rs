//! Logging in: answers a registry's challenge and keeps the tokens that it took. Decides what `Authorization` a request to
//! the registry itself carries; [`super::transport`] makes sure that nobody else sees it.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use landfall_core::reference::{RegistryHost, Repository};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::error::Fault;
use super::origin;
use super::problem::ProtocolProblem;
use super::server_message::ServerMessage;

/// A token's life when the token server does not say (distribution's token specification).
const TOKEN_LIFE_DEFAULT: Duration = Duration::from_secs(60);
/// Longer lives are not believed.
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(3600);
/// The largest answer of a token server that is read, in bytes.
pub(super) const TOKEN_ANSWER_MAX: usize = 64 * 1024;

/// A user name and a password (or an access token in its place).
#[derive(Clone)]
pub struct Login {
    /// Who.
    pub username: String,
    /// The secret.
    pub password: SecretString,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// The value of an `Authorization` header (RFC 7617).
    pub(super) fn basic(&self) -> HeaderValue {
        sensitive("Basic", &self.encoded()).expect("base64 is visible ASCII")
    }

    fn encoded(&self) -> String {
        STANDARD.encode(format!("{}:{}", self.username, self.password.expose_secret()))
    }
}

fn sensitive(scheme: &str, secret: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("{scheme} {secret}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What a request needs to be allowed: the least that the step can do with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Need {
    /// Nothing but to be let in.
    Ping,
    /// To list the repositories.
    Catalog,
    /// To read a repository.
    Pull(Repository),
    /// To read and write a repository.
    Push(Repository),
    /// To write a repository and read another one.
    Mount {
        /// Where to.
        to: Repository,
        /// Where from.
        from: Repository,
    },
    /// The user's own login: an API beside the distribution's.
    Login,
}

impl Need {
    fn scopes(&self) -> Vec<String> {
        match self {
            Need::Ping | Need::Login => Vec::new(),
            Need::Catalog => vec!["registry:catalog:*".to_owned()],
            Need::Pull(repository) => vec![format!("repository:{repository}:pull")],
            Need::Push(repository) => vec![format!("repository:{repository}:pull,push")],
            Need::Mount { to, from } => vec![format!("repository:{to}:pull,push"), format!("repository:{from}:pull")],
        }
    }
}

/// A request for a token that somebody has to carry out.
pub(super) struct TokenRequest<'a> {
    pub(super) url: Url,
    pub(super) login: Option<&'a Login>,
}

/// What a token server answered.
#[derive(serde::Deserialize)]
pub(super) struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

/// The login of one registry and what came of it.
pub(super) struct Authority {
    login: Option<Login>,
    listed: Vec<RegistryHost>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the registry asked for last time: saves a 401 with each new repository.
    challenge: Option<Challenge>,
    tokens: HashMap<Need, Token>,
}

struct Token {
    header: HeaderValue,
    good_until: Instant,
}

/// What to do about a request's `Authorization`.
pub(super) enum Answer<'a> {
    /// Send this, or nothing.
    Header(Option<HeaderValue>),
    /// Take a token first, and hand it to [`Authority::keep`].
    TokenFirst(TokenRequest<'a>),
}

impl Authority {
    pub(super) fn new(login: Option<Login>, listed: Vec<RegistryHost>) -> Authority {
        Authority {
            login,
            listed,
            state: Mutex::default(),
        }
    }

    pub(super) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// What a request sends, as far as we know without having asked.
    ///
    /// # Errors
    /// When the token server of the last challenge must not be used.
    pub(super) async fn prepare(&self, base: &Url, need: &Need) -> Result<Answer<'_>, Fault> {
        if *need == Need::Login {
            return Ok(Answer::Header(self.login.as_ref().map(Login::basic)));
        }
        let state = self.state.lock().await;
        if let Some(token) = state.tokens.get(need).filter(|token| Instant::now() < token.good_until) {
            return Ok(Answer::Header(Some(token.header.clone())));
        }
        match &state.challenge {
            None => Ok(Answer::Header(None)),
            Some(challenge) => self.answer(base, challenge, need),
        }
    }

    /// What to send after a 401 with these challenges.
    ///
    /// # Errors
    /// When there is no login, it was refused, or the token server must not be used.
    pub(super) async fn challenged(
        &self,
        base: &Url,
        need: &Need,
        challenges: Vec<Challenge>,
        message: ServerMessage,
    ) -> Result<Answer<'_>, Fault> {
        let mut state = self.state.lock().await;
        state.tokens.remove(need);
        let usable = challenges.iter().find(|challenge| match challenge {
            Challenge::Basic => self.login.is_some(),
            Challenge::Bearer { .. } => true,
        });
        let Some(challenge) = usable else {
            return Err(match challenges.is_empty() {
                true => Fault::from(ProtocolProblem::NoUsableChallenge),
                false => Fault::LoginMissing { message },
            });
        };
        state.challenge = Some(challenge.clone());
        self.answer(base, challenge, need)
    }

    fn answer(&self, base: &Url, challenge: &Challenge, need: &Need) -> Result<Answer<'_>, Fault> {
        match challenge {
            Challenge::Basic => Ok(Answer::Header(self.login.as_ref().map(Login::basic))),
            Challenge::Bearer { realm, service, scope } => {
                let url = token_url(realm, service.as_deref(), scope.as_deref(), need)?;
                origin::judge_realm(base, &url, self.login.is_some(), &self.listed).map_err(|reason| {
                    Fault::TokenServerNotTrusted {
                        server: origin::authority(&url),
                        reason,
                    }
                })?;
                Ok(Answer::TokenFirst(TokenRequest {
                    url,
                    login: self.login.as_ref(),
                }))
            }
        }
    }

    /// Keeps a token for as long as it is good, and gives the header to send.
    ///
    /// # Errors
    /// When the answer holds no token.
    pub(super) async fn keep(&self, need: &Need, answer: &TokenAnswer) -> Result<HeaderValue, Fault> {
        let token = [&answer.token, &answer.access_token]
            .into_iter()
            .find(|token| !token.is_empty());
        let header = token
            .and_then(|token| sensitive("Bearer", token))
            .ok_or(Fault::from(ProtocolProblem::NoToken))?;
        let life = answer
            .expires_in
            .map_or(TOKEN_LIFE_DEFAULT, Duration::from_secs)
            .min(TOKEN_LIFE_MAX);
        let token = Token {
            header: header.clone(),
            // A tenth early: the registry's clock and the way there take their part.
            good_until: Instant::now() + life.mul_f64(0.9),
        };
        self.state.lock().await.tokens.insert(need.clone(), token);
        Ok(header)
    }

    /// The message without the password that the server may have echoed, as it is or as it was sent.
    pub(super) fn redact(&self, message: ServerMessage) -> ServerMessage {
        match &self.login {
            Some(login) => message
                .without(&login.encoded())
                .without(login.password.expose_secret()),
            None => message,
        }
    }
}

/// The scope is ours, the least that the step needs; the registry's own word counts only where it is not one of the
/// distribution's scopes (`aws`, at public.ecr.aws).
fn token_url(realm: &str, service: Option<&str>, scope: Option<&str>, need: &Need) -> Result<Url, Fault> {
    let mut url = Url::parse(realm).map_err(|_| Fault::from(ProtocolProblem::BadRealm))?;
    let foreign = scope.filter(|scope| !scope.starts_with("repository:") && !scope.starts_with("registry:"));
    let scopes = match foreign {
        Some(scope) => vec![scope.to_owned()],
        None => need.scopes(),
    };
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in &scopes {
            query.append_pair("scope", scope);
        }
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_asked_for_the_least_that_a_step_needs() {
        let pull = Need::Pull("a/b".parse().unwrap());
        let mount = Need::Mount {
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
            (&Need::Ping, None, "https://t/x?service=s"),
        ];
        for (need, scope, expected) in cases {
            assert_eq!(
                token_url("https://t/x", Some("s"), scope, need).unwrap().as_str(),
                expected
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_used_until_shortly_before_its_end() {
        let authority = Authority::new(None, Vec::new());
        let base = Url::parse("https://reg.example.com").unwrap();
        let answer: TokenAnswer = serde_json::from_str(r#"{"access_token":"t","expires_in":10}"#).unwrap();
        authority.keep(&Need::Ping, &answer).await.unwrap();
        let has_header = async || {
            matches!(
                authority.prepare(&base, &Need::Ping).await.unwrap(),
                Answer::Header(Some(_))
            )
        };
        tokio::time::advance(Duration::from_millis(8_900)).await;
        assert!(has_header().await);
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(!has_header().await);
    }

    #[test]
    fn a_login_shows_no_password() {
        let login = Login {
            username: "ann".to_owned(),
            password: SecretString::from("canary"),
        };
        assert_eq!(
            format!("{login:?} {:?}", login.basic()),
            "Login { username: \"ann\", .. } Sensitive"
        );
    }
}
