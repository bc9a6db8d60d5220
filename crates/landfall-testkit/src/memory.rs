//! Memory of processes.

/// Returns the largest resident size of a process so far, in bytes. `process` is `self` or a process id. Returns `None`
/// if it has ended.
///
/// # Panics
/// Panics if the kernel writes the size in another form.
#[must_use]
pub fn peak_memory(process: &str) -> Option<u64> {
    let status = fs_err::read_to_string(format!("/proc/{process}/status")).ok()?;
    // A process that has ended and is not waited for yet has no such line.
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes = peak.trim().strip_suffix(" kB").expect("the kernel's unit");
    Some(kibibytes.parse::<u64>().expect("a number") * 1024)
}
