//! Pushes: the same images from the same source by the same client, `landfall copy`, into each registry while
//! it is empty.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Bench, Target, Values};
use crate::fill::{check_registry, fill_registry};
use crate::process::run_timed;
use crate::registries::{RegistryKind, RunningRegistry};
use crate::tools::find_registry;
use crate::workload::Workload;

const DEADLINE: Duration = Duration::from_secs(120);
const PEAK_MAX: f64 = 40.0;

pub(super) fn measure(bench: &mut Bench, case: &str, workload: &Workload, factor: f64) -> anyhow::Result<()> {
    // The source with the lowest cost, so that the destination dominates.
    let kind = RegistryKind::Landfall;
    let program = find_registry(kind, &bench.landfall).map_err(|why| anyhow::anyhow!("nothing to copy from: {why}"))?;
    let source = RunningRegistry::start(kind, &program)?;
    fill_registry(&source.host(), workload)?;
    let (mut wall, mut cpu, mut peak) = (Values::new(), Values::new(), Values::new());
    for index in bench.rounds() {
        let (kind, program) = &bench.found[index];
        let destination = RunningRegistry::start(*kind, program)?;
        let host = destination.host();
        let before = destination.cpu_seconds()?;
        let usage = run_timed(&mut copy(bench, &source.host(), &host, workload)?.command, DEADLINE)?;
        if let Err(why) = usage.outcome {
            anyhow::bail!("{case} into {}: {why}", kind.name());
        }
        let taken = destination.cpu_seconds()? - before;
        let highest = destination.memory()?.peak_bytes as f64 / 1e6;
        check_registry(&host, workload).with_context(|| format!("{} does not hold all of it", kind.name()))?;
        for (values, value) in [
            (&mut wall, usage.wall.as_secs_f64()),
            (&mut cpu, taken),
            (&mut peak, highest),
        ] {
            values.entry(*kind).or_default().push(value);
        }
    }
    let case = format!("push of {case}");
    bench.row(&case, "wall, s", &wall, Target::LessByFactor(factor))?;
    bench.row(&case, "server CPU, s", &cpu, Target::Nothing)?;
    bench.row(&case, "highest memory, MB", &peak, Target::AtMost(PEAK_MAX))
}

/// A command, and the directory with its input.
struct Copy {
    command: Command,
    _home: tempfile::TempDir,
}

fn copy(bench: &Bench, source: &str, destination: &str, workload: &Workload) -> anyhow::Result<Copy> {
    ensure!(bench.landfall.is_file(), "`{}` is not built", bench.landfall.display());
    let home = tempfile::tempdir()?;
    let names = workload.images.iter().map(|image| image.name());
    let list: String = names
        .map(|name| format!("{source}/{name} {destination}/{name}\n"))
        .collect();
    let path = home.path().join("images.txt");
    fs_err::write(&path, list)?;
    let mut command = Command::new(&bench.landfall);
    command
        .args(["copy", "--insecure", source, "--insecure", destination, "--from-file"])
        .arg(path)
        .env("HOME", home.path())
        .env_remove("DOCKER_CONFIG");
    Ok(Copy { command, _home: home })
}
