//! The bytes of a bundle, pinned: readers of other programs and signatures of older bundles depend on them.

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::bundle::pieces::PlannedPiece;
use landfall_core::reference::ImageReference;
use landfall_core::status::NoProgress;
use landfall_oci::archive::open_archive;
use landfall_oci::bundle::{
    BundleDraft, BundleForm, BundleImage, BundleOptions, BundleWriter, Carried, gather_images, write_images,
};
use landfall_oci::copy::CopyOptions;
use landfall_oci::fixtures::{FixtureBuilder, oci_archive};

const NAME: &str = "registry.example.com:5000/shop/till:1.0";

/// Makes a bundle with a small blob, a stored one of more than one block, a signature, and a carried file.
async fn write_bundle(path: &Utf8Path, form: BundleForm) {
    let large: Vec<u8> = (0_u32..40_000)
        .flat_map(|number| (number / 100).to_le_bytes())
        .collect();
    let image = FixtureBuilder::new()
        .plain_layer(&[("etc/name", b"till")])
        .plain_layer(&[("usr/bin/till", &large)])
        .build();
    let archive = path.with_extension("images");
    fs::write(&archive, oci_archive(&[(NAME, &image)])).expect("a file in our own directory");
    let directory = path.parent().expect("a file in a directory");
    let opened = open_archive(&archive, directory).expect("an archive");
    let name: ImageReference = NAME.parse().expect("a full name");
    let selector = opened[0].root.digest.to_string();
    let images = [BundleImage {
        source: &*opened[0].source,
        selector: &selector,
        name: &name,
    }];
    let options = CopyOptions::new(1);
    let (gathering, results) = gather_images(&images, &options).await;
    results.into_iter().for_each(|result| drop(result.expect("a copy")));
    let draft = BundleDraft::new(
        gathering.finish().expect("an image"),
        BundleOptions {
            form,
            series: Some("shop".to_owned()),
            sequence: Some(7),
            carried: vec![Carried {
                name: "profile.yaml".to_owned(),
                bytes: b"metadata: {name: shop}\n"[..].into(),
            }],
            ..BundleOptions::default()
        },
    );
    let plan = draft.seal(Some(b"{\"signatures\":[]}\n")).expect("a head");
    let whole = PlannedPiece {
        name: path.file_name().expect("a file has a name").to_owned(),
        size: plan.length(),
    };
    let writer = BundleWriter::open(path, &[whole], plan).expect("a file");
    let results = write_images(&images, &writer, &options, &NoProgress).await;
    results.into_iter().for_each(|result| drop(result.expect("a copy")));
    writer.finish().expect("a complete file");
}

#[tokio::test]
async fn the_bytes_of_a_bundle_are_those_of_the_golden_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = Utf8Path::from_path(directory.path()).expect("a temporary directory with a UTF-8 name");
    for (name, form) in [
        ("bundle.tar.zst", BundleForm::Frames),
        ("bundle.tar", BundleForm::Plain),
    ] {
        let path = directory.join(name);
        write_bundle(&path, form).await;
        let found = fs::read(&path).expect("the bundle");
        let golden = Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(name);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&golden, &found).expect("the golden file");
        }
        let expected = fs::read(&golden).unwrap_or_default();
        let differs = found
            .iter()
            .zip(&expected)
            .position(|(found, expected)| found != expected);
        assert!(
            found == expected,
            "`{golden}` has {} bytes, the bundle {}; the first other byte is at {differs:?}. A new libzstd may compress the \
             head in another way: then only bytes of the first frame, and the lengths that follow from them, differ, and \
             `UPDATE_EXPECT=1 cargo test -p landfall-oci --test bundle_golden` renews the file. Any other difference is \
             a change of the format, which makes bundles of the same content differ from those of older releases.",
            expected.len(),
            found.len(),
        );
    }
}
