//! Registries side by side: rates of pulls and pushes, CPU time and memory.

mod bound;
mod load;
mod pull;
mod push;
mod start;

use std::collections::BTreeMap;
use std::io::{Write as _, stderr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::process::median;
use crate::registries::RegistryKind;
use crate::report::Row;
use crate::tools::find_registry;
use crate::{Cases, Subject};

/// Options of the registry benchmark.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    chosen: Cases<Case>,
    /// Measurements per registry, in turn with the others; the median counts
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    rounds: usize,
    /// Measure only these registries
    #[arg(long, value_enum, value_delimiter = ',', value_name = "REGISTRY", default_values_t = RegistryKind::ALL)]
    registries: Vec<RegistryKind>,
}

/// One registry case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// GET and HEAD of manifests, with 1, 8 and 64 connections
    Manifests,
    /// GET of blobs of 1 KB, 1 MB and 2 GiB
    Blobs,
    /// Push of a profile: 40 images, 1.8 GB
    W1,
    /// Push of one layer of 2 GiB
    W2,
    /// Push of 200 small images
    W3,
    /// Time from start to the first response with 10,000 tags, and memory
    Start,
}

pub(crate) fn measure(args: &RegistryArgs) -> anyhow::Result<Vec<Row>> {
    let landfall = args.subject.landfall()?;
    let mut bench = Bench {
        rounds: args.rounds,
        landfall: landfall.clone(),
        found: Vec::new(),
        absent: BTreeMap::new(),
        rows: Vec::new(),
    };
    for &kind in &args.registries {
        match find_registry(kind, &landfall) {
            Ok(program) => bench.found.push((kind, program)),
            Err(why) => drop(bench.absent.insert(kind.name().to_owned(), format!("absent: {why}"))),
        }
    }
    let has = |case| args.chosen.has(&case);
    if has(Case::Manifests) {
        pull::measure_manifests(&mut bench)?;
    }
    if has(Case::Blobs) {
        pull::measure_blobs(&mut bench)?;
    }
    if has(Case::W3) {
        push::measure(&mut bench, "W3 200 small images", &crate::workload::small(), 1.3)?;
    }
    if has(Case::W1) {
        push::measure(
            &mut bench,
            "W1 a profile of 40 images",
            &crate::workload::profile(1),
            1.3,
        )?;
    }
    if has(Case::W2) {
        push::measure(&mut bench, "W2 one layer of 2 GiB", &crate::workload::big(), 1.0)?;
    }
    if has(Case::Start) {
        start::measure(&mut bench)?;
    }
    Ok(bench.rows)
}

/// The programs, and the rows so far.
struct Bench {
    rounds: usize,
    landfall: PathBuf,
    found: Vec<(RegistryKind, PathBuf)>,
    absent: BTreeMap<String, String>,
    rows: Vec<Row>,
}

/// Values of one metric, by registry.
type Values = BTreeMap<RegistryKind, Vec<f64>>;

/// Required value of a row.
#[derive(Debug, Clone, Copy)]
enum Target {
    Nothing,
    /// Less than the lowest of the others, by this factor.
    LessByFactor(f64),
    AtMost(f64),
    /// More than the best of the others, by this factor.
    MoreByFactor(f64),
    /// More than docker-registry, by the first factor, and more than the best of the rest, by the second.
    MoreThanDockerAndRest(f64, f64),
}

impl Bench {
    /// Returns the order of measurements: every registry in turn, forwards and backwards by rounds.
    fn rounds(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.found.len()).collect();
        let mut all = Vec::new();
        for _ in 0..self.rounds {
            all.extend_from_slice(&order);
            order.reverse();
        }
        all
    }

    /// Adds a row, with a remark for every absent registry.
    fn row(&mut self, case: &str, metric: &'static str, values: &Values, target: Target) -> anyhow::Result<()> {
        let value = |kind: RegistryKind| values.get(&kind).map(|values| median(values.clone()));
        let peers = values.keys().filter(|kind| **kind != RegistryKind::Landfall);
        let peers: BTreeMap<String, Option<f64>> = peers.map(|kind| (kind.name().to_owned(), value(*kind))).collect();
        let landfall = value(RegistryKind::Landfall);
        let best_of = |without: Option<RegistryKind>| {
            let others = values
                .keys()
                .filter(|kind| **kind != RegistryKind::Landfall && Some(**kind) != without);
            others.filter_map(|kind| value(*kind)).max_by(f64::total_cmp)
        };
        let mut row = match target {
            Target::Nothing => Row::against_peers(case, metric, landfall, peers, 0.0),
            Target::LessByFactor(factor) => Row::against_peers(case, metric, landfall, peers, factor),
            Target::AtMost(limit) => Row::against_peers(case, metric, landfall, peers, 0.0).with_limit(limit),
            Target::MoreByFactor(factor) => {
                let limit = best_of(None).map(|best| best * factor);
                Row::rate(case, metric, landfall, peers, limit)
            }
            Target::MoreThanDockerAndRest(docker, rest) => {
                let docker = value(RegistryKind::DockerRegistry).map(|value| value * docker);
                let rest = best_of(Some(RegistryKind::DockerRegistry)).map(|value| value * rest);
                let limit = docker.into_iter().chain(rest).max_by(f64::total_cmp);
                Row::rate(case, metric, landfall, peers, limit)
            }
        };
        for (name, why) in &self.absent {
            row = row.remark(name, why);
        }
        writeln!(
            stderr(),
            "{case:40} {metric:24} {:?}",
            values
                .iter()
                .map(|(kind, values)| (kind.name(), values))
                .collect::<Vec<_>>()
        )?;
        self.rows.push(row);
        Ok(())
    }

    /// Adds a bound to the last row.
    fn bound_last_row(&mut self, bound: Option<f64>) {
        if let Some(row) = self.rows.last_mut() {
            row.bound = bound;
        }
    }
}
