//! Images that run: Debian's static busybox, and nothing else.

use std::process::Command;

use camino::Utf8Path;
use landfall_testkit::image_builder::{ImageFixture, program_image, programs_image};

use crate::agent::binary;
use crate::program::run;

/// Path of Debian's busybox-static.
const BUSYBOX: &str = "/bin/busybox";

/// Script of a container that waits for SIGTERM. The first process of a container ignores signals that it does
/// not handle.
pub const WAIT: &str = "trap 'exit 0' TERM; while :; do /bin/busybox sleep 1000 & wait; done";

/// Returns an image whose container waits. Different names give different images that share the layer of the
/// program.
#[must_use]
pub fn waiting_image(name: &str) -> ImageFixture {
    image(name, &["/bin/busybox", "sh", "-c", WAIT])
}

/// Returns an image whose container succeeds at once.
#[must_use]
pub fn finishing_image(name: &str) -> ImageFixture {
    image(name, &["/bin/busybox", "true"])
}

/// Returns an image of `landfall` with the libraries that it is linked to and nothing else. The symbols are
/// stripped: a layer of a hundred megabytes is slow.
///
/// # Panics
/// Panics if `strip` or `ldd` is missing; both come with what compiled the program.
#[must_use]
pub fn landfall_image(directory: &Utf8Path) -> ImageFixture {
    let stripped = directory.join("landfall-without-symbols");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stripped).arg(binary());
    drop(run(strip).succeeded());
    let mut ldd = Command::new("ldd");
    ldd.arg(&stripped);
    let libraries = run(ldd).succeeded().stdout();
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    let mut files = vec![("usr/bin/landfall", fs_err::read(&stripped).expect("it was just made"))];
    files.extend(libraries.map(|path| (&path[1..], fs_err::read(path).expect("ldd found it"))));
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(path, content)| (*path, content.as_slice()))
        .collect();
    programs_image(&files).command(&["landfall"]).build()
}

fn image(name: &str, command: &[&str]) -> ImageFixture {
    let busybox = fs_err::read(BUSYBOX).expect("busybox-static (`make test` installs it)");
    program_image("bin/busybox", &busybox)
        .gzip_layer(&[("etc/image", name.as_bytes())])
        .command(command)
        .build()
}
