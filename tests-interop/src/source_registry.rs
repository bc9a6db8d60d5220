//! An external registry with TLS from a private authority, an account, and every image of the profile.

use crate::docker_registry::{Account, DockerRegistry};
use crate::images::{NamedImage, profile_images, push_images};
use crate::skopeo::{Access, Skopeo};
use crate::tls::PrivateAuthority;

/// The registry and the access to it.
#[derive(Debug)]
pub struct SourceRegistry {
    /// The authority that signed the registry's certificate.
    pub authority: PrivateAuthority,
    /// The only account, if the registry asks for one.
    pub account: Option<Account<'static>>,
    pub registry: DockerRegistry,
    /// The images that the registry serves.
    pub images: Vec<NamedImage>,
}

impl SourceRegistry {
    /// Starts a registry and pushes the images of the profile that `wanted` selects, each to `prefix` followed
    /// by its canonical name.
    ///
    /// # Panics
    /// Panics if a program is missing or fails.
    #[must_use]
    pub fn start(account: Option<Account<'static>>, prefix: &str, wanted: impl Fn(&str) -> bool) -> SourceRegistry {
        let images = profile_images().into_iter().filter(|image| wanted(image.name));
        SourceRegistry::with(account, prefix, images.collect())
    }

    /// Starts a registry and pushes these images, each to `prefix` followed by its canonical name.
    ///
    /// # Panics
    /// Panics if a program is missing or fails.
    #[must_use]
    pub fn with(account: Option<Account<'static>>, prefix: &str, images: Vec<NamedImage>) -> SourceRegistry {
        let authority = PrivateAuthority::generate("Landfall interop site");
        let registry = DockerRegistry::start(&authority, account);
        let source = SourceRegistry {
            authority,
            account,
            registry,
            images,
        };
        push_images(
            &Skopeo::default(),
            source.access(&source.registry.host()),
            prefix,
            &source.images,
        );
        source
    }

    /// Returns skopeo's access to the registry.
    #[must_use]
    pub fn access<'a>(&'a self, host: &'a str) -> Access<'a> {
        Access {
            host,
            authority: Some(self.authority.pem()),
            account: self.account,
        }
    }

    /// Returns the digest of an image's manifest or index.
    ///
    /// # Panics
    /// Panics if the registry lacks it.
    #[must_use]
    pub fn digest(&self, name: &str) -> String {
        let found = self.images.iter().find(|image| image.name == name);
        found
            .unwrap_or_else(|| panic!("`{name}` is none of the profile's images"))
            .image
            .root
            .digest
            .to_string()
    }
}
