//! Bundles that nobody's program wrote: heads with lies about sizes, windows, names and digests. Each is refused, or its
//! content is, at once and without much memory.

use futures_util::TryStreamExt as _;
use serde_json::Value;

use super::*;
use crate::bundle::head::HeadWriter;
use crate::content::names::plain_names;
use crate::content::place::Place;
use crate::image::ImageSource as _;
use crate::layout::blob_path;

/// Entries of a head: the document, then these, whatever the document says.
fn mk_head(document: &Value, entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut head = HeadWriter::default();
    head.add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    head.add("landfall/bundle.json", document.to_string().as_bytes())
        .unwrap();
    for (path, bytes) in entries {
        head.add(path, bytes).unwrap();
    }
    head.finish()
}

/// Returns a whole file with this head and no stored blob, in a form.
fn mk_file(form: BundleForm, head: &[u8]) -> Vec<u8> {
    match form {
        BundleForm::Plain => [head, &[0; 1024]].concat(),
        BundleForm::Frames => {
            let mut encoder = zstd::bulk::Compressor::new(1).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.compress(head).unwrap()
        }
    }
}

fn open(bytes: &[u8]) -> Result<std::sync::Arc<BundleFile>, String> {
    let site = mk_site();
    let path = site.path.join("bundle");
    fs::write(&path, bytes).unwrap();
    BundleFile::open(&path).map_err(|error| landfall_core::failure::error_chain(&error))
}

fn mk_document(images: &Value, files: &Value, blobs: &Value) -> Value {
    json!({"format": 1, "images": images, "files": files, "blobs": blobs})
}

#[test]
fn claimed_sizes_are_held_against_the_file_before_anything_is_done_with_them() {
    let digest = digest_of(b"blob");
    for form in [BundleForm::Plain, BundleForm::Frames] {
        for (claimed, expected) in [
            (u64::MAX, "have more than 2^62 bytes"),
            (1 << 63, "have more than 2^62 bytes"),
            // Frames of a gibibyte: counted one by one, they would take minutes.
            (1 << 62, "is not complete"),
            ((1 << 62) - 511, "is not complete"),
            (1 << 33, "is not complete"),
        ] {
            let blobs = json!([{"digest": digest, "size": claimed, "how": "stored"}]);
            let head = mk_head(&mk_document(&json!([]), &json!([]), &blobs), &[]);
            let error = open(&mk_file(form, &head)).unwrap_err();
            assert!(error.contains(expected), "{form:?} {claimed}: {error}");
        }
        for claimed in [5, 1 << 25, 1_u64 << 62] {
            let blobs = json!([{"digest": digest, "size": claimed, "how": "head"}]);
            let entries = [(blob_path(&digest), b"blob".to_vec())];
            let head = mk_head(&mk_document(&json!([]), &json!([]), &blobs), &entries);
            let error = open(&mk_file(form, &head)).unwrap_err();
            assert!(error.contains(digest.hex()), "{form:?} {claimed}: {error}");
        }
    }
}

#[test]
fn a_head_with_a_window_of_gibibytes_or_of_many_zeros_takes_no_memory() {
    // Frame header without a content size: the window descriptor has the exponent in its upper five bits (RFC 8878,
    // section 3.1.1.1.2). A raw block follows.
    let exponent = |log: u8| (log - 10) << 3;
    let frame = |log: u8| [&[0x28, 0xb5, 0x2f, 0xfd, 0, exponent(log)], &[0x29, 0, 0][..], b"hello"].concat();
    let error = open(&frame(31)).unwrap_err();
    assert!(error.contains("too much memory"), "{error}");
    // A document of zeros that unpacks to more than a head may have.
    let mut head = vec![0; 512];
    head[..mk_head(&json!({}), &[]).len().min(512)].copy_from_slice(&mk_head(&json!({}), &[])[..512]);
    let bomb = [&mk_head(&json!({}), &[])[..1024], &{
        let mut entry = crate::tar_header::render_header("landfall/bundle.json", 1 << 30).unwrap();
        entry.resize(160 << 20, 0);
        entry
    }]
    .concat();
    let packed = mk_file(BundleForm::Frames, &bomb);
    assert!(packed.len() < 64 * 1024, "{} bytes", packed.len());
    let error = open(&packed).unwrap_err();
    assert!(error.contains("is no bundle"), "{error}");
}

/// No name in a bundle is ever a path on this machine: the entries are kept by their names in memory.
#[test]
fn names_that_lead_elsewhere_stay_names() {
    let content = b"content".to_vec();
    let file = |path: &str| json!({"path": path, "digest": digest_of(b"content"), "size": 7});
    for form in [BundleForm::Plain, BundleForm::Frames] {
        for (case, listed, entries, is_open) in [
            (
                "one of the usual",
                json!([file("landfall/files/a")]),
                vec!["landfall/files/a"],
                true,
            ),
            (
                "another one than listed",
                json!([file("landfall/files/a")]),
                vec!["landfall/files/b"],
                false,
            ),
            (
                "one with a NUL",
                json!([file("landfall/files/a\0b")]),
                vec!["landfall/files/a"],
                false,
            ),
            ("one that is missing", json!([file("landfall/files/a")]), vec![], false),
            (
                "one that is listed twice and there once",
                json!([file("landfall/files/a"), file("landfall/files/a")]),
                vec!["landfall/files/a"],
                false,
            ),
        ] {
            let entries: Vec<_> = entries
                .iter()
                .map(|path| ((*path).to_owned(), content.clone()))
                .collect();
            let head = mk_head(&mk_document(&json!([]), &listed, &json!([])), &entries);
            let mut bytes = mk_file(form, &head);
            if form == BundleForm::Frames {
                // The end mark and the table are not what is tested.
                let error = open(&bytes).unwrap_err();
                assert_eq!(error.contains("is not complete"), is_open, "{case}: {error}");
                continue;
            }
            let opened = open(&bytes);
            assert_eq!(opened.is_ok(), is_open, "{case}: {opened:?}");
            bytes.extend([0; 512]);
            assert!(open(&bytes).is_err(), "{case}");
        }
    }
    for path in ["../../etc/cron.d/x", "/etc/cron.d/x"] {
        // GNU's and our own writer refuse such a name: its bytes are put in place of another one.
        let stand_in = "a".repeat(path.len());
        let document = mk_document(&json!([]), &json!([file(path)]), &json!([]));
        let mut head = mk_head(&document, &[(stand_in.clone(), content.clone())]);
        let at = head.len() - 1024;
        assert_eq!(&head[at..at + path.len()], stand_in.as_bytes());
        head[at..at + path.len()].copy_from_slice(path.as_bytes());
        let mut header = tar::Header::from_byte_slice(&head[at..at + 512]).clone();
        header.set_cksum();
        head[at..at + 512].copy_from_slice(header.as_bytes());
        let error = open(&mk_file(BundleForm::Plain, &head)).unwrap_err();
        assert!(error.contains("which is no path in a bundle"), "{path}: {error}");
    }
}

/// Digests cannot be made to name one another, but a document can claim that they do.
#[tokio::test]
async fn indexes_in_a_circle_end_as_wrong_bytes() {
    let (one, other) = (digest_of(b"one"), digest_of(b"other"));
    let index = |child: &Digest| {
        let entry = json!({"mediaType": media_type::OCI_INDEX, "digest": child, "size": 300});
        let mut text =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]}).to_string();
        text += &" ".repeat(300 - text.len());
        text.into_bytes()
    };
    let blobs = json!([
        {"digest": one, "size": 300, "how": "head"},
        {"digest": other, "size": 300, "how": "head"},
    ]);
    let name = "reg.example/shop/till:1";
    let images = json!([{"name": name, "digest": one, "mediaType": media_type::OCI_INDEX, "size": 300}]);
    let entries = [(blob_path(&one), index(&other)), (blob_path(&other), index(&one))];
    let head = mk_head(&mk_document(&images, &json!([]), &blobs), &entries);
    let file = open(&mk_file(BundleForm::Plain, &head)).unwrap();
    let damaged: Vec<_> = file.verify().unwrap();
    assert_eq!(damaged.len(), 2, "{damaged:?}");

    let source = BundleSource::new(file);
    let site = mk_site();
    let sink = StoreSink::new(ContentStore::open(&site.path).unwrap());
    let copied = copy_image(&source, one.as_str(), &sink, None, &copy_options(), &NoProgress).await;
    let error = copied.unwrap_err().chain();
    assert!(error.contains(one.hex()), "{error}");
    let place = Place::open(std::sync::Arc::new(source.clone()), plain_names).await;
    assert!(place.manifest(&one).is_none() && place.manifest(&other).is_none());
    let blob = Descriptor::new(media_type::OCI_INDEX, one.clone(), 300);
    let read: Result<Vec<_>, _> = match source.open_blob(&blob, 0).await {
        Ok(stream) => stream.try_collect().await,
        Err(error) => Err(error),
    };
    assert!(
        read.is_err() || read.unwrap().concat() == index(&other),
        "bytes of a source are verified by the sink"
    );
}
