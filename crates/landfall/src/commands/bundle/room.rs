//! Space and time that a file needs on a disk.

use std::io::Write as _;

use camino::Utf8Path;
use landfall_core::report::BundleRoom;
use landfall_core::wording::counted;
use tokio::time::Instant;

use crate::output::size::bytes;

/// Bytes that are written to measure a disk.
const PROBE_SIZE: usize = 16 * 1024 * 1024;

/// Measures a directory: what is free, and how fast it can be written. The bytes of the measurement are deleted.
pub(super) fn measure(directory: &Utf8Path, needed_bytes: u64) -> BundleRoom {
    let disk = rustix::fs::statvfs(directory.as_std_path()).ok();
    let bytes_per_second = measure_rate(directory);
    BundleRoom {
        needed_bytes,
        free_bytes: disk
            .as_ref()
            .map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        // File systems without inodes say zero.
        free_inodes: disk.filter(|disk| disk.f_files > 0).map(|disk| disk.f_favail),
        bytes_per_second,
        seconds: bytes_per_second.map(|rate| needed_bytes.div_ceil(rate.max(1))),
    }
}

fn measure_rate(directory: &Utf8Path) -> Option<u64> {
    let mut probe = tempfile::tempfile_in(directory).ok()?;
    let start = Instant::now();
    // Zeros may be compressed away by the file system.
    let chunk: Vec<u8> = (0..PROBE_SIZE / 8)
        .flat_map(|number| (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect();
    probe.write_all(&chunk).ok()?;
    probe.sync_all().ok()?;
    let micros = u64::try_from(start.elapsed().as_micros()).ok()?.max(1);
    Some(PROBE_SIZE as u64 * 1_000_000 / micros)
}

/// Renders the measurement.
pub(super) fn render(room: &BundleRoom) -> String {
    let free = bytes(room.free_bytes);
    let inodes = room.free_inodes.map(|count| format!(", {}", counted(count, "inode")));
    let time = room.seconds.zip(room.bytes_per_second).map(|(seconds, rate)| {
        let rate = bytes(rate);
        format!("; writing takes {} at {rate}/s", counted(seconds, "second"))
    });
    format!(
        "disk:     {} of {free} free{}{}",
        bytes(room.needed_bytes),
        inodes.unwrap_or_default(),
        time.unwrap_or_default()
    )
}
