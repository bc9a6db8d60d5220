//! Referrers of a manifest without the referrers API: the tags that list them, and the entries of a layout's index.
//! Pure.

use std::collections::HashMap;

use landfall_core::oci_types::{Descriptor, Index, ManifestContent};
use landfall_core::reference::{Digest, Tag};

use crate::image::Referrer;
use crate::store::index::REF_NAME;

/// Suffixes of cosign's tags: signatures, attestations, bills of materials.
const COSIGN_KINDS: [&str; 3] = ["sig", "att", "sbom"];

/// Returns cosign's tags for a manifest.
pub(crate) fn cosign_tags(subject: &Digest) -> impl Iterator<Item = Tag> {
    let tag = |kind| format!("{}-{}.{kind}", subject.algorithm(), subject.hex()).parse();
    COSIGN_KINDS.into_iter().filter_map(move |kind| tag(kind).ok())
}

/// Returns the tag that lists the referrers of a manifest (OCI distribution specification, "Referrers Tag Schema").
pub(crate) fn referrers_tag(subject: &Digest) -> String {
    let hex = subject.hex();
    format!("{}-{}", subject.algorithm(), &hex[..hex.len().min(64)])
}

/// Returns the name of an index entry of a layout. The tag of a referrer may stand behind its repository.
pub(crate) fn name_of(entry: &Descriptor) -> Option<&str> {
    let name = entry.annotations.get(REF_NAME)?;
    let tag = name.rsplit_once(':').map_or(name.as_str(), |(_, tag)| tag);
    Some(if is_referrer_tag(tag) { tag } else { name })
}

/// Referrers in a layout's index, by subject.
#[derive(Debug, Default)]
pub(crate) struct ReferrerMap {
    by_subject: HashMap<Digest, Vec<Referrer>>,
    /// Cosign's tags, and the tags that stand in for the referrers API.
    by_tag: HashMap<String, (Digest, Option<Index>)>,
}

impl ReferrerMap {
    pub(crate) fn new<'a>(
        listed: impl IntoIterator<Item = (&'a Descriptor, &'a Option<ManifestContent>)>,
    ) -> ReferrerMap {
        let mut referrers = ReferrerMap::default();
        for (entry, content) in listed {
            if let Some(subject) = content.as_ref().and_then(ManifestContent::subject) {
                let known = referrers.by_subject.entry(subject.digest.clone()).or_default();
                known.push(untagged(&entry.digest));
            }
            if let Some(name) = name_of(entry).filter(|name| is_referrer_tag(name)) {
                let list = match content {
                    Some(ManifestContent::Index(index)) => Some(index.clone()),
                    _ => None,
                };
                referrers.by_tag.insert(name.to_owned(), (entry.digest.clone(), list));
            }
        }
        referrers
    }

    /// Returns the referrers of a manifest.
    pub(crate) fn of(&self, subject: &Digest) -> Vec<Referrer> {
        let mut found = self.by_subject.get(subject).cloned().unwrap_or_default();
        if let Some((_, Some(list))) = self.by_tag.get(&referrers_tag(subject)) {
            found.extend(list.manifests.iter().map(|entry| untagged(&entry.digest)));
        }
        found.extend(cosign_tags(subject).filter_map(|tag| {
            let (digest, _) = self.by_tag.get(tag.as_str())?;
            Some(Referrer {
                selector: digest.to_string(),
                tag: Some(tag),
            })
        }));
        found
    }
}

fn untagged(digest: &Digest) -> Referrer {
    Referrer {
        selector: digest.to_string(),
        tag: None,
    }
}

/// Returns true if an index entry is a referrer: it has a cosign or fallback tag, or a `subject`.
pub(crate) fn is_referrer(name: Option<&str>, content: Option<&ManifestContent>) -> bool {
    name.is_some_and(is_referrer_tag) || content.is_some_and(|content| content.subject().is_some())
}

fn is_referrer_tag(name: &str) -> bool {
    subject_of_tag(name).is_some()
}

/// Returns the manifest to which a tag of cosign, or a tag that lists referrers, belongs.
pub(crate) fn subject_of_tag(tag: &str) -> Option<Digest> {
    let (digest, kind) = match tag.split_once('.') {
        Some((digest, kind)) => (digest, Some(kind)),
        None => (tag, None),
    };
    let digest = digest.replacen('-', ":", 1).parse::<Digest>().ok()?;
    kind.is_none_or(|kind| COSIGN_KINDS.contains(&kind)).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_referrers_are_no_image_names() {
        let subject: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        for tag in cosign_tags(&subject) {
            assert!(is_referrer(Some(tag.as_str()), None), "{tag}");
        }
        assert!(is_referrer(Some(&referrers_tag(&subject)), None));
        for name in ["app", "v1.2.sig", "sha256-ab.sig", "reg:5000/a/b:1"] {
            assert!(!is_referrer(Some(name), None), "{name}");
        }
        assert!(!is_referrer(None, None));
    }
}
