//! The site lock [spec:site.lock]: the digest of each image, the same for all hosts although a tag may move.
//!
//! The leader resolves tags once and signs the bytes of the document, as they are on the disk. Signatures are a list in
//! a file of its own, as those of bundles; their arithmetic is left to `landfall-oci`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::bundle::trust::{KeyId, KeyRing, SignatureCheck};
use crate::failure::Hint;
use crate::reference::{Digest, ImageReference};

/// Bytes of the largest site lock that is read: 20,000 images of two generations.
pub const SIZE_MAX: usize = 8 * 1024 * 1024;
/// The first field of the document: no other signed document has it.
const KIND: &str = "landfall.siteLock";

/// The images of a site in one generation, and in the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteLock {
    current: Generation,
    previous: Option<Generation>,
}

/// The images of one generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    pub generation: u64,
    /// Digest of the manifest or index, by the canonical reference.
    pub images: BTreeMap<ImageReference, Digest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLock {
    kind: String,
    version: u32,
    current: Generation,
    previous: Option<Generation>,
}

/// Reason to refuse a site lock.
#[derive(Debug, thiserror::Error)]
pub enum LockRefusal {
    #[error("the site lock has more than {SIZE_MAX} bytes")]
    TooLarge,
    #[error("the site lock is not a document of this form")]
    Json(#[source] serde_json::Error),
    #[error("the document is no site lock: its kind is `{0}`")]
    OtherKind(String),
    #[error(
        "the site lock has version {version}, and this program reads version {}",
        SiteLock::VERSION
    )]
    Newer { version: u32 },
    #[error("the site lock names `{0}`, which is not a canonical reference")]
    NotCanonical(ImageReference),
    #[error("the site lock names `{0}` with another digest")]
    OtherDigest(ImageReference),
    #[error("generation {current} of the site lock cannot follow generation {previous}")]
    Order { current: u64, previous: u64 },
    #[error("the site lock is not signed by the key of this site")]
    Signature,
    #[error("the site lock is of generation {offered}, and this host has generation {known}")]
    Older { offered: u64, known: u64 },
    #[error("there are two site locks of generation {0}")]
    Split(u64),
}

impl Hint for LockRefusal {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            LockRefusal::Newer { .. } | LockRefusal::OtherKind(_) => "run the same version of Landfall on all hosts",
            LockRefusal::Signature => "join the site again: its certificate authority was replaced",
            LockRefusal::Older { .. } | LockRefusal::Split(_) => {
                "check with `landfall site status` that one host leads the site"
            }
            _ => "let the leader write the site lock again: `landfall reload` on the leader",
        }))
    }
}

impl SiteLock {
    /// Version of the documents that this program writes.
    pub const VERSION: u32 = 1;

    /// Creates the first lock of a site.
    #[must_use]
    pub fn first(images: BTreeMap<ImageReference, Digest>) -> SiteLock {
        let current = Generation { generation: 1, images };
        SiteLock {
            current,
            previous: None,
        }
    }

    #[must_use]
    pub fn current(&self) -> &Generation {
        &self.current
    }

    #[must_use]
    pub fn previous(&self) -> Option<&Generation> {
        self.previous.as_ref()
    }

    /// Returns the lock with these images: the next generation, or the same lock if nothing changed.
    #[must_use]
    pub fn advance(self, images: BTreeMap<ImageReference, Digest>) -> SiteLock {
        if self.current.images == images {
            return self;
        }
        SiteLock {
            current: Generation {
                generation: self.current.generation.saturating_add(1),
                images,
            },
            previous: Some(self.current),
        }
    }

    /// Returns the digest that all hosts use for an image.
    #[must_use]
    pub fn digest(&self, reference: &ImageReference) -> Option<&Digest> {
        self.current.images.get(&reference.canonical())
    }

    /// Returns the manifests that garbage collection keeps with all that they name: those of this generation and of the
    /// one before, so that the way back needs no network [spec:site.collection].
    #[must_use]
    pub fn needed(&self) -> BTreeSet<&Digest> {
        let generations = [Some(&self.current), self.previous.as_ref()];
        generations
            .into_iter()
            .flatten()
            .flat_map(|generation| generation.images.values())
            .collect()
    }

    /// Returns the document. Its bytes are what the leader signs.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let raw = RawLock {
            kind: KIND.to_owned(),
            version: SiteLock::VERSION,
            current: self.current.clone(),
            previous: self.previous.clone(),
        };
        let mut bytes = serde_json::to_vec_pretty(&raw).expect("texts and numbers are JSON");
        bytes.push(b'\n');
        bytes
    }
}

/// Parses a site lock. The caller keeps the bytes for the check of the signature.
///
/// # Errors
/// If it is no site lock that this version can follow.
pub fn parse_lock(bytes: &[u8]) -> Result<SiteLock, LockRefusal> {
    #[derive(Deserialize)]
    struct Head {
        kind: String,
        version: u32,
    }
    if bytes.len() > SIZE_MAX {
        return Err(LockRefusal::TooLarge);
    }
    let head: Head = serde_json::from_slice(bytes).map_err(LockRefusal::Json)?;
    if head.kind != KIND {
        return Err(LockRefusal::OtherKind(crate::wording::excerpt(&head.kind, 40)));
    }
    if head.version != SiteLock::VERSION {
        return Err(LockRefusal::Newer { version: head.version });
    }
    let raw: RawLock = serde_json::from_slice(bytes).map_err(LockRefusal::Json)?;
    for (reference, digest) in raw
        .current
        .images
        .iter()
        .chain(raw.previous.iter().flat_map(|previous| &previous.images))
    {
        if reference.canonical() != *reference {
            return Err(LockRefusal::NotCanonical(reference.clone()));
        }
        if reference.digest.as_ref().is_some_and(|own| own != digest) {
            return Err(LockRefusal::OtherDigest(reference.clone()));
        }
    }
    match &raw.previous {
        Some(previous) if previous.generation >= raw.current.generation => Err(LockRefusal::Order {
            current: raw.current.generation,
            previous: previous.generation,
        }),
        _ => Ok(SiteLock {
            current: raw.current,
            previous: raw.previous,
        }),
    }
}

/// Reaction of a host to a site lock that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockStep {
    /// Make it durable, and follow it.
    Follow(KeyId),
    /// The host follows it already.
    Same,
}

/// Decides whether a host follows a lock that its leader offers. `keys` has the key of the site, `checks` the results
/// of the signatures over the bytes of the document.
///
/// # Errors
/// If the key of the site did not sign it, or if the host follows a later one.
pub fn decide_lock(
    known: Option<&SiteLock>,
    offered: &SiteLock,
    keys: &KeyRing,
    checks: &[SignatureCheck],
) -> Result<LockStep, LockRefusal> {
    let signer = keys.signer(checks).ok_or(LockRefusal::Signature)?;
    let Some(known) = known else {
        return Ok(LockStep::Follow(signer.clone()));
    };
    let (old, new) = (known.current.generation, offered.current.generation);
    match new.cmp(&old) {
        std::cmp::Ordering::Less => Err(LockRefusal::Older {
            offered: new,
            known: old,
        }),
        std::cmp::Ordering::Equal if known.current != offered.current => Err(LockRefusal::Split(new)),
        std::cmp::Ordering::Equal => Ok(LockStep::Same),
        std::cmp::Ordering::Greater => Ok(LockStep::Follow(signer.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: u8) -> Digest {
        format!("sha256:{}", char::from(b'0' + digit).to_string().repeat(64))
            .parse()
            .unwrap()
    }

    fn images(list: &[(&str, u8)]) -> BTreeMap<ImageReference, Digest> {
        let entry = |(name, digit): &(&str, u8)| (name.parse::<ImageReference>().unwrap().canonical(), digest(*digit));
        list.iter().map(entry).collect()
    }

    #[test]
    fn whole_document() {
        let lock = SiteLock::first(images(&[("nginx", 1)])).advance(images(&[("nginx", 2), ("quay.io/a/b:1", 3)]));
        let text = String::from_utf8(lock.render()).unwrap().replace(&"0".repeat(60), "…");
        let short = [1, 2, 3].iter().fold(text, |text, digit| {
            text.replace(digest(*digit).hex(), &digit.to_string())
        });
        insta::assert_snapshot!(short, @r#"
        {
          "kind": "landfall.siteLock",
          "version": 1,
          "current": {
            "generation": 2,
            "images": {
              "docker.io/library/nginx:latest": "sha256:2",
              "quay.io/a/b:1": "sha256:3"
            }
          },
          "previous": {
            "generation": 1,
            "images": {
              "docker.io/library/nginx:latest": "sha256:1"
            }
          }
        }
        "#);
        assert_eq!(parse_lock(&lock.render()).unwrap(), lock);
    }

    #[test]
    fn generation_counts_changes_and_garbage_is_what_two_generations_do_not_need() {
        let first = SiteLock::first(images(&[("nginx", 1), ("busybox", 4)]));
        let same = first.clone().advance(images(&[("nginx", 1), ("busybox", 4)]));
        assert_eq!(same, first);
        let third = first.advance(images(&[("nginx", 2)])).advance(images(&[("nginx", 3)]));
        assert_eq!(third.current().generation, 3);
        assert_eq!(third.needed(), BTreeSet::from([&digest(2), &digest(3)]));
        assert_eq!(third.digest(&"docker.io/nginx".parse().unwrap()), Some(&digest(3)));
    }

    #[test]
    fn document_that_is_not_one_is_refused() {
        let lock = SiteLock::first(images(&[("nginx", 1)])).advance(images(&[("nginx", 2)]));
        let text = String::from_utf8(lock.render()).unwrap();
        for (from, to, expected) in [
            (
                "\"version\": 1",
                "\"version\": 2",
                "the site lock has version 2, and this program reads version 1",
            ),
            (
                "landfall.siteLock",
                "landfall.bundle",
                "the document is no site lock: its kind is `landfall.bundle`",
            ),
            (
                "docker.io/library/nginx:latest",
                "nginx",
                "the site lock names `docker.io/library/nginx`, which is not a canonical reference",
            ),
            (
                "\"generation\": 1",
                "\"generation\": 2",
                "generation 2 of the site lock cannot follow generation 2",
            ),
            (
                "\"current\"",
                "\"other\": 1, \"current\"",
                "the site lock is not a document of this form",
            ),
            ("sha256:", "md5:", "the site lock is not a document of this form"),
        ] {
            assert!(text.contains(from), "{from}");
            let refusal = parse_lock(text.replace(from, to).as_bytes()).unwrap_err();
            assert_eq!(refusal.to_string(), expected, "{from} to {to}");
        }
        assert!(matches!(
            parse_lock(&vec![b' '; SIZE_MAX + 1]),
            Err(LockRefusal::TooLarge)
        ));
    }

    #[test]
    fn host_follows_the_newest_lock_that_the_site_signed() {
        let key = |digit: &str| digit.repeat(64).parse::<KeyId>().unwrap();
        let ring = KeyRing::new([key("a")], []);
        let first = SiteLock::first(images(&[("nginx", 1)]));
        let second = first.clone().advance(images(&[("nginx", 2)]));
        let other_second = first.clone().advance(images(&[("nginx", 3)]));
        let good = [SignatureCheck::Valid(key("a"))];
        let foreign = [SignatureCheck::UnknownKey(key("b"))];
        for (case, known, offered, checks, expected) in [
            ("first", None, &first, &good, "follow"),
            ("next", Some(&first), &second, &good, "follow"),
            ("same", Some(&second), &second, &good, "same"),
            (
                "older",
                Some(&second),
                &first,
                &good,
                "the site lock is of generation 1, and this host has generation 2",
            ),
            (
                "split",
                Some(&second),
                &other_second,
                &good,
                "there are two site locks of generation 2",
            ),
            (
                "other key",
                None,
                &first,
                &foreign,
                "the site lock is not signed by the key of this site",
            ),
        ] {
            let found = match decide_lock(known, offered, &ring, checks) {
                Ok(LockStep::Follow(_)) => "follow".to_owned(),
                Ok(LockStep::Same) => "same".to_owned(),
                Err(refusal) => refusal.to_string(),
            };
            assert_eq!(found, expected, "{case}");
        }
    }
}
