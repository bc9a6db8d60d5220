//! Bundles on disk: written in one pass to their final places, read in place [spec:bundles]. The pure half is
//! [`landfall_core::bundle`].
//!
//! A bundle is made in two copies of the same images. The first one ([`gather_images`]) keeps manifests and small blobs in
//! memory, which gives the exact size and the place of everything ([`BundlePlan`]). The second one ([`write_images`])
//! moves the large blobs.

mod companions;
mod content;
mod copying;
mod creation;
mod error;
mod gathering;
mod graph;
mod head;
mod placement;
mod plan;
mod read_only;
mod reader;
mod repairing;
pub mod signature;
mod source;
mod stored_writer;
mod verification;
mod writer;

pub use content::{BundleContent, ContentImage};
pub use copying::copy_bundle;
pub use creation::{BundleImage, gather_images, write_images};
pub use error::BundleError;
pub use gathering::BundleGathering;
pub use placement::BundleForm;
pub use plan::{BundleDraft, BundleOptions, BundlePlan, Carried};
pub use reader::BundleFile;
pub use repairing::{BundleRepair, repair_bundle};
pub use source::BundleSource;
pub use verification::{BundleDamage, DamagedPart};
pub use writer::BundleWriter;

#[cfg(test)]
mod tests;
