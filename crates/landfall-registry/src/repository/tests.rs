//! Losses, links, answers and statistics of a registry, below its HTTP API.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use camino::Utf8PathBuf;
use landfall_core::oci_types::{Descriptor, ManifestContent, media_type, parse_manifest};
use landfall_oci::digest::digest_of;

use super::*;
use crate::repository::inspect::{RegistryInspector, RegistryStats};
use crate::repository::record::ManifestEntry;

struct Fixture {
    _directory: tempfile::TempDir,
    root: Utf8PathBuf,
    registry: Registry,
}

fn open(root: &Utf8Path) -> Registry {
    let store = ContentStore::open(&root.join("store")).unwrap();
    Registry::open(store, &root.join("repositories")).unwrap()
}

fn mk_fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
    Fixture {
        _directory: directory,
        registry: open(&root),
        root,
    }
}

fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

impl Fixture {
    /// Stores a blob and links it in a repository.
    fn push_blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        let blob = Descriptor::new("", digest.clone(), bytes.len() as u64);
        self.registry.store.write_blob_bytes(&blob, bytes).unwrap();
        self.registry.link(&repository(name), &digest).unwrap();
        digest
    }

    /// Stores an index without entries under these tags. `note` tells it from others.
    fn push_index(&self, name: &str, note: &str, tags: &[&str]) -> Digest {
        self.push_index_of(name, note, &[], tags)
    }

    fn push_index_of(&self, name: &str, note: &str, entries: &[&Digest], tags: &[&str]) -> Digest {
        let entry = |digest| serde_json::json!({"mediaType": media_type::OCI_INDEX, "digest": digest, "size": 1});
        let text = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "annotations": {"note": note},
            "manifests": entries.iter().map(entry).collect::<Vec<_>>(),
        });
        let text = text.to_string();
        let digest = digest_of(text.as_bytes());
        let blob = Descriptor::new("", digest.clone(), text.len() as u64);
        self.registry.store.write_blob_bytes(&blob, text.as_bytes()).unwrap();
        let content: ManifestContent = parse_manifest(text.as_bytes()).unwrap();
        let mut changes = vec![RecordChange::AddManifest {
            digest: digest.clone(),
            entry: ManifestEntry::new(media_type::OCI_INDEX.to_owned(), text.len() as u64, &content),
        }];
        changes.extend(tags.iter().map(|tag| RecordChange::SetTag {
            tag: tag.parse().unwrap(),
            digest: digest.clone(),
        }));
        let changed = self.registry.records.change(&repository(name), |_| (changes, ()));
        changed.unwrap();
        digest
    }

    fn linked_at(&self, name: &str, digest: &Digest) -> u64 {
        let stamp = |record: &record::Record| record.blobs[digest].run_seconds;
        self.registry.records.peek(&repository(name), stamp).unwrap().unwrap()
    }

    /// Returns the last push activity of this process in a repository.
    fn active_at(&self, name: &str) -> u64 {
        let mut seen = 0;
        let look = |_: &record::Record, active_at| {
            seen = active_at;
            Vec::new()
        };
        self.registry.records.drop_blobs(&repository(name), look).unwrap();
        seen
    }

    fn inspector(&self) -> RegistryInspector {
        RegistryInspector::new(&self.root.join("store"), &self.root.join("repositories"))
    }
}

async fn advance(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test]
async fn each_loss_of_an_image_is_counted_and_told() {
    let fixture = mk_fixture();
    let registry = &fixture.registry;
    let mut losses = registry.watch_losses();
    fixture.push_index("a", "one", &["v1"]);
    fixture.push_index("a", "two", &["v2"]);
    let blob = fixture.push_blob("a", b"blob");
    assert_eq!((registry.losses(), losses.has_changed().unwrap()), (0, false));
    registry.remove(&repository("a"), Some("v3")).unwrap();
    assert_eq!((registry.losses(), losses.has_changed().unwrap()), (0, false));
    for (tag, expected) in [("v1", 1), ("v2", 2)] {
        registry.remove(&repository("a"), Some(tag)).unwrap();
        assert!(losses.has_changed().unwrap(), "{tag}");
        assert_eq!(*losses.borrow_and_update(), expected);
        assert_eq!(registry.losses(), expected);
    }
    let ask = || {
        registry
            .answer_blob(&repository("a"), &blob, BlobAsker::Puller)
            .unwrap()
    };
    assert_eq!(ask().unwrap().size, 4);
    std::fs::remove_file(fixture.root.join("store/blobs/sha256").join(blob.hex())).unwrap();
    assert_eq!((ask(), registry.losses()), (None, 3));
}

#[test]
fn the_directories_of_a_restricted_registry_belong_to_one_user() {
    let fixture = mk_fixture();
    fixture.registry.restrict_access().unwrap();
    for directory in ["store/blobs", "store/ingest", "store/work", "repositories"] {
        let metadata = std::fs::metadata(fixture.root.join(directory)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700, "{directory}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_is_pushed_again_is_stamped_again_after_a_minute() {
    let fixture = mk_fixture();
    advance(100).await;
    let blob = fixture.push_blob("a", b"blob");
    for (seconds, expected) in [(59, 100), (1, 160), (61, 221)] {
        advance(seconds).await;
        fixture.push_blob("a", b"blob");
        assert_eq!(fixture.linked_at("a", &blob), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_client_that_pushes_renews_the_activity_and_only_after_an_hour() {
    let fixture = mk_fixture();
    let blob = fixture.push_blob("a", b"blob");
    let ask = |asker| {
        let answer = fixture.registry.answer_blob(&repository("a"), &blob, asker).unwrap();
        answer.unwrap().renew
    };
    advance(3599).await;
    assert!(!ask(BlobAsker::Puller));
    assert_eq!(fixture.active_at("a"), 0);
    assert!(!ask(BlobAsker::Pusher));
    assert_eq!(fixture.active_at("a"), 3599);
    advance(1).await;
    assert!(!ask(BlobAsker::Puller) && ask(BlobAsker::Pusher));
    assert_eq!(fixture.active_at("a"), 3600);
}

#[test]
fn a_blob_is_found_in_repositories_that_are_not_in_memory() {
    let mut fixture = mk_fixture();
    let blob = fixture.push_blob("a", b"blob");
    fixture.push_blob("b", b"other");
    let root = fixture.root.clone();
    drop(fixture.registry);
    fixture.registry = open(&root);
    assert!(fixture.registry.is_linked_anywhere(&blob).unwrap());
    assert!(!fixture.registry.is_linked_anywhere(&digest_of(b"nowhere")).unwrap());
}

#[test]
fn records_in_memory_are_searched_without_the_disk() {
    let fixture = mk_fixture();
    let blob = fixture.push_blob("a", b"blob");
    fixture.push_blob("b", b"other");
    let records = &fixture.registry.records;
    assert!(records.any_cached(|record| record.has_blob(&blob)));
    assert!(!records.any_cached(|record| record.has_blob(&digest_of(b"nowhere"))));
    let unused = Records::read_only(&fixture.root.join("repositories"));
    assert!(!unused.any_cached(|record| record.has_blob(&blob)));
}

#[test]
fn a_missing_directory_has_no_repositories_and_one_that_cannot_be_read_is_an_error() {
    let fixture = mk_fixture();
    let records = |name: &str| Records::read_only(&fixture.root.join(name));
    assert_eq!(records("missing").names().unwrap(), []);
    assert!(records("missing").get(&repository("a")).unwrap().is_none());
    std::fs::write(fixture.root.join("file"), b"no directory").unwrap();
    assert!(matches!(records("file").names(), Err(StoreError::Disk(_))));
    assert!(matches!(
        records("file").get(&repository("a")),
        Err(StoreError::Disk(_))
    ));
}

#[test]
fn a_change_behind_a_torn_line_leaves_none_of_its_bytes() {
    let mut fixture = mk_fixture();
    let blob = fixture.push_blob("a", b"blob");
    let path = fixture.root.join("repositories/a/_record.jsonl");
    let mut text = std::fs::read(&path).unwrap();
    text.extend([b'x'; 10_000]);
    std::fs::write(&path, text).unwrap();
    let root = fixture.root.clone();
    drop(fixture.registry);
    fixture.registry = open(&root);
    let other = fixture.push_blob("a", b"other");
    let parsed = record::parse_record(&std::fs::read(&path).unwrap());
    assert_eq!((parsed.lines, parsed.damaged), (3, Vec::new()));
    assert_eq!(parsed.length, std::fs::metadata(&path).unwrap().len());
    assert!(parsed.record.has_blob(&blob) && parsed.record.has_blob(&other));
}

#[test]
fn a_record_is_rewritten_when_it_has_256_lines_more_than_twice_what_it_needs() {
    let fixture = mk_fixture();
    let set_tag = |tag: &str| {
        let change = RecordChange::SetTag {
            tag: tag.parse().unwrap(),
            digest: digest_of(b"image"),
        };
        let changed = fixture
            .registry
            .records
            .change(&repository("a"), |_| (vec![change], ()));
        changed.unwrap();
    };
    let lines = || {
        let text = std::fs::read_to_string(fixture.root.join("repositories/a/_record.jsonl"));
        text.unwrap().lines().count()
    };
    set_tag("v1");
    set_tag("v2");
    // The version and two tags are needed.
    for number in 1..=3 + 256 + 1 {
        assert_eq!(lines(), 2 + number);
        set_tag("v1");
    }
    assert_eq!(lines(), 2 * 3 + 256 + 1);
    set_tag("v1");
    assert_eq!(lines(), 3 + 1);
}

#[test]
fn an_image_is_whole_without_the_entries_that_were_never_pushed_and_those_nested_too_deeply() {
    let fixture = mk_fixture();
    let can_serve = |tag| fixture.registry.can_serve(&repository("a"), tag).unwrap();
    fixture.push_index_of("a", "sparse", &[&digest_of(b"never pushed")], &["sparse"]);
    assert!(can_serve("sparse"));
    let lost = fixture.push_index("a", "lost", &[]);
    // The tag says how deep below it the lost one is.
    let mut inner = lost.clone();
    for depth in 1..=9 {
        inner = fixture.push_index_of("a", &depth.to_string(), &[&inner], &[&format!("depth{depth}")]);
    }
    assert!(can_serve("depth1") && can_serve("depth9"));
    std::fs::remove_file(fixture.root.join("store/blobs/sha256").join(lost.hex())).unwrap();
    fixture.registry.manifest_cache.remove(&lost);
    for (tag, is_whole) in [("depth1", false), ("depth8", false), ("depth9", true)] {
        assert_eq!(can_serve(tag), is_whole, "{tag}");
    }
}

/// Between the first byte and the session's end an upload holds the other blobs of its push.
#[tokio::test(start_paused = true)]
async fn nothing_of_a_repository_is_collected_while_an_upload_is_in_flight() {
    let fixture = mk_fixture();
    let blob = fixture.push_blob("a", b"blob");
    let upload = fixture.registry.begin_upload(&repository("a")).unwrap();
    for _ in 0..24 {
        advance(30 * 60).await;
        fixture.registry.clock.now();
    }
    let collect = || fixture.registry.gc(Duration::from_secs(60), SystemTime::now()).unwrap();
    assert_eq!(collect().deleted, 0);
    drop(upload);
    assert_eq!(
        (collect().deleted, fixture.registry.store.blob_size(&blob).unwrap()),
        (1, None)
    );
}

#[test]
fn a_manifest_with_one_tag_is_found_by_it() {
    let fixture = mk_fixture();
    let one = fixture.push_index("a", "one", &["v1"]);
    fixture.push_index("a", "two", &["v2", "latest"]);
    let find = |name: &str, tag: &str| {
        let found = fixture
            .inspector()
            .find_solely_tagged(&repository(name), &tag.parse().unwrap());
        found.unwrap()
    };
    assert_eq!(find("a", "v1"), Some(one));
    for (name, tag) in [("a", "v2"), ("a", "latest"), ("a", "v3"), ("b", "v1")] {
        assert_eq!(find(name, tag), None, "{name}:{tag}");
    }
}

#[test]
fn statistics_count_repositories_with_a_manifest() {
    let fixture = mk_fixture();
    fixture.push_index("a", "one", &["v1", "v2"]);
    fixture.push_index("a", "two", &[]);
    fixture.push_index("b", "one", &["v1"]);
    fixture.push_blob("c", b"blob");
    let stats = fixture.inspector().stats().unwrap();
    let expected = RegistryStats {
        repositories: 2,
        tags: 3,
        manifests: 3,
        blobs: 3,
        blob_bytes: stats.blob_bytes,
        free_bytes: stats.free_bytes,
        disk_bytes: stats.disk_bytes,
        ..RegistryStats::default()
    };
    assert_eq!(stats, expected);
    let sizes = fixture.registry.store.blobs().unwrap();
    let sizes = sizes
        .iter()
        .map(|digest| fixture.registry.store.blob_size(digest).unwrap().unwrap());
    assert_eq!(stats.blob_bytes, sizes.sum::<u64>());
}
