//! When the C library gives memory back to the system: at once in a process that stays up, not at all in one that moves
//! images and ends.
//!
//! A process that stays up starts itself once more with a setting for it. Measured: after a burst of downloads the agent
//! keeps 70 to 110 MB for good; with the setting it keeps 4. glibc takes large buffers from the system and gives them
//! back, but each one that is freed raises the size that counts as large, up to where none does; a size that is set stays.
//! It can be set from outside, or by a call that is unsafe. mimalloc, tried in its place, kept 95 to 137 MB.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// glibc's own name for the size; see mallopt(3).
const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";

/// glibc's own default, in bytes: only that it stays is new.
const DEFAULT_BYTES: &str = "131072";

/// How much may be free and kept: more than copies have under way at once, in bytes.
const KEPT: usize = 16 * 1024 * 1024;

/// Has freed memory kept for the next buffer. glibc gives back all but some hundred kilobytes whenever that much is free,
/// and takes it again at once: measured, 100,000 page faults and a tenth of the processor time of a copy of 2 GiB. It
/// measures what to keep by the largest piece that it ever saw freed (mallopt(3), `M_MMAP_THRESHOLD`), so it is shown one;
/// as nothing is written there, no memory is behind it.
pub(crate) fn keep_freed() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT)));
}

/// Starts this program again, in this same process, with the size set; returns when it is set, or when that cannot be
/// done, which costs memory and nothing else. To be called before anything is opened or started.
pub(crate) fn settle() {
    if env::var_os(THRESHOLD).is_some() {
        return;
    }
    let mut arguments = env::args_os();
    let (Ok(program), Some(name)) = (env::current_exe(), arguments.next()) else {
        return;
    };
    // Comes back only when it fails, e.g. because the file was replaced since.
    let _goes_on_as_it_is = Command::new(program)
        .arg0(name)
        .args(arguments)
        .env(THRESHOLD, DEFAULT_BYTES)
        .exec();
}
