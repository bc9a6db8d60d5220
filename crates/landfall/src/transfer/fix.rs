//! Advice for a transfer that failed: one thing to do about it.

use landfall_core::failure::FailureKind;
use landfall_core::wording::quoted;
use landfall_oci::client::Fault;
use landfall_oci::copy::{ForeignLayersRefused, IndexEntriesMissing, PartialIndexRefused, PlatformMissing};
use landfall_oci::image::TransferError;

use crate::registries::Access;
use crate::shell::command_line;
use crate::transfer::location::Location;

/// Returns the advice for an error of the transfer from `source` to `destination`, if there is any.
pub(super) fn find_fix(source: &str, destination: &str, access: &Access, error: &TransferError) -> Option<String> {
    let fix = Fault::of(error).and_then(Fault::hint).map(str::to_owned);
    let fix = fix.or_else(|| advise_one_platform(source, destination, access, error));
    let fix = fix.or_else(|| advise_available_platforms(error));
    fix.or_else(|| match error.kind {
        _ if is_because::<PlatformMissing>(error) => {
            Some("name one of these with `--platform`, or none for all".to_owned())
        }
        _ if is_because::<ForeignLayersRefused>(error) => Some(
            "allow the layers' addresses in the registry (`validation.manifests.urls.allow` of Docker's), or use another"
                .to_owned(),
        ),
        FailureKind::NotFound => Some("check the name and the tag".to_owned()),
        FailureKind::Full => Some("free space in the registry, or give it a larger disk".to_owned()),
        FailureKind::Unreachable | FailureKind::GivenUp => {
            Some("run the command again: blobs that have arrived are not copied a second time".to_owned())
        }
        _ => None,
    })
}

fn is_because<T: std::error::Error + 'static>(error: &TransferError) -> bool {
    error.source.as_deref().is_some_and(|source| source.is::<T>())
}

/// Advises what to do if a registry requires the platforms that were left out.
fn advise_one_platform(source: &str, destination: &str, access: &Access, error: &TransferError) -> Option<String> {
    let refused: &PartialIndexRefused = error.source.as_deref()?.downcast_ref()?;
    let whole = match refused.lacking.is_empty() {
        true => "copy it whole, without `--platform`".to_owned(),
        false => format!("copy it from a source that has {} too", quoted(&refused.lacking)),
    };
    let (Ok(source), Some(part)) = (source.parse::<Location>(), refused.copied.first()) else {
        return Some(whole);
    };
    let mut words = vec!["landfall".to_owned(), "copy".to_owned()];
    words.push(source.with_digest(part).to_string());
    words.push(destination.to_owned());
    words.extend(access.arguments());
    Some(format!(
        "{whole}, or one platform in its place: `{}`",
        command_line(&words)
    ))
}

/// Advises what to do if the source lacks children of an index.
fn advise_available_platforms(error: &TransferError) -> Option<String> {
    let IndexEntriesMissing { available, .. } = error.source.as_deref()?.downcast_ref()?;
    if available.is_empty() {
        return Some("push the image to the source again: no platform of it is complete there".to_owned());
    }
    let options: Vec<_> = available
        .iter()
        .map(|platform| format!("--platform {platform}"))
        .collect();
    Some(format!(
        "push the missing platforms to the source, or copy the others with `{}`",
        options.join(" ")
    ))
}
