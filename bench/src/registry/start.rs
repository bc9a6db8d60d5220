//! Start-up with much content: 100 repositories of 100 tags each.

use std::time::Duration;

use super::{Bench, Target, Values};
use crate::fill::fill_tags;
use crate::registries::RunningRegistry;
use crate::workload::{TAG, many_repositories};

const REPOSITORIES: usize = 100;
const TAGS: usize = 100;
/// Time to settle before the memory at rest is read.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let workload = many_repositories(REPOSITORIES);
    let mut running = Vec::new();
    for (kind, program) in &bench.found {
        let registry = RunningRegistry::start(*kind, program)?;
        fill_tags(&registry.host(), &workload, TAGS)?;
        running.push((*kind, registry));
    }
    let path = format!("/v2/{}/manifests/{TAG}", workload.images[REPOSITORIES / 2].repository);
    let (mut time, mut idle) = (Values::new(), Values::new());
    for index in bench.rounds() {
        let (kind, registry) = &mut running[index];
        let elapsed = registry.time_to_answer(&path)?;
        time.entry(*kind).or_default().push(elapsed.as_secs_f64() * 1e3);
        std::thread::sleep(SETTLE);
        let memory = registry.memory()?.resident_bytes as f64 / 1e6;
        idle.entry(*kind).or_default().push(memory);
    }
    bench.row(
        "start with 10,000 tags",
        "to first answer, ms",
        &time,
        Target::AtMost(30.0),
    )?;
    bench.row("idle with 10,000 tags", "memory, MB", &idle, Target::AtMost(15.0))
}
