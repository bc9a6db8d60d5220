//! Copies over a good link, against the clock: every program the same images, from the same source, into the same
//! destination as it was before.

use std::collections::BTreeMap;
use std::io::{Write as _, stderr};
use std::path::Path;
use std::time::Duration;

use super::Programs;
use super::clients::{Client, Ends};
use crate::fill::{check_registry, fill_registry};
use crate::process::{Usage, median, run_timed, time};
use crate::registries::RunningRegistry;
use crate::report::Row;
use crate::workload::Workload;

const DEADLINE: Duration = Duration::from_secs(120);
/// The most memory that we may ever hold, in MB.
const PEAK_MAX: f64 = 40.0;
const MEGABYTE: f64 = 1e6;
const WALL: &str = "wall, s";

/// What the destination holds before each copy.
#[derive(Debug, Clone, Copy)]
pub(super) enum Before<'a> {
    /// Nothing.
    Empty,
    /// What [`RunningRegistry::keep`] kept.
    Kept(&'a Path),
    /// What the copy before left there.
    Untouched,
}

/// One comparison.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    pub(super) case: String,
    pub(super) source: &'a str,
    pub(super) workload: &'a Workload,
    pub(super) before: Before<'a>,
    pub(super) rounds: usize,
    /// How many times faster than the best of the others we are to be.
    pub(super) factor: f64,
}

/// What was measured of one program.
#[derive(Debug, Default)]
struct Record {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    peak: Vec<f64>,
    destination_cpu: Vec<f64>,
    failure: Option<String>,
}

/// Runs every program in turn, forwards and backwards by rounds, and compares the medians. One that fails has no time. One
/// that takes more than twice as long as the best other in the first round cannot be the best: it is not run again.
pub(super) fn compare(
    comparison: &Comparison<'_>,
    destination: &mut RunningRegistry,
    programs: &Programs,
) -> anyhow::Result<Vec<Row>> {
    // Also the first to touch the memory that the destination's storage takes, which costs seconds on a virtual machine:
    // whoever copied first would pay for it.
    let alone = match comparison.before {
        Before::Empty => Some(destination_alone(comparison, destination)?),
        Before::Kept(_) | Before::Untouched => None,
    };
    let mut records: BTreeMap<Client, Record> = BTreeMap::new();
    let mut running: Vec<Client> = programs.found.keys().copied().collect();
    for round in 0..comparison.rounds {
        for &client in &running {
            let record = records.entry(client).or_default();
            measure(comparison, destination, programs, client, record)?;
        }
        if round == 0 {
            let best = |record: &Record| record.wall.first().copied().unwrap_or(f64::INFINITY);
            let others = records.iter().filter(|(client, _)| **client != Client::Landfall);
            let limit = 2.0 * others.map(|(_, record)| best(record)).fold(f64::INFINITY, f64::min);
            running.retain(|client| {
                *client == Client::Landfall || records.get(client).is_some_and(|record| best(record) <= limit)
            });
        }
        running.reverse();
    }
    let mut rows = rows(comparison, &records, programs);
    if let Some(bound) = alone.filter(|_| comparison.workload.images.len() == 1) {
        rows = rows
            .into_iter()
            .map(|row| if row.metric == WALL { row.with_bound(bound) } else { row })
            .collect();
    }
    Ok(rows)
}

/// How long the destination takes for the same uploads when nothing is read from anywhere and nothing is verified: a
/// bound where there is one upload only; of many a destination takes several at once.
fn destination_alone(comparison: &Comparison<'_>, destination: &mut RunningRegistry) -> anyhow::Result<f64> {
    destination.restart(None)?;
    let host = destination.host();
    let mut filled = Ok(());
    let taken = time(|| filled = fill_registry(&host, comparison.workload));
    filled?;
    Ok(taken.as_secs_f64())
}

fn measure(
    comparison: &Comparison<'_>,
    destination: &mut RunningRegistry,
    programs: &Programs,
    client: Client,
    record: &mut Record,
) -> anyhow::Result<()> {
    match comparison.before {
        Before::Empty => destination.restart(None)?,
        Before::Kept(kept) => destination.restart(Some(kept))?,
        Before::Untouched => {}
    }
    let home = tempfile::tempdir()?;
    let host = destination.host();
    let ends = Ends {
        source: comparison.source,
        destination: &host,
        workload: comparison.workload,
        home: home.path(),
    };
    let mut command = client.command(&programs.found[&client], &ends)?;
    let before = destination.cpu_seconds()?;
    let usage = run_timed(&mut command, DEADLINE)?;
    let destination_cpu = destination.cpu_seconds()? - before;
    let checked = usage.outcome.clone().and_then(|()| {
        check_registry(&host, comparison.workload).map_err(|error| format!("what it copied is not whole: {error:#}"))
    });
    tell(comparison, client, &usage, &checked)?;
    match checked {
        Ok(()) => {
            record.wall.push(usage.wall.as_secs_f64());
            record.cpu.push(usage.cpu.as_secs_f64());
            record.peak.push(usage.peak_bytes as f64 / MEGABYTE);
            record.destination_cpu.push(destination_cpu);
        }
        Err(why) => record.failure = Some(why),
    }
    Ok(())
}

/// Says what came of one copy: a run takes minutes, and single values show how steady they are.
fn tell(
    comparison: &Comparison<'_>,
    client: Client,
    usage: &Usage,
    checked: &Result<(), String>,
) -> anyhow::Result<()> {
    let (case, name) = (&comparison.case, client.name());
    let (wall, cpu) = (usage.wall.as_secs_f64(), usage.cpu.as_secs_f64());
    let peak = usage.peak_bytes as f64 / MEGABYTE;
    let failure = checked.as_ref().err().map_or("", String::as_str);
    writeln!(
        stderr(),
        "{case:34} {name:9} {wall:7.2} s  cpu {cpu:6.2} s  peak {peak:6.1} MB  {failure}"
    )?;
    Ok(())
}

fn rows(comparison: &Comparison<'_>, records: &BTreeMap<Client, Record>, programs: &Programs) -> Vec<Row> {
    let row = |metric, values: fn(&Record) -> &Vec<f64>, factor| {
        let value = |client: &Client| {
            let record = records.get(client).filter(|record| record.failure.is_none())?;
            Some(median(values(record).clone()))
        };
        let peers = programs
            .peers()
            .map(|client| (client.name().to_owned(), value(&client)))
            .collect();
        let mut row = Row::against_peers(&comparison.case, metric, value(&Client::Landfall), peers, factor);
        for (client, why) in &programs.absent {
            row = row.remark(client.name(), &format!("absent: {why}"));
        }
        for (client, record) in records {
            if let Some(why) = &record.failure {
                row = row.remark(client.name(), why);
            }
        }
        row
    };
    vec![
        row(WALL, |record| &record.wall, comparison.factor),
        row("client CPU, s", |record| &record.cpu, 0.0),
        row("client peak, MB", |record| &record.peak, 0.0).with_limit(PEAK_MAX),
        row("destination CPU, s", |record| &record.destination_cpu, 0.0),
    ]
}
