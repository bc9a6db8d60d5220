//! Bundles at the limits of sizes and numbers.

use super::*;

/// Returns the plan of a bundle with one stored blob of this size, of which nothing is written.
fn mk_sparse(path: &Utf8Path, form: BundleForm, size: u64) -> Digest {
    let digest = digest_of(&size.to_le_bytes());
    let document = json!({
        "format": 1, "images": [], "files": [{"path": "index.json", "digest": digest_of(b"{}"), "size": 2}],
        "blobs": [{"digest": digest, "size": size, "how": "stored"}],
    });
    let mut head = crate::bundle::head::HeadWriter::default();
    head.add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    head.add("landfall/bundle.json", document.to_string().as_bytes())
        .unwrap();
    head.add("index.json", b"{}").unwrap();
    let mut head = head.finish();
    if form == BundleForm::Frames {
        let mut encoder = zstd::bulk::Compressor::new(1).unwrap();
        encoder.include_checksum(true).unwrap();
        head = encoder.compress(&head).unwrap();
    }
    let parsed = landfall_core::bundle::document::BundleDocument::parse(document.to_string().as_bytes()).unwrap();
    let placement = crate::bundle::placement::Placement::new(form, head.len() as u64, parsed.stored()).unwrap();
    let mut file = fs::File::create(path).unwrap();
    std::io::Write::write_all(&mut file, &head).unwrap();
    std::io::Write::write_all(&mut file, &placement.render_header(0).unwrap().bytes).unwrap();
    file.set_len(placement.total).unwrap();
    digest
}

#[test]
fn a_layer_of_more_than_8_gib_is_found_to_its_last_byte() {
    let site = mk_site();
    let size = (9 << 30) + 5;
    for form in [BundleForm::Plain, BundleForm::Frames] {
        let path = site.path.join("bundle");
        let digest = mk_sparse(&path, form, size);
        let file = BundleFile::open(&path).unwrap();
        assert_eq!(file.blob_size(&digest), Some(size), "{form:?}");
        // Across the borders of frames and blocks, and at the end.
        for at in [(1 << 30) - 2, (8 << 30) - 2, (8 << 30) + (1 << 17) - 2, size - 5] {
            let mut opened = fs::OpenOptions::new().write(true).open(&path).unwrap();
            for (number, byte) in b"ABCDE".iter().enumerate() {
                let blob = &file.placement.blobs[0];
                let (position, _) = file.placement.locate(blob, at + number as u64);
                std::io::Seek::seek(&mut opened, std::io::SeekFrom::Start(position)).unwrap();
                std::io::Write::write_all(&mut opened, &[*byte]).unwrap();
            }
            assert_eq!(
                &file.read_blob(&digest, at, 10).unwrap()[..5],
                b"ABCDE",
                "{form:?} {at}"
            );
        }
        if form == BundleForm::Plain {
            // Other readers of tar take the size from the header, which has room for octal digits up to 8 GiB.
            let mut archive = tar::Archive::new(fs::File::open(&path).unwrap());
            let sizes: Vec<u64> = archive
                .entries_with_seek()
                .unwrap()
                .map(|entry| entry.unwrap().size())
                .collect();
            assert_eq!(sizes.last(), Some(&size));
        }
    }
}

#[tokio::test]
async fn ten_thousand_blobs_are_packed_verified_and_loaded() {
    let mut images = Vec::new();
    for image in 0..10 {
        let mut builder = FixtureBuilder::new();
        for layer in 0..1000 {
            let content = format!("image {image}, layer {layer}").into_bytes();
            builder = builder.layer(media_type::OCI_LAYER, &content, content.clone());
        }
        let name: &str = format!("reg.example/many/{image}:1").leak();
        images.push((name, builder.build()));
    }
    let site = mk_site();
    let path = site.path.join("bundle");
    write_bundle(&site.open(&images), &path, BundleOptions::default()).await;
    let file = BundleFile::open(&path).unwrap();
    assert_eq!(
        file.document().blobs.len(),
        10_000 + 10 + 10,
        "with configurations and manifests"
    );
    assert_eq!(file.verify().unwrap(), []);
    for (_, image) in &images {
        for (digest, bytes) in image.all_content() {
            assert!(file.read_blob(digest, 0, u64::MAX).unwrap() == bytes[..], "{digest}");
        }
    }
}

#[tokio::test]
async fn blobs_with_sha512_are_packed_verified_and_loaded() {
    let layer = mk_noise(100_000, 3);
    let mut image = FixtureBuilder::new()
        .layer(media_type::OCI_LAYER, &layer, layer.clone())
        .build();
    let (sha256, content) = image
        .blobs
        .iter()
        .find(|(_, bytes)| bytes.len() == layer.len())
        .map(|(digest, bytes)| (digest.clone(), bytes.clone()))
        .unwrap();
    let mut digester = crate::digest::Digester::new(crate::digest::Algorithm::Sha512);
    digester.update(&content);
    let sha512 = digester.finish();
    image.blobs.remove(&sha256);
    image.blobs.insert(sha512.clone(), content);
    let text = String::from_utf8(image.manifests[0].1.to_vec()).unwrap();
    let manifest = text.replace(sha256.as_str(), sha512.as_str());
    let mut root = image.root.clone();
    (root.digest, root.size) = (digest_of(manifest.as_bytes()), manifest.len() as u64);
    (image.root, image.manifests) = (root.clone(), vec![(root, manifest.into())]);

    let site = mk_site();
    let path = site.path.join("bundle");
    let images = [("reg.example/shop/sha512:1", image)];
    for options in [BundleOptions::default(), plain()] {
        write_bundle(&site.open(&images), &path, options).await;
        let file = BundleFile::open(&path).unwrap();
        assert_eq!(file.verify().unwrap(), []);
        assert_eq!(file.blob_size(&sha512), Some(layer.len() as u64));
        load_and_compare(&path, &images).await;
    }
    // A flipped bit of such a blob is found as well.
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes
        .windows(64)
        .position(|window| *window == layer[1000..1064])
        .unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found = BundleFile::open(&path).unwrap().verify().unwrap();
    assert!(
        matches!(&found[..], [damage] if matches!(&damage.part, DamagedPart::Blob { digest, .. } if *digest == sha512)),
        "{found:?}"
    );
}
