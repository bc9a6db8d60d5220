//! Lower bounds of a copy. The processors of this machine also run both registries, so no copier can be faster
//! than the rest of their time allows.

use crate::content::hash_from_cache;
use crate::fill::open_upload;
use crate::http::Http;
use crate::process::{read_cpu_seconds, time};
use crate::registries::RunningRegistry;
use crate::workload::Workload;

/// Lower bounds of a verified copy of one blob.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// In seconds: a relay that does not look at the bytes, or the work of both registries, the relay and one
    /// hash, spread over all processors, whichever is longer.
    pub(super) wall: f64,
    /// CPU time of the copier alone, in seconds: the relay, and one hash of bytes from the processor's cache.
    pub(super) client_cpu: f64,
}

/// Moves the only layer of a workload from registry to registry without verification. The destination must be
/// empty.
pub(super) fn measure(
    workload: &Workload,
    source: &RunningRegistry,
    destination: &RunningRegistry,
) -> anyhow::Result<Bounds> {
    let image = &workload.images[0];
    let layer = &image.layers[0];
    let (mut from, mut to) = (Http::connect(&source.host())?, Http::connect(&destination.host())?);
    let url = open_upload(&mut to, &image.repository, &layer.digest, None)?;
    let url = anyhow::Context::context(url, "an empty registry has a blob")?;
    let path = format!("/v2/{}/blobs/{}", image.repository, layer.digest);
    let servers = || anyhow::Ok(source.cpu_seconds()? + destination.cpu_seconds()?);
    let (servers_before, own_before) = (servers()?, read_cpu_seconds("thread-self")?);
    let mut relayed = None;
    let wall = time(|| relayed = Some(from.relay(&path, &mut to, &url, layer.content.size)));
    let status = relayed.transpose()?.map(|answer| answer.status);
    anyhow::ensure!(status == Some(201), "the relayed blob was answered with {status:?}");
    let relay = read_cpu_seconds("thread-self")? - own_before;
    let servers = servers()? - servers_before;
    let hash = time(|| hash_from_cache(layer.content.size)).as_secs_f64();
    let processors = std::thread::available_parallelism()?.get() as f64;
    Ok(Bounds {
        wall: wall.as_secs_f64().max((servers + relay + hash) / processors),
        client_cpu: relay + hash,
    })
}
