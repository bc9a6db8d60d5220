//! Names under which the images of a place are served. Pure.

use std::collections::{BTreeMap, HashMap};

use landfall_core::reference::{Digest, ImageReference, RegistryHost, Repository, Tag};

/// Name of a repository in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepositoryName<'a> {
    /// Name in the registry that serves the content.
    Served(&'a Repository),
    /// Name in the registry that the server stands in for.
    Original(&'a RegistryHost, &'a Repository),
}

/// Tags of a repository. `None` for a tag of two images: the name does not tell which one is meant.
type Tags = BTreeMap<Tag, Option<Digest>>;

/// Repositories and tags of a place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ImageNames {
    served: BTreeMap<Repository, Tags>,
    original: HashMap<RegistryHost, HashMap<Repository, Tags>>,
}

impl ImageNames {
    /// Gives each image the repositories that `naming` returns for it, beside its original one.
    pub(super) fn new(
        images: &[(ImageReference, Digest)],
        naming: impl Fn(&ImageReference) -> Vec<Repository>,
    ) -> ImageNames {
        let mut names = ImageNames::default();
        for (image, digest) in images {
            let image = image.canonical();
            for repository in naming(&image) {
                add_tag(names.served.entry(repository).or_default(), &image, digest);
            }
            let repositories = names.original.entry(image.host.clone()).or_default();
            add_tag(
                repositories.entry(image.repository.clone()).or_default(),
                &image,
                digest,
            );
        }
        names
    }

    fn tags(&self, name: RepositoryName<'_>) -> Option<&Tags> {
        match name {
            RepositoryName::Served(repository) => self.served.get(repository),
            RepositoryName::Original(host, repository) => self.original.get(host)?.get(repository),
        }
    }

    /// Returns true if an image has this repository.
    pub(super) fn has_repository(&self, name: RepositoryName<'_>) -> bool {
        self.tags(name).is_some()
    }

    /// Returns the digest under a tag.
    pub(super) fn find_tag(&self, name: RepositoryName<'_>, tag: &Tag) -> Option<&Digest> {
        self.tags(name)?.get(tag)?.as_ref()
    }

    /// Returns the repositories under their served names, in order.
    pub(super) fn repositories(&self) -> impl Iterator<Item = &Repository> {
        self.served.keys()
    }

    /// Returns the tags of a repository, in order.
    pub(super) fn list_tags(&self, name: RepositoryName<'_>) -> impl Iterator<Item = &Tag> {
        let tags = self.tags(name).into_iter().flatten();
        tags.filter_map(|(tag, digest)| digest.is_some().then_some(tag))
    }
}

fn add_tag(tags: &mut Tags, image: &ImageReference, digest: &Digest) {
    let Some(tag) = &image.tag else {
        return;
    };
    let known = tags.entry(tag.clone()).or_insert_with(|| Some(digest.clone()));
    if known.as_ref() != Some(digest) {
        *known = None;
    }
}

/// Returns the names of an image where a server has the images of one place and nothing else: the path with the host,
/// and the path alone. A name that is too long for the grammar is left out.
#[must_use]
pub fn plain_names(image: &ImageReference) -> Vec<Repository> {
    let with_host = image.path_with_host().parse().ok();
    with_host.into_iter().chain([image.repository.clone()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::digest_of;

    fn image(name: &str) -> (ImageReference, Digest) {
        (name.parse().unwrap(), digest_of(name.as_bytes()))
    }

    #[test]
    fn an_image_has_the_names_that_the_server_gives_and_its_own() {
        let images = [
            image("reg.example:5000/shop/till:1.0"),
            image("nginx"),
            image(&format!("reg.example:5000/shop/till@{}", digest_of(b"signature"))),
        ];
        let names = ImageNames::new(&images, plain_names);
        let repositories: Vec<&str> = names.repositories().map(Repository::as_str).collect();
        assert_eq!(
            repositories,
            [
                "docker.io/library/nginx",
                "library/nginx",
                "reg.example_5000/shop/till",
                "shop/till"
            ]
        );
        let (till, tag) = ("shop/till".parse().unwrap(), "1.0".parse().unwrap());
        let host = "reg.example:5000".parse().unwrap();
        for name in [
            RepositoryName::Served(&till),
            RepositoryName::Original(&host, &till),
            RepositoryName::Served(&"reg.example_5000/shop/till".parse().unwrap()),
        ] {
            assert_eq!(names.find_tag(name, &tag), Some(&images[0].1), "{name:?}");
            assert_eq!(names.list_tags(name).map(Tag::as_str).collect::<Vec<_>>(), ["1.0"]);
        }
        let other = "other.example".parse().unwrap();
        assert!(!names.has_repository(RepositoryName::Original(&other, &till)));
        let nginx = "library/nginx".parse().unwrap();
        let latest = "latest".parse().unwrap();
        assert!(names.find_tag(RepositoryName::Served(&nginx), &latest).is_some());
    }

    #[test]
    fn a_tag_of_two_images_is_none() {
        let images = [
            image("a.example/app:1"),
            image("b.example/app:1"),
            image("a.example/app:2"),
        ];
        let names = ImageNames::new(&images, plain_names);
        let app = "app".parse().unwrap();
        let tags: Vec<&str> = names.list_tags(RepositoryName::Served(&app)).map(Tag::as_str).collect();
        assert_eq!(tags, ["2"]);
        let (host, tag) = ("b.example".parse().unwrap(), "1".parse().unwrap());
        assert_eq!(names.find_tag(RepositoryName::Served(&app), &tag), None);
        let with_host = names.find_tag(RepositoryName::Original(&host, &app), &tag);
        assert_eq!(with_host, Some(&images[1].1));
        let same = [images[0].clone(), (images[1].0.clone(), images[0].1.clone())];
        let names = ImageNames::new(&same, plain_names);
        assert!(
            names.find_tag(RepositoryName::Served(&app), &tag).is_some(),
            "one image under two names"
        );
    }
}
