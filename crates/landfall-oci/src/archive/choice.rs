//! The one way to choose an image of a layout or an archive: by name, tag, digest or number
//! [spec:copies.names]. Pure.

use std::borrow::Cow;

use landfall_core::failure::Hint;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::wording::quoted;

use crate::archive::ArchiveImage;
use crate::store::index::{CONTAINERD_NAME, REF_NAME};

/// Names of an entry in the index of a layout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EntryNames {
    /// Full references: names under which a runtime can have the image.
    pub(crate) full: Vec<String>,
    /// All texts by which the image can be chosen: the full names, and `org.opencontainers.image.ref.name` where it is a
    /// tag alone.
    pub(crate) all: Vec<String>,
}

/// Returns the names in the annotations of an index entry.
pub(crate) fn entry_names(entry: &Descriptor) -> EntryNames {
    let annotation = |key: &str| entry.annotations.get(key).filter(|name| !name.is_empty());
    let (containerd, reference) = (annotation(CONTAINERD_NAME), annotation(REF_NAME));
    let is_full = |name: &&String| name.contains(['/', ':']) && name.parse::<ImageReference>().is_ok();
    let full = containerd.or(reference.filter(is_full));
    let mut all: Vec<String> = Vec::new();
    for name in reference.into_iter().chain(containerd) {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    EntryNames {
        full: full.cloned().into_iter().collect(),
        all,
    }
}

/// No image of a layout or an archive is the wanted one, or several could be.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    #[error("it holds no image")]
    Nothing,
    #[error("it holds {count} images")]
    Several {
        count: usize,
        /// Texts that choose one of them.
        choices: Vec<String>,
    },
    #[error("it holds no image `{wanted}`")]
    Unknown {
        wanted: String,
        /// Texts that choose one of its images.
        choices: Vec<String>,
    },
    #[error("`{wanted}` fits {count} of its images")]
    Ambiguous {
        wanted: String,
        count: usize,
        /// Texts that choose one of them.
        choices: Vec<String>,
    },
}

impl Hint for ChoiceError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        /// Most images that a hint lists.
        const LISTED_MAX: usize = 20;
        let listed = |choices: &[String]| {
            let shown = &choices[..choices.len().min(LISTED_MAX)];
            let more = if shown.len() < choices.len() { ", …" } else { "" };
            format!("{}{more}", quoted(shown))
        };
        match self {
            ChoiceError::Nothing => None,
            ChoiceError::Several { choices, .. } => Some(Cow::Owned(format!(
                "add `:` and one of these to its path: {}",
                listed(choices)
            ))),
            ChoiceError::Unknown { choices, .. } | ChoiceError::Ambiguous { choices, .. } => {
                Some(Cow::Owned(format!("choose one of these: {}", listed(choices))))
            }
        }
    }
}

/// Chooses an image: by its digest, its number in the file (`@0`), a name exactly as it is written, a name in another
/// form of the same reference, or the tag of a name; the first of these that fits. Without a text, the file has to hold
/// one image only. A digest may be that of any manifest in the file; the source then reports a missing one.
///
/// # Errors
/// If no image fits, or several do.
pub fn choose_image(images: Vec<ArchiveImage>, wanted: Option<&str>) -> Result<ArchiveImage, ChoiceError> {
    if images.is_empty() {
        return Err(ChoiceError::Nothing);
    }
    let choices: Vec<String> = images
        .iter()
        .enumerate()
        .flat_map(|(number, image)| choices_of(number, image))
        .collect();
    let fitting: Vec<usize> = match wanted {
        None => (0..images.len()).collect(),
        Some(wanted) => find(&images, wanted),
    };
    match (&fitting[..], wanted) {
        ([only], _) => images.into_iter().nth(*only).ok_or(ChoiceError::Nothing),
        ([], wanted) => Err(ChoiceError::Unknown {
            wanted: wanted.unwrap_or_default().to_owned(),
            choices,
        }),
        (several, None) => Err(ChoiceError::Several {
            count: several.len(),
            choices,
        }),
        (several, Some(wanted)) => Err(ChoiceError::Ambiguous {
            wanted: wanted.to_owned(),
            count: several.len(),
            choices: several
                .iter()
                .flat_map(|number| choices_of(*number, &images[*number]))
                .collect(),
        }),
    }
}

/// Returns the texts that choose an image.
fn choices_of(number: usize, image: &ArchiveImage) -> Vec<String> {
    match image.ref_names.is_empty() {
        true => vec![format!("@{number}")],
        false => image.ref_names.clone(),
    }
}

/// Returns the numbers of the images that fit a text.
fn find(images: &[ArchiveImage], wanted: &str) -> Vec<usize> {
    let all = |fits: &dyn Fn(&ArchiveImage) -> bool| -> Vec<usize> {
        let numbered = images.iter().enumerate().filter(|(_, image)| fits(image));
        numbered.map(|(number, _)| number).collect()
    };
    if let Ok(digest) = wanted.parse::<Digest>() {
        let roots = all(&|image| image.root.digest == digest);
        // Each image of the file gives access to every manifest in it.
        return if roots.is_empty() { vec![0] } else { roots[..1].to_vec() };
    }
    if let Some(number) = wanted.strip_prefix('@') {
        let number = number.parse().ok().filter(|number| *number < images.len());
        return number.into_iter().collect();
    }
    let canonical = |name: &str| name.parse::<ImageReference>().ok().map(|name| name.canonical());
    let reference = canonical(wanted);
    let has_tag =
        |name: &String| canonical(name).is_some_and(|name| name.tag.is_some_and(|tag| tag.as_str() == wanted));
    let steps: [&dyn Fn(&ArchiveImage) -> bool; 3] = [
        &|image| image.ref_names.iter().any(|name| name == wanted),
        &|image| reference.is_some() && image.names.iter().any(|name| canonical(name) == reference),
        &|image| image.names.iter().any(has_tag),
    ];
    let found = steps.into_iter().map(all).find(|found| !found.is_empty());
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::image::{BlobStream, ImageSource, RawManifest, TransferError};

    #[derive(Debug)]
    struct NoSource;

    impl ImageSource for NoSource {
        fn describe(&self) -> String {
            unreachable!("a choice reads nothing")
        }

        fn fetch_manifest<'a>(&'a self, _selector: &'a str) -> BoxFuture<'a, Result<RawManifest, TransferError>> {
            unreachable!("a choice reads nothing")
        }

        fn open_blob<'a>(&'a self, _: &'a Descriptor, _: u64) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
            unreachable!("a choice reads nothing")
        }
    }

    fn mk_digest(digit: usize) -> Digest {
        format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
    }

    /// Returns images with these annotations: the name for containerd, and the other one.
    fn mk_images(annotations: &[(&str, &str)]) -> Vec<ArchiveImage> {
        let image = |(number, (containerd, reference)): (usize, &(&str, &str))| {
            let mut root = Descriptor::new("", mk_digest(number), 1);
            for (key, value) in [(CONTAINERD_NAME, containerd), (REF_NAME, reference)] {
                root.annotations.insert(key.to_owned(), (*value).to_owned());
            }
            let EntryNames { full, all } = entry_names(&root);
            ArchiveImage {
                names: full,
                ref_names: all,
                root,
                narrowed_from: None,
                kind: None,
                source: Arc::new(NoSource),
            }
        };
        annotations.iter().enumerate().map(image).collect()
    }

    #[test]
    fn an_image_is_chosen_by_every_text_that_names_it() {
        let images = [
            ("", "v1"),
            ("", "v2"),
            ("docker.io/library/nginx:1.27", "1.27"),
            ("", "quay.io/a/b:3"),
            ("", ""),
            ("docker.io/library/v2:latest", ""),
        ];
        let digest = mk_digest(3);
        for (wanted, expected) in [
            ("v1", Some(0)),
            // The exact name comes before the short form of another.
            ("v2", Some(1)),
            ("docker.io/library/v2", Some(5)),
            ("nginx:1.27", Some(2)),
            ("docker.io/library/nginx:1.27", Some(2)),
            ("1.27", Some(2)),
            ("quay.io/a/b:3", Some(3)),
            ("3", Some(3)),
            (digest.as_str(), Some(3)),
            ("@4", Some(4)),
            ("@6", None),
            ("@x", None),
            ("v3", None),
            ("nginx", None),
        ] {
            let found = choose_image(mk_images(&images), Some(wanted)).ok();
            let expected = expected.map(mk_digest);
            assert_eq!(found.map(|image| image.root.digest), expected, "{wanted}");
        }
    }

    #[test]
    fn a_choice_that_fails_lists_every_image_and_each_text_of_the_list_chooses_one() {
        let images = [("", "v1"), ("", ""), ("reg/a:v1", ""), ("reg/b:v1", "b")];
        let several = choose_image(mk_images(&images), None).unwrap_err();
        assert_eq!(several.to_string(), "it holds 4 images");
        let listed = "`v1`, `@1`, `reg/a:v1`, `b`, `reg/b:v1`";
        assert_eq!(
            several.hint().unwrap(),
            format!("add `:` and one of these to its path: {listed}")
        );
        let unknown = choose_image(mk_images(&images), Some("x")).unwrap_err();
        assert_eq!(unknown.to_string(), "it holds no image `x`");
        assert_eq!(unknown.hint().unwrap(), format!("choose one of these: {listed}"));
        for text in listed.split(", ") {
            assert!(
                choose_image(mk_images(&images), Some(text.trim_matches('`'))).is_ok(),
                "{text}"
            );
        }
        let twice = choose_image(mk_images(&[("reg/a:v1", ""), ("reg/b:v1", "")]), Some("v1")).unwrap_err();
        assert_eq!(twice.to_string(), "`v1` fits 2 of its images");
        assert_eq!(twice.hint().unwrap(), "choose one of these: `reg/a:v1`, `reg/b:v1`");
        assert!(matches!(choose_image(Vec::new(), None), Err(ChoiceError::Nothing)));
        assert!(choose_image(mk_images(&[("", "")]), None).is_ok());
    }
}
