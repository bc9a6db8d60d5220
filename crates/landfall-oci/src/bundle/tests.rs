//! Bundles are written, read back, damaged and resumed.

#![expect(clippy::cast_possible_truncation, reason = "the files of these tests are small")]

mod hostile;
mod read_only;
mod sizes;

use std::collections::HashSet;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::bundle::frame::BLOCK_SIZE;
use landfall_core::bundle::pieces::PlannedPiece;
use landfall_core::oci_types::{Descriptor, Platform, media_type};
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::status::NoProgress;
use serde_json::json;

use super::*;
use crate::archive::{ArchiveImage, open_archive};
use crate::copy::{CopyOptions, copy_image};
use crate::digest::digest_of;
use crate::fixtures::{FixtureBuilder, ImageFixture, oci_archive};
use crate::store::ContentStore;
use crate::store::source_and_sink::StoreSink;

struct Site {
    _directory: tempfile::TempDir,
    path: Utf8PathBuf,
}

fn mk_site() -> Site {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
    Site {
        _directory: directory,
        path,
    }
}

/// Returns bytes that do not compress.
fn mk_noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Returns images that share a base of several blocks.
fn mk_images() -> Vec<(&'static str, ImageFixture)> {
    let base = mk_noise(3 * BLOCK_SIZE as usize + 77, 1);
    let image = |name: &str, own: usize| {
        FixtureBuilder::new()
            .plain_layer(&[("base", &base)])
            .plain_layer(&[("name", name.as_bytes()), ("own", &mk_noise(own, 2))])
            .build()
    };
    vec![
        ("reg.example:5000/shop/till:1", image("till", 200_000)),
        ("reg.example:5000/shop/web:2", image("web", 100)),
    ]
}

impl Site {
    fn open(&self, images: &[(&str, ImageFixture)]) -> Vec<ArchiveImage> {
        let path = self.path.join("images.tar");
        let named: Vec<_> = images.iter().map(|(name, image)| (*name, image)).collect();
        fs::write(&path, oci_archive(&named)).unwrap();
        open_archive(&path, &self.path).unwrap()
    }
}

/// Opens the writer of a bundle of these images.
async fn mk_writer(images: &[ArchiveImage], path: &Utf8Path, options: BundleOptions) -> BundleWriter {
    with_images(images, async |images| {
        let (gathering, results) = gather_images(images, &copy_options()).await;
        results.into_iter().for_each(|result| drop(result.unwrap()));
        let plan = BundleDraft::new(gathering.finish().unwrap(), options)
            .seal(None)
            .unwrap();
        let whole = PlannedPiece {
            name: path.file_name().unwrap().to_owned(),
            size: plan.length(),
        };
        BundleWriter::open(path, &[whole], plan).unwrap()
    })
    .await
}

async fn with_images<T>(images: &[ArchiveImage], work: impl AsyncFnOnce(&[BundleImage<'_>]) -> T) -> T {
    let names: Vec<ImageReference> = images.iter().map(|image| image.names[0].parse().unwrap()).collect();
    let selectors: Vec<String> = images.iter().map(|image| image.root.digest.to_string()).collect();
    let listed: Vec<_> = images
        .iter()
        .zip(names.iter().zip(&selectors))
        .map(|(image, (name, selector))| BundleImage {
            source: &*image.source,
            selector,
            name,
        })
        .collect();
    work(&listed).await
}

async fn write_bundle(images: &[ArchiveImage], path: &Utf8Path, options: BundleOptions) {
    let writer = mk_writer(images, path, options).await;
    let results = with_images(images, async |images| {
        write_images(images, &writer, &copy_options(), &NoProgress).await
    });
    results.await.into_iter().for_each(|result| drop(result.unwrap()));
    writer.finish().unwrap();
}

/// Signatures come along, as in every bundle of the command.
fn copy_options() -> CopyOptions {
    let mut options = CopyOptions::new(4);
    options.referrers = true;
    options
}

fn plain() -> BundleOptions {
    BundleOptions {
        form: BundleForm::Plain,
        ..BundleOptions::default()
    }
}

/// Copies all images of a bundle into a store, and checks every byte of them.
async fn load_and_compare(bundle: &Utf8Path, images: &[(&str, ImageFixture)]) {
    let site = mk_site();
    let store = ContentStore::open(&site.path).unwrap();
    let sink = StoreSink::new(store.clone());
    let file = BundleFile::open(bundle).unwrap();
    for image in BundleSource::new(file).images() {
        let name: ImageReference = image.names[0].parse().unwrap();
        let selector = image.root.digest.to_string();
        let options = CopyOptions::new(4);
        copy_image(&*image.source, &selector, &sink, Some(&name), &options, &NoProgress)
            .await
            .unwrap();
    }
    for (_, image) in images {
        for (digest, bytes) in image.all_content() {
            assert_eq!(&store.read_blob(digest, 10 << 20).unwrap()[..], &bytes[..]);
        }
    }
    assert_eq!(store.images().len(), images.len());
}

#[tokio::test]
async fn a_bundle_gives_back_every_byte_and_the_same_input_gives_the_same_file() {
    let site = mk_site();
    let images = mk_images();
    for (form, options) in [("frames", BundleOptions::default()), ("plain", plain())] {
        let mut opened = site.open(&images);
        let path = site.path.join(form);
        write_bundle(&opened, &path, options.clone()).await;
        load_and_compare(&path, &images).await;
        let file = BundleFile::open(&path).unwrap();
        let stored = file.document().stored().count();
        assert_eq!(stored, 2, "the base and one layer; it is there once");
        assert_eq!(file.verify().unwrap(), []);
        assert_eq!(file.length(), fs::metadata(&path).unwrap().len());
        opened.reverse();
        let again = site.path.join("again");
        write_bundle(&opened, &again, options).await;
        assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap(), "{form}");
        assert!(!again.with_extension("partial").exists());
    }
}

#[tokio::test]
async fn a_plain_bundle_has_its_blobs_on_borders_of_pages() {
    let site = mk_site();
    let path = site.path.join("plain.tar");
    write_bundle(&site.open(&mk_images()), &path, plain()).await;
    let file = BundleFile::open(&path).unwrap();
    let places: Vec<u64> = file.placement.blobs.iter().map(|blob| blob.content).collect();
    assert!(places.iter().all(|at| at.is_multiple_of(4096)), "{places:?}");
    let bytes = fs::read(&path).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let paths: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(
        &paths[..4],
        ["oci-layout", "landfall/bundle.json", "index.json", "manifest.json"]
    );
    assert!(open_archive(&path, &site.path).unwrap().len() == 2);
}

#[tokio::test]
async fn each_damaged_byte_is_found_and_its_part_is_named() {
    let site = mk_site();
    let path = site.path.join("bundle");
    write_bundle(&site.open(&mk_images()), &path, BundleOptions::default()).await;
    let good = fs::read(&path).unwrap();
    let file = BundleFile::open(&path).unwrap();
    let (placement, id) = (file.placement.clone(), file.id().clone());
    drop(file);
    let name = |image: &str| image.parse::<ImageReference>().unwrap();
    let shared = [
        name("reg.example:5000/shop/till:1"),
        name("reg.example:5000/shop/web:2"),
    ];
    let step = good.len() / 300;
    let borders = placement
        .blobs
        .iter()
        .flat_map(|blob| [blob.header, blob.content, blob.content + 10]);
    let places = (0..good.len()).step_by(step);
    let head = (0..placement.head as usize).step_by(53);
    let places = places.chain(head).chain(borders.map(|at| at as usize));
    let places: Vec<usize> = places
        .chain([placement.end as usize, placement.table as usize, good.len() - 1])
        .collect();
    let (mut blobs, mut heads) = (0, 0);
    for at in places {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        fs::write(&path, &bytes).unwrap();
        let position = at as u64;
        if position < placement.head {
            // The head's checksum covers it all.
            heads += 1;
            assert!(BundleFile::open(&path).is_err(), "byte {at}");
            continue;
        }
        let file = BundleFile::open(&path).unwrap();
        assert_eq!(*file.id(), id);
        let found = file.verify().unwrap();
        let expected = match placement.blobs.iter().rfind(|blob| blob.header <= position) {
            _ if position >= placement.table => DamagedPart::SeekTable(None),
            _ if position >= placement.end => DamagedPart::End,
            Some(blob) if position < blob.content => DamagedPart::Header {
                digest: blob.digest.clone(),
            },
            Some(blob) => DamagedPart::Blob {
                digest: blob.digest.clone(),
                size: blob.size,
            },
            None => unreachable!("the head is before all blobs"),
        };
        assert_eq!(found.len(), 1, "byte {at}: {found:?}");
        match (&found[0].part, &expected) {
            (DamagedPart::SeekTable(_), DamagedPart::SeekTable(_)) => {}
            (found, expected) => assert_eq!(found, expected, "byte {at}"),
        }
        if let DamagedPart::Blob { size, .. } = &found[0].part {
            blobs += 1;
            let images = &found[0].images;
            assert!(
                *images == shared || (*images == shared[..1] && *size < 300_000),
                "{images:?}"
            );
        }
    }
    assert!(blobs > 100 && heads > 10, "{blobs} {heads}");
}

#[tokio::test]
async fn a_file_that_is_cut_short_or_longer_is_not_taken_for_a_bundle() {
    let site = mk_site();
    let path = site.path.join("bundle");
    write_bundle(&site.open(&mk_images()), &path, BundleOptions::default()).await;
    let good = fs::read(&path).unwrap();
    let total = good.len() as u64;
    for kept in [good.len() - 1, good.len() / 2] {
        fs::write(&path, &good[..kept]).unwrap();
        match BundleFile::open(&path) {
            Err(BundleError::Incomplete { expected, found, .. }) => assert_eq!((expected, found), (total, kept as u64)),
            other => panic!("{kept}: {other:?}"),
        }
    }
    fs::write(&path, &good[..100]).unwrap();
    assert!(matches!(BundleFile::open(&path), Err(BundleError::Read { .. })));
    fs::write(&path, [&good[..], &good[..]].concat()).unwrap();
    assert!(matches!(BundleFile::open(&path), Err(BundleError::TooLong { .. })));
    for foreign in [&b""[..], b"hello", &oci_archive(&[])] {
        fs::write(&path, foreign).unwrap();
        let error = BundleFile::open(&path).unwrap_err();
        assert!(matches!(error, BundleError::Foreign { .. }), "{error:?}");
    }
}

/// Fails after some bytes of each blob, as a killed process does.
#[derive(Debug)]
struct CutSource {
    inner: std::sync::Arc<dyn crate::image::ImageSource>,
    after: u64,
}

impl crate::image::ImageSource for CutSource {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn fetch_manifest<'a>(
        &'a self,
        selector: &'a str,
    ) -> futures_util::future::BoxFuture<'a, Result<crate::image::RawManifest, crate::image::TransferError>> {
        self.inner.fetch_manifest(selector)
    }

    fn open_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        offset: u64,
    ) -> futures_util::future::BoxFuture<'a, Result<crate::image::BlobStream, crate::image::TransferError>> {
        use futures_util::StreamExt as _;
        Box::pin(async move {
            let stream = self.inner.open_blob(blob, offset).await?;
            let mut left = self.after;
            let cut = stream.map(move |chunk| {
                let chunk: bytes::Bytes = chunk?;
                let kept = left.min(chunk.len() as u64);
                left -= kept;
                match kept == chunk.len() as u64 {
                    true => Ok(chunk),
                    false => Err(crate::image::TransferError {
                        attempt: "cut".to_owned(),
                        kind: landfall_core::failure::FailureKind::Local,
                        source: None,
                    }),
                }
            });
            Ok(cut.boxed() as crate::image::BlobStream)
        })
    }
}

#[tokio::test]
async fn a_run_that_was_killed_is_resumed_and_the_file_is_the_same() {
    let site = mk_site();
    let big = FixtureBuilder::new()
        .plain_layer(&[("big", &mk_noise(3_000_000, 5))])
        .plain_layer(&[("other", &mk_noise(400_000, 6))])
        .build();
    let images = [("reg.example/big:1", big)];
    let opened = site.open(&images);
    let (whole, resumed) = (site.path.join("whole"), site.path.join("resumed"));
    write_bundle(&opened, &whole, BundleOptions::default()).await;
    for after in [1_u64, 600_000, 1_500_000] {
        let cut: Vec<ArchiveImage> = opened
            .iter()
            .map(|image| ArchiveImage {
                source: std::sync::Arc::new(CutSource {
                    inner: image.source.clone(),
                    after,
                }),
                ..image.clone()
            })
            .collect();
        // The first writer ends without a word, as a killed process does.
        let writer = mk_writer(&opened, &resumed, BundleOptions::default()).await;
        let failed = with_images(&cut, async |images| {
            write_images(images, &writer, &CopyOptions::new(4), &NoProgress).await
        });
        assert!(failed.await.iter().all(Result::is_err));
        drop(writer);
        let writer = mk_writer(&opened, &resumed, BundleOptions::default()).await;
        let finished = with_images(&opened, async |images| {
            write_images(images, &writer, &CopyOptions::new(4), &NoProgress).await
        });
        let moved = finished.await.remove(0).unwrap().bytes_moved;
        let size: u64 = images[0].1.blobs.values().map(|bytes| bytes.len() as u64).sum();
        // Whole blocks are kept, but for the last one, and what was in memory.
        assert!(
            moved <= size && (after < 1_000_000 || moved + 500_000 < size),
            "{after}: {moved} of {size}"
        );
        writer.finish().unwrap();
        assert!(fs::read(&whole).unwrap() == fs::read(&resumed).unwrap(), "{after}");
        fs::remove_file(&resumed).unwrap();
    }
}

#[tokio::test]
async fn a_blob_that_is_complete_in_an_unfinished_file_is_not_moved_again() {
    let site = mk_site();
    let opened = site.open(&mk_images());
    let path = site.path.join("bundle");
    let write = async |writer: &BundleWriter| {
        let results = with_images(&opened, async |images| {
            write_images(images, writer, &CopyOptions::new(4), &NoProgress).await
        });
        let moved = results.await.into_iter().map(|result| result.unwrap().bytes_moved);
        moved.sum::<u64>()
    };
    let writer = mk_writer(&opened, &path, BundleOptions::default()).await;
    assert!(write(&writer).await > 500_000);
    drop(writer);
    // A damaged blob is recognised: its header is there, its bytes are not.
    let partial = Utf8PathBuf::from(format!("{path}.partial"));
    let placed = mk_writer(&opened, &path, BundleOptions::default())
        .await
        .plan()
        .placement
        .clone();
    let writer = mk_writer(&opened, &path, BundleOptions::default()).await;
    assert_eq!(write(&writer).await, 0);
    drop(writer);
    let mut bytes = fs::read(&partial).unwrap();
    bytes[placed.blobs[0].content as usize + 1000] ^= 1;
    fs::write(&partial, bytes).unwrap();
    let writer = mk_writer(&opened, &path, BundleOptions::default()).await;
    assert_eq!(write(&writer).await, placed.blobs[0].size);
    writer.finish().unwrap();
    assert_eq!(BundleFile::open(&path).unwrap().verify().unwrap(), []);
}

#[tokio::test]
async fn a_delta_leaves_out_what_the_site_has_and_names_it() {
    let site = mk_site();
    let images = mk_images();
    let base = digest_of(&crate::fixtures::tar_of([(
        "base",
        mk_noise(3 * BLOCK_SIZE as usize + 77, 1),
    )]));
    let options = BundleOptions {
        at_site: HashSet::from([base.clone()]),
        base: Some("inventory".to_owned()),
        ..BundleOptions::default()
    };
    let path = site.path.join("delta");
    write_bundle(&site.open(&images), &path, options).await;
    let file = BundleFile::open(&path).unwrap();
    assert!(file.length() < 300_000, "{}", file.length());
    let needs = &file.document().needs;
    assert_eq!((needs.len(), &needs[0].digest), (1, &base));
    assert_eq!(needs[0].image, "reg.example:5000/shop/till:1".parse().unwrap());
    let source = BundleSource::new(file.clone());
    let wanted = Descriptor::new("", base.clone(), needs[0].size);
    let Err(error) = crate::image::ImageSource::open_blob(&source, &wanted, 0).await else {
        panic!("the blob is not in the bundle")
    };
    assert_eq!(
        error.chain(),
        format!(
            "cannot read `{base}` from the bundle `{path}`: the bundle counts on blob `{base}` of \
             `reg.example:5000/shop/till:1` at the site, where it is not"
        )
    );
    // A site with the base loads it.
    let site = mk_site();
    let store = ContentStore::open(&site.path).unwrap();
    let mut upload = store.upload(crate::digest::Algorithm::Sha256);
    upload.append(&images[0].1.blobs[&base]).unwrap();
    upload.commit(&base).unwrap();
    let sink = StoreSink::new(store.clone());
    for image in source.images() {
        let options = CopyOptions::new(4);
        let selector = image.root.digest.to_string();
        let name = image.names[0].parse().unwrap();
        copy_image(&source, &selector, &sink, Some(&name), &options, &NoProgress)
            .await
            .unwrap();
    }
    assert_eq!(store.images().len(), 2);
}

#[tokio::test]
async fn platforms_that_the_source_lacks_are_left_out_and_the_index_stays() {
    let site = mk_site();
    let amd = FixtureBuilder::new().plain_layer(&[("a", b"amd")]).build();
    let arm = FixtureBuilder::new()
        .platform("linux", "arm64")
        .plain_layer(&[("a", b"arm")])
        .build();
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [amd.root, arm.root],
    });
    let index = bytes::Bytes::from(index.to_string());
    let root = Descriptor::new(media_type::OCI_INDEX, digest_of(&index), index.len() as u64);
    let mut manifests = amd.manifests.clone();
    manifests.push((root.clone(), index));
    let part = ImageFixture {
        root: root.clone(),
        blobs: amd.blobs.clone(),
        manifests,
    };
    let images = [("reg.example/multi:1", part)];
    let path = site.path.join("bundle");
    write_bundle(&site.open(&images), &path, BundleOptions::default()).await;
    let file = BundleFile::open(&path).unwrap();
    let image = &file.document().images[0];
    let linux = |architecture: &str| -> Platform { format!("linux/{architecture}").parse().unwrap() };
    assert_eq!(image.digest, root.digest);
    assert_eq!(image.platforms, [linux("amd64")]);
    let left_out: Vec<_> = image
        .left_out
        .iter()
        .map(|entry| (&entry.digest, entry.platform.clone()))
        .collect();
    assert_eq!(left_out, [(&arm.root.digest, Some(linux("arm64")))]);
    let source = BundleSource::new(file);
    let entry = |digest: &Digest| Descriptor::new("", digest.clone(), 1);
    let lacks = |digest| crate::image::ImageSource::lacks(&source, &entry(digest));
    assert!(lacks(&arm.root.digest) && !lacks(&amd.root.digest));
    let layout = site.path.join("layout");
    let sink = crate::layout::LayoutSink::new(&layout, Some("multi".to_owned())).unwrap();
    let copied = copy_image(
        &source,
        root.digest.as_str(),
        &sink,
        None,
        &CopyOptions::new(4),
        &NoProgress,
    )
    .await;
    assert_eq!(copied.unwrap().lacking, ["linux/arm64"]);
    for (digest, bytes) in images[0].1.all_content() {
        assert_eq!(
            fs::read(layout.join(crate::layout::blob_path(digest))).unwrap(),
            bytes[..]
        );
    }
    store_without_platforms(&source, &images[0].1, &arm).await;
}

/// Adopts a sparse index into a store, and checks what the store thinks of it.
async fn store_without_platforms(source: &BundleSource, image: &ImageFixture, absent: &ImageFixture) {
    use crate::image::{ImageSink as _, ImageSource};
    use crate::store::error::StoreError;
    use crate::store::source_and_sink::StoreSource;

    let (site, root) = (mk_site(), &image.root.digest);
    let name: ImageReference = "reg.example/multi:1".parse().unwrap();
    let store = ContentStore::open(&site.path).unwrap();
    let shared: std::sync::Arc<dyn ImageSource> = std::sync::Arc::new(source.clone());
    let options = CopyOptions::new(4);
    let copy_to =
        async |sink: &StoreSink| copy_image(source, root.as_str(), sink, Some(&name), &options, &NoProgress).await;
    let refused = copy_to(&StoreSink::new(store.clone())).await;
    assert!(refused.is_err(), "an index without entries is taken only on purpose");
    let for_arm = StoreSink::omitting(store.clone(), shared.clone(), "linux/arm64".parse().unwrap());
    let refused = copy_to(&for_arm).await.unwrap_err().chain();
    assert!(
        refused.contains("is there without its entry for `linux/arm64`"),
        "{refused}"
    );
    assert!(!store.is_complete(root).unwrap());
    let sink = StoreSink::omitting(store.clone(), shared, "linux/amd64".parse().unwrap());
    assert_eq!(copy_to(&sink).await.unwrap().digest, *root);
    assert!(copy_to(&sink).await.unwrap().unchanged);
    assert!(
        !sink.has_manifest(&absent.root).await.unwrap(),
        "a source with all platforms brings it"
    );
    drop((sink, for_arm));
    drop(store);

    // After a restart the image is complete, until something else of it is lost.
    let store = ContentStore::open(&site.path).unwrap();
    assert!(store.is_complete(root).unwrap());
    let stored = StoreSource::new(store.clone(), name.clone());
    assert!(stored.lacks(&absent.root) && !stored.lacks(&image.manifests[0].0));
    let lost = &image.manifests[0].0.digest;
    fs::remove_file(site.path.join(crate::layout::blob_path(lost))).unwrap();
    assert!(!store.is_complete(root).unwrap());
    store.remove_image(&name).unwrap();
    let collected = store.gc(|| Ok(crate::store::gc::Roots::default()), std::time::SystemTime::now());
    assert!(collected.unwrap().deleted > 0);
    assert!(fs::read_dir(site.path.join("left-out")).unwrap().next().is_none());
    assert!(matches!(store.read_manifest(root), Err(StoreError::Missing { .. })));
}

#[tokio::test]
async fn a_damaged_bundle_is_repaired_from_one_with_the_damaged_blobs_alone() {
    let site = mk_site();
    let images = mk_images();
    let opened = site.open(&images);
    let path = site.path.join("bundle");
    write_bundle(&opened, &path, BundleOptions::default()).await;
    let good = fs::read(&path).unwrap();
    let file = BundleFile::open(&path).unwrap();
    let placement = file.placement.clone();
    drop(file);
    // All but the first blob is left to the site: a patch.
    let digests = placement.blobs.iter().map(|blob| blob.digest.clone());
    let patch_path = site.path.join("patch");
    let options = BundleOptions {
        at_site: digests.skip(1).collect(),
        ..BundleOptions::default()
    };
    write_bundle(&opened, &patch_path, options).await;
    let patch = BundleFile::open(&patch_path).unwrap();
    let mut damaged = good.clone();
    for at in [
        placement.blobs[0].content + 500,
        placement.blobs[0].header + 20,
        placement.blobs[1].header + 1,
        placement.end + 3,
        placement.table + 30,
    ] {
        damaged[at as usize] ^= 1;
    }
    fs::write(&path, &damaged).unwrap();
    let repair = repair_bundle(&path, Some(&patch)).unwrap();
    assert_eq!(
        (repair.repaired, repair.left),
        (vec![placement.blobs[0].digest.clone()], vec![])
    );
    assert!(fs::read(&path).unwrap() == good);
    // A blob that the patch lacks stays damaged, and the rest stays as it is.
    damaged = good.clone();
    damaged[placement.blobs[1].content as usize + 500] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let repair = repair_bundle(&path, Some(&patch)).unwrap();
    assert_eq!((repair.repaired.len(), repair.left.len()), (0, 1));
    assert!(fs::read(&path).unwrap() == damaged);
}

#[tokio::test]
async fn a_copy_goes_on_where_it_ended_and_is_read_back() {
    let site = mk_site();
    let path = site.path.join("bundle.tar.zst");
    write_bundle(&site.open(&mk_images()), &path, BundleOptions::default()).await;
    let file = BundleFile::open(&path).unwrap();
    let target = site.path.join("stick.tar.zst");
    let size = "200KB".parse().unwrap();
    let pieces = landfall_core::bundle::pieces::plan_pieces("stick.tar.zst", file.length(), size).unwrap();
    let copied = std::sync::atomic::AtomicU64::new(0);
    let copy = copy_bundle(&file, &target, &pieces, &|bytes| {
        copied.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(copy.unwrap().id(), file.id());
    assert_eq!(copied.into_inner(), file.length());
    let joined: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| fs::read(site.path.join(&piece.name)).unwrap())
        .collect();
    assert!(joined == fs::read(&path).unwrap());
    assert!(pieces.len() > 2 && !site.path.join("stick.tar.zst.copying").exists());
    assert!(BundleFile::open(&site.path.join(&pieces[1].name)).is_ok());
    // A damaged original is told from a bad stick.
    let mut bytes = fs::read(&path).unwrap();
    let at = file.placement.blobs[0].content as usize + 500;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let damaged = BundleFile::open(&path).unwrap();
    let error = copy_bundle(
        &damaged,
        &site.path.join("other"),
        &[PlannedPiece {
            name: "other".to_owned(),
            size: damaged.length(),
        }],
        &|_| (),
    );
    assert!(matches!(error, Err(BundleError::Damaged { damages: 1, .. })));
    assert!(!site.path.join("other").exists());
}
