//! Steps of the plan that transfer an image. `landfall_core::failure` decides which candidate comes next, and
//! [`landfall_oci::client::explain`] explains failures.

use std::time::Duration;

use futures_util::FutureExt as _;
use landfall_core::failure::{Explanation, FailureKind, NextAction, error_chain, next_action};
use landfall_core::reference::{Digest, ImageReference, RegistryHost};
use landfall_core::resolve::{Candidate, CandidateKind, Why};
use landfall_core::schedule::shortest_wait;
use landfall_host::facts::own_platform;
use landfall_oci::client::explain::{explain_fetch, explain_no_source, explain_push, without_image};
use landfall_oci::client::{RegistrySink, RegistrySource};
use landfall_oci::copy::{CopyOptions, copy_image};
use landfall_oci::image::TransferError;
use landfall_oci::store::source_and_sink::{StoreSink, StoreSource};
use tokio::time::Instant;

use crate::agent::active_config::ActiveConfig;
use crate::agent::bundles::refuse_image;
use crate::agent::host::Host;
use crate::agent::runtime::{self, RuntimeSink, explain_load};

/// The longest wait that the time of the next pass takes into account: there is a pass in each interval. The client
/// honours a longer one.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// An image whose steps did not all succeed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) explanation: Explanation,
    /// The cause without the image: images that fail for one cause are one event.
    pub(crate) cause: String,
    /// True if another image of this pass failed for the same cause.
    pub(crate) is_known: bool,
    /// The time before which another attempt asks no registry, because each one asked for a wait; `None` if another
    /// attempt may succeed at any time.
    pub(crate) waits_until: Option<Instant>,
}

impl From<Explanation> for Failed {
    fn from(explanation: Explanation) -> Failed {
        Failed {
            cause: explanation.line(),
            explanation,
            is_known: false,
            waits_until: None,
        }
    }
}

/// Fetches an image into the store, from the first candidate that has it. Returns the name of that candidate in
/// messages.
pub(crate) async fn fetch_image(
    host: &Host,
    active: &ActiveConfig,
    planned: usize,
    name: &ImageReference,
) -> Result<String, Failed> {
    let image = &active.planned[planned];
    let written = &active.settings.images[image.image];
    if image.pull.is_empty() {
        return Err(explain_no_source(written).into());
    }
    let (mut tried, mut causes) = (Vec::new(), Vec::new());
    let mut waits = Vec::new();
    for candidate in &image.pull {
        let reference = &candidate.reference;
        let Err(error) = fetch_from(host, active, candidate, name).await else {
            host.status.update_image(&name.to_string(), |status| {
                status.stored = true;
                status.pull_reference = Some(reference.to_string());
            });
            return Ok(name_candidate(active, candidate));
        };
        // A failure of all candidates is an event, with the error of each.
        tracing::debug!(%reference, error = error_chain(&error), "candidate failed");
        let explanation = explain_fetch(&active.settings, written, candidate, &error);
        if candidate.kind == CandidateKind::Bundle {
            // The next pass looks for bundles anew, and a bundle asks for no wait.
            causes.push(explanation.line());
            waits.push(None);
            tried.push(explanation);
            continue;
        }
        causes.push(describe_cause(
            &reference.host,
            error.kind,
            &explanation,
            &written.source,
        ));
        tried.push(explanation);
        waits.push(wait_after(active, &reference.host, candidate.registry, &error));
        // The copy has used up its attempts at this source.
        let retry = &active.downloads.retry;
        if next_action(error.kind, retry.attempts, retry, 0.0) == NextAction::Stop {
            break;
        }
    }
    Err(Failed {
        cause: causes.join("; "),
        waits_until: shortest_wait(waits),
        ..Explanation::join(tried).into()
    })
}

/// Returns the time until which a registry asked for no request; `None` if it may be asked at any time.
fn wait_after(
    active: &ActiveConfig,
    host: &RegistryHost,
    registry: Option<usize>,
    error: &TransferError,
) -> Option<Instant> {
    // The client counts from the answer that named the time, and knows the answers to all requests.
    let known = active.clients.not_before(host, registry);
    let wait = known.max(error.kind.not_before())?;
    Some(Instant::now() + wait.min(LONGEST_WAIT))
}

/// Describes the cause of a failed fetch without the image.
fn describe_cause(registry: &RegistryHost, kind: FailureKind, explanation: &Explanation, image: &str) -> String {
    if matches!(kind, FailureKind::Unreachable | FailureKind::GivenUp) {
        return format!("registry `{registry}` does not answer");
    }
    without_image(&explanation.line(), image)
}

async fn fetch_from(
    host: &Host,
    active: &ActiveConfig,
    candidate: &Candidate,
    name: &ImageReference,
) -> Result<(), TransferError> {
    if candidate.kind == CandidateKind::Bundle {
        return take_from_bundle(host, active, candidate, name).await;
    }
    let reference = &candidate.reference;
    let client = active.clients.client(&reference.host, candidate.registry)?;
    let source = RegistrySource {
        client,
        repository: reference.repository.clone(),
    };
    let sink = StoreSink::new(host.store.clone());
    copy_image(
        &source,
        reference.manifest_selector(),
        &sink,
        Some(name),
        &active.downloads,
        &*host.meter,
    )
    .await?;
    Ok(())
}

/// Copies an image of a bundle into the store. Its index may lack the platforms of other hosts.
async fn take_from_bundle(
    host: &Host,
    active: &ActiveConfig,
    candidate: &Candidate,
    name: &ImageReference,
) -> Result<(), TransferError> {
    let (source, digest) = active.bundles.source(candidate)?;
    refuse_image(&active.settings.landfall.bundles, &host.root, &*source, &digest).await?;
    let sink = StoreSink::omitting(host.store.clone(), source.clone(), own_platform()).with_referrers_of(name);
    let selector = digest.as_str();
    let with_companions = CopyOptions {
        referrers: true,
        ..active.local.clone()
    };
    let copied = copy_image(&*source, selector, &sink, Some(name), &with_companions, &*host.meter).await;
    let copied = match copied {
        Ok(copied) => copied,
        // A damaged signature keeps no image away. The adoption of the bundle tells about it.
        Err(_) => copy_image(&*source, selector, &sink, Some(name), &active.local, &*host.meter).await?,
    };
    host.metrics.adopted.inc_by(copied.bytes_moved);
    Ok(())
}

/// Returns the name of a candidate in messages.
fn name_candidate(active: &ActiveConfig, candidate: &Candidate) -> String {
    match candidate.why {
        Why::Bundle(number) => match active.bundles.offers().name(number) {
            Some(bundle) => format!("taken from the bundle `{bundle}`"),
            None => "taken from a bundle".to_owned(),
        },
        _ => format!("fetched from `{}`", candidate.reference),
    }
}

/// Loads a stored image into containerd under the given names.
pub(crate) async fn load_image(
    host: &Host,
    active: &ActiveConfig,
    name: &ImageReference,
    as_names: &[String],
) -> Result<(), Explanation> {
    let source = StoreSource::new(host.store.clone(), name.clone());
    let load = || {
        async {
            let socket = &active.settings.landfall.containerd_socket;
            let namespace = runtime::connect(&host.root, socket).await?;
            let sink = RuntimeSink::begin(&namespace, as_names.to_vec()).await?;
            copy_image(
                &source,
                name.manifest_selector(),
                &sink,
                Some(name),
                &active.local,
                &*host.meter,
            )
            .await?;
            sink.finish().await
        }
        .boxed()
    };
    let loaded = active.local.retrying(&*host.meter, &name.to_string(), load).await;
    loaded.map_err(|error| explain_load(&format!("image `{name}`"), &error))
}

/// Pushes a stored image to the primary registry. Returns the digest of its manifest.
pub(crate) async fn push_image(
    host: &Host,
    active: &ActiveConfig,
    name: &ImageReference,
    target: &ImageReference,
) -> Result<Digest, Failed> {
    push_with(host, active, name, target, &active.local).await
}

async fn push_with(
    host: &Host,
    active: &ActiveConfig,
    name: &ImageReference,
    target: &ImageReference,
    options: &CopyOptions,
) -> Result<Digest, Failed> {
    let explain = |error: TransferError| {
        tracing::debug!(%target, error = error_chain(&error), "push failed");
        Failed {
            waits_until: wait_after(active, &target.host, active.primary_registry, &error),
            ..explain_push(&active.settings, name, target, active.primary_registry, &error).into()
        }
    };
    let Some(stored) = host.store.image(name) else {
        return Err(Explanation::new(
            format!("image `{name}` cannot be pushed: it is not in the content store"),
            "the events say why it could not be fetched",
        )
        .into());
    };
    let client = active
        .clients
        .client(&target.host, active.primary_registry)
        .map_err(|error| explain(error.into()))?;
    let source = StoreSource::new(host.store.clone(), name.clone());
    let sink =
        RegistrySink::new(client, target.repository.clone(), target.tag.clone()).with_journal(host.uploads.clone());
    let pushed = copy_image(
        &source,
        stored.digest.as_str(),
        &sink,
        Some(target),
        options,
        &*host.meter,
    )
    .await;
    pushed.map_err(explain)?;
    Ok(stored.digest)
}

/// Pushes the companions of an image that is in the primary registry: what the store has of them in the image's
/// repository.
pub(crate) async fn push_companions(
    host: &Host,
    active: &ActiveConfig,
    name: &ImageReference,
    target: &ImageReference,
) -> Result<(), Failed> {
    let with_companions = CopyOptions {
        referrers: true,
        ..active.local.clone()
    };
    push_with(host, active, name, target, &with_companions).await.map(drop)
}
