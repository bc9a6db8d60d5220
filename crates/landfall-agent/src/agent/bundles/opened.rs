//! A bundle whose file is there, with the decisions about it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use camino::Utf8PathBuf;
use landfall_core::bundle::adoption::{BundleFacts, BundleStep, Decision, FileState, check_needs, next_step};
use landfall_core::bundle::document::{BundleDocument, BundledImage, NeededBlob};
use landfall_core::bundle::foreign::FileStamp;
use landfall_core::bundle::trust::{HighestSeen, Trust};
use landfall_core::failure::Explanation;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::status::EventReason;
use landfall_oci::bundle::{BundleFile, BundleSource};
use landfall_oci::content::place::Place;
use landfall_oci::content::places::{Places, TooManyPlaces};
use landfall_oci::image::ImageSource;
use landfall_oci::store::ContentStore;
use landfall_registry::Registry;

use super::courier::{Outcome, existing_receipt, write_needs, write_receipt};
use super::foreign::ForeignContent;
use super::keys::host_keys;
use super::offered::Offer;
use super::trust::trust_of;
use crate::agent::active_config::ActiveConfig;
use crate::agent::host::Host;
use crate::agent::ledger::LedgerFile;
use crate::failure::{error_line, find_hint_in_context};

/// A bundle that is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) path: Utf8PathBuf,
    pub(super) content: Content,
    /// Sizes and times of the files, of a bundle of ours.
    stamp: FileStamp,
    trust: Option<Decision>,
    /// True if a key of this host signed it.
    is_signed: bool,
    needs: Option<Decision>,
    /// The settings by which was decided: others decide anew.
    decided_by: Option<Arc<landfall_core::settings::Settings>>,
    /// The reason why it is refused, or why an image could not be adopted, with a hint.
    pub(super) problem: Option<(String, Option<String>)>,
    /// The place behind registry and mirror, while it is served there.
    pub(super) served: Option<Served>,
    /// Images that a preferred bundle has under the same name.
    superseded: HashSet<ImageReference>,
    /// Images whose content is wrong, with the reason. They are not tried again while the files stay as they are.
    pub(super) bad: BTreeMap<ImageReference, (String, Option<String>)>,
    /// Images that the content store lacks, or whose companions it lacks, as of [`Opened::observe`].
    missing: Vec<BundledImage>,
    pub(super) receipt: Option<Utf8PathBuf>,
}

/// Content of a bundle.
#[derive(Debug)]
pub(super) enum Content {
    /// A bundle of ours, which is read in place.
    Own {
        file: Arc<BundleFile>,
        source: BundleSource,
    },
    Foreign(Box<ForeignContent>),
}

impl Content {
    pub(super) fn own(file: Arc<BundleFile>) -> Content {
        let source = BundleSource::new(file.clone());
        Content::Own { file, source }
    }

    pub(super) fn id(&self) -> &Digest {
        match self {
            Content::Own { file, .. } => file.id(),
            Content::Foreign(foreign) => &foreign.id,
        }
    }

    pub(super) fn document(&self) -> &BundleDocument {
        match self {
            Content::Own { file, .. } => file.document(),
            Content::Foreign(foreign) => &foreign.document,
        }
    }

    /// Returns the number of bytes of all blobs; of a file of another format, its size.
    pub(super) fn size(&self) -> u64 {
        match self {
            Content::Own { file, .. } => file.document().content_size(),
            Content::Foreign(foreign) => foreign.size,
        }
    }

    /// Returns the source of the images; `None` for a file of another format that was not read in this run.
    pub(super) fn source(&self) -> Option<Arc<dyn ImageSource>> {
        match self {
            Content::Own { source, .. } => Some(Arc::new(source.clone())),
            Content::Foreign(foreign) => foreign.source.clone(),
        }
    }
}

/// The place of a bundle behind the embedded registry and the node-local mirror.
#[derive(Debug)]
pub(super) struct Served {
    place: Arc<Place>,
    places: Arc<Places>,
    /// The embedded registry, while it is served: it is told of the end.
    pub(super) registry: Option<Arc<Registry>>,
}

impl Served {
    pub(super) fn add(
        place: Arc<Place>,
        places: Arc<Places>,
        registry: Option<Arc<Registry>>,
    ) -> Result<Served, TooManyPlaces> {
        places.add(&place)?;
        Ok(Served {
            place,
            places,
            registry,
        })
    }
}

/// The place is withdrawn also when a pass through its file is broken off.
impl Drop for Served {
    fn drop(&mut self) {
        match &self.registry {
            Some(registry) => registry.remove_place(&self.place),
            None => self.places.remove(&self.place),
        }
    }
}

impl Opened {
    pub(super) fn new(path: Utf8PathBuf, content: Content) -> Opened {
        Opened {
            path,
            // Until somebody looked.
            missing: content.document().images.clone(),
            content,
            stamp: FileStamp::default(),
            trust: None,
            is_signed: false,
            needs: None,
            decided_by: None,
            problem: None,
            served: None,
            superseded: HashSet::new(),
            bad: BTreeMap::new(),
            receipt: None,
        }
    }

    /// Returns the bundle of a file of ours with these sizes and times.
    pub(super) fn own(path: Utf8PathBuf, file: Arc<BundleFile>, stamp: FileStamp) -> Opened {
        Opened {
            stamp,
            ..Opened::new(path, Content::own(file))
        }
    }

    /// Takes over the same bundle as it was found again. What was wrong in a file that changed since may be right now.
    pub(super) fn see(&mut self, file: Arc<BundleFile>, stamp: FileStamp) {
        if self.stamp == stamp {
            return;
        }
        self.stamp = stamp;
        self.bad.clear();
        // The file may be another one under the same name. It is served again in this pass.
        self.withdraw_place();
        self.content = Content::own(file);
    }

    /// Returns true if images are taken from the bundle.
    pub(super) fn is_taken(&self) -> bool {
        (self.trust, self.needs) == (Some(Decision::Take), Some(Decision::Take))
    }

    /// Returns what the phases may take from the bundle; `None` if it is not taken, or cannot be read now.
    pub(super) fn offer(&self) -> Option<Offer<'_>> {
        Some(Offer {
            path: &self.path,
            id: self.content.id(),
            source: self.content.source().filter(|_| self.is_taken())?,
            images: &self.content.document().images,
        })
    }

    /// Returns true if nothing is left to be done with the bundle.
    pub(super) fn is_done(&self) -> bool {
        self.receipt.is_some()
    }

    /// Returns the names of its images, and of their companions with a tag.
    pub(super) fn names(&self) -> impl Iterator<Item = ImageReference> {
        let images = self.content.document().images.iter();
        images.flat_map(|image| {
            let companions = image.companions.iter().filter(|companion| companion.tag.is_some());
            let companions = companions.map(|companion| image.name.beside(companion.tag.as_ref(), &companion.digest));
            std::iter::once(image.name.canonical()).chain(companions)
        })
    }

    /// Leaves the images with these names to preferred bundles.
    pub(super) fn supersede(&mut self, names: &HashSet<ImageReference>) {
        self.superseded = self.names().filter(|name| names.contains(name)).collect();
    }

    /// Looks which images the content store lacks: once at the begin of a step, and after it changed that.
    pub(super) async fn observe(&mut self, store: &ContentStore) {
        self.missing = self.find_missing(store).await;
    }

    /// Returns the images that the content store lacks, or whose companions it lacks, as of the last look.
    pub(super) fn missing(&self) -> &[BundledImage] {
        &self.missing
    }

    async fn find_missing(&self, store: &ContentStore) -> Vec<BundledImage> {
        let (store, superseded) = (store.clone(), self.superseded.clone());
        let images = self.content.document().images.clone();
        let find = move || {
            images
                .into_iter()
                .filter(|image| !superseded.contains(&image.name.canonical()))
                .filter(|image| {
                    !has_image(&store, &image.name, &image.digest) || lacks_companion(&store, image, &superseded)
                })
                .collect()
        };
        tokio::task::spawn_blocking(find).await.unwrap_or_default()
    }

    /// Returns the images that are to be adopted: those that the content store lacks, without those whose content is known
    /// to be wrong.
    pub(super) fn to_adopt(&self) -> Vec<BundledImage> {
        let missing = self.missing.iter();
        let may_be_right = missing.filter(|image| !self.bad.contains_key(&image.name.canonical()));
        may_be_right.cloned().collect()
    }

    /// Returns the facts. `missing` is the number of images that the content store lacks.
    pub(super) fn facts(&self, missing: usize) -> BundleFacts {
        let images = self.content.document().images.len();
        let adopted = images - missing.min(images);
        // A file of another format is served while it is read, if at all: what is here of it was adopted.
        let is_servable = matches!(self.content, Content::Own { .. }) || self.served.is_some() || adopted > 0;
        BundleFacts {
            file: FileState::Complete,
            trust: self.trust,
            needs: self.needs,
            is_served: self.is_taken() && is_servable,
            images,
            adopted,
            has_receipt: self.receipt.is_some(),
        }
    }

    /// Makes the decision anew, if the bundle is refused: the host has another key.
    pub(super) fn reconsider(&mut self) {
        if self.trust == Some(Decision::Refuse) {
            self.decided_by = None;
        }
    }

    /// Decides if the bundle is taken, if that is not decided yet or the settings changed.
    ///
    /// # Errors
    ///
    /// If the ledger cannot be written. A refusal is an event and no error.
    pub(super) async fn decide(
        &mut self,
        host: &Arc<Host>,
        active: &ActiveConfig,
        ledger: &mut LedgerFile,
    ) -> anyhow::Result<()> {
        let is_decided = self
            .decided_by
            .as_ref()
            .is_some_and(|by| Arc::ptr_eq(by, &active.settings));
        if !is_decided {
            self.decided_by = Some(active.settings.clone());
            (self.trust, self.needs) = (None, None);
        }
        let had_problem = self.problem.take();
        loop {
            // Before the bundle is taken, it does not matter which images are here.
            let (_, step) = next_step(&self.facts(0));
            let decided = match step {
                BundleStep::DecideTrust => self.decide_trust(host, active, ledger),
                BundleStep::CheckNeeds => self.check_needs(host).await,
                _ => break,
            };
            if let Err(error) = decided {
                let text = format!("{error:#}");
                if had_problem.as_ref().is_none_or(|(before, _)| *before != text) {
                    host.warn(EventReason::BundleRefused, self.path.as_str(), error_line(&error))
                        .await;
                }
                self.problem = Some((text, find_hint_in_context(&error).map(|hint| hint.into_owned())));
                break;
            }
        }
        if is_decided {
            // A failed adoption is told once.
            self.problem = self.problem.take().or(had_problem);
        }
        if !self.is_taken() {
            self.withdraw_place();
            if let Content::Foreign(foreign) = &mut self.content {
                foreign.source = None;
            }
            return Ok(());
        }
        if !is_decided {
            self.raise_sequence(ledger)?;
            self.receipt = existing_receipt(host, &self.path, self.content.id());
            let words = match &self.content {
                Content::Foreign(foreign) => foreign.describe(),
                Content::Own { .. } => "images are taken from it".to_owned(),
            };
            host.note(EventReason::BundleServed, self.path.as_str(), words).await;
        }
        Ok(())
    }

    fn decide_trust(&mut self, host: &Host, active: &ActiveConfig, ledger: &LedgerFile) -> anyhow::Result<()> {
        self.trust = Some(Decision::Refuse);
        if active.settings.ignores_bundles() {
            anyhow::bail!(Explanation::new(
                "it is ignored, as by Palette: there is an external registry and no primary registry",
                "leave `--compat palette` out, or configure a primary registry",
            ));
        }
        let edition = self.content.document().edition();
        let seen = edition.and_then(|edition| ledger.get().series.get(&edition.series).copied());
        let settings = &active.settings.landfall.bundles;
        let trust = match &self.content {
            Content::Own { file, .. } => {
                let keys = host_keys(settings, &host.root, ledger.get())?;
                trust_of(settings, &keys, file, seen.unwrap_or_default())?
            }
            Content::Foreign(foreign) => foreign.decide_trust(settings, &host.root, ledger.get())?,
        };
        if let Trust::Key {
            newer_seen: Some(newer),
            ..
        }
        | Trust::NoKey {
            newer_seen: Some(newer),
        } = &trust
        {
            tracing::warn!(bundle = %self.path, newer, "an older bundle is taken, as `allowOlder` asks");
        }
        self.is_signed = trust.is_signed();
        self.trust = Some(Decision::Take);
        Ok(())
    }

    async fn check_needs(&mut self, host: &Host) -> anyhow::Result<()> {
        let store = host.store.clone();
        let needs = self.content.document().needs.clone();
        let check = move || {
            // A blob that lay here for months is read once more before images are made of it. A damaged one goes, so that
            // the next bundle brings it.
            let has = |need: &NeededBlob| {
                matches!(store.blob_size(&need.digest), Ok(Some(size)) if size == need.size)
                    && matches!(store.delete_damaged(&need.digest), Ok(false))
            };
            check_needs(&needs, has)
        };
        self.needs = Some(Decision::Refuse);
        if let Err(missing) = tokio::task::spawn_blocking(check).await? {
            write_needs(host, &self.path, self.content.id(), &missing).await;
            // They may arrive with another bundle.
            self.decided_by = None;
            anyhow::bail!(missing);
        }
        self.needs = Some(Decision::Take);
        Ok(())
    }

    /// Writes the receipt of the adopted bundle.
    pub(super) async fn write_receipt(&mut self, host: &Host) {
        let outcome = Outcome {
            lacking: self.missing.iter().map(|image| image.name.clone()).collect(),
            bad: self.bad.keys().cloned().collect(),
        };
        let (id, document) = (self.content.id().clone(), self.content.document().clone());
        self.receipt = write_receipt(host, &self.path, id, document, outcome).await;
    }

    /// Remembers the bundle's place in its series, so that an older one is refused from now on.
    fn raise_sequence(&self, ledger: &mut LedgerFile) -> anyhow::Result<()> {
        let Some(edition) = self.content.document().edition() else {
            return Ok(());
        };
        ledger.update(|ledger| {
            let seen: &mut HighestSeen = ledger.series.entry(edition.series).or_default();
            *seen = seen.with(edition.sequence, self.is_signed);
        })
    }

    /// Takes the bundle out of registry and mirror: reads of it that are under way end.
    pub(super) fn withdraw_place(&mut self) {
        self.served = None;
    }
}

/// Returns true if the store lacks a companion of an image, but for those that a preferred bundle has.
fn lacks_companion(store: &ContentStore, image: &BundledImage, superseded: &HashSet<ImageReference>) -> bool {
    let mut companions = image.companions.iter();
    companions.any(|companion| {
        let name = image.name.beside(companion.tag.as_ref(), &companion.digest);
        !superseded.contains(&name) && !has_image(store, &name, &companion.digest)
    })
}

/// Returns true if the store has an image of a bundle, complete and under its name.
pub(super) fn has_image(store: &ContentStore, name: &ImageReference, digest: &Digest) -> bool {
    let named = store.image(name).is_some_and(|stored| stored.digest == *digest);
    named && matches!(store.is_complete(digest), Ok(true))
}
