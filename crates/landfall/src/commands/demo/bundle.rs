//! The bundle of the demonstration without a network: the same images, signed, in pieces.

use std::sync::Arc;

use anyhow::Context as _;
use camino::Utf8Path;
use landfall_core::bundle::pieces::{SplitSize, plan_pieces};
use landfall_core::bundle::trust::render_signatures;
use landfall_core::reference::ImageReference;
use landfall_core::status::NoProgress;
use landfall_oci::archive::open_archive;
use landfall_oci::bundle::signature::PrivateKey;
use landfall_oci::bundle::{
    BundleDraft, BundleFile, BundleImage, BundleOptions, BundleWriter, gather_images, write_images,
};
use landfall_oci::copy::{CopyFailure, CopyOptions, CopyReport};
use landfall_oci::fixtures::{ImageFixture, oci_archive};

/// Size of a piece: the bundle has several.
const PIECE: &str = "4MB";

/// Writes a signed bundle of the images into a directory, in pieces, and opens it.
pub(super) async fn write_bundle(
    directory: &Utf8Path,
    name: &str,
    images: &[(&str, ImageFixture)],
    key: &PrivateKey,
) -> anyhow::Result<Arc<BundleFile>> {
    fs_err::create_dir_all(directory)?;
    let spool = tempfile::tempdir().context("cannot make a temporary directory")?;
    let spool = Utf8Path::from_path(spool.path()).context("the temporary directory's name is not UTF-8")?;
    let archive = spool.join("images.tar");
    let content: Vec<_> = images.iter().map(|(name, image)| (*name, image)).collect();
    fs_err::write(&archive, oci_archive(&content))?;
    let opened = open_archive(&archive, spool)?;
    let named = opened.iter().map(|image| {
        let name = image
            .names
            .first()
            .context("an image of the demonstration has no name")?;
        Ok((name.parse::<ImageReference>()?, image.root.digest.to_string()))
    });
    let named = named.collect::<anyhow::Result<Vec<_>>>()?;
    let listed: Vec<_> = opened
        .iter()
        .zip(&named)
        .map(|(image, (name, selector))| BundleImage {
            source: &*image.source,
            selector,
            name,
        })
        .collect();
    let options = CopyOptions::new(4);
    let (gathering, results) = gather_images(&listed, &options).await;
    all_done(results)?;
    let draft = BundleDraft::new(
        gathering.finish()?,
        BundleOptions {
            series: Some("demo".to_owned()),
            sequence: Some(1),
            ..BundleOptions::default()
        },
    );
    let signatures = render_signatures(&[key.sign(draft.document_bytes())?]);
    let plan = draft.seal(Some(signatures.as_bytes()))?;
    let pieces = plan_pieces(name, plan.length(), PIECE.parse::<SplitSize>()?)?;
    let first = pieces.first().context("a bundle has a piece")?.name.clone();
    let writer = BundleWriter::open(&directory.join(name), &pieces, plan)?;
    all_done(write_images(&listed, &writer, &options, &NoProgress).await)?;
    writer.finish()?;
    Ok(BundleFile::open(&directory.join(first))?)
}

fn all_done(results: Vec<Result<CopyReport, CopyFailure>>) -> anyhow::Result<()> {
    for result in results {
        result.map_err(|failure| failure.error)?;
    }
    Ok(())
}
