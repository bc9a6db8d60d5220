//! Locations of images on the command line: skopeo's transport names, and a plain reference for a registry.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::failure::FailureKind;
use landfall_core::reference::{Digest, ImageReference, ReferenceError};
use landfall_core::wording::quoted;
use landfall_oci::archive::{ArchiveImage, open_archive};
use landfall_oci::client::{RegistrySink, RegistrySource};
use landfall_oci::image::{ImageSink, ImageSource, TransferError};
use landfall_oci::layout::{ArchiveForm, ArchiveSink, LayoutSink, open_layout};

use crate::registries::Registries;

/// Location of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageLocation {
    /// In a registry: `docker://HOST/REPOSITORY:TAG`, or the reference alone.
    Registry(ImageReference),
    /// In a file or directory: `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]`.
    File {
        transport: ImageTransport,
        file: Utf8PathBuf,
        /// Name of an image in it, or digest of a manifest; `None` stands for the only image.
        name: Option<String>,
    },
}

/// Form of a file or directory with images, in skopeo's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageTransport {
    /// Directory with an OCI image layout.
    OciDirectory,
    /// Tar of an OCI image layout, as `skopeo` and `ctr images export` write it.
    OciArchive,
    /// Tar as `docker save` writes it.
    DockerArchive,
}

impl ImageTransport {
    const ALL: [ImageTransport; 3] = [
        ImageTransport::OciArchive,
        ImageTransport::DockerArchive,
        ImageTransport::OciDirectory,
    ];

    fn prefix(self) -> &'static str {
        match self {
            ImageTransport::OciDirectory => "oci:",
            ImageTransport::OciArchive => "oci-archive:",
            ImageTransport::DockerArchive => "docker-archive:",
        }
    }
}

/// A text is no location.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    #[error("`{text}` is not an image reference")]
    Reference {
        text: String,
        #[source]
        source: ReferenceError,
    },
    #[error("`{text}` names no file: write it as `oci-archive:FILE` or `oci-archive:FILE:NAME`")]
    NoFile { text: String },
    /// A transport of skopeo that Landfall does not support.
    #[error("`{text}` is not supported: use a registry, `oci:`, `oci-archive:` or `docker-archive:`")]
    Unsupported { text: String },
}

/// Transports of skopeo that Landfall does not support. Without this list they would be taken for repositories on
/// Docker Hub.
const UNSUPPORTED: [&str; 5] = ["dir:", "docker-daemon:", "containers-storage:", "ostree:", "sif:"];

impl FromStr for ImageLocation {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<ImageLocation, LocationError> {
        for transport in ImageTransport::ALL {
            let Some(rest) = text.strip_prefix(transport.prefix()) else {
                continue;
            };
            let (file, name) = match rest.split_once(':') {
                Some((file, name)) => (file, Some(name.to_owned()).filter(|name| !name.is_empty())),
                None => (rest, None),
            };
            if file.is_empty() {
                return Err(LocationError::NoFile { text: text.to_owned() });
            }
            return Ok(ImageLocation::File {
                transport,
                file: file.into(),
                name,
            });
        }
        if UNSUPPORTED.iter().any(|transport| text.starts_with(transport)) {
            return Err(LocationError::Unsupported { text: text.to_owned() });
        }
        match text.parse::<ImageReference>() {
            Ok(reference) => Ok(ImageLocation::Registry(reference.canonical())),
            Err(source) => Err(LocationError::Reference {
                text: text.to_owned(),
                source,
            }),
        }
    }
}

impl fmt::Display for ImageLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageLocation::Registry(reference) => write!(f, "{reference}"),
            ImageLocation::File { transport, file, name } => {
                write!(f, "{}{file}", transport.prefix())?;
                name.iter().try_for_each(|name| write!(f, ":{name}"))
            }
        }
    }
}

impl ImageLocation {
    /// Returns the location of one manifest of this image, by its digest.
    pub(crate) fn with_digest(&self, digest: &Digest) -> ImageLocation {
        match self {
            ImageLocation::Registry(reference) => ImageLocation::Registry(ImageReference {
                tag: None,
                digest: Some(digest.clone()),
                ..reference.clone()
            }),
            ImageLocation::File { transport, file, .. } => ImageLocation::File {
                transport: *transport,
                file: file.clone(),
                name: Some(digest.to_string()),
            },
        }
    }

    /// Opens the image as a source, and returns it with the tag or digest to ask for. Blocks while an archive is read.
    ///
    /// # Errors
    /// If the registry's client cannot be made, or the archive does not have the image.
    pub(crate) fn open_source(
        &self,
        registries: &Registries<'_>,
        registry: Option<usize>,
    ) -> Result<(Arc<dyn ImageSource>, String), TransferError> {
        match self {
            ImageLocation::Registry(reference) => {
                let source = RegistrySource {
                    client: registries.client(&reference.host, registry)?,
                    repository: reference.repository.clone(),
                };
                Ok((Arc::new(source), reference.manifest_selector().to_owned()))
            }
            ImageLocation::File { transport, file, name } => {
                let image = find_image(*transport, file, name.as_deref()).map_err(|problem| TransferError {
                    attempt: format!("cannot open `{self}`"),
                    kind: FailureKind::Local,
                    source: Some(problem.into()),
                })?;
                let selector = digest_in(name.as_deref()).unwrap_or(image.root.digest);
                Ok((image.source, selector.to_string()))
            }
        }
    }

    /// Opens the location as a sink.
    ///
    /// # Errors
    /// If the registry's client cannot be made.
    pub(crate) fn open_sink(
        &self,
        registries: &Registries<'_>,
        registry: Option<usize>,
    ) -> Result<(Arc<dyn ImageSink>, Option<ImageReference>), TransferError> {
        match self {
            ImageLocation::Registry(reference) => {
                let client = registries.client(&reference.host, registry)?;
                let sink = RegistrySink::new(client, reference.repository.clone(), reference.tag.clone());
                let sink = sink.with_journal(registries.journal.clone());
                Ok((Arc::new(sink), Some(reference.clone())))
            }
            ImageLocation::File { transport, file, name } => {
                let sink: Arc<dyn ImageSink> = match transport {
                    ImageTransport::OciDirectory => Arc::new(LayoutSink::new(file, name.clone())),
                    ImageTransport::OciArchive => Arc::new(ArchiveSink::new(file, name.clone(), ArchiveForm::Oci)),
                    ImageTransport::DockerArchive => {
                        Arc::new(ArchiveSink::new(file, name.clone(), ArchiveForm::Docker))
                    }
                };
                Ok((sink, None))
            }
        }
    }
}

/// Parses a name that is a digest.
fn digest_in(name: Option<&str>) -> Option<Digest> {
    name?.parse().ok()
}

/// Finds the image of this name. Short and canonical forms of a reference are equal.
fn find_image(transport: ImageTransport, file: &Utf8Path, name: Option<&str>) -> anyhow::Result<ArchiveImage> {
    let images = match transport {
        ImageTransport::OciDirectory => open_layout(file)?,
        ImageTransport::OciArchive | ImageTransport::DockerArchive => {
            let spool = Utf8PathBuf::try_from(std::env::temp_dir())?;
            open_archive(file, &spool)?
        }
    };
    if digest_in(name).is_some() {
        // Each image of the file gives access to every manifest in it.
        return images.into_iter().next().context("it holds no image");
    }
    let names: Vec<String> = images.iter().flat_map(|image| image.names.clone()).collect();
    let is_named = |image: &ArchiveImage, wanted: &str| {
        let canonical = |name: &str| name.parse::<ImageReference>().ok().map(|name| name.canonical());
        image
            .names
            .iter()
            .any(|found| found == wanted || canonical(found).is_some_and(|found| Some(found) == canonical(wanted)))
    };
    let mut found = images
        .into_iter()
        .filter(|image| name.is_none_or(|name| is_named(image, name)));
    match (found.next(), found.next(), name) {
        (Some(image), None, _) => Ok(image),
        (Some(_), Some(_), _) => bail!(
            "it holds several images: add one of {} to the file's name",
            quoted(&names)
        ),
        (None, _, Some(name)) => bail!("it holds no image `{name}`, but {}", quoted(&names)),
        (None, _, None) => bail!("it holds no image"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_transport_or_a_reference() {
        for (text, shown) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("docker://reg:5000/a/b:1", "reg:5000/a/b:1"),
            ("oci-archive:a.tar", "oci-archive:a.tar"),
            ("oci-archive:a.tar:reg/a:1", "oci-archive:a.tar:reg/a:1"),
            ("docker-archive:/tmp/a.tar:nginx", "docker-archive:/tmp/a.tar:nginx"),
            ("oci:/tmp/x", "oci:/tmp/x"),
            ("oci:x:1.0", "oci:x:1.0"),
        ] {
            assert_eq!(text.parse::<ImageLocation>().unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "oci-archive:", "oci:", "dir:/tmp/x", "A B"] {
            assert!(text.parse::<ImageLocation>().is_err(), "{text}");
        }
    }
}
