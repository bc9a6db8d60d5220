//! The types of errors of this crate that have advice.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use landfall_core::bundle::pieces::{PieceSetError, SplitPlanError};
use landfall_core::bundle::trust::{KeyRefusal, Refusal};
use landfall_core::cosign::ImageRefusal;
use landfall_core::failure::hint_as;
use landfall_net::output_path::OutputPathError;

use crate::archive::ChoiceError;
use crate::bundle::BundleError;
use crate::bundle::signature::{KeyDocumentError, KeyError, NoDetachedSignature};
use crate::client::{Fault, RegistryError};
use crate::copy::{ForeignLayersRefused, IndexEntriesMissing, OtherDigest, PartialIndexRefused, PlatformMissing};
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
        .or_else(|| hint_as::<Refusal>(error))
        .or_else(|| hint_as::<KeyRefusal>(error))
        .or_else(|| hint_as::<ImageRefusal>(error))
        .or_else(|| hint_as::<KeyError>(error))
        .or_else(|| hint_as::<KeyDocumentError>(error))
        .or_else(|| hint_as::<NoDetachedSignature>(error))
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
    fn the_refusal_of_an_index_has_the_advice_of_the_copy_and_not_of_the_registry() {
        let refused = PartialIndexRefused {
            copied: Vec::new(),
            lacking: Vec::new(),
            refusal: refused().into(),
        };
        assert_eq!(
            find_hint(&refused, hint_of).as_deref(),
            Some("copy it whole, without `--platform`")
        );
    }
}
