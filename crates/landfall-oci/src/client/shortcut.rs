//! Carries out the rule about shortcuts ([spec:agent.shortcuts]): [`Shortcut`] is their list and decides; this module
//! classifies the answers.

use std::future::Future;

use landfall_core::failure::{AfterShortcut, FailureKind, Shortcut, Unexpected};

use super::error::Fault;
use super::problem::ConnectionProblem;
use crate::client::registry_client::RegistryClient;

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
            ConnectionProblem::Refused
            | ConnectionProblem::Name
            | ConnectionProblem::ConnectTimeout(_)
            | ConnectionProblem::Proxy { .. } => Unexpected::Unreached,
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
