//! Copies over bad links. The proxy of the testkit breaks every connection, or stalls one, and counts the
//! bytes. Measured are the completion of the image and the bytes that it took.

use std::collections::BTreeMap;
use std::io::{Write as _, stderr};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Duration;

use landfall_testkit::weak_link::{WeakLink, Weakness};

use super::Programs;
use super::byte_counts::MovedBytes;
use super::clients::{Client, Ends};
use crate::fill::check_copy;
use crate::process::{kill_group, run_timed};
use crate::registries::RunningRegistry;
use crate::report::Row;
use crate::workload::Workload;

/// Every connection.
const ALL: u64 = u64::MAX;
/// Includes the connection that carries the layer: the first one of a client only probes for TLS.
const FIRST: u64 = 3;
const MB: u64 = 1_000_000;
/// Bytes of a connection before its fault. A client that gives each connection fewer bytes meets no fault, and its
/// row fails.
const PLACES: [u64; 3] = [20 * MB, 100 * MB, 200 * MB];
/// The place at which the other programs run too. Cases with many breaks are slow and add nothing.
const COMPARED_PLACE: u64 = 200 * MB;
/// Upper limit of the bytes that a copy may lose where its link swallows them, in bytes.
const LOST_MAX: f64 = 64.0 * 1024.0 * 1024.0;
/// Upper limit of the moved bytes, as a multiple of the needed ones.
const MOVED_MAX: f64 = 1.05;
/// Upper limit of the bytes of a second run after the first one was killed halfway, as a share of all bytes.
const MOVED_AFTER_KILL_MAX: f64 = 0.55;
/// Deadline of the other programs. Those that have not noticed a stalled link by then did not notice it in 90 s
/// either.
const DEADLINE: Duration = Duration::from_secs(60);
/// Deadline of Landfall, whose time is reported.
const OUR_DEADLINE: Duration = Duration::from_secs(300);

/// The end of the copy with the bad link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

struct Fault {
    what: String,
    end: End,
    weakness: Weakness,
    connections: u64,
    /// True if the other programs run too.
    compared: bool,
}

/// Name of a kind of weak link, and the weakness after a number of bytes.
type WeaknessKind = (&'static str, fn(u64) -> Weakness);

/// Kinds of faults, with their name in a row.
const KINDS: [WeaknessKind; 4] = [
    ("closes", Weakness::Closes),
    ("resets", Weakness::Resets),
    ("blocks", Weakness::Blocks),
    ("swallows", Weakness::Swallows),
];

/// Returns every kind of fault at every place and end.
fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    for (end, name) in [(End::Source, "source"), (End::Destination, "destination")] {
        for (kind, weakness) in KINDS {
            for place in PLACES {
                let weakness = weakness(place);
                let is_silent = matches!(weakness, Weakness::Blocks(_) | Weakness::Swallows(_));
                faults.push(Fault {
                    what: format!("{name} {kind} after {} MB", place / MB),
                    end,
                    weakness,
                    connections: if is_silent { FIRST } else { ALL },
                    compared: place == COMPARED_PLACE,
                });
            }
        }
    }
    faults
}

impl Fault {
    /// Returns the limit of the moved bytes, as a multiple of the needed ones. A link that swallows looks healthy
    /// until the registry is asked: [`LOST_MAX`] bytes may be lost in all.
    fn moved_max(&self, needed: f64) -> f64 {
        match (self.weakness, self.end) {
            (Weakness::Swallows(_), End::Destination) => 1.0 + LOST_MAX / needed,
            _ => MOVED_MAX,
        }
    }
}

/// A source and a destination between which the programs copy in turn.
pub(super) struct Route<'a> {
    pub(super) source: &'a RunningRegistry,
    pub(super) destination: &'a mut RunningRegistry,
    pub(super) workload: &'a Workload,
    pub(super) programs: &'a Programs,
    /// Name of the destination in rows.
    pub(super) to: &'static str,
}

/// The outcome of one copy.
struct CopyCost {
    moved: f64,
    wall: f64,
}

/// W8: copies one large layer over each bad link with `chosen` in its name.
pub(super) fn copy_over_bad_links(route: &mut Route<'_>, chosen: &str) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for fault in faults().iter().filter(|fault| fault.what.contains(chosen)) {
        let mut costs: BTreeMap<Client, Result<CopyCost, String>> = BTreeMap::new();
        for &client in route.programs.found.keys() {
            if client == Client::Landfall || fault.compared {
                let cost = route.copy_over(fault, client)?;
                let told = match &cost {
                    Ok(cost) => format!("{:.2} s, {:.3} times the bytes", cost.wall, cost.moved),
                    Err(why) => why.clone(),
                };
                writeln!(stderr(), "W8 {} → {}: {}: {told}", fault.what, route.to, client.name())?;
                costs.insert(client, cost);
            }
        }
        let case = format!("W8 {} → {}", fault.what, route.to);
        let row = |metric, value: fn(&CopyCost) -> f64| {
            let of = |client| costs.get(&client).and_then(|cost| cost.as_ref().ok()).map(value);
            let others = costs.keys().filter(|client| **client != Client::Landfall);
            let peers = others.map(|client| (client.name().to_owned(), of(*client))).collect();
            let mut row = Row::against_peers(&case, metric, of(Client::Landfall), peers, 0.0);
            for (client, cost) in &costs {
                if let Err(why) = cost {
                    row = row.remark(client.name(), why);
                }
            }
            row
        };
        rows.push(row("bytes moved by needed", |cost| cost.moved).with_limit(fault.moved_max(route.needed())));
        rows.push(row("wall, s", |cost| cost.wall));
    }
    Ok(rows)
}

/// W8k: kills a copy halfway and counts the bytes of a second run.
pub(super) fn copy_after_kill(route: &mut Route<'_>) -> anyhow::Result<Vec<Row>> {
    let mut moved = BTreeMap::new();
    let mut remarks = Vec::new();
    for &client in route.programs.found.keys() {
        let second = route.kill_and_copy_again(client)?;
        if let Err(why) = &second {
            remarks.push((client, why.clone()));
        }
        moved.insert(client, second.ok());
    }
    let ours = moved.remove(&Client::Landfall).flatten();
    let peers = moved
        .into_iter()
        .map(|(client, moved)| (client.name().to_owned(), moved))
        .collect();
    let case = format!("W8k killed half-way, run again → {}", route.to);
    let row = Row::against_peers(case, "bytes moved by needed", ours, peers, 0.0).with_limit(MOVED_AFTER_KILL_MAX);
    Ok(vec![
        remarks
            .iter()
            .fold(row, |row, (client, why)| row.remark(client.name(), why)),
    ])
}

impl Route<'_> {
    fn needed(&self) -> f64 {
        self.workload.bytes().0 as f64
    }

    fn copy_over(&mut self, fault: &Fault, client: Client) -> anyhow::Result<Result<CopyCost, String>> {
        self.destination.restart(None)?;
        let links = Links::start(self, Some(fault));
        let home = tempfile::tempdir()?;
        let ends = Ends {
            source: &links.source.address().to_string(),
            destination: &links.destination.address().to_string(),
            workload: self.workload,
            home: home.path(),
        };
        let mut command = client.command(&self.programs.found[&client], &ends)?;
        let deadline = if client == Client::Landfall {
            OUR_DEADLINE
        } else {
            DEADLINE
        };
        let usage = run_timed(&mut command, deadline)?;
        let moved = links.moved().most_since(MovedBytes::default()) as f64 / self.needed();
        let checked = check_copy(usage.outcome, &self.destination.host(), self.workload);
        let faulty = match fault.end {
            End::Source => &links.source,
            End::Destination => &links.destination,
        };
        Ok(match checked {
            Ok(()) if faulty.faults() == 0 => Err("the fault did not occur".to_owned()),
            Ok(()) => Ok(CopyCost {
                moved,
                wall: usage.wall.as_secs_f64(),
            }),
            Err(why) => Err(format!("{why} (after {moved:.2} times the bytes)")),
        })
    }

    fn kill_and_copy_again(&mut self, client: Client) -> anyhow::Result<Result<f64, String>> {
        const POLL: Duration = Duration::from_millis(1);
        self.destination.restart(None)?;
        let links = Links::start(self, None);
        let home = tempfile::tempdir()?;
        let ends = Ends {
            source: &links.source.address().to_string(),
            destination: &links.destination.address().to_string(),
            workload: self.workload,
            home: home.path(),
        };
        let mut command = client.command(&self.programs.found[&client], &ends)?;
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut first = command.spawn()?;
        while (links.moved().to_destination as f64) < self.needed() / 2.0 {
            if let Some(status) = first.try_wait()? {
                return Ok(Err(format!("ended with {status} before it was half-way")));
            }
            std::thread::sleep(POLL);
        }
        kill_group(&first)?;
        first.wait()?;
        let before = links.moved();
        let usage = run_timed(&mut command, DEADLINE)?;
        let moved = links.moved().most_since(before) as f64 / self.needed();
        let checked = check_copy(usage.outcome, &self.destination.host(), self.workload);
        Ok(checked.map(|()| moved))
    }
}

/// The links to both registries, of which one may be bad.
struct Links {
    source: WeakLink,
    destination: WeakLink,
}

impl Links {
    fn start(route: &Route<'_>, fault: Option<&Fault>) -> Links {
        let link = |registry: &RunningRegistry, end| {
            let target = registry.address();
            match fault {
                Some(fault) if fault.end == end => WeakLink::start(target, fault.weakness, fault.connections),
                _ => WeakLink::counting(target),
            }
        };
        Links {
            source: link(route.source, End::Source),
            destination: link(route.destination, End::Destination),
        }
    }

    fn moved(&self) -> MovedBytes {
        MovedBytes {
            from_source: self.source.bytes_to_client(),
            to_destination: self.destination.bytes_to_server(),
        }
    }
}
