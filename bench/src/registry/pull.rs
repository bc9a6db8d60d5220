//! Pulls: manifests, and blobs of several sizes.

use std::time::Duration;

use super::bound::{self, record_answer};
use super::load::run_load;
use super::{Bench, Target, Values};
use crate::fill::fill_registry;
use crate::process::median;
use crate::registries::{RegistryKind, RunningRegistry};
use crate::workload::{Workload, big, single, small};

const MANIFEST_TIME: Duration = Duration::from_secs(1);
const BLOB_TIME: Duration = Duration::from_millis(1500);
/// Upper limit of Landfall's peak memory, in MB.
const PEAK_MAX: f64 = 40.0;

pub(super) fn measure_manifests(bench: &mut Bench) -> anyhow::Result<()> {
    let running = start_filled(bench, &small())?;
    for method in ["GET", "HEAD"] {
        for connections in [1, 8, 64] {
            let work = Work {
                case: format!("manifest {method}, {connections} connections"),
                method,
                path: "/v2/p/small-7/manifests/v1".to_owned(),
                connections,
                duration: MANIFEST_TIME,
            };
            let measured = work.measure(bench, &running)?;
            let target = Target::MoreThanDockerAndRest(8.0, 2.0);
            bench.row(&work.case, "requests/s", &measured.rate, target)?;
            bench.bound_last_row(work.bound(bench.rounds, &running)?);
            bench.row(&work.case, "server CPU, µs/request", &measured.cpu, Target::Nothing)?;
        }
    }
    memory_rows(bench, "manifests", &running)
}

pub(super) fn measure_blobs(bench: &mut Bench) -> anyhow::Result<()> {
    for (name, workload) in [("1 KB", single(1024)), ("1 MB", single(1024 * 1024)), ("2 GiB", big())] {
        let running = start_filled(bench, &workload)?;
        let image = &workload.images[0];
        let work = Work {
            case: format!("blob GET of {name}, 1 connection"),
            method: "GET",
            path: format!("/v2/{}/blobs/{}", image.repository, image.layers[0].digest),
            connections: 1,
            duration: BLOB_TIME,
        };
        let measured = work.measure(bench, &running)?;
        bench.row(&work.case, "MB/s", &measured.bytes, Target::MoreByFactor(1.0))?;
        bench.row(&work.case, "server CPU, µs/request", &measured.cpu, Target::Nothing)?;
        memory_rows(bench, &format!("blobs of {name}"), &running)?;
    }
    Ok(())
}

/// One request, sent repeatedly.
struct Work {
    case: String,
    method: &'static str,
    path: String,
    connections: usize,
    duration: Duration,
}

#[derive(Default)]
struct Measured {
    rate: Values,
    bytes: Values,
    cpu: Values,
}

impl Work {
    fn measure(&self, bench: &Bench, running: &[(RegistryKind, RunningRegistry)]) -> anyhow::Result<Measured> {
        let mut measured = Measured::default();
        for index in bench.rounds() {
            let (kind, registry) = &running[index];
            let before = registry.cpu_seconds()?;
            let load = run_load(
                &registry.host(),
                self.method,
                &self.path,
                self.connections,
                self.duration,
            )?;
            let cpu = registry.cpu_seconds()? - before;
            let answers = load.answers as f64;
            let add = |values: &mut Values, value| values.entry(*kind).or_default().push(value);
            add(&mut measured.rate, answers / load.seconds);
            add(&mut measured.bytes, load.bytes as f64 / 1e6 / load.seconds);
            add(&mut measured.cpu, cpu * 1e6 / answers);
        }
        Ok(measured)
    }

    /// Returns the responses per second of a server that has no work to do for them.
    fn bound(&self, rounds: usize, running: &[(RegistryKind, RunningRegistry)]) -> anyhow::Result<Option<f64>> {
        let Some((_, ours)) = running.iter().find(|(kind, _)| *kind == RegistryKind::Landfall) else {
            return Ok(None);
        };
        let answer = record_answer(&ours.host(), self.method, &self.path)?;
        let mut rates = Vec::new();
        for _ in 0..rounds {
            let load = bound::measure(&answer, self.method, self.connections, self.duration)?;
            rates.push(load.answers as f64 / load.seconds);
        }
        Ok(Some(median(rates)))
    }
}

fn start_filled(bench: &Bench, workload: &Workload) -> anyhow::Result<Vec<(RegistryKind, RunningRegistry)>> {
    let mut running = Vec::new();
    for (kind, program) in &bench.found {
        let mut registry = RunningRegistry::start(*kind, program)?;
        fill_registry(&registry.host(), workload)?;
        // A restart resets the memory of the filling.
        registry.start_again()?;
        running.push((*kind, registry));
    }
    Ok(running)
}

fn memory_rows(bench: &mut Bench, what: &str, running: &[(RegistryKind, RunningRegistry)]) -> anyhow::Result<()> {
    let (mut after, mut peak) = (Values::new(), Values::new());
    for (kind, registry) in running {
        let memory = registry.memory()?;
        after.insert(*kind, vec![memory.resident_bytes as f64 / 1e6]);
        peak.insert(*kind, vec![memory.peak_bytes as f64 / 1e6]);
    }
    bench.row(
        &format!("under load, {what}"),
        "memory, MB",
        &after,
        Target::AtMost(PEAK_MAX),
    )?;
    bench.row(
        &format!("under load, {what}"),
        "highest memory, MB",
        &peak,
        Target::AtMost(PEAK_MAX),
    )
}
