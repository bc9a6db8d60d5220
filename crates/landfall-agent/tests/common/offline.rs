//! A host without a network.

use camino::Utf8PathBuf;
use landfall_core::status::BundleStatus;
use landfall_testkit::image_builder::{ImageFixture, small_image};

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
