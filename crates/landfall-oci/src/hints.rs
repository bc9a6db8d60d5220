//! The types of errors of this crate that have advice.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use landfall_core::bundle::adoption::NeedsMissing;
use landfall_core::bundle::pieces::{PieceSetError, SplitPlanError};
use landfall_core::bundle::receipt::ReceiptRefusal;
use landfall_core::bundle::trust::{KeyRefusal, Refusal};
use landfall_core::bundle::upload::{UploadNameError, UploadRefusal};
use landfall_core::cosign::ImageRefusal;
use landfall_core::failure::hint_as;
use landfall_core::report::{InventoryError, TooManyBlobs};
use landfall_net::output_path::OutputPathError;

use crate::archive::ChoiceError;
use crate::archive::stream::StreamError;
use crate::bundle::BundleError;
use crate::bundle::signature::{KeyDocumentError, KeyError, NoDetachedSignature};
use crate::client::{Fault, RegistryError};
use crate::copy::{ForeignLayersRefused, IndexEntriesMissing, OtherDigest, PartialIndexRefused, PlatformMissing};
use crate::decode::WindowTooLarge;
use crate::keychain::KeychainError;
use crate::layout::{DockerArchiveRefused, LayoutContentMissing};
use crate::store::error::StoreError;

/// Returns the hint of an error of this crate, without its causes; see [`landfall_core::failure::find_hint`].
#[must_use]
pub fn hint_of<'a>(error: &'a (dyn Error + 'static)) -> Option<Cow<'a, str>> {
    hint_as::<RegistryError>(error)
        .or_else(|| hint_as::<Fault>(error))
        .or_else(|| hint_as::<KeychainError>(error))
        .or_else(|| hint_as::<StoreError>(error))
        .or_else(|| hint_as::<OutputPathError>(error))
        .or_else(|| hint_as::<ChoiceError>(error))
        .or_else(|| hint_as::<StreamError>(error))
        .or_else(|| hint_as::<BundleError>(error))
        .or_else(|| hint_as::<LayoutContentMissing>(error))
        .or_else(|| hint_as::<OtherDigest>(error))
        .or_else(|| hint_as::<DockerArchiveRefused>(error))
        .or_else(|| hint_as::<PartialIndexRefused>(error))
        .or_else(|| hint_as::<IndexEntriesMissing>(error))
        .or_else(|| hint_as::<PlatformMissing>(error))
        .or_else(|| hint_as::<ForeignLayersRefused>(error))
        .or_else(|| hint_as::<PieceSetError>(error))
        .or_else(|| hint_as::<SplitPlanError>(error))
        .or_else(|| hint_as::<NeedsMissing>(error))
        .or_else(|| hint_as::<InventoryError>(error))
        .or_else(|| hint_as::<TooManyBlobs>(error))
        .or_else(|| hint_as::<Refusal>(error))
        .or_else(|| hint_as::<ReceiptRefusal>(error))
        .or_else(|| hint_as::<UploadNameError>(error))
        .or_else(|| hint_as::<UploadRefusal>(error))
        .or_else(|| hint_as::<KeyRefusal>(error))
        .or_else(|| hint_as::<ImageRefusal>(error))
        .or_else(|| hint_as::<KeyError>(error))
        .or_else(|| hint_as::<KeyDocumentError>(error))
        .or_else(|| hint_as::<NoDetachedSignature>(error))
        .or_else(|| hint_as::<WindowTooLarge>(error))
        .or_else(|| hint_inside(error))
}

/// Returns the hint of an error inside an `io::Error`, which skips it in its chain of causes.
fn hint_inside<'a>(error: &'a (dyn Error + 'static)) -> Option<Cow<'a, str>> {
    let inside: &(dyn Error + 'static) = error.downcast_ref::<io::Error>()?.get_ref()?;
    hint_of(inside)
}

#[cfg(test)]
mod tests {
    use landfall_core::failure::{FailureKind, find_hint};

    use super::*;
    use crate::client::{ConnectionProblem, RegistryAction};
    use crate::image::TransferError;

    fn refused() -> RegistryError {
        RegistryError {
            action: RegistryAction::Reach,
            registry: "reg:5000".parse().unwrap(),
            fault: Box::new(Fault::from(ConnectionProblem::Refused)),
        }
    }

    #[test]
    fn a_fault_keeps_its_hint_inside_of_a_failed_transfer() {
        let hint = Some("check that the registry is up and can be reached from here");
        assert_eq!(find_hint(&refused(), hint_of).as_deref(), hint);
        let transfer = TransferError::from(refused());
        assert_eq!(find_hint(&transfer, hint_of).as_deref(), hint);
        let below = TransferError {
            attempt: "cannot copy".to_owned(),
            kind: FailureKind::Unreachable,
            source: Some(Box::new(Fault::Body(transfer))),
        };
        assert_eq!(find_hint(&below, hint_of).as_deref(), hint);
    }

    #[test]
    fn a_file_that_is_no_inventory_has_advice() {
        let error = landfall_core::report::Inventory::parse(b"{}").unwrap_err();
        let hint = Some("write one at the site: `landfall inventory export`");
        assert_eq!(find_hint(&error, hint_of).as_deref(), hint);
    }

    /// The advice of the copy comes before that of the registry.
    #[test]
    fn the_errors_of_a_copy_have_advice() {
        let transfer = || TransferError::from(refused());
        let incomplete = |available: &[&str]| IndexEntriesMissing {
            source_name: "a source".to_owned(),
            missing: vec!["linux/s390x".to_owned()],
            available: available.iter().map(|platform| platform.parse().unwrap()).collect(),
            refusal: transfer(),
        };
        let partial = |lacking: &[&str]| PartialIndexRefused {
            copied: Vec::new(),
            lacking: lacking.iter().map(|platform| (*platform).to_owned()).collect(),
            refusal: transfer(),
        };
        let cases: [(Box<dyn Error>, &str); 6] = [
            (Box::new(partial(&[])), "copy it whole, without `--platform`"),
            (
                Box::new(partial(&["linux/s390x"])),
                "copy it from a source that has `linux/s390x` too, or from a bundle made with `--narrow rewrite`",
            ),
            (
                Box::new(incomplete(&[])),
                "push the image to the source again: no platform of it is complete there",
            ),
            (
                Box::new(incomplete(&["linux/amd64", "linux/arm64"])),
                "push the missing platforms to the source, or copy the others with `--platform linux/amd64 --platform \
                 linux/arm64`",
            ),
            (
                Box::new(PlatformMissing { offered: Vec::new() }),
                "name one of these with `--platform`, or none for all",
            ),
            (
                Box::new(ForeignLayersRefused { refusal: transfer() }),
                "allow the layers' addresses in the registry (`validation.manifests.urls.allow` of Docker's), or use another",
            ),
        ];
        for (error, hint) in cases {
            assert_eq!(find_hint(&*error, hint_of).as_deref(), Some(hint));
        }
    }
}
