//! Timed copies over a good link. Every program copies the same images from the same source, into a destination
//! with the same initial content.

use std::collections::BTreeMap;
use std::io::{Write as _, stderr};
use std::path::Path;
use std::time::Duration;

use super::Programs;
use super::bounds::{self, Bounds};
use super::clients::{Client, Ends};
use crate::fill::{check_copy, fill_registry};
use crate::process::{Usage, median, run_timed};
use crate::registries::RunningRegistry;
use crate::report::Row;
use crate::workload::Workload;

/// Programs that move every image separately take nearly three minutes for the profile over a thin link.
const DEADLINE: Duration = Duration::from_secs(240);
/// Upper limit of Landfall's peak memory, in MB.
const PEAK_MAX: f64 = 40.0;
const MEGABYTE: f64 = 1e6;
pub(super) const WALL: &str = "wall, s";
const CPU: &str = "client CPU, s";

/// Content of the destination before each copy.
#[derive(Debug, Clone, Copy)]
pub(super) enum Before<'a> {
    Empty,
    /// Content saved by [`RunningRegistry::keep`].
    Kept(&'a Path),
    /// Content left by the previous copy.
    Untouched,
}

impl Before<'_> {
    /// Restores that content.
    pub(super) fn prepare(self, destination: &mut RunningRegistry) -> anyhow::Result<()> {
        match self {
            Before::Empty => destination.restart(None),
            Before::Kept(kept) => destination.restart(Some(kept)),
            Before::Untouched => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Comparison<'a> {
    pub(super) case: String,
    pub(super) source: &'a RunningRegistry,
    pub(super) workload: &'a Workload,
    pub(super) before: Before<'a>,
    pub(super) rounds: usize,
    /// Required ratio to the best of the other programs.
    pub(super) factor: f64,
}

/// Measurements of one program.
#[derive(Debug, Default)]
struct Record {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    peak: Vec<f64>,
    source_cpu: Vec<f64>,
    destination_cpu: Vec<f64>,
    failure: Option<String>,
}

/// Runs every program in turn, forwards and backwards by rounds, and compares the medians. A failed program has
/// no time. A program that takes more than twice as long as the best other one in the first round cannot be the
/// best, and is not run again.
pub(super) fn compare(
    comparison: &Comparison<'_>,
    destination: &mut RunningRegistry,
    programs: &Programs,
) -> anyhow::Result<Vec<Row>> {
    let bounds = match comparison.before {
        Before::Empty => warm_up(comparison, destination)?,
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
    let share = processor_share(&records)?;
    let rows = rows(comparison, &records, programs).into_iter();
    Ok(rows.map(|row| within_bounds(row, bounds, share)).collect())
}

/// Returns the wall time in seconds if all processors do nothing but the work of both registries and of the client: the
/// minimum over all programs with complete copies.
fn processor_share(records: &BTreeMap<Client, Record>) -> anyhow::Result<f64> {
    let whole = records.values().filter(|record| record.failure.is_none());
    let cpu = whole.map(|record| {
        let parts = [&record.source_cpu, &record.cpu, &record.destination_cpu];
        parts.into_iter().map(|seconds| median(seconds.clone())).sum::<f64>()
    });
    let processors = std::thread::available_parallelism()?.get() as f64;
    Ok(cpu.fold(f64::INFINITY, f64::min) / processors)
}

/// Fills the destination once before the timed copies: the first program to touch the memory of its storage
/// pays for it, which takes seconds on a virtual machine. One layer is moved by the fastest possible relay.
fn warm_up(comparison: &Comparison<'_>, destination: &mut RunningRegistry) -> anyhow::Result<Option<Bounds>> {
    destination.restart(None)?;
    fill_registry(&destination.host(), comparison.workload)?;
    if comparison.workload.images.len() > 1 {
        return Ok(None);
    }
    destination.restart(None)?;
    bounds::measure(comparison.workload, comparison.source, destination).map(Some)
}

/// Adds bounds to a row: measured ones for a single layer, the processors' share for other workloads.
fn within_bounds(row: Row, bounds: Option<Bounds>, processor_share: f64) -> Row {
    match bounds {
        Some(bounds) if row.metric == WALL => row.with_bound(bounds.wall),
        Some(bounds) if row.metric == CPU => row.with_bound(bounds.client_cpu),
        None if row.metric == WALL && processor_share.is_finite() => row.with_bound(processor_share),
        _ => row,
    }
}

fn measure(
    comparison: &Comparison<'_>,
    destination: &mut RunningRegistry,
    programs: &Programs,
    client: Client,
    record: &mut Record,
) -> anyhow::Result<()> {
    comparison.before.prepare(destination)?;
    let home = tempfile::tempdir()?;
    let host = destination.host();
    let source = comparison.source.host();
    let ends = Ends {
        source: &source,
        destination: &host,
        workload: comparison.workload,
        home: home.path(),
    };
    let mut command = client.command(&programs.found[&client], &ends)?;
    let registries_cpu = || anyhow::Ok([comparison.source.cpu_seconds()?, destination.cpu_seconds()?]);
    let before = registries_cpu()?;
    let usage = run_timed(&mut command, DEADLINE)?;
    let after = registries_cpu()?;
    let checked = check_copy(usage.outcome.clone(), &host, comparison.workload);
    tell(comparison, client, &usage, &checked)?;
    match checked {
        Ok(()) => {
            record.wall.push(usage.wall.as_secs_f64());
            record.cpu.push(usage.cpu.as_secs_f64());
            record.peak.push(usage.peak_bytes as f64 / MEGABYTE);
            record.source_cpu.push(after[0] - before[0]);
            record.destination_cpu.push(after[1] - before[1]);
        }
        Err(why) => record.failure = Some(why),
    }
    Ok(())
}

/// Prints the result of one copy: a run takes minutes, and single values show their spread.
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
        row(CPU, |record| &record.cpu, 0.0),
        row("client peak, MB", |record| &record.peak, 0.0).with_limit(PEAK_MAX),
        row("source CPU, s", |record| &record.source_cpu, 0.0),
        row("destination CPU, s", |record| &record.destination_cpu, 0.0),
    ]
}
