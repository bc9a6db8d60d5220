//! Advice for a transfer that failed: one thing to do about it.

use std::borrow::Cow;

use landfall_agent::failure::find_hint;
use landfall_core::failure::{FailureKind, Hint as _};
use landfall_oci::copy::PartialIndexRefused;
use landfall_oci::image::TransferError;

use crate::registries::RegistryAccess;
use crate::shell::command_line;
use crate::transfer::location::ImageLocation;

/// Returns the advice for an error of the transfer from `source` to `destination`, if there is any.
pub(super) fn find_fix(
    source: &str,
    destination: &str,
    access: &RegistryAccess,
    error: &TransferError,
) -> Option<String> {
    if let Some(refused) = error.source.as_deref().and_then(|source| source.downcast_ref()) {
        return advise_one_platform(source, destination, access, refused);
    }
    let hint = find_hint(error).map(Cow::into_owned);
    hint.or_else(|| find_fix_of_kind(error.kind).map(str::to_owned))
}

fn find_fix_of_kind(kind: FailureKind) -> Option<&'static str> {
    match kind {
        FailureKind::NotFound => Some("check the name and the tag"),
        FailureKind::Full => Some("free space in the registry, or give it a larger disk"),
        FailureKind::Unreachable | FailureKind::GivenUp => {
            Some("run the command again: blobs that have arrived are not copied a second time")
        }
        _ => None,
    }
}

/// Adds the command that copies one platform alone to the advice for a registry that requires the platforms that were
/// left out.
fn advise_one_platform(
    source: &str,
    destination: &str,
    access: &RegistryAccess,
    refused: &PartialIndexRefused,
) -> Option<String> {
    let whole = refused.hint()?.into_owned();
    let (Ok(source), Some(part)) = (source.parse::<ImageLocation>(), refused.copied.first()) else {
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
