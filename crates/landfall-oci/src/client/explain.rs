//! Explanations of failed transfers for operators: which image, which registry, why, and which key of which file to
//! change. All functions are pure: the same failure gives the same words in events, status and the exit message of
//! `--once`.

use std::borrow::Cow;

use landfall_core::diagnostic::Location;
use landfall_core::failure::{Explanation, FailureKind, error_chain, find_hint};
use landfall_core::reference::{ImageReference, RegistryHost};
use landfall_core::resolve::{Candidate, CandidateKind, Why};
use landfall_core::settings::{Primary, ProfileImage, RegistryRole, RegistrySettings, Settings};

use super::error::Fault;
use super::problem::TlsProblem;
use crate::hints::hint_of;
use crate::image::TransferError;

/// Explains why an image could not be fetched from this candidate.
#[must_use]
pub fn explain_fetch(
    settings: &Settings,
    image: &ProfileImage,
    candidate: &Candidate,
    error: &TransferError,
) -> Explanation {
    if candidate.kind == CandidateKind::Bundle {
        return explain_bundle(image, error);
    }
    let host = &candidate.reference.host;
    let peer = Peer {
        registry: candidate.registry.map(|index| &settings.registries[index]),
        host: host.as_str(),
        repository: candidate.reference.repository.as_str(),
        verb: "pull from",
    };
    let Explanation { message: reason, hint } = match error.kind {
        FailureKind::NotFound => Explanation::new(
            format!("it does not have `{}`", candidate.reference),
            hint_for_missing(settings, image, candidate),
        ),
        kind => peer.explain(kind, error),
    };
    Explanation::new(
        format!(
            "image `{}` cannot be fetched from registry `{host}`: {reason}",
            image.source
        ),
        hint,
    )
}

/// Takes the name of the image out of an explanation, so that images that fail for one reason can be told together.
#[must_use]
pub fn without_image(message: &str, image: &str) -> String {
    message.replace(&format!("image `{image}` "), "")
}

fn explain_bundle(image: &ProfileImage, error: &TransferError) -> Explanation {
    let message = format!(
        "image `{}` cannot be taken from a bundle: {}",
        image.source,
        error.chain()
    );
    let hint = find_hint(error, hint_of).unwrap_or_else(|| "copy the bundle again from where it was made".into());
    Explanation::new(message, hint)
}

/// Explains why an image could not be pushed to the primary registry.
#[must_use]
pub fn explain_push(
    settings: &Settings,
    image: &ImageReference,
    target: &ImageReference,
    registry: Option<usize>,
    error: &TransferError,
) -> Explanation {
    let host = &target.host;
    let peer = Peer {
        registry: registry.map(|index| &settings.registries[index]),
        host: host.as_str(),
        repository: target.repository.as_str(),
        verb: "push to",
    };
    let Explanation { message: reason, hint } = match error.kind {
        FailureKind::NotFound => Explanation::new(
            format!("it takes nothing at `{target}`"),
            format!("create the project `{}` in it", project_of(target)),
        ),
        kind => peer.explain(kind, error),
    };
    Explanation::new(
        format!("image `{image}` cannot be pushed to the primary registry `{host}`: {reason}"),
        hint,
    )
}

/// Explains why the primary registry does not answer.
#[must_use]
pub fn explain_primary(
    settings: &Settings,
    host: &RegistryHost,
    registry: Option<usize>,
    error: &TransferError,
) -> Explanation {
    let registry = registry.map(|index| &settings.registries[index]);
    let peer = Peer {
        registry,
        host: host.as_str(),
        repository: "",
        verb: "use",
    };
    let Explanation { message: reason, hint } = peer.explain(error.kind, error);
    Explanation::new(format!("the primary registry `{host}` cannot be used: {reason}"), hint)
}

/// Explains why the project of the primary registry, which is a Harbor, neither exists nor can be created.
#[must_use]
pub fn explain_project(
    settings: &Settings,
    primary: &Primary,
    registry: Option<usize>,
    error: &TransferError,
) -> Explanation {
    let peer = Peer {
        registry: registry.map(|index| &settings.registries[index]),
        host: primary.endpoint.as_str(),
        repository: &primary.project,
        verb: "create the project",
    };
    let Explanation { message: reason, hint } = match error.kind {
        FailureKind::NotFound => Explanation::new(
            "it has no project API".to_owned(),
            "check that Harbor listens there; for another registry write `kind: registry` in `landfall.primary`"
                .to_owned(),
        ),
        kind => peer.explain(kind, error),
    };
    Explanation::new(
        format!(
            "the project `{}` of the primary registry `{}` cannot be made: {reason}",
            primary.project, primary.endpoint
        ),
        hint,
    )
}

/// Explains why an image of the profile may not be fetched from any registry.
#[must_use]
pub fn explain_no_source(image: &ProfileImage) -> Explanation {
    Explanation::new(
        format!(
            "image `{}` cannot be fetched from any registry: sync from the origin is off",
            image.source
        ),
        format!(
            "push it to the primary registry by hand, or set `content.sync.enable: true` in the registry-connect pack; the \
             image is listed at {}",
            position(&image.location)
        ),
    )
}

/// Returns the project of a repository: the first part of its path.
fn project_of(target: &ImageReference) -> &str {
    let path = target.repository.as_str();
    path.split_once('/').map_or(path, |(project, _)| project)
}

fn hint_for_missing(settings: &Settings, image: &ProfileImage, candidate: &Candidate) -> String {
    let listed = position(&image.location);
    match candidate.why {
        Why::Rule(index) => format!(
            "push it there, or correct the image at {listed} or the mapping rule at {}",
            position(&settings.rules[index].location)
        ),
        Why::Prepend(_) => format!("push it there, or correct the image at {listed}"),
        _ => format!("correct the image at {listed}"),
    }
}

/// The registry at the other side of a transfer.
struct Peer<'a> {
    registry: Option<&'a RegistrySettings>,
    host: &'a str,
    repository: &'a str,
    /// The attempted action there, e.g. `pull from`.
    verb: &'static str,
}

impl Peer<'_> {
    /// Returns the reason and its hint.
    fn explain(&self, kind: FailureKind, error: &TransferError) -> Explanation {
        let host = self.host;
        // The caller's message names the attempt, so that only the cause is added.
        let cause = error
            .source
            .as_deref()
            .map_or_else(|| error.attempt.clone(), |source| error_chain(source));
        match kind {
            FailureKind::Unauthorized => match Fault::of(error) {
                // The user-data needs no change: the login is from another file.
                Some(Fault::LoginRefused { origin: Some(_), .. }) => {
                    Explanation::new(cause, format!("log in again with `landfall login {host}`"))
                }
                _ => self.explain_unauthorized(),
            },
            FailureKind::Forbidden => self.explain_forbidden(),
            FailureKind::BadTls => {
                Explanation::new(cause, self.hint_for_tls(Fault::of(error).and_then(Fault::tls_problem)))
            }
            FailureKind::Unreachable | FailureKind::GivenUp => Explanation::new(
                format!("it does not answer: {cause}"),
                match self.registry {
                    _ if Fault::of(error).is_some_and(Fault::is_of_proxy) => format!(
                        "check the proxies of `stylus.site.network` in the user-data and that they reach `{host}`, or add \
                         it to its `noProxy`"
                    ),
                    Some(registry) => format!(
                        "check that `{host}` is up and can be reached from this host; its address is {}",
                        field(registry, Field::Address)
                    ),
                    None => format!(
                        "check that `{host}` can be reached from this host, or set `stylus.registryCredentials.domain` \
                         in the user-data to a registry that can"
                    ),
                },
            ),
            FailureKind::RateLimited { after } => Explanation::new(
                match after {
                    Some(after) if !after.is_zero() => {
                        format!("it allows no more requests for the next {} s", after.as_secs().max(1))
                    }
                    _ => "it allows no more requests for now".to_owned(),
                },
                match self.registry {
                    Some(RegistrySettings { login: Some(_), .. }) => {
                        "wait, or ask its operator for a higher limit".to_owned()
                    }
                    Some(registry) => {
                        format!(
                            "wait, or log in, which often allows more: add {}",
                            field(registry, Field::Username)
                        )
                    }
                    None => format!(
                        "wait, or add `{host}` with a login to `stylus.externalRegistries.registries` in the user-data"
                    ),
                },
            ),
            FailureKind::Corrupt => Explanation::new(
                format!("the bytes are not those that their digest names: {cause}"),
                format!("push the image to `{host}` again, and look for a proxy that changes what passes through it"),
            ),
            FailureKind::WrongLength => Explanation::new(
                format!("it offers another number of bytes than it told: {cause}"),
                format!("push the image to `{host}` again, and look for a proxy that changes what passes through it"),
            ),
            FailureKind::Stopped => Explanation::new(
                "the work was stopped on request".to_owned(),
                "run it again: what has arrived is kept".to_owned(),
            ),
            // Callers that ask for an image explain its absence themselves: here, the registry has no API.
            FailureKind::NotFound | FailureKind::Protocol => Explanation::new(
                format!("it answers like no registry: {cause}"),
                match self.registry {
                    Some(registry) => format!(
                        "check that a registry, and nothing else, listens there; its address is {}",
                        field(registry, Field::Address)
                    ),
                    None => format!("check that a registry, and nothing else, listens at `{host}`"),
                },
            ),
            FailureKind::Full => Explanation::new(
                format!("it has no room left: {cause}"),
                format!("free space in the registry `{host}`, or give it a larger disk"),
            ),
            FailureKind::Local => Explanation::new(
                format!("this host failed: {cause}"),
                find_hint(error, hint_of).map_or_else(
                    || "look at the free space and the permissions of `landfall.stateDir`".to_owned(),
                    Cow::into_owned,
                ),
            ),
        }
    }

    /// Returns the hint for a TLS failure. A larger trust store helps only against an unknown authority.
    fn hint_for_tls(&self, problem: Option<&TlsProblem>) -> String {
        match (problem, self.registry) {
            (
                Some(
                    problem @ (TlsProblem::Expired
                    | TlsProblem::NotYetValid
                    | TlsProblem::ClientCertificate
                    | TlsProblem::Handshake),
                ),
                _,
            )
            | (Some(problem @ TlsProblem::WrongName), None) => problem.advice_for(self.host).into_owned(),
            (Some(TlsProblem::WrongName), Some(registry)) => format!(
                "name it as its certificate does in {}, or renew the certificate with the name `{}`",
                field(registry, Field::Address),
                self.host
            ),
            (Some(TlsProblem::NotTls), Some(registry)) => {
                format!(
                    "set {} to true, or serve the registry over TLS",
                    field(registry, Field::Insecure)
                )
            }
            (Some(problem @ TlsProblem::NotTls), None) => problem.advice_for(self.host).into_owned(),
            (_, Some(registry)) => format!(
                "add the PEM of the authority that signed it as {}, or set `insecure: true` there",
                field(registry, Field::Certificates)
            ),
            (_, None) => {
                "add the PEM of the authority that signed it to `stylus.site.caCerts` in the user-data".to_owned()
            }
        }
    }

    fn explain_unauthorized(&self) -> Explanation {
        match self.registry {
            Some(RegistrySettings { login: Some(login), .. }) => Explanation::new(
                format!("it refuses the password of user `{}`", login.username),
                format!("correct `{}` at {}", login.location.key, position(&login.location)),
            ),
            Some(registry) => Explanation::new(
                "it asks for a login, and none is given".to_owned(),
                format!(
                    "add `{}` and the password beside {}",
                    key_of(&registry.location, registry.role, Field::Username),
                    position(&registry.location)
                ),
            ),
            None => Explanation::new(
                "it asks for a login, and none is given".to_owned(),
                format!(
                    "add `{}` with a login to `stylus.externalRegistries.registries` in the user-data",
                    self.host
                ),
            ),
        }
    }

    fn explain_forbidden(&self) -> Explanation {
        match self.registry {
            Some(registry @ RegistrySettings { login: Some(login), .. }) => Explanation::new(
                format!("user `{}` may not {} `{}`", login.username, self.verb, self.repository),
                format!(
                    "grant it there, or name another user as {}",
                    field(registry, Field::Username)
                ),
            ),
            _ => {
                let Explanation { hint, .. } = self.explain_unauthorized();
                Explanation::new(
                    format!("anonymous users may not {} `{}`", self.verb, self.repository),
                    hint,
                )
            }
        }
    }
}

/// A field of a registry by its purpose. Its name depends on the section that configures the registry.
#[derive(Debug, Clone, Copy)]
enum Field {
    Address,
    Username,
    Certificates,
    Insecure,
}

/// Returns, e.g., `` `stylus.registryCredentials.domain` at user-data.yaml:7:5 ``. A field that may be missing is
/// "beside" its location.
fn field(registry: &RegistrySettings, field: Field) -> String {
    let at = match field {
        Field::Address => "at",
        Field::Username | Field::Certificates | Field::Insecure => "beside",
    };
    format!(
        "`{}` {at} {}",
        key_of(&registry.location, registry.role, field),
        position(&registry.location)
    )
}

fn position(location: &Location) -> String {
    format!("{}:{}:{}", location.file, location.line, location.column)
}

/// Returns the key of a registry's field. The location may be that of the registry's mapping or of its address.
fn key_of(location: &Location, role: RegistryRole, field: Field) -> String {
    let names = match role {
        RegistryRole::External | RegistryRole::Pack => ["domain", "username", "certificates"],
        RegistryRole::Provider => ["registry", "user", "certificates"],
        RegistryRole::Primary => ["endpoint", "username", "certificates"],
    };
    let [address, username, certificates] = names;
    let name = match field {
        Field::Address => address,
        Field::Username => username,
        Field::Certificates => certificates,
        Field::Insecure => "insecure",
    };
    let parent = location
        .key
        .strip_suffix(address)
        .map_or(&*location.key, |parent| parent.trim_end_matches('.'));
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}.{name}")
    }
}

#[cfg(test)]
mod tests;
