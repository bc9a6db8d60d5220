//! A site without a network, and bundles for it.

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::pieces::PlannedPiece;
use landfall_core::bundle::trust::render_signatures;
use landfall_core::reference::ImageReference;
use landfall_core::status::{BundleStatus, NoProgress};
use landfall_oci::archive::open_archive;
use landfall_oci::bundle::{BundleDraft, BundleImage, BundleOptions, BundleWriter, gather_images, write_images};
use landfall_oci::copy::CopyOptions;
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, oci_archive, small_image};
use landfall_testkit::signing_key::SigningKey;

use super::{Site, os_image};

/// A site whose profile names images that no registry serves to it.
pub struct Offline {
    pub site: Site,
}

impl Offline {
    pub fn new(more: &[&str]) -> Offline {
        let site = Site::new();
        let offline = Offline { site };
        offline.write_user_data(more);
        std::fs::create_dir_all(offline.content()).unwrap();
        offline
    }

    pub fn write_user_data(&self, more: &[&str]) {
        let text = format!(
            "#cloud-config\nstylus:\n  managementMode: local\n  registryCredentials:\n    domain: \"127.0.0.1:1\"\n    insecure: true\n\
             landfall:\n  reconcileInterval: 3600\n  containerd:\n    enable: false\n  primary:\n    endpoint: \"127.0.0.1:{}\"\n{}\n",
            self.site.primary_port,
            more.join("\n")
        );
        std::fs::write(self.site.path("user-data.yaml"), text).unwrap();
    }

    pub fn content(&self) -> Utf8PathBuf {
        self.site.path("root/opt/spectrocloud/content")
    }

    pub fn bundle(&self, name: &str) -> BundleStatus {
        let bundles = self.site.status().bundles;
        let found = bundles.iter().find(|bundle| bundle.path.ends_with(name));
        found
            .unwrap_or_else(|| panic!("`{name}` is not among {bundles:#?}"))
            .clone()
    }
}

/// Returns the images of the site's profile, and one that no profile names.
pub fn all_images() -> Vec<(&'static str, ImageFixture)> {
    vec![
        ("example.io/os:1", os_image()),
        ("example.io/calico:1", small_image("calico")),
        ("docker.io/library/nginx:1.27", small_image("nginx")),
        ("example.io/extra:1", small_image("extra")),
    ]
}

pub async fn write_bundle(path: &Utf8Path, images: &[(&str, ImageFixture)], options: BundleOptions) {
    write_signed(path, images, options, None).await;
}

pub async fn write_signed(
    path: &Utf8Path,
    images: &[(&str, ImageFixture)],
    options: BundleOptions,
    key: Option<&SigningKey>,
) {
    let spool = tempfile::tempdir().unwrap();
    let spool = Utf8Path::from_path(spool.path()).unwrap();
    let archive = spool.join("images.tar");
    let named: Vec<_> = images.iter().map(|(name, image)| (*name, image)).collect();
    std::fs::write(&archive, oci_archive(&named)).unwrap();
    let opened = open_archive(&archive, spool).unwrap();
    let names: Vec<ImageReference> = opened.iter().map(|image| image.names[0].parse().unwrap()).collect();
    let selectors: Vec<String> = opened.iter().map(|image| image.root.digest.to_string()).collect();
    let listed = opened.iter().zip(names.iter().zip(&selectors));
    let listed: Vec<_> = listed
        .map(|(image, (name, selector))| BundleImage {
            source: &*image.source,
            selector,
            name,
        })
        .collect();
    let copy = CopyOptions {
        referrers: true,
        ..CopyOptions::new(4)
    };
    let (gathering, results) = gather_images(&listed, &copy).await;
    results.into_iter().for_each(|result| drop(result.unwrap()));
    let draft = BundleDraft::new(gathering.finish().unwrap(), options);
    let signatures = key.map(|key| render_signatures(&[key.private.sign(draft.document_bytes()).unwrap()]));
    let plan = draft.seal(signatures.as_deref().map(str::as_bytes)).unwrap();
    let piece = PlannedPiece {
        name: path.file_name().unwrap().to_owned(),
        size: plan.length(),
    };
    let writer = BundleWriter::open(path, &[piece], plan).unwrap();
    let results = write_images(&listed, &writer, &copy, &NoProgress).await;
    results.into_iter().for_each(|result| drop(result.unwrap()));
    writer.finish().unwrap();
}

/// Returns an image with a layer that has a place of its own in a bundle.
pub fn large_image() -> ImageFixture {
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    FixtureBuilder::new().plain_layer(&[("large", &content)]).build()
}

pub fn numbered(sequence: u64) -> BundleOptions {
    BundleOptions {
        series: Some("store".to_owned()),
        sequence: Some(sequence),
        ..BundleOptions::default()
    }
}
