//! Content of one repository, as the sum of its changes. Pure: `records` reads and writes the disk.
//!
//! On disk a record is a text of JSON lines, one per change. A change appends a line, so a push costs one small write
//! regardless of the repository's size. A crash leaves at most one torn line at the end, which the registry has not
//! acknowledged.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use landfall_core::oci_types::{Descriptor, ManifestContent, known_manifest_type};
use landfall_core::reference::{Digest, Tag};
use serde::{Deserialize, Serialize};

/// Version of the format.
const VERSION: u32 = 1;

/// A line of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum RecordChange {
    /// First line of a record.
    Begin {
        version: u32,
    },
    /// A blob was pushed to the repository or mounted in it.
    AddBlob {
        digest: Digest,
        /// Time by the system's clock, for people.
        at: Timestamp,
        /// Reading of the registry's [`AgeClock`](crate::repository::age_clock::AgeClock). Earlier versions wrote none.
        #[serde(default)]
        run_seconds: u64,
        /// True if the manifest for which the blob was pushed has arrived.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        settled: bool,
    },
    DropBlob {
        digest: Digest,
    },
    AddManifest {
        digest: Digest,
        entry: ManifestEntry,
    },
    /// A manifest was deleted together with all its tags.
    DropManifest {
        digest: Digest,
    },
    SetTag {
        tag: Tag,
        digest: Digest,
    },
    DropTag {
        tag: Tag,
    },
}

/// A manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManifestEntry {
    /// Media type under which the manifest is served.
    #[serde(deserialize_with = "read_media_type")]
    pub(crate) media_type: Cow<'static, str>,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Present if the manifest refers to another one; shown in lists of referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) referrer: Option<Box<Referrer>>,
}

/// Properties of a manifest that refers to another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "RecordedReferrer")]
pub(crate) struct Referrer {
    pub(crate) subject: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    /// Annotations of at most [`ANNOTATIONS_KEPT_MAX`] bytes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    /// True if the annotations are larger. A list of referrers reads them from the manifest then, so that they take no
    /// memory for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    annotations_in_manifest: bool,
}

/// Largest annotations that a record keeps, keys and values together, in bytes.
const ANNOTATIONS_KEPT_MAX: usize = 1024;

/// A referrer as a record has it. Records of older releases have all annotations.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedReferrer {
    subject: Digest,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    annotations_in_manifest: bool,
}

impl From<RecordedReferrer> for Referrer {
    fn from(recorded: RecordedReferrer) -> Referrer {
        let bytes: usize = recorded
            .annotations
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        let is_large = bytes > ANNOTATIONS_KEPT_MAX || recorded.annotations_in_manifest;
        Referrer {
            subject: recorded.subject,
            artifact_type: recorded.artifact_type,
            annotations: if is_large {
                BTreeMap::new()
            } else {
                recorded.annotations
            },
            annotations_in_manifest: is_large,
        }
    }
}

impl ManifestEntry {
    pub(crate) fn new(media_type: String, size: u64, content: &ManifestContent) -> ManifestEntry {
        let referrer = content.subject().map(|subject| {
            Box::new(Referrer::from(RecordedReferrer {
                subject: subject.digest.clone(),
                artifact_type: content.artifact_type().map(str::to_owned),
                annotations: content.annotations().clone(),
                annotations_in_manifest: false,
            }))
        });
        ManifestEntry {
            media_type: share_media_type(media_type),
            size,
            referrer,
        }
    }

    /// Returns true if [`ManifestEntry::describe`] lacks annotations, which are in the manifest.
    pub(crate) fn lacks_annotations(&self) -> bool {
        self.referrer
            .as_ref()
            .is_some_and(|found| found.annotations_in_manifest)
    }

    /// Returns the descriptor of the manifest in a list of referrers, with the annotations that the record keeps.
    pub(crate) fn describe(&self, digest: &Digest) -> Descriptor {
        let mut descriptor = Descriptor::new(&self.media_type, digest.clone(), self.size);
        if let Some(referrer) = &self.referrer {
            descriptor.artifact_type.clone_from(&referrer.artifact_type);
            descriptor.annotations.clone_from(&referrer.annotations);
        }
        descriptor
    }
}

/// Shares the text of the usual media types: thousands of manifests have one of four.
fn share_media_type(text: String) -> Cow<'static, str> {
    known_manifest_type(&text).map_or(Cow::Owned(text), Cow::Borrowed)
}

fn read_media_type<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Cow<'static, str>, D::Error> {
    String::deserialize(deserializer).map(share_media_type)
}

/// Record of a blob in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobLink {
    /// Time by the system's clock.
    pub(crate) at: Timestamp,
    /// Run time of the registry in seconds, when a client pushed the blob, mounted it, or was last told of it.
    pub(crate) run_seconds: u64,
    /// True if a manifest that names the blob arrived after that: no push waits for the blob.
    pub(crate) settled: bool,
}

/// Content of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) tags: BTreeMap<Tag, Digest>,
    pub(crate) manifests: BTreeMap<Digest, ManifestEntry>,
    /// Pushed and mounted blobs.
    pub(crate) blobs: BTreeMap<Digest, BlobLink>,
    /// Latest stamp of a blob: the last push activity that is on disk, in seconds of run time.
    pub(crate) active_at: u64,
    /// Number of changes so far. It tells two states apart.
    pub(crate) changes: u64,
}

impl Record {
    pub(crate) fn apply(&mut self, change: RecordChange) {
        self.changes += 1;
        match change {
            RecordChange::Begin { .. } => {}
            RecordChange::AddBlob {
                digest,
                at,
                run_seconds,
                settled,
            } => {
                self.active_at = self.active_at.max(run_seconds);
                let link = BlobLink {
                    at,
                    run_seconds,
                    settled,
                };
                self.blobs.insert(digest, link);
            }
            RecordChange::DropBlob { digest } => {
                self.blobs.remove(&digest);
            }
            RecordChange::AddManifest { digest, entry } => {
                self.manifests.insert(digest, entry);
            }
            RecordChange::DropManifest { digest } => {
                self.tags.retain(|_, tagged| *tagged != digest);
                self.manifests.remove(&digest);
            }
            RecordChange::SetTag { tag, digest } => {
                self.tags.insert(tag, digest);
            }
            RecordChange::DropTag { tag } => {
                self.tags.remove(&tag);
            }
        }
    }

    /// Finds a manifest by tag or digest.
    pub(crate) fn select(&self, selector: &str) -> Option<(&Digest, &ManifestEntry)> {
        if let Some(digest) = selector.parse::<Tag>().ok().and_then(|tag| self.tags.get(&tag)) {
            return self.manifests.get_key_value(digest);
        }
        self.manifests.get_key_value(&selector.parse::<Digest>().ok()?)
    }

    /// Returns true if a blob belongs to the repository, as a blob or as a manifest.
    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest) || self.manifests.contains_key(digest)
    }

    /// Returns the smallest list of changes that gives this record.
    pub(crate) fn to_changes(&self) -> Vec<RecordChange> {
        let mut changes = vec![RecordChange::Begin { version: VERSION }];
        changes.extend(self.blobs.iter().map(|(digest, link)| RecordChange::AddBlob {
            digest: digest.clone(),
            at: link.at,
            run_seconds: link.run_seconds,
            settled: link.settled,
        }));
        changes.extend(self.manifests.iter().map(|(digest, entry)| RecordChange::AddManifest {
            digest: digest.clone(),
            entry: entry.clone(),
        }));
        changes.extend(self.tags.iter().map(|(tag, digest)| RecordChange::SetTag {
            tag: tag.clone(),
            digest: digest.clone(),
        }));
        changes
    }

    /// Returns the number of lines of [`Record::to_changes`].
    pub(crate) fn fewest_lines(&self) -> usize {
        1 + self.blobs.len() + self.manifests.len() + self.tags.len()
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ParsedRecord {
    pub(crate) record: Record,
    /// End of the last good line, in bytes. The rest is torn and was not acknowledged.
    pub(crate) length: u64,
    /// Number of good lines.
    pub(crate) lines: usize,
    /// Line numbers of unreadable lines before the last good one, counted from 1. A failing disk causes them, never a
    /// crash.
    pub(crate) damaged: Vec<usize>,
}

/// Parses a record's text.
pub(crate) fn parse_record(text: &[u8]) -> ParsedRecord {
    let mut parsed = ParsedRecord::default();
    let mut doubtful = Vec::new();
    let mut offset = 0;
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        offset += line.len() as u64;
        let change = line.strip_suffix(b"\n").map(serde_json::from_slice::<RecordChange>);
        if let Some(Ok(change)) = change {
            parsed.damaged.append(&mut doubtful);
            parsed.record.apply(change);
            parsed.length = offset;
            parsed.lines += 1;
        } else {
            doubtful.push(index + 1);
        }
    }
    parsed
}

/// Renders changes as lines.
pub(crate) fn render_changes<'a>(changes: impl IntoIterator<Item = &'a RecordChange>) -> Vec<u8> {
    let mut text = Vec::new();
    for change in changes {
        serde_json::to_writer(&mut text, change).expect("names, digests and numbers are JSON, and memory takes them");
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use landfall_core::oci_types::{media_type, parse_manifest};
    use proptest::prelude::*;

    use super::*;
    use landfall_oci::digest::digest_of;

    fn mk_record() -> Record {
        let mut record = Record::default();
        let signature = format!(
            r#"{{"schemaVersion": 2, "artifactType": "application/sig", "annotations": {{"made": "today"}},
                 "config": {{"mediaType": "x", "digest": "{0}", "size": 2}}, "layers": [],
                 "subject": {{"mediaType": "y", "digest": "{0}", "size": 2}}}}"#,
            digest_of(b"image")
        );
        let content = parse_manifest(signature.as_bytes()).unwrap();
        for change in [
            RecordChange::AddBlob {
                digest: digest_of(b"layer"),
                at: Timestamp::UNIX_EPOCH,
                run_seconds: 7,
                settled: false,
            },
            RecordChange::AddManifest {
                digest: digest_of(b"signature"),
                entry: ManifestEntry::new(media_type::OCI_MANIFEST.to_owned(), 7, &content),
            },
            RecordChange::SetTag {
                tag: "v1".parse().unwrap(),
                digest: digest_of(b"signature"),
            },
        ] {
            record.apply(change);
        }
        record
    }

    #[test]
    fn a_record_is_a_text_that_a_person_can_read() {
        let text = String::from_utf8(render_changes(&mk_record().to_changes())).unwrap();
        insta::assert_snapshot!(text, @r#"
        {"begin":{"version":1}}
        {"addBlob":{"digest":"sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85","at":"1970-01-01T00:00:00Z","runSeconds":7}}
        {"addManifest":{"digest":"sha256:1a2fc26dc7ea5a2a4748b7cb2b1ef193d96ab2c99f93092f69e63075b28d1278","entry":{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":7,"referrer":{"subject":"sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d","artifactType":"application/sig","annotations":{"made":"today"}}}}}
        {"setTag":{"tag":"v1","digest":"sha256:1a2fc26dc7ea5a2a4748b7cb2b1ef193d96ab2c99f93092f69e63075b28d1278"}}
        "#);
    }

    #[test]
    fn the_changes_of_a_record_and_its_lines_are_counted() {
        let mut record = mk_record();
        for number in 0..3 {
            record.apply(RecordChange::SetTag {
                tag: format!("v{number}").parse().unwrap(),
                digest: digest_of(b"signature"),
            });
        }
        record.apply(RecordChange::AddManifest {
            digest: digest_of(b"image"),
            entry: ManifestEntry {
                media_type: Cow::Borrowed(media_type::OCI_MANIFEST),
                size: 5,
                referrer: None,
            },
        });
        assert_eq!(
            (record.tags.len(), record.manifests.len(), record.blobs.len()),
            (3, 2, 1)
        );
        assert_eq!(record.changes, 7);
        assert_eq!(record.fewest_lines(), 7, "one more for the version");
        assert_eq!(record.to_changes().len(), 7);
    }

    #[test]
    fn large_annotations_are_left_in_the_manifest() {
        let subject = digest_of(b"image");
        for (length, in_manifest) in [(1023, false), (1024, true), (100_000, true)] {
            let value = "v".repeat(length);
            let recorded = serde_json::json!({"subject": subject, "artifactType": "a/b", "annotations": {"k": value}});
            let referrer: Referrer = serde_json::from_value(recorded).unwrap();
            assert_eq!(referrer.annotations_in_manifest, in_manifest, "{length}");
            let written = serde_json::to_string(&referrer).unwrap();
            assert!(written.len() < 1300, "{length}");
            assert_eq!(serde_json::from_str::<Referrer>(&written).unwrap(), referrer);
        }
    }

    #[test]
    fn a_blob_of_an_earlier_version_has_no_stamp() {
        let line = format!(
            "{{\"addBlob\":{{\"digest\":\"{}\",\"at\":\"2026-01-01T00:00:00Z\"}}}}\n",
            digest_of(b"x")
        );
        let parsed = parse_record(line.as_bytes());
        assert_eq!(
            (parsed.lines, parsed.record.blobs[&digest_of(b"x")].run_seconds),
            (1, 0)
        );
    }

    #[test]
    fn a_manifest_goes_with_its_tags() {
        let mut record = mk_record();
        record.apply(RecordChange::DropManifest {
            digest: digest_of(b"signature"),
        });
        assert!(record.tags.is_empty() && record.manifests.is_empty());
        assert!(record.select("v1").is_none() && record.has_blob(&digest_of(b"layer")));
    }

    #[test]
    fn a_torn_end_is_left_out_and_a_damaged_middle_is_named() {
        let text = render_changes(&mk_record().to_changes());
        let whole = parse_record(&text);
        assert_eq!(
            (whole.length, whole.lines, whole.damaged.len()),
            (text.len() as u64, 4, 0)
        );
        for end in 0..text.len() {
            let torn = parse_record(&text[..end]);
            assert!(torn.damaged.is_empty() && torn.length <= end as u64, "cut at {end}");
            assert_eq!(parse_record(&text[..usize::try_from(torn.length).unwrap()]), torn);
        }
        let mut zeros = text.clone();
        zeros.extend([0; 100]);
        assert_eq!(
            parse_record(&zeros),
            whole,
            "a file that grew before its bytes were written"
        );
        let mut rotten = text.clone();
        rotten[40] = b'#';
        let rotten = parse_record(&rotten);
        assert_eq!((rotten.damaged, rotten.lines), (vec![2], 3));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(steps in prop::collection::vec((0..5u8, 0..4u8), 0..40)) {
            let mut record = Record::default();
            let mut log = Vec::new();
            for (step, which) in steps {
                let digest = digest_of(&[which]);
                let tag: Tag = format!("v{which}").parse().unwrap();
                let entry = ManifestEntry { media_type: Cow::Borrowed(media_type::OCI_INDEX), size: 1, referrer: None };
                let change = match step {
                    0 => RecordChange::AddBlob { digest, at: Timestamp::UNIX_EPOCH, run_seconds: which.into(), settled: which == 3 },
                    1 => RecordChange::DropBlob { digest },
                    2 => RecordChange::AddManifest { digest, entry },
                    3 => RecordChange::DropManifest { digest },
                    _ => RecordChange::SetTag { tag, digest },
                };
                log.extend(render_changes([&change]));
                record.apply(change);
            }
            let parsed = parse_record(&log);
            prop_assert_eq!(&parsed.record, &record);
            let mut compact = parse_record(&render_changes(&record.to_changes())).record;
            compact.changes = record.changes;
            // The stamp of a dropped blob does not survive.
            compact.active_at = record.active_at;
            prop_assert_eq!(compact, record);
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let parsed = parse_record(&text);
            prop_assert!(parsed.length <= text.len() as u64);
        }
    }
}
