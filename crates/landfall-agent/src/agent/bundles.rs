//! Bundles on this host: found in a directory or on a stick, trusted, offered to the phases that fetch images, and copied
//! into the content store [spec:bundles.adoption]. `landfall_core::bundle::adoption` decides; this module observes and
//! acts.

mod adopting;
mod asked;
mod courier;
mod foreign;
mod keys;
mod offered;
mod opened;
mod pushing;
mod scan;
mod shown;
mod sticks;
mod trust;
mod watch;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::adoption::{BundleStep, next_step};
use landfall_core::reference::Digest;
use landfall_core::status::{BundleStatus, EventReason};
use landfall_core::wording::counted;
use landfall_oci::content::place::Place;
use landfall_registry::Registry;

use self::courier::delete_old_receipts;
use self::foreign::{ForeignContent, ForeignFiles, ForeignPlace, ForeignState, note_found, read_file};
use self::keys::KeyDocuments;
use self::opened::{Content, Opened, Served};
use self::pushing::Pushes;
use self::scan::{Sighting, find_bundles};
use self::shown::{known_bundle, order_of_preference, status_of_file, status_of_known};
use self::sticks::Sticks;
use crate::agent::active_config::ActiveConfig;
use crate::agent::host::Host;
use crate::agent::ledger::{KnownBundle, LedgerFile};

pub(crate) use self::asked::Asked;
pub(crate) use self::courier::receipts_of;
pub use self::keys::configured_keys;
pub use self::offered::{Offer, OfferedBundles};
pub use self::shown::preference_of;
pub use self::trust::{refuse_image, trust_of};
pub(crate) use self::watch::watch_bundles;

/// Bundles of which the host remembers what it lacks, and files of other formats that it has read, after they are gone.
const REMEMBERED_MAX: usize = 64;

/// The bundles of this host.
#[derive(Debug)]
pub(crate) struct Bundles {
    sticks: Sticks,
    opened: BTreeMap<Digest, Opened>,
    foreign: ForeignFiles,
    keys: KeyDocuments,
    pushes: Pushes,
    /// Files of other formats whose finding is an event already.
    noted: Vec<Utf8PathBuf>,
    /// Problems of files that are events already, by path.
    reported: BTreeMap<String, String>,
    offered: Arc<OfferedBundles>,
    /// Mount points of sticks from which everything was taken. They are unmounted once nobody has a file of them open.
    finished: Vec<Utf8PathBuf>,
    /// The embedded registry, while it is served.
    registry: Option<Arc<Registry>>,
    /// Bundles on sticks that are done and not pulled yet, as the status shows them.
    released: Vec<BundleStatus>,
}

impl Bundles {
    pub(crate) fn new(host: &Host) -> Bundles {
        Bundles {
            sticks: Sticks::new(host),
            opened: BTreeMap::new(),
            foreign: ForeignFiles::default(),
            keys: KeyDocuments::default(),
            pushes: Pushes::default(),
            noted: Vec::new(),
            reported: BTreeMap::new(),
            offered: Arc::default(),
            finished: Vec::new(),
            registry: None,
            released: Vec::new(),
        }
    }

    /// Returns true if there are files of other formats that nobody has read yet.
    pub(crate) fn has_unread(&self) -> bool {
        !self.foreign.unread().is_empty()
    }

    /// Serves a plain archive of another program in place, if the host takes it unsigned, until the result is dropped.
    async fn serve_foreign(&self, host: &Host, active: &ActiveConfig, path: &Utf8Path) -> Option<Served> {
        let has_server = self.registry.is_some() || active.settings.landfall.mirror.enable;
        if !has_server || !self.foreign.is_trusted(path) {
            return None;
        }
        let content = Arc::new(ForeignPlace::open(path, &host.state_dir).await?);
        let place = Place::open(content, active.primary_names()).await;
        let served = Served::add(place, host.places.clone(), self.registry.clone());
        served
            .inspect_err(|error| tracing::warn!(%path, %error, "an archive is not served in place"))
            .ok()
    }

    /// Looks for bundles, decides about new ones, and returns those that images are taken from. A bundle that cannot be
    /// used is an event and no error: the phases go on with what is there.
    ///
    /// # Errors
    ///
    /// If the ledger cannot be written.
    pub(crate) async fn look(
        &mut self,
        host: &Arc<Host>,
        active: &ActiveConfig,
        ledger: &mut LedgerFile,
    ) -> anyhow::Result<Arc<OfferedBundles>> {
        let settings = &active.settings.landfall.bundles;
        let mut directories: Vec<_> = host.root.join(&settings.directory).into_iter().collect();
        directories.extend(self.sticks.mount(host, settings.sticks).await);
        let done: Vec<_> = self.sticks.done().collect();
        self.released
            .retain(|bundle| done.iter().any(|stick| is_below(&bundle.path, stick)));
        let found = tokio::task::spawn_blocking(move || find_bundles(&directories)).await?;
        if self.keys.take(host, settings, ledger, found.keys).await? {
            self.opened.values_mut().for_each(Opened::reconsider);
        }
        let known = self.foreign.take_over(host, ledger.get(), found.foreign);
        let mut problems = self.take_over(host, found.bundles, known).await;
        self.foreign.decide(settings, &host.root, ledger.get());
        note_found(host, &self.foreign, &mut self.noted).await;
        let of_foreign = self.foreign.status();
        self.report_problems(host, problems.iter().chain(&of_foreign)).await;
        problems.extend(of_foreign);
        for opened in self.opened.values_mut() {
            opened.decide(host, active, ledger).await?;
        }
        for opened in self.opened.values_mut() {
            opened.observe(&host.store).await;
        }
        self.offer();
        self.remember(ledger)?;
        self.show(host, ledger, problems).await;
        Ok(self.offered.clone())
    }

    /// Returns the bundles that images are taken from.
    pub(crate) fn offered(&self) -> &Arc<OfferedBundles> {
        &self.offered
    }

    fn offer(&mut self) {
        let order = order_of_preference(&self.opened);
        let offers = order.iter().filter_map(|id| self.opened.get(id)?.offer());
        let offered = OfferedBundles::new(offers);
        if offered != *self.offered {
            self.offered = Arc::new(offered);
        }
    }

    /// Keeps bundles that are still there, adds new ones, drops those that are gone. `known` are files of other formats
    /// that were read in an earlier run. Returns the files that are no usable bundle.
    async fn take_over(
        &mut self,
        host: &Host,
        sightings: Vec<Sighting>,
        known: Vec<(Utf8PathBuf, ForeignContent)>,
    ) -> Vec<BundleStatus> {
        let mut problems = Vec::new();
        let mut seen = BTreeMap::new();
        for Sighting { path, stamp, result } in sightings {
            match result {
                Ok(file) => drop(seen.entry(file.id().clone()).or_insert((path, stamp, file))),
                Err(error) => problems.push(status_of_file(&path, &error)),
            }
        }
        let foreign = &self.foreign;
        let gone = self.opened.extract_if(.., |id, opened| match &opened.content {
            Content::Own { .. } => seen.get(id).is_none_or(|(path, ..)| *path != opened.path),
            Content::Foreign(_) => !foreign.has(&opened.path, id),
        });
        let gone: Vec<Opened> = gone.map(|(_, opened)| opened).collect();
        for mut opened in gone {
            leave(host, &mut opened).await;
        }
        for (path, content) in known {
            let id = content.id.clone();
            let content = Content::Foreign(Box::new(content));
            self.opened.entry(id).or_insert_with(|| Opened::new(path, content));
        }
        for (id, (path, stamp, file)) in seen {
            let vacant = match self.opened.entry(id) {
                Entry::Vacant(vacant) => vacant,
                Entry::Occupied(mut known) => {
                    known.get_mut().see(file, stamp);
                    continue;
                }
            };
            let message = format!(
                "{}, {} bytes, id `{}`",
                counted(file.document().images.len(), "image"),
                file.length(),
                file.id()
            );
            host.note(EventReason::BundleFound, path.as_str(), message).await;
            vacant.insert(Opened::own(path, file, stamp));
        }
        problems
    }

    /// Reads the files of other formats of which something is not in the content store. Returns the bundles that images
    /// are taken from then. Dropping the future keeps the blobs that arrived.
    ///
    /// # Errors
    ///
    /// If the ledger cannot be written. A file that cannot be read is an event and no error.
    pub(crate) async fn read_foreign(
        &mut self,
        host: &Arc<Host>,
        active: &ActiveConfig,
        ledger: &mut LedgerFile,
    ) -> anyhow::Result<Arc<OfferedBundles>> {
        self.supersede();
        let mut due = self.foreign.unread();
        let taken = self.opened.values_mut().filter(|opened| opened.is_taken());
        for opened in taken.filter(|opened| opened.content.source().is_none()) {
            opened.observe(&host.store).await;
            if !opened.missing().is_empty() {
                due.push(opened.path.clone());
            }
        }
        let is_idle = due.is_empty();
        for path in due {
            let Some(file) = self.foreign.files.get_mut(&path) else {
                continue;
            };
            let sighting = file.sighting.clone();
            file.state = ForeignState::Now;
            self.opened.retain(|_, opened| opened.path != path);
            self.show_all(host, ledger).await;
            let served = self.serve_foreign(host, active, &path).await;
            let state = match read_file(host, &sighting).await {
                Ok(content) => {
                    let id = content.id.clone();
                    // The same file in two places is one bundle.
                    if let Entry::Vacant(vacant) = self.opened.entry(id.clone()) {
                        let opened = vacant.insert(Opened::new(path.clone(), Content::Foreign(Box::new(content))));
                        opened.decide(host, active, ledger).await?;
                        opened.observe(&host.store).await;
                        // What was read has no name until it is adopted.
                        opened.served = served.filter(|_| opened.is_taken());
                    }
                    ForeignState::Read(id)
                }
                Err(state) => state,
            };
            if let Some(file) = self.foreign.files.get_mut(&path) {
                file.state = state;
            }
            self.remember(ledger)?;
            self.show_all(host, ledger).await;
        }
        if !is_idle {
            let of_foreign = self.foreign.status();
            let others = host.status.get().bundles.into_iter();
            let others: Vec<_> = others.filter(|shown| self.reported.contains_key(&shown.path)).collect();
            self.report_problems(host, of_foreign.iter().chain(&others)).await;
        }
        self.offer();
        Ok(self.offered.clone())
    }

    /// Leaves each image to the preferred bundle that has it.
    fn supersede(&mut self) {
        let mut superseded = HashSet::new();
        for id in order_of_preference(&self.opened) {
            if let Some(opened) = self.opened.get_mut(&id).filter(|opened| opened.is_taken()) {
                opened.supersede(&superseded);
                superseded.extend(opened.names());
            }
        }
    }

    async fn report_problems<'a>(&mut self, host: &Host, problems: impl Iterator<Item = &'a BundleStatus> + Clone) {
        self.reported
            .retain(|path, _| problems.clone().any(|problem| problem.path == *path));
        for problem in problems {
            let Some(text) = &problem.problem else { continue };
            if self.reported.get(&problem.path) != Some(text) {
                let reason = match problem.id.is_none() && problem.hint.is_none() {
                    true => EventReason::BundleFound,
                    false => EventReason::BundleRefused,
                };
                host.warn(reason, &problem.path, shown::line(problem)).await;
                self.reported.insert(problem.path.clone(), text.clone());
            }
        }
    }

    /// Lets the embedded registry and the node-local mirror serve the images of taken bundles out of their files, before
    /// they are adopted.
    pub(crate) async fn serve(&mut self, host: &Host, registry: Option<&Arc<Registry>>, active: &ActiveConfig) {
        self.registry = registry.cloned();
        let has_server = registry.is_some() || active.settings.landfall.mirror.enable;
        for opened in self.opened.values_mut() {
            // Also after it was adopted: an image that is damaged in the store is served all the same.
            let is_wanted = has_server && opened.is_taken();
            match (&mut opened.served, &opened.content) {
                (None, Content::Own { source, .. }) if is_wanted => {
                    let place = Place::open(Arc::new(source.clone()), active.primary_names()).await;
                    match Served::add(place, host.places.clone(), registry.cloned()) {
                        Ok(served) => opened.served = Some(served),
                        Err(error) => tracing::warn!(bundle = %opened.path, %error, "a bundle is not served in place"),
                    }
                }
                (Some(served), _) if is_wanted => served.registry = registry.cloned(),
                (Some(_), _) => opened.withdraw_place(),
                (None, _) => {}
            }
        }
    }

    /// Copies the images of taken bundles that the content store lacks, pushes them to the primary registry, and writes
    /// receipts. Dropping the future keeps what arrived.
    ///
    /// # Errors
    ///
    /// If the ledger cannot be written.
    pub(crate) async fn adopt(
        &mut self,
        host: &Arc<Host>,
        active: &ActiveConfig,
        ledger: &mut LedgerFile,
    ) -> anyhow::Result<()> {
        self.read_foreign(host, active, ledger).await?;
        self.supersede();
        for id in order_of_preference(&self.opened) {
            let Some(opened) = self.opened.get_mut(&id).filter(|opened| opened.is_taken()) else {
                continue;
            };
            opened.observe(&host.store).await;
            let (_, step) = next_step(&opened.facts(opened.missing().len()));
            if matches!(step, BundleStep::Adopt | BundleStep::Serve) {
                opened.adopt(host, active).await;
                opened.observe(&host.store).await;
                self.show_all(host, ledger).await;
            }
        }
        let taken = self.opened.values().filter(|opened| opened.is_taken());
        self.pushes.push(host, active, ledger, taken).await?;
        let mut has_new_receipt = false;
        for opened in self.opened.values_mut() {
            let (_, step) = next_step(&opened.facts(opened.missing().len()));
            if step == BundleStep::WriteReceipt {
                opened.write_receipt(host).await;
                has_new_receipt = true;
            }
            if opened.is_done()
                && let Content::Foreign(foreign) = &mut opened.content
            {
                // Its manifests are in memory, and nothing is left to be taken from it.
                foreign.source = None;
                opened.withdraw_place();
            }
        }
        if has_new_receipt {
            let (state_dir, here) = (host.state_dir.clone(), self.opened.keys().cloned().collect());
            tokio::task::spawn_blocking(move || delete_old_receipts(&state_dir, &here)).await?;
        }
        let is_done = |path: &Utf8Path| {
            let mut on_stick = self.opened.values().filter(|opened| opened.path.starts_with(path));
            on_stick.all(Opened::is_done) && self.foreign.are_read_below(path)
        };
        self.finished = self.sticks.mounted().filter(|path| is_done(path)).cloned().collect();
        // That they are done is known from here on.
        self.remember(ledger)?;
        for path in &self.finished {
            let on_stick = self.opened.extract_if(.., |_, opened| opened.path.starts_with(path));
            for (_, mut opened) in on_stick {
                self.released.push(opened.status());
                opened.withdraw_place();
            }
        }
        self.offer();
        self.remember(ledger)?;
        self.show_all(host, ledger).await;
        Ok(())
    }

    /// Unmounts the sticks from which [`Bundles::adopt`] took everything. Until the caller has dropped the bundles that
    /// were offered before, their file systems are in use.
    pub(crate) async fn release_sticks(&mut self) {
        for path in std::mem::take(&mut self.finished) {
            self.sticks.release(&path).await;
        }
    }

    /// Writes into the ledger what cannot be observed once a bundle is gone.
    fn remember(&self, ledger: &mut LedgerFile) -> anyhow::Result<()> {
        ledger.update(|ledger| {
            let is_read = |known: &KnownBundle| known.stamp.is_some() && known.has_receipt;
            if ledger.bundles.len() >= REMEMBERED_MAX {
                let opened = &self.opened;
                ledger
                    .bundles
                    .retain(|id, known| opened.contains_key(id) || !is_read(known));
            }
            for (id, opened) in self.opened.iter().filter(|(_, opened)| opened.is_taken()) {
                if ledger.bundles.len() < REMEMBERED_MAX || ledger.bundles.contains_key(id) {
                    ledger.bundles.insert(id.clone(), known_bundle(opened));
                }
            }
            let newest = |series: &str| {
                let of_series = self.opened.values().filter(|opened| opened.is_taken());
                of_series
                    .filter(|opened| opened.content.document().series.as_deref() == Some(series))
                    .filter_map(|opened| opened.content.document().sequence)
                    .max()
            };
            // A bundle that is gone counts until a newer one of its series is here.
            ledger.bundles.retain(|id, known| {
                // A file of another format is not read again when its stick comes back.
                self.opened.contains_key(id)
                    || is_read(known)
                    || !known.has_receipt && known.series.as_deref().and_then(newest) <= known.sequence
            });
        })
    }

    /// Shows all bundles in the status. The problems of bundles of ours that the last look found stay.
    async fn show_all(&self, host: &Host, ledger: &LedgerFile) {
        self.show(host, ledger, self.foreign.status()).await;
    }

    /// Shows all bundles in the status. Without `problems`, those of the last look stay.
    async fn show(&self, host: &Host, ledger: &LedgerFile, problems: Vec<BundleStatus>) {
        let mut bundles = problems;
        bundles.extend(self.opened.values().map(Opened::status));
        for (id, known) in ledger
            .get()
            .bundles
            .iter()
            .filter(|(id, known)| !self.opened.contains_key(id) && !known.has_receipt)
        {
            bundles.push(status_of_known(&host.store, id, known).await);
        }
        bundles.extend(self.released.iter().cloned());
        let before = host.status.get().bundles;
        let is_shown = |path: &str, shown: &[BundleStatus]| shown.iter().any(|bundle| bundle.path == path);
        let kept: Vec<_> = before
            .iter()
            .filter(|bundle| self.reported.contains_key(&bundle.path) && !is_shown(&bundle.path, &bundles))
            .filter(|bundle| !self.foreign.files.contains_key(Utf8Path::new(&bundle.path)))
            .cloned()
            .collect();
        bundles.extend(kept);
        bundles.sort_by(|a, b| (&a.path, &a.id).cmp(&(&b.path, &b.id)));
        if bundles != before {
            host.status.update(|status| status.bundles = bundles);
        }
    }
}

fn is_below(path: &str, directory: &Utf8Path) -> bool {
    Utf8Path::new(path).starts_with(directory)
}

/// Drops a bundle whose file is gone. The content that was adopted stays.
async fn leave(host: &Host, opened: &mut Opened) {
    opened.observe(&host.store).await;
    let missing = opened.missing().len();
    opened.withdraw_place();
    if missing > 0 && opened.is_taken() {
        let message = format!("it is gone, and {} of it are not here yet", counted(missing, "image"));
        host.warn(EventReason::BundleVanished, opened.path.as_str(), message)
            .await;
    }
}
