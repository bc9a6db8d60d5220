//! Carries out the rule about shortcuts ([spec:agent.shortcuts]): [`Shortcut`] is their list and decides; this module
//! classifies the answers, and counts the failures that may pass.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use landfall_core::failure::{AfterShortcut, FailureKind, Shortcut, Unexpected};
use landfall_core::sync::lock;
use tokio::time::Instant;

use super::error::Fault;
use super::problem::ConnectionProblem;
use crate::client::registry_client::RegistryClient;

/// Questions whose failures are counted at once. Beyond it all counts begin anew.
const COUNTED_MAX: usize = 4096;

/// Time after the last failure in which a count is valid. A step has several questions and is repeated as a whole, so
/// that a question stays given up for that long.
const COUNT_VALID: Duration = Duration::from_secs(600);

/// Counted failures of questions that may be asked again, by shortcut and subject.
#[derive(Debug, Default)]
pub(super) struct ShortcutCounts {
    counts: Mutex<HashMap<(Shortcut, String), (u32, Instant)>>,
}

impl ShortcutCounts {
    fn get(&self, key: &(Shortcut, String)) -> u32 {
        let counts = lock(&self.counts);
        let valid = counts.get(key).filter(|(_, last)| last.elapsed() < COUNT_VALID);
        valid.map_or(0, |(count, _)| *count)
    }

    fn count(&self, key: (Shortcut, String), count: u32) {
        let mut counts = lock(&self.counts);
        if counts.len() >= COUNTED_MAX {
            counts.clear();
        }
        counts.insert(key, (count, Instant::now()));
    }

    fn forget(&self, key: &(Shortcut, String)) {
        lock(&self.counts).remove(key);
    }
}

impl RegistryClient {
    /// Asks the question of a shortcut. Returns its answer, or `None` for the plain way. `subject` tells questions of
    /// one shortcut apart.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached, or if the question is to be asked again later.
    pub(super) async fn try_shortcut<T>(
        &self,
        shortcut: Shortcut,
        subject: impl ToString,
        question: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Option<T>, Fault> {
        let key = (shortcut, subject.to_string());
        let before = self.shortcuts.get(&key);
        if shortcut.is_given_up(before) {
            return Ok(None);
        }
        let fault = match question.await {
            Ok(answer) => {
                self.shortcuts.forget(&key);
                return Ok(Some(answer));
            }
            Err(fault) => fault,
        };
        match shortcut.after(unexpected(&fault), before) {
            AfterShortcut::PlainWay => {
                tracing::debug!(
                    registry = %self.host(), ?shortcut, error = %fault, then = shortcut.plain_way(), "a shortcut is refused"
                );
                Ok(None)
            }
            AfterShortcut::Again => {
                self.shortcuts.count(key, before + 1);
                Err(fault)
            }
            AfterShortcut::Fail => Err(fault),
        }
    }
}

/// Classifies the failure of a shortcut.
pub(super) fn unexpected(fault: &Fault) -> Unexpected {
    match fault {
        Fault::Answer { status, .. } | Fault::TokenRefused { status, .. } => match fault.kind() {
            FailureKind::RateLimited { after: Some(_) } => Unexpected::Wait,
            _ => Unexpected::Status(status.as_u16()),
        },
        Fault::LoginMissing { .. } | Fault::LoginRefused { .. } => Unexpected::Status(401),
        Fault::LoginLapsed { .. } => Unexpected::Silence,
        Fault::Connection { problem, .. } => match problem {
            ConnectionProblem::Broken | ConnectionProblem::Stalled(_) | ConnectionProblem::ResponseTimeout(_) => {
                Unexpected::Silence
            }
            ConnectionProblem::Refused | ConnectionProblem::Name | ConnectionProblem::ConnectTimeout(_) => {
                Unexpected::Unreached
            }
        },
        // The host that the registry redirects to is not the registry: its limits and failures say nothing about it.
        Fault::Elsewhere { .. }
        | Fault::WrongDigest { .. }
        | Fault::WrongSize { .. }
        | Fault::TooLarge { .. }
        | Fault::RedirectRefused { .. }
        | Fault::UploadRedirected { .. }
        | Fault::TokenServerNotTrusted { .. }
        | Fault::Protocol(_) => Unexpected::Unusable,
        Fault::GivenUp { .. }
        | Fault::NotBefore { .. }
        | Fault::Tls { .. }
        | Fault::Keychain(_)
        | Fault::Certificate(_)
        | Fault::Proxy { .. }
        | Fault::Setup(_)
        | Fault::Body(_) => Unexpected::Unreached,
    }
}
