//! Bytes that each program moves, counted by proxies. This is a separate run, since counting takes time.

use std::collections::BTreeMap;
use std::io::{Write as _, stderr};
use std::time::Duration;

use landfall_testkit::weak_link::WeakLink;

use super::Programs;
use super::clients::{Client, Ends};
use super::wall_times::Comparison;
use crate::fill::check_copy;
use crate::process::run_timed;
use crate::registries::RunningRegistry;
use crate::report::Row;

const DEADLINE: Duration = Duration::from_secs(240);
const MEGABYTE: f64 = 1e6;

/// Bytes that one program moved, including requests and responses.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MovedBytes {
    pub(super) from_source: u64,
    pub(super) to_destination: u64,
}

impl MovedBytes {
    /// Returns the bytes moved since `before`, at the end with the higher count.
    pub(super) fn most_since(self, before: MovedBytes) -> u64 {
        let read = self.from_source - before.from_source;
        read.max(self.to_destination - before.to_destination)
    }
}

/// Runs every program once between counting links.
pub(super) fn count(
    comparison: &Comparison<'_>,
    destination: &mut RunningRegistry,
    programs: &Programs,
) -> anyhow::Result<Vec<Row>> {
    let mut moved: BTreeMap<Client, Result<MovedBytes, String>> = BTreeMap::new();
    for &client in programs.found.keys() {
        let counted = count_one(comparison, destination, programs, client)?;
        writeln!(stderr(), "{:34} {:9} {counted:?}", comparison.case, client.name())?;
        moved.insert(client, counted);
    }
    let row = |metric, bytes: fn(&MovedBytes) -> u64| {
        let value = |client: Client| {
            let moved = moved.get(&client)?.as_ref().ok()?;
            Some(bytes(moved) as f64 / MEGABYTE)
        };
        let peers = programs
            .peers()
            .map(|client| (client.name().to_owned(), value(client)))
            .collect();
        let row = Row::against_peers(&comparison.case, metric, value(Client::Landfall), peers, 0.0);
        let failures = moved
            .iter()
            .filter_map(|(client, moved)| Some((client, moved.as_ref().err()?)));
        failures.fold(row, |row, (client, why)| row.remark(client.name(), why))
    };
    Ok(vec![
        row("from source, MB", |moved| moved.from_source),
        row("to destination, MB", |moved| moved.to_destination),
    ])
}

fn count_one(
    comparison: &Comparison<'_>,
    destination: &mut RunningRegistry,
    programs: &Programs,
    client: Client,
) -> anyhow::Result<Result<MovedBytes, String>> {
    comparison.before.prepare(destination)?;
    let [near, far] = [comparison.source.address(), destination.address()].map(WeakLink::counting);
    let home = tempfile::tempdir()?;
    let (source, target) = (near.address().to_string(), far.address().to_string());
    let ends = Ends {
        source: &source,
        destination: &target,
        workload: comparison.workload,
        home: home.path(),
    };
    let mut command = client.command(&programs.found[&client], &ends)?;
    let usage = run_timed(&mut command, DEADLINE)?;
    let checked = check_copy(usage.outcome, &destination.host(), comparison.workload);
    Ok(checked.map(|()| MovedBytes {
        from_source: near.bytes_to_client(),
        to_destination: far.bytes_to_server(),
    }))
}
