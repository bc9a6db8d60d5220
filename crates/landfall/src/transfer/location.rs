//! Locations of images on the command line: skopeo's transport names, and a plain reference for a registry.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::failure::{Explanation, FailureKind};
use landfall_core::reference::{Digest, ImageReference, ReferenceError};
use landfall_net::output_path::{OutputPath, look_at_file};
use landfall_oci::archive::{ArchiveImage, choose_image, open_archive};
use landfall_oci::bundle::{BundleFile, BundleSource};
use landfall_oci::client::{RegistrySink, RegistrySource};
use landfall_oci::image::{ImageSink, ImageSource, TransferError};
use landfall_oci::layout::{ArchiveForm, ArchiveSink, LayoutSink, open_layout};

use crate::registries::Registries;

/// Location of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageLocation {
    /// In a registry: `docker://HOST/REPOSITORY:TAG`, or the reference alone.
    Registry(ImageReference),
    /// In a file or directory: `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]`,
    /// `bundle:FILE[:NAME]`.
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
    /// Bundle of Landfall; a source only.
    Bundle,
}

impl ImageTransport {
    const ALL: [ImageTransport; 4] = [
        ImageTransport::Bundle,
        ImageTransport::OciArchive,
        ImageTransport::DockerArchive,
        ImageTransport::OciDirectory,
    ];

    fn prefix(self) -> &'static str {
        match self {
            ImageTransport::OciDirectory => "oci:",
            ImageTransport::OciArchive => "oci-archive:",
            ImageTransport::DockerArchive => "docker-archive:",
            ImageTransport::Bundle => "bundle:",
        }
    }
}

/// A text is no location.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// The parser of the command line shows no causes: the reason is part of the text.
    #[error("`{text}` is not an image reference: {reason}")]
    Reference { text: String, reason: ReferenceError },
    #[error("`{text}` names no file: write it as `oci-archive:FILE` or `oci-archive:FILE:NAME`")]
    NoFile { text: String },
    /// A transport of skopeo that Landfall does not support.
    #[error("`{text}` is not supported: use a registry, `oci:`, `oci-archive:`, `docker-archive:` or `bundle:`")]
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
            Err(reason) => Err(LocationError::Reference {
                text: text.to_owned(),
                reason,
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
        let OpenImage { source, selector, .. } = self.open_named(registries, registry)?;
        Ok((source, selector))
    }

    /// Opens the image as [`ImageLocation::open_source`] does, and returns its full name too, if it has one.
    ///
    /// # Errors
    /// As for [`ImageLocation::open_source`].
    pub(crate) fn open_named(
        &self,
        registries: &Registries<'_>,
        registry: Option<usize>,
    ) -> Result<OpenImage, TransferError> {
        match self {
            ImageLocation::Registry(reference) => {
                let source = RegistrySource {
                    client: registries.client(&reference.host, registry)?,
                    repository: reference.repository.clone(),
                };
                Ok(OpenImage {
                    source: Arc::new(source),
                    selector: reference.manifest_selector().to_owned(),
                    name: Some(reference.clone()),
                })
            }
            ImageLocation::File { transport, file, name } => {
                let image = find_image(*transport, file, name.as_deref()).map_err(|problem| TransferError {
                    attempt: format!("cannot open `{self}`"),
                    kind: FailureKind::Local,
                    source: Some(problem),
                })?;
                Ok(OpenImage {
                    source: image.source,
                    name: image.names.first().and_then(|name| name.parse().ok()),
                    selector: digest_in(name.as_deref()).unwrap_or(image.root.digest).to_string(),
                })
            }
        }
    }

    /// Returns true if the image is read from stdin.
    pub(crate) fn is_stdin(&self) -> bool {
        self.is_archive_at("-")
    }

    /// Returns true if the image is written to stdout.
    pub(crate) fn is_stdout(&self) -> bool {
        match self {
            ImageLocation::File {
                transport: ImageTransport::OciArchive | ImageTransport::DockerArchive,
                file,
                ..
            } => matches!(look_at_file(file), Ok(OutputPath::Stdout)),
            _ => false,
        }
    }

    fn is_archive_at(&self, path: &str) -> bool {
        matches!(
            self,
            ImageLocation::File { transport: ImageTransport::OciArchive | ImageTransport::DockerArchive, file, .. }
                if file == path
        )
    }

    /// Opens the location as a sink. Looks at what is there, and writes nothing yet.
    ///
    /// # Errors
    /// If the registry's client cannot be made, or nothing can be written at the path.
    pub(crate) fn open_sink(
        &self,
        registries: &Registries<'_>,
        registry: Option<usize>,
    ) -> Result<OpenDestination, TransferError> {
        match self {
            ImageLocation::Registry(reference) => {
                let client = registries.client(&reference.host, registry)?;
                let sink = RegistrySink::new(client, reference.repository.clone(), reference.tag.clone());
                let sink = sink.with_journal(registries.journal.clone());
                Ok(OpenDestination {
                    sink: Arc::new(sink),
                    expected: reference.digest.clone(),
                    name: Some(reference.clone()),
                })
            }
            ImageLocation::File { transport, file, name } => {
                let (name, expected) = named_digest(name.as_deref());
                let sink = open_file_sink(*transport, file, name).map_err(|problem| TransferError {
                    attempt: format!("cannot write `{self}`"),
                    kind: FailureKind::Local,
                    source: Some(problem),
                })?;
                Ok(OpenDestination {
                    sink,
                    name: None,
                    expected,
                })
            }
        }
    }
}

/// An image to read, opened.
pub(crate) struct OpenImage {
    pub(crate) source: Arc<dyn ImageSource>,
    /// The tag or digest to ask for.
    pub(crate) selector: String,
    /// The image's full name, if it has one.
    pub(crate) name: Option<ImageReference>,
}

/// A destination, opened.
pub(crate) struct OpenDestination {
    pub(crate) sink: Arc<dyn ImageSink>,
    /// The image's name in a registry.
    pub(crate) name: Option<ImageReference>,
    /// The digest that the user named.
    pub(crate) expected: Option<Digest>,
}

fn open_file_sink(
    transport: ImageTransport,
    file: &Utf8Path,
    name: Option<String>,
) -> Result<Arc<dyn ImageSink>, Box<dyn Error + Send + Sync>> {
    Ok(match transport {
        ImageTransport::OciDirectory => Arc::new(LayoutSink::new(file, name)?),
        ImageTransport::OciArchive => Arc::new(ArchiveSink::new(file, name, ArchiveForm::Oci)?),
        ImageTransport::DockerArchive => Arc::new(ArchiveSink::new(file, name, ArchiveForm::Docker)?),
        ImageTransport::Bundle => {
            return Err(Box::new(Explanation::new(
                format!("`{file}` is a bundle, and no image is added to one"),
                "make a new one: `landfall bundle create FILE --image IMAGE`",
            )));
        }
    })
}

/// Splits a name in a destination from the digest that the user wrote in its place or behind it.
fn named_digest(name: Option<&str>) -> (Option<String>, Option<Digest>) {
    let Some(name) = name else { return (None, None) };
    if let Some(digest) = digest_in(Some(name)) {
        return (None, Some(digest));
    }
    let digest = name.rsplit_once('@').and_then(|(_, digest)| digest_in(Some(digest)));
    (Some(name.to_owned()), digest)
}

/// Parses a name that is a digest.
fn digest_in(name: Option<&str>) -> Option<Digest> {
    name?.parse().ok()
}

/// Finds the image of this name.
fn find_image(
    transport: ImageTransport,
    file: &Utf8Path,
    name: Option<&str>,
) -> Result<ArchiveImage, Box<dyn Error + Send + Sync>> {
    let images = match transport {
        ImageTransport::OciDirectory => open_layout(file)?,
        ImageTransport::OciArchive | ImageTransport::DockerArchive => {
            let spool = Utf8PathBuf::try_from(std::env::temp_dir())?;
            open_archive(file, &spool)?
        }
        ImageTransport::Bundle => BundleSource::new(BundleFile::open(file)?).images(),
    };
    Ok(choose_image(images, name)?)
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
        let error = "reg.example/Shop/till:v1".parse::<ImageLocation>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`reg.example/Shop/till:v1` is not an image reference: `Shop/till` has upper-case letters; a repository path is \
             written in lower case"
        );
        for text in ["", "oci-archive:", "oci:", "dir:/tmp/x", "A B"] {
            assert!(text.parse::<ImageLocation>().is_err(), "{text}");
        }
    }
}
