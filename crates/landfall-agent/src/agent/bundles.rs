//! Bundles on this host: found in a directory or on a stick, trusted, offered to the phases that fetch images, and copied
//! into the content store [spec:bundles.adoption]. `landfall_core::bundle::adoption` decides; this module observes and
//! acts.

mod adopting;
mod courier;
mod offered;
mod opened;
mod scan;
mod shown;
mod sticks;
mod trust;
mod watch;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use landfall_core::bundle::adoption::{BundleStep, next_step};
use landfall_core::reference::Digest;
use landfall_core::status::{BundleStatus, EventReason};
use landfall_core::wording::counted;
use landfall_oci::content::place::Place;
use landfall_registry::Registry;

use self::opened::{Opened, Served};
use self::scan::{Sighting, find_bundles};
use self::shown::{known_bundle, order_of_preference, status_of_file, status_of_known};
use self::sticks::Sticks;
use crate::agent::active_config::ActiveConfig;
use crate::agent::host::Host;
use crate::agent::ledger::LedgerFile;

pub(crate) use self::courier::receipts_of;
pub(crate) use self::offered::OfferedBundles;
pub(crate) use self::trust::refuse_image;
pub(crate) use self::watch::watch_bundles;

/// Bundles of which the host remembers what it lacks, after they are gone.
const REMEMBERED_MAX: usize = 64;

/// The bundles of this host.
#[derive(Debug)]
pub(crate) struct Bundles {
    sticks: Sticks,
    opened: BTreeMap<Digest, Opened>,
    /// Problems of files that are events already, by path.
    reported: BTreeMap<String, String>,
    offered: Arc<OfferedBundles>,
}

impl Bundles {
    pub(crate) fn new(host: &Host) -> Bundles {
        Bundles {
            sticks: Sticks::new(host),
            opened: BTreeMap::new(),
            reported: BTreeMap::new(),
            offered: Arc::default(),
        }
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
        let sightings = tokio::task::spawn_blocking(move || find_bundles(&directories)).await?;
        let problems = self.take_over(host, sightings).await;
        for opened in self.opened.values_mut() {
            opened.decide(host, active, ledger).await?;
        }
        let order = order_of_preference(&self.opened);
        let taken = order
            .iter()
            .filter_map(|id| self.opened.get(id))
            .filter(|opened| opened.is_taken());
        let offered = OfferedBundles::new(taken.map(|opened| (opened.file.clone(), opened.source.clone())));
        if offered != *self.offered {
            self.offered = Arc::new(offered);
        }
        self.remember(ledger)?;
        self.show(host, ledger, problems).await;
        Ok(self.offered.clone())
    }

    /// Keeps bundles that are still there, adds new ones, drops those that are gone. Returns the files that are no
    /// usable bundle.
    async fn take_over(&mut self, host: &Host, sightings: Vec<Sighting>) -> Vec<BundleStatus> {
        let mut problems = Vec::new();
        let mut seen = BTreeMap::new();
        for Sighting { path, result } in sightings {
            match result {
                Ok(file) => drop(seen.entry(file.id().clone()).or_insert((path, file))),
                Err(error) => problems.push(status_of_file(&path, &error)),
            }
        }
        let gone = self.opened.extract_if(.., |id, opened| {
            seen.get(id).is_none_or(|(path, _)| *path != opened.path)
        });
        let gone: Vec<Opened> = gone.map(|(_, opened)| opened).collect();
        for mut opened in gone {
            leave(host, &mut opened).await;
        }
        for (id, (path, file)) in seen {
            let Entry::Vacant(vacant) = self.opened.entry(id) else {
                continue;
            };
            let message = format!(
                "{}, {} bytes, id `{}`",
                counted(file.document().images.len(), "image"),
                file.length(),
                file.id()
            );
            host.note(EventReason::BundleFound, path.as_str(), message).await;
            vacant.insert(Opened::new(path, file));
        }
        self.report_problems(host, &problems).await;
        problems
    }

    async fn report_problems(&mut self, host: &Host, problems: &[BundleStatus]) {
        self.reported
            .retain(|path, _| problems.iter().any(|problem| problem.path == *path));
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

    /// Lets the embedded registry serve the images of taken bundles out of their files, before they are adopted.
    pub(crate) async fn serve(&mut self, registry: Option<Arc<Registry>>, active: &ActiveConfig) {
        for opened in self.opened.values_mut() {
            // Also after it was adopted: the registry has a record of the images of the profiles only.
            let is_wanted = opened.is_taken();
            match (&registry, &opened.served) {
                (Some(registry), None) if is_wanted => {
                    let place = Place::open(Arc::new(opened.source.clone()), active.primary_names()).await;
                    match Served::add(place, registry.clone()) {
                        Ok(served) => opened.served = Some(served),
                        Err(error) => tracing::warn!(bundle = %opened.path, %error, "a bundle is not served in place"),
                    }
                }
                (None, Some(_)) => opened.withdraw_place(),
                (Some(_), Some(_)) if !is_wanted => opened.withdraw_place(),
                (Some(_) | None, _) => {}
            }
        }
    }

    /// Copies the images of taken bundles that the content store lacks, and writes receipts. Dropping the future keeps
    /// what arrived.
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
        let mut superseded = HashSet::new();
        for id in order_of_preference(&self.opened) {
            let Some(opened) = self.opened.get_mut(&id).filter(|opened| opened.is_taken()) else {
                continue;
            };
            opened.supersede(&superseded);
            superseded.extend(opened.names());
            let missing = opened.missing(&host.store).await;
            let (_, step) = next_step(&opened.facts(missing.len()));
            if matches!(step, BundleStep::Adopt | BundleStep::Serve) {
                opened.adopt(host, active, &missing).await;
                self.show(host, ledger, Vec::new()).await;
            }
        }
        for opened in self.opened.values_mut() {
            let missing = opened.missing(&host.store).await;
            let (_, step) = next_step(&opened.facts(missing.len()));
            if step == BundleStep::WriteReceipt {
                opened.write_receipt(host, missing).await;
            }
        }
        let is_done = |path: &camino::Utf8Path| {
            let mut on_stick = self.opened.values().filter(|opened| opened.path.starts_with(path));
            on_stick.all(Opened::is_done)
        };
        let finished: Vec<_> = self.sticks.mounted().filter(|path| is_done(path)).cloned().collect();
        for path in finished {
            let on_stick = self.opened.extract_if(.., |_, opened| opened.path.starts_with(&path));
            on_stick.for_each(|(_, mut opened)| opened.withdraw_place());
            self.sticks.release(&path).await;
        }
        self.remember(ledger)?;
        self.show(host, ledger, Vec::new()).await;
        Ok(())
    }

    /// Writes into the ledger what cannot be observed once a bundle is gone.
    fn remember(&self, ledger: &mut LedgerFile) -> anyhow::Result<()> {
        ledger.update(|ledger| {
            for (id, opened) in self.opened.iter().filter(|(_, opened)| opened.is_taken()) {
                if ledger.bundles.len() < REMEMBERED_MAX || ledger.bundles.contains_key(id) {
                    ledger.bundles.insert(id.clone(), known_bundle(opened));
                }
            }
            let newest = |series: &str| {
                let of_series = self.opened.values().filter(|opened| opened.is_taken());
                of_series
                    .filter(|opened| opened.file.document().series.as_deref() == Some(series))
                    .filter_map(|opened| opened.file.document().sequence)
                    .max()
            };
            // A bundle that is gone counts until a newer one of its series is here.
            ledger.bundles.retain(|id, known| {
                self.opened.contains_key(id)
                    || !known.has_receipt && known.series.as_deref().and_then(newest) <= known.sequence
            });
        })
    }

    /// Shows all bundles in the status. Without `problems`, those of the last look stay.
    async fn show(&self, host: &Host, ledger: &LedgerFile, problems: Vec<BundleStatus>) {
        let mut bundles = problems;
        for opened in self.opened.values() {
            bundles.push(opened.status(&host.store).await);
        }
        for (id, known) in ledger
            .get()
            .bundles
            .iter()
            .filter(|(id, _)| !self.opened.contains_key(id))
        {
            bundles.push(status_of_known(&host.store, id, known).await);
        }
        let before = host.status.get().bundles;
        let is_shown = |path: &str, shown: &[BundleStatus]| shown.iter().any(|bundle| bundle.path == path);
        let kept: Vec<_> = before
            .iter()
            .filter(|bundle| self.reported.contains_key(&bundle.path) && !is_shown(&bundle.path, &bundles))
            .cloned()
            .collect();
        bundles.extend(kept);
        bundles.sort_by(|a, b| (&a.path, &a.id).cmp(&(&b.path, &b.id)));
        if bundles != before {
            host.status.update(|status| status.bundles = bundles);
        }
    }
}

/// Drops a bundle whose file is gone. The content that was adopted stays.
async fn leave(host: &Host, opened: &mut Opened) {
    let missing = opened.missing(&host.store).await.len();
    opened.withdraw_place();
    if missing > 0 && opened.is_taken() {
        let message = format!("it is gone, and {} of it are not here yet", counted(missing, "image"));
        host.warn(EventReason::BundleVanished, opened.path.as_str(), message)
            .await;
    }
}
