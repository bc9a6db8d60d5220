//! Files of other formats [spec:bundles.foreign]: Palette's content bundles, archives of `docker save`, hauls, packages of
//! zarf. They are read in one pass: blobs go into the content store as they come, and images are named once all of the
//! file was read, its signature is good, and it did not change meanwhile.

mod place;
mod reading;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::adoption::{BundleFacts, Decision, FileState, next_step};
use landfall_core::bundle::document::{BundleDocument, BundledImage, FORMAT};
use landfall_core::bundle::foreign::FileStamp;
use landfall_core::bundle::trust::Trust;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::settings::BundleSettings;
use landfall_core::status::{BundleStatus, EventReason};
use landfall_core::wording::counted;
use landfall_host::root::HostRoot;
use landfall_oci::image::ImageSource;
use landfall_oci::store::ContentStore;

use super::scan::ForeignSighting;
use super::trust::{DetachedSignature, trust_of_foreign};
use crate::agent::host::Host;
use crate::agent::ledger::{KnownBundle, Ledger};
use crate::failure::find_hint_in_context;

pub(super) use self::place::ForeignPlace;
pub(super) use self::reading::read_file;

/// Content of a file of another format that was read, in this run or in an earlier one.
#[derive(Debug)]
pub(super) struct ForeignContent {
    /// SHA-256 of the file.
    pub(super) id: Digest,
    /// Its images. It has no blobs and no needs.
    pub(super) document: BundleDocument,
    /// Size of the file in bytes.
    pub(super) size: u64,
    pub(super) stamp: FileStamp,
    signature: Utf8PathBuf,
    /// The images; `None` if the file was not read in this run, or nothing is left to be taken from it.
    pub(super) source: Option<Arc<dyn ImageSource>>,
    /// Duration of the pass through the file in this run.
    took: Option<Duration>,
}

impl ForeignContent {
    /// Returns what the ledger knows of a file, with the media types that the store knows.
    fn known(store: &ContentStore, id: &Digest, known: &KnownBundle, sighting: &ForeignSighting) -> ForeignContent {
        let images = known.images.iter().map(|(name, digest)| {
            let stored = store.image(name).filter(|stored| stored.digest == *digest);
            let (media_type, size) = stored
                .map(|stored| (stored.media_type, stored.size))
                .unwrap_or_default();
            mk_image(name.clone(), digest.clone(), media_type, size)
        });
        ForeignContent {
            id: id.clone(),
            document: describe(images.collect()),
            size: sighting.size,
            stamp: sighting.stamp.clone(),
            signature: sighting.signature.clone(),
            source: None,
            took: None,
        }
    }

    /// Decides if the host takes the file, whose SHA-256 is known.
    pub(super) fn decide_trust(
        &self,
        settings: &BundleSettings,
        root: &HostRoot,
        ledger: &Ledger,
    ) -> anyhow::Result<Trust> {
        let signature = DetachedSignature::load(&self.signature);
        let decided = trust_of_foreign(settings, root, ledger, Some(&self.id), &signature)?;
        decided.ok_or_else(|| anyhow::anyhow!("its SHA-256 is not known"))
    }

    /// Describes the file for its event.
    pub(super) fn describe(&self) -> String {
        let Some(took) = self.took else {
            return "it was read before, and has not changed".to_owned();
        };
        let seconds = took.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is shown in three digits")]
        let rate = self.size as f64 / 1e6 / seconds.max(1e-3);
        let images = counted(self.document.images.len(), "image");
        let id = &self.id;
        format!("{images}, read in {seconds:.1} s ({rate:.1} MB/s), id `{id}`")
    }
}

/// A file that is no bundle of ours.
#[derive(Debug)]
pub(super) struct ForeignFile {
    pub(super) sighting: ForeignSighting,
    /// True if it is not being copied.
    is_settled: bool,
    pub(super) state: ForeignState,
    /// The decision about it, as far as it can be made before it is read.
    trust: Option<Decision>,
    /// The reason of a refusal, with a hint.
    refusal: Option<Problem>,
}

/// A problem, with one thing to do about it.
type Problem = (String, Option<String>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ForeignState {
    Unread,
    Now,
    /// It was read: the bundle with this id.
    Read(Digest),
    /// It cannot be used until it changes.
    Failed(Problem),
    /// It ends too early, or changed while it was read.
    Incomplete(Problem),
    /// The content store did not take its content: it is read again in the next pass.
    Postponed(Problem),
    /// It is whole, and has no images.
    Other,
}

/// The files that are no bundles of ours, by path.
#[derive(Debug, Default)]
pub(super) struct ForeignFiles {
    pub(super) files: BTreeMap<Utf8PathBuf, ForeignFile>,
}

impl ForeignFiles {
    /// Keeps what is known of files that have not changed, and drops those that are gone. Returns the files that were
    /// read in an earlier run.
    pub(super) fn take_over(
        &mut self,
        host: &Host,
        ledger: &Ledger,
        sightings: Vec<ForeignSighting>,
    ) -> Vec<(Utf8PathBuf, ForeignContent)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let mut known = Vec::new();
        let mut before = std::mem::take(&mut self.files);
        for sighting in sightings {
            let last = before.remove(&sighting.path);
            let stamp = last.as_ref().map(|last| &last.sighting.stamp);
            let is_settled = sighting.stamp.is_settled(stamp, now);
            let is_same = stamp == Some(&sighting.stamp);
            let mut state = match last {
                // A pass that was interrupted is made again.
                Some(last) if is_same && last.state != ForeignState::Now => last.state,
                _ => ForeignState::Unread,
            };
            if state == ForeignState::Unread
                && let Some(content) = find_known(host, ledger, &sighting)
            {
                state = ForeignState::Read(content.id.clone());
                known.push((sighting.path.clone(), content));
            }
            let file = ForeignFile {
                is_settled,
                state,
                trust: None,
                refusal: None,
                sighting,
            };
            self.files.insert(file.sighting.path.clone(), file);
        }
        known
    }

    /// Returns true if a bundle that was read is the file at this path still.
    pub(super) fn has(&self, path: &Utf8PathBuf, id: &Digest) -> bool {
        let file = self.files.get(path);
        file.is_some_and(|file| file.state == ForeignState::Read(id.clone()))
    }

    /// Decides about the files that were not read yet, as far as that is possible. Blocks.
    pub(super) fn decide(&mut self, settings: &BundleSettings, root: &HostRoot, ledger: &Ledger) {
        let undecided = |file: &&mut ForeignFile| !matches!(file.state, ForeignState::Read(_) | ForeignState::Other);
        for file in self.files.values_mut().filter(undecided) {
            let signature = DetachedSignature::load(&file.sighting.signature);
            (file.trust, file.refusal) = match trust_of_foreign(settings, root, ledger, None, &signature) {
                Ok(decided) => (decided.map(|_| Decision::Take), None),
                Err(error) => {
                    let hint = find_hint_in_context(&error).map(std::borrow::Cow::into_owned);
                    (Some(Decision::Refuse), Some((format!("{error:#}"), hint)))
                }
            };
        }
    }

    /// Returns the files that have to be read.
    pub(super) fn unread(&self) -> Vec<Utf8PathBuf> {
        let files = self.files.values();
        let due = files.filter(|file| {
            let is_unread = matches!(file.state, ForeignState::Unread | ForeignState::Postponed(_));
            is_unread && file.is_settled && file.trust != Some(Decision::Refuse)
        });
        due.map(|file| file.sighting.path.clone()).collect()
    }

    /// Returns true if the host takes the file at this path, whatever a pass through it tells.
    pub(super) fn is_trusted(&self, path: &Utf8Path) -> bool {
        self.files
            .get(path)
            .is_some_and(|file| file.trust == Some(Decision::Take))
    }

    /// Returns true if nothing is left to be read of the files below a directory.
    pub(super) fn are_read_below(&self, directory: &Utf8Path) -> bool {
        let mut below = self.files.iter().filter(|(path, _)| path.starts_with(directory));
        below.all(|(_, file)| matches!(file.state, ForeignState::Read(_) | ForeignState::Other))
    }

    /// Returns the status of the files that are no bundles of this host yet.
    pub(super) fn status(&self) -> Vec<BundleStatus> {
        self.files.values().filter_map(ForeignFile::status).collect()
    }
}

impl ForeignFile {
    fn status(&self) -> Option<BundleStatus> {
        let (state, problem) = match &self.state {
            ForeignState::Read(_) | ForeignState::Other => return None,
            ForeignState::Failed(problem) => (FileState::Unusable, Some(problem)),
            ForeignState::Incomplete(problem) => (FileState::Incomplete, Some(problem)),
            ForeignState::Unread if !self.is_settled => (FileState::Incomplete, None),
            _ if self.refusal.is_some() => (FileState::Unread, self.refusal.as_ref()),
            ForeignState::Postponed(problem) => (FileState::Unread, Some(problem)),
            ForeignState::Unread => (FileState::Unread, None),
            ForeignState::Now => (FileState::BeingRead, None),
        };
        let facts = BundleFacts {
            file: state,
            trust: self.trust,
            needs: None,
            is_served: false,
            images: 0,
            adopted: 0,
            has_receipt: false,
        };
        Some(BundleStatus {
            path: self.sighting.path.to_string(),
            id: None,
            phase: next_step(&facts).0,
            series: None,
            sequence: None,
            images: 0,
            adopted: 0,
            bytes: self.sighting.size,
            missing: Vec::new(),
            problem: problem.map(|(text, _)| text.clone()),
            hint: problem.and_then(|(_, hint)| hint.clone()),
            receipt: None,
        })
    }
}

fn find_known(host: &Host, ledger: &Ledger, sighting: &ForeignSighting) -> Option<ForeignContent> {
    let mut bundles = ledger.bundles.iter();
    // Of one that was not adopted as a whole, the rest is in the file.
    let is_it = |known: &KnownBundle| {
        known.has_receipt && known.path == sighting.path && known.stamp.as_ref() == Some(&sighting.stamp)
    };
    let (id, known) = bundles.find(|(_, known)| is_it(known))?;
    Some(ForeignContent::known(&host.store, id, known, sighting))
}

fn mk_image(name: ImageReference, digest: Digest, media_type: String, size: u64) -> BundledImage {
    BundledImage {
        name,
        digest,
        media_type,
        size,
        platforms: Vec::new(),
        left_out: Vec::new(),
        companions: Vec::new(),
    }
}

fn describe(images: Vec<BundledImage>) -> BundleDocument {
    BundleDocument {
        format: FORMAT,
        series: None,
        sequence: None,
        base: None,
        files: Vec::new(),
        images,
        blobs: Vec::new(),
        needs: Vec::new(),
    }
}

/// Notes a file that is new, and is not being copied.
pub(super) async fn note_found(host: &Host, files: &ForeignFiles, noted: &mut Vec<Utf8PathBuf>) {
    noted.retain(|path| files.files.contains_key(path));
    for (path, file) in &files.files {
        let is_new = file.is_settled && file.state == ForeignState::Unread && !noted.contains(path);
        if is_new {
            let message = format!("a file of another format, {} bytes", file.sighting.size);
            host.note(EventReason::BundleFound, path.as_str(), message).await;
            noted.push(path.clone());
        }
    }
}
