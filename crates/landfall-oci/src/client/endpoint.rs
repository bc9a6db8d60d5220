//! One registry, and all that is needed to talk to it: trust, login, proxies, limits.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use landfall_core::failure::CircuitPolicy;
use landfall_core::reference::RegistryHost;
use landfall_net::stall::StallTimer;
use landfall_net::tls::TlsPolicy;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use crate::client::login::Login;
use crate::keychain::Keychain;

/// One registry, and all that is needed to talk to it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Where it is. `docker.io` is reached at `registry-1.docker.io`.
    pub host: RegistryHost,
    /// How its certificate is judged.
    pub tls: TlsPolicy,
    /// Directories with one of certificates for each registry (`/etc/docker/certs.d`), read again when they change.
    pub certificate_roots: Vec<Utf8PathBuf>,
    /// Who we are there, when the configuration says it.
    pub login: Option<Login>,
    /// Where a login is looked for otherwise. With neither we are anonymous.
    pub keychain: Option<Arc<Keychain>>,
    /// Token servers outside the registry's own domain that may see the login.
    pub token_servers: Vec<RegistryHost>,
    /// The way out of this network.
    pub proxies: Proxies,
    /// The limits of patience.
    pub timeouts: Timeouts,
    /// When it counts as gone, and for how long it is left alone then.
    pub circuit: CircuitPolicy,
    /// A larger blob goes up in chunks of so many bytes, and of four times as many where the registry seems to keep what a
    /// broken request brought.
    pub upload_chunk_size: u64,
}

impl Endpoint {
    /// A registry with a certificate from a known authority, anonymous, without proxies.
    #[must_use]
    pub fn new(host: RegistryHost) -> Endpoint {
        Endpoint {
            host,
            tls: TlsPolicy::default(),
            certificate_roots: Vec::new(),
            login: None,
            keychain: None,
            token_servers: Vec::new(),
            proxies: Proxies::default(),
            timeouts: Timeouts::default(),
            circuit: CircuitPolicy::default(),
            upload_chunk_size: UPLOAD_CHUNK_SIZE,
        }
    }
}

/// Proxies, as `http_proxy`, `https_proxy` and `no_proxy` name them. This machine itself is never reached by a proxy.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// The proxy's URL for `http://`. Secret, as it may hold a password.
    pub http: Option<SecretString>,
    /// The proxy's URL for `https://`.
    pub https: Option<SecretString>,
    /// Hosts, domains and networks that are reached directly, separated by commas.
    pub no_proxy: Option<String>,
}

/// How long to wait. There is no limit for a whole transfer: a large blob over a thin link takes hours and is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the head of an answer.
    pub response: Duration,
    /// For a transfer that hardly moves, either way. The time in which the other end of a copy lets it wait does not count.
    pub stall: Duration,
    /// What is not hardly moving, in bytes a second over that time. On the way up it is what this machine's system takes
    /// over for sending, some hundred kilobytes at a time.
    pub min_throughput: u64,
    /// For the answer to an upload after its last byte, at most: the registry may hash all of it again.
    pub commit: Duration,
}

/// A registry that hashes a blob again is not slower than this, in bytes a second.
const SLOWEST_HASHING: u64 = 8 * 1024 * 1024;

impl Timeouts {
    /// The pace that a transfer has to keep.
    pub(crate) fn stall_timer(&self) -> StallTimer {
        let milliseconds = u64::try_from(self.stall.as_millis()).unwrap_or(u64::MAX);
        StallTimer::new(self.stall, self.min_throughput.saturating_mul(milliseconds) / 1000)
    }

    /// For the answer to an upload of so many bytes: a link that went silent at the end of a small blob is noticed soon.
    pub(crate) fn commit_of(&self, size: u64) -> Duration {
        self.commit
            .min(self.response + Duration::from_secs(size / SLOWEST_HASHING))
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(10),
            response: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            min_throughput: 256,
            commit: Duration::from_secs(300),
        }
    }
}

/// What is lost at most where a registry keeps nothing of a request that broke off, in bytes; larger than most layers, so
/// that those take one request.
const UPLOAD_CHUNK_SIZE: u64 = 64 * 1024 * 1024;

impl Proxies {
    /// `http_proxy`, `https_proxy` and `no_proxy`, in capitals or not; the small ones count more, as in curl.
    #[must_use]
    pub fn of_variables(variable: &dyn Fn(&str) -> Option<String>) -> Proxies {
        let either = |small: &str| {
            let names = [small.to_owned(), small.to_ascii_uppercase()];
            names
                .into_iter()
                .find_map(|name| variable(&name).filter(|value| !value.trim().is_empty()))
        };
        Proxies {
            http: either("http_proxy").map(Into::into),
            https: either("https_proxy").map(Into::into),
            no_proxy: either("no_proxy"),
        }
    }
}

/// `host:port` without a scheme is what many environments hold: it means plain HTTP to the proxy.
pub(crate) fn proxy_url(address: &SecretString) -> Option<Url> {
    let text = address.expose_secret().trim();
    let parsed = if text.contains("://") {
        Url::parse(text)
    } else {
        Url::parse(&format!("http://{text}"))
    };
    parsed
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stall_timer(min_throughput: u64) -> StallTimer {
        let timeouts = Timeouts {
            stall: Duration::from_secs(10),
            min_throughput,
            ..Timeouts::default()
        };
        timeouts.stall_timer()
    }

    /// So many bytes moved after so long a wait.
    fn pass(stall_timer: &mut StallTimer, bytes: usize, waited: Duration) {
        stall_timer.add_wait(waited);
        stall_timer.add_bytes(bytes);
    }

    #[test]
    fn a_trickle_below_the_limit_uses_the_patience_up() {
        let mut stall_timer = stall_timer(100);
        for second in 1..=10 {
            pass(&mut stall_timer, 99, Duration::from_secs(1));
            assert_eq!(stall_timer.remaining(), Duration::from_secs(10 - second));
        }
    }

    #[test]
    fn a_slow_transfer_above_the_limit_goes_on_for_ever() {
        let mut stall_timer = stall_timer(100);
        for _ in 0..1000 {
            pass(&mut stall_timer, 101, Duration::from_secs(1));
            assert!(!stall_timer.remaining().is_zero());
        }
    }

    #[test]
    fn without_a_limit_a_single_byte_is_enough_and_none_is_not() {
        let mut stall_timer = stall_timer(0);
        pass(&mut stall_timer, 0, Duration::from_secs(9));
        assert_eq!(stall_timer.remaining(), Duration::from_secs(1));
        pass(&mut stall_timer, 1, Duration::from_millis(500));
        assert_eq!(stall_timer.remaining(), Duration::from_secs(10));
    }

    #[test]
    fn proxies_have_small_names_or_large_ones() {
        let variable = |name: &str| match name {
            "HTTP_PROXY" => Some("http://large:1".to_owned()),
            "http_proxy" => Some("http://small:1".to_owned()),
            "HTTPS_PROXY" => Some("large:2".to_owned()),
            "https_proxy" => Some(String::new()),
            _ => None,
        };
        let proxies = Proxies::of_variables(&variable);
        assert_eq!(proxies.http.unwrap().expose_secret(), "http://small:1");
        assert_eq!(proxies.https.unwrap().expose_secret(), "large:2");
        assert!(proxies.no_proxy.is_none());
    }
}
