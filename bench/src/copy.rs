//! Copies from registry to registry, measured side by side with other copy programs.

mod bounds;
mod byte_counts;
mod clients;
mod faults;
mod thin_link;
mod wall_times;

use std::collections::BTreeMap;
use std::io::{Write as _, stderr};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use self::byte_counts::count;
use self::clients::{CLIENTS, Client};
use self::faults::{Route, copy_after_kill, copy_over_bad_links};
use self::thin_link::ThinLink;
use self::wall_times::{Before, Comparison, WALL, compare};
use crate::fill::fill_registry;
use crate::registries::{RegistryKind, RunningRegistry};
use crate::report::Row;
use crate::tools::find_registry;
use crate::workload::{Workload, big, profile, small, updated_profile};
use crate::{Cases, Subject};

/// Options of the copy benchmark.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    chosen: Cases<Case>,
    /// Timed copies per program; the median counts. 0 only counts the bytes
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    rounds: usize,
    /// Leave out the run that counts the bytes
    #[arg(long)]
    uncounted: bool,
    /// Source registry. Debian's docker-registry takes five times as long to respond, which hides the waiting
    /// of clients
    #[arg(long = "from", value_enum, value_name = "REGISTRY", default_value_t = RegistryKind::Registry3)]
    source: RegistryKind,
    /// Destination registries
    #[arg(long = "to", value_enum, value_delimiter = ',', value_name = "REGISTRY",
          default_values_t = [RegistryKind::Registry3, RegistryKind::Landfall])]
    destinations: Vec<RegistryKind>,
    /// Run only these programs beside Landfall
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    against: Option<Vec<String>>,
    /// Run only the faults of w8 with this text in their name, e.g. `destination swallows`
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    fault: String,
}

/// One copy case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// A profile: 40 images that share layers, 1.8 GB
    W1,
    /// One layer of 2 GiB
    W2,
    /// 200 small images
    W3,
    /// W1 and W3 again, with everything at the destination
    W4,
    /// W1 with 6 of 40 images changed
    W5,
    /// W1 and W3 over a thin link: 200 Mbit/s, 25 ms each way
    W6,
    /// W6 with 1 % packet loss
    W7,
    /// W2 over links that break or stall
    W8,
    /// W2 after a first run that was killed halfway
    W8k,
}

#[derive(Debug)]
struct Programs {
    found: BTreeMap<Client, PathBuf>,
    absent: BTreeMap<Client, String>,
}

impl Programs {
    fn find(landfall: &Path, against: Option<&[String]>) -> Programs {
        let mut programs = Programs {
            found: BTreeMap::new(),
            absent: BTreeMap::new(),
        };
        for client in CLIENTS {
            let is_wanted = against.is_none_or(|names| names.iter().any(|name| name == client.name()));
            if client != Client::Landfall && !is_wanted {
                continue;
            }
            match client.find(landfall) {
                Ok(program) => drop(programs.found.insert(client, program)),
                Err(why) => drop(programs.absent.insert(client, why)),
            }
        }
        programs
    }

    fn peers(&self) -> impl Iterator<Item = Client> {
        let all = self.found.keys().chain(self.absent.keys()).copied();
        all.filter(|client| *client != Client::Landfall)
    }
}

/// Fixtures of all cases.
struct Bench<'a> {
    args: &'a CopyArgs,
    landfall: PathBuf,
    programs: Programs,
    rows: Vec<Row>,
}

pub(crate) fn measure(args: &CopyArgs) -> anyhow::Result<Vec<Row>> {
    let landfall = args.subject.landfall()?;
    let programs = Programs::find(&landfall, args.against.as_deref());
    let mut bench = Bench {
        args,
        landfall,
        programs,
        rows: Vec::new(),
    };
    let has = |case| args.chosen.has(&case);
    if has(Case::W2) {
        bench.copy_into_empty("W2 one layer of 2 GiB", &big(), 1.5)?;
    }
    if has(Case::W3) || has(Case::W4) {
        let factor = has(Case::W3).then_some(1.3);
        bench.copy_and_copy_again("200 small images", "W3", factor, has(Case::W4), &small())?;
    }
    if has(Case::W1) || has(Case::W4) {
        let factor = has(Case::W1).then_some(1.5);
        bench.copy_and_copy_again("a profile of 40 images", "W1", factor, has(Case::W4), &profile(1))?;
    }
    if has(Case::W5) {
        bench.copy_update()?;
    }
    for (case, name, loss) in [(Case::W6, "W6", None), (Case::W7, "W7", Some("1%"))] {
        if has(case) {
            bench.copy_from_afar(name, loss)?;
        }
    }
    if has(Case::W8) || has(Case::W8k) {
        bench.copy_badly(has(Case::W8), has(Case::W8k))?;
    }
    Ok(bench.rows)
}

impl Bench<'_> {
    /// Starts a registry. If its program is absent, prints that and returns `None`.
    fn start(&self, kind: RegistryKind) -> anyhow::Result<Option<RunningRegistry>> {
        self.start_at(kind, Ipv4Addr::LOCALHOST.into())
    }

    fn start_at(&self, kind: RegistryKind, address: IpAddr) -> anyhow::Result<Option<RunningRegistry>> {
        match find_registry(kind, &self.landfall) {
            Ok(program) => RunningRegistry::start_at(kind, &program, address).map(Some),
            Err(why) => {
                writeln!(stderr(), "left out: copies to {}, which is absent: {why}", kind.name())?;
                Ok(None)
            }
        }
    }

    fn start_source(&self, workload: &Workload) -> anyhow::Result<RunningRegistry> {
        self.start_source_at(Ipv4Addr::LOCALHOST.into(), workload)
    }

    fn start_source_at(&self, address: IpAddr, workload: &Workload) -> anyhow::Result<RunningRegistry> {
        let source = self
            .start_at(self.args.source, address)?
            .context("there is no registry to copy from")?;
        fill_registry(&source.host(), workload)?;
        let (unique, logical) = workload.bytes();
        writeln!(
            stderr(),
            "source: {} images, {:.2} GB, {:.2} GB with what they share counted for each",
            workload.images.len(),
            unique as f64 / 1e9,
            logical as f64 / 1e9
        )?;
        Ok(source)
    }

    fn copy_into_empty(&mut self, case: &str, workload: &Workload, factor: f64) -> anyhow::Result<()> {
        let source = self.start_source(workload)?;
        for &kind in &self.args.destinations {
            if let Some(mut destination) = self.start(kind)? {
                self.compare(
                    format!("{case} → {}", kind.name()),
                    &source,
                    workload,
                    Before::Empty,
                    factor,
                    &mut destination,
                )?;
            }
        }
        Ok(())
    }

    /// Measures the first copy if it has a factor, and then copies of content that is there already.
    fn copy_and_copy_again(
        &mut self,
        what: &str,
        name: &str,
        factor: Option<f64>,
        again: bool,
        workload: &Workload,
    ) -> anyhow::Result<()> {
        let source = self.start_source(workload)?;
        for &kind in &self.args.destinations {
            let Some(mut destination) = self.start(kind)? else {
                continue;
            };
            if let Some(factor) = factor {
                let case = format!("{name} {what} → {}", kind.name());
                self.compare(case, &source, workload, Before::Empty, factor, &mut destination)?;
            }
            if again {
                fill_registry(&destination.host(), workload)?;
                let case = format!("W4 {what} again → {}", kind.name());
                self.compare(case, &source, workload, Before::Untouched, 1.0, &mut destination)?;
            }
        }
        Ok(())
    }

    fn copy_update(&mut self) -> anyhow::Result<()> {
        let before = profile(1);
        let after = updated_profile();
        let source = self.start_source(&after)?;
        for &kind in &self.args.destinations {
            let Some(mut destination) = self.start(kind)? else {
                continue;
            };
            fill_registry(&destination.host(), &before)?;
            let kept = destination.keep()?;
            let case = format!("W5 6 of 40 images changed → {}", kind.name());
            self.compare(case, &source, &after, Before::Kept(&kept), 1.0, &mut destination)?;
        }
        Ok(())
    }

    fn copy_from_afar(&mut self, name: &str, loss: Option<&str>) -> anyhow::Result<()> {
        let thin_link = match ThinLink::start(loss) {
            Ok(thin_link) => thin_link,
            Err(why) => {
                self.rows.push(Row::skipped(name, WALL, &format!("{why:#}")));
                return Ok(());
            }
        };
        for (what, workload) in [("W3", small()), ("W1", profile(1))] {
            let far = thin_link.far.address;
            let source = thin_link.far.inside(|| self.start_source_at(far, &workload))?;
            for &kind in &self.args.destinations {
                let case = format!("{name} {what} from afar → {}", kind.name());
                thin_link.near.inside(|| match self.start(kind)? {
                    Some(mut destination) => {
                        // The link sets the pace, always the same: one round is enough.
                        let comparison = Comparison {
                            case,
                            source: &source,
                            workload: &workload,
                            before: Before::Empty,
                            rounds: 1,
                            factor: 0.0,
                        };
                        self.rows
                            .extend(compare(&comparison, &mut destination, &self.programs)?);
                        Ok(())
                    }
                    None => Ok(()),
                })?;
            }
        }
        Ok(())
    }

    fn copy_badly(&mut self, over_bad_links: bool, after_kill: bool) -> anyhow::Result<()> {
        let workload = big();
        let source = self.start_source(&workload)?;
        for &kind in &self.args.destinations {
            let Some(mut destination) = self.start(kind)? else {
                continue;
            };
            let mut route = Route {
                source: &source,
                destination: &mut destination,
                workload: &workload,
                programs: &self.programs,
                to: kind.name(),
            };
            if over_bad_links {
                self.rows.extend(copy_over_bad_links(&mut route, &self.args.fault)?);
            }
            if after_kill {
                self.rows.extend(copy_after_kill(&mut route)?);
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        case: String,
        source: &RunningRegistry,
        workload: &Workload,
        before: Before<'_>,
        factor: f64,
        destination: &mut RunningRegistry,
    ) -> anyhow::Result<()> {
        let comparison = Comparison {
            case,
            source,
            workload,
            before,
            rounds: self.args.rounds,
            factor,
        };
        if self.args.rounds > 0 {
            self.rows.extend(compare(&comparison, destination, &self.programs)?);
        }
        if !self.args.uncounted {
            self.rows.extend(count(&comparison, destination, &self.programs)?);
        }
        Ok(())
    }
}
