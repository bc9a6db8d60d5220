//! Selection of index entries by platform.

use super::{Descriptor, Index, Platform};

/// The annotation with the digest of the manifest that an attestation of BuildKit is about.
const ATTESTED: &str = "vnd.docker.reference.digest";
/// The operating system of entries that are no images.
const NO_SYSTEM: &str = "unknown";

impl Index {
    /// Returns the index entries that these platforms need: their images, the attestations of those, and all entries
    /// without a platform. Returns all entries if no platform is given.
    #[must_use]
    pub fn parts_for(&self, platforms: &[Platform]) -> Vec<&Descriptor> {
        let is_chosen = |part: &Descriptor| {
            part.image_platform()
                .is_some_and(|offered| platforms.iter().any(|wanted| wanted.accepts(offered)))
        };
        let is_needed = |part: &&Descriptor| match part.annotations.get(ATTESTED) {
            _ if platforms.is_empty() => true,
            Some(attested) => {
                let subject = self.manifests.iter().find(|other| other.digest.as_str() == attested);
                subject.is_some_and(is_chosen)
            }
            None => part.image_platform().is_none() || is_chosen(part),
        };
        self.manifests.iter().filter(is_needed).collect()
    }

    /// Returns the platforms of the images in this index.
    pub fn platforms(&self) -> impl Iterator<Item = &Platform> {
        self.manifests.iter().filter_map(Descriptor::image_platform)
    }
}

impl Descriptor {
    /// Returns the platform of the image that an index entry points to; `None` if the entry names none or is no image.
    #[must_use]
    pub fn image_platform(&self) -> Option<&Platform> {
        self.platform.as_ref().filter(|platform| platform.os != NO_SYSTEM)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn mk_part(digit: char, platform: Option<&str>, attested: Option<char>) -> Descriptor {
        let digest = |digit: char| format!("sha256:{}", digit.to_string().repeat(64));
        let mut part = Descriptor::new("", digest(digit).parse().unwrap(), 1);
        part.platform = platform.map(|platform| platform.parse().unwrap());
        if let Some(attested) = attested {
            part.annotations.insert(ATTESTED.to_owned(), digest(attested));
        }
        part
    }

    #[test]
    fn platforms_bring_their_attestations_and_what_has_no_platform() {
        let index = Index {
            media_type: None,
            artifact_type: None,
            manifests: vec![
                mk_part('a', Some("linux/amd64"), None),
                mk_part('b', Some("linux/arm64/v8"), None),
                mk_part('c', Some("unknown/unknown"), Some('a')),
                mk_part('d', Some("unknown/unknown"), Some('b')),
                mk_part('e', None, None),
            ],
            subject: None,
            annotations: BTreeMap::new(),
        };
        let needed = |platforms: &[&str]| -> String {
            let platforms: Vec<Platform> = platforms.iter().map(|text| text.parse().unwrap()).collect();
            let parts = index.parts_for(&platforms);
            parts.iter().map(|part| &part.digest.hex()[..1]).collect()
        };
        assert_eq!(needed(&[]), "abcde");
        assert_eq!(needed(&["linux/arm64"]), "bde");
        assert_eq!(needed(&["linux/amd64", "linux/arm64"]), "abcde");
        assert_eq!(needed(&["linux/s390x"]), "e");
        let offered: Vec<_> = index.platforms().map(ToString::to_string).collect();
        assert_eq!(offered, ["linux/amd64", "linux/arm64/v8"]);
    }
}
