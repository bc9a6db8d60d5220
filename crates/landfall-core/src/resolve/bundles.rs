//! The images of bundles, as the resolver needs them.

use std::collections::HashMap;

use crate::reference::ImageReference;

/// The bundles of a host, the preferred one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleOffers {
    /// Names in messages.
    bundles: Vec<String>,
    /// Canonical name to the bundles with that image.
    images: HashMap<ImageReference, Vec<usize>>,
}

impl BundleOffers {
    /// Adds a bundle behind the others. `bundle` is its name in messages.
    pub fn add(&mut self, bundle: String, images: impl IntoIterator<Item = ImageReference>) {
        let number = self.bundles.len();
        self.bundles.push(bundle);
        for image in images {
            let bundles = self.images.entry(image.canonical()).or_default();
            if bundles.last() != Some(&number) {
                bundles.push(number);
            }
        }
    }

    /// Returns true if there is no bundle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bundles.is_empty()
    }

    /// Returns the names of the bundles in messages, the preferred one first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.bundles.iter().map(String::as_str)
    }

    /// Returns the name of a bundle in messages.
    #[must_use]
    pub fn name(&self, number: usize) -> Option<&str> {
        self.bundles.get(number).map(String::as_str)
    }

    /// Returns the bundles with an image, and its name in them.
    pub(super) fn with_image(&self, name: &ImageReference) -> impl Iterator<Item = (usize, ImageReference)> {
        let canonical = name.canonical();
        let bundles = self.images.get(&canonical).cloned().unwrap_or_default();
        bundles.into_iter().map(move |number| (number, canonical.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::resolve::{CandidateKind, Resolver, Why};
    use crate::settings::{ImageRole, RegistryRole, RegistrySettings, Settings};

    fn mk_offers(images: &[&[&str]]) -> Arc<BundleOffers> {
        let mut offers = BundleOffers::default();
        for (number, images) in images.iter().enumerate() {
            let name = format!("/media/{number}.tar.zst");
            offers.add(name, images.iter().map(|image| image.parse().unwrap()));
        }
        Arc::new(offers)
    }

    #[test]
    fn bundles_come_before_the_network_and_pods_do_not_see_them() {
        let settings = Settings {
            registries: vec![RegistrySettings {
                role: RegistryRole::External,
                host: "reg:5000".parse().unwrap(),
                path: String::new(),
                login: None,
                insecure: false,
                certificates: Vec::new(),
                repository_name: None,
                location: crate::diagnostic::Location {
                    file: "user-data".into(),
                    line: 1,
                    column: 1,
                    key: "".into(),
                },
            }],
            ..Settings::default()
        };
        let source = "docker.io/library/nginx:1".parse().unwrap();
        /// Name, the images of each bundle, and the bundles that are candidates.
        type Case<'a> = (&'a str, &'a [&'a [&'a str]], &'a [usize]);
        let cases: [Case<'_>; 4] = [
            ("no bundle", &[], &[]),
            ("another image", &[&["docker.io/library/nginx:2"]], &[]),
            ("by its own name", &[&["busybox"], &["nginx:1"]], &[1]),
            (
                "by the name at the external registry, and behind the one by its own name",
                &[&["reg:5000/docker.io/library/nginx:1"], &["nginx:1"]],
                &[1, 0],
            ),
        ];
        for (case, images, wanted) in cases {
            let resolver = Resolver::new(&settings).offering(mk_offers(images));
            let resolution = resolver.resolve_on_host(&source, ImageRole::Application);
            let why = |number: &usize| Why::Bundle(*number);
            let mut expected: Vec<Why> = wanted.iter().map(why).collect();
            expected.push(Why::Prepend(0));
            let found: Vec<Why> = resolution.candidates.iter().map(|candidate| candidate.why).collect();
            assert_eq!(found, expected, "{case}");
            assert_eq!(resolution.runtime(false).kind, CandidateKind::External, "{case}");
            let for_pods = resolver.resolve(&source, ImageRole::Application);
            assert_eq!(
                for_pods,
                Resolver::new(&settings).resolve(&source, ImageRole::Application),
                "{case}"
            );
        }
        let resolver = Resolver::new(&settings).offering(mk_offers(&[&["nginx:1"]]));
        let resolution = resolver.resolve_on_host(&source, ImageRole::Application);
        assert_eq!(
            resolver.explain(&resolution.candidates[0]),
            "the bundle `/media/0.tar.zst` has it: no network is needed"
        );
    }
}
